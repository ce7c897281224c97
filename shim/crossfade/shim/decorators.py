"""What users write: ``tool``, ``agent``, ``handler``, ``comparator`` and ``remote``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from ._wrapper import SeamFunction
from .errors import SeamDefinitionError
from .policy import Effects, Fallback, LedgerDown, Policy
from .seam import Handler, Seam, SeamDomain, check_domain, registry
from .stages import parse_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .callsites import CallSite, SeamDecorator
    from .comparison import Comparator

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")
C = TypeVar("C", bound="Comparator")


def tool(
    name: str,
    *,
    effects: Effects = "unsafe",
    stage: str = "legacy",
    timeout: float = 30.0,
    fallback: Fallback = "legacy",
    percent: float = 0.0,
    sample: float = 1.0,
    ledger_down: LedgerDown = "refuse",
    secret: tuple[str, ...] = (),
    bind: Callable[[], Any] | None = None,
) -> SeamDecorator:
    """Declare a function as the seam ``name``. Until a bus is connected, calls go straight to the function.

    All but the last two options are the start of the seam's ``Policy``, which the file and live state override;
    their meaning, default and danger are said there. ``secret`` names parameters whose values never leave this
    process in clear. ``bind`` makes the instance that a method's body runs on at a worker.

    Functions, coroutine functions, generators, async generators, methods, classmethods and staticmethods can be
    seams. Raises ``SeamDefinitionError`` for a name that is no seam name, a name declared twice, and anything that
    is no function; ``ConfigurationError`` for an option out of range.
    """
    policy = Policy(
        stage=parse_stage(stage),
        effects=effects,
        timeout=timeout,
        fallback=fallback,
        percent=percent,
        sample=sample,
        ledger_down=ledger_down,
    )
    return _declare(name, "tool", policy, frozenset(secret), bind)


def agent(
    name: str,
    *,
    effects: Effects = "unsafe",
    stage: str = "legacy",
    timeout: float = 900.0,
    fallback: Fallback = "legacy",
    percent: float = 0.0,
    sample: float = 1.0,
    ledger_down: LedgerDown = "refuse",
    secret: tuple[str, ...] = (),
    bind: Callable[[], Any] | None = None,
) -> SeamDecorator:
    """Declare an agent as the seam ``name``: like ``tool``, for work of minutes that people wait for or submit.

    It travels as ``agent.task.*`` events, and its ``timeout`` is 900 seconds unless said otherwise.
    """
    policy = Policy(
        stage=parse_stage(stage),
        effects=effects,
        timeout=timeout,
        fallback=fallback,
        percent=percent,
        sample=sample,
        ledger_down=ledger_down,
    )
    return _declare(name, "agent", policy, frozenset(secret), bind)


def handler(name: str, *, domain: SeamDomain = "tool", secret: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register the function that workers run for the seam ``name`` instead of its body; the function is unchanged.

    It takes and returns what the body does; a difference is an error when the worker starts. A worker can serve a
    seam whose body is not in its code at all. Raises ``SeamDefinitionError`` when the seam has a handler already.
    """

    def register(function: F) -> F:
        if not inspect.isfunction(cast("object", function)):
            raise SeamDefinitionError(f"handler of {name!r}: decorate a function, not {function!r}")
        registry.add_handler(Handler(name, function, domain=check_domain(domain), secret=frozenset(secret)))
        return function

    return register


def comparator(name: str) -> Callable[[C], C]:
    """Register a function that has the last word on two values of the seam ``name``; it is unchanged.

    ``(old, new) -> bool | Verdict`` gets two ``comparison.Outcome``, with their durations, after the rules judged; a
    worker that imports it asks it at shadow. What that means: ``comparison.compare``. Raises ``SeamDefinitionError``
    when the seam has one already.
    """

    def register(function: C) -> C:
        if not inspect.isfunction(cast("object", function)):
            raise SeamDefinitionError(f"comparator of {name!r}: decorate a function, not {function!r}")
        registry.add_comparator(name, function)
        return function

    return register


@overload
def remote(
    name: str,
    *,
    signature: Callable[P, Coroutine[Any, Any, T]],
    domain: SeamDomain = ...,
    effects: Effects = ...,
    timeout: float = ...,
    secret: tuple[str, ...] = ...,
) -> CallSite[P, Coroutine[Any, Any, T], T]: ...
@overload
def remote(
    name: str,
    *,
    signature: Callable[P, R],
    domain: SeamDomain = ...,
    effects: Effects = ...,
    timeout: float = ...,
    secret: tuple[str, ...] = ...,
) -> CallSite[P, R, R]: ...
def remote(
    name: str,
    *,
    signature: Callable[..., Any],
    domain: SeamDomain = "tool",
    effects: Effects = "unsafe",
    timeout: float = 30.0,
    secret: tuple[str, ...] = (),
) -> Any:
    """A call site without a body: the seam ``name`` is served elsewhere, by another team or from another place.

    ``signature`` is a function whose parameters and types are the seam's; its body is never run. Calls raise
    ``NotConnectedError`` until a bus is connected, and never fall back.
    """
    policy = Policy(stage=parse_stage("bus"), effects=effects, timeout=timeout, fallback="raise")
    seam = Seam(name, signature, domain=check_domain(domain), policy=policy, secret=frozenset(secret), has_body=False)
    registry.add(seam)
    return SeamFunction(seam, signature)


def _declare(
    name: str, domain: SeamDomain, policy: Policy, secret: frozenset[str], bind: Callable[[], Any] | None
) -> SeamDecorator:
    def decorate(function: Callable[..., Any], /) -> Any:
        _check_function(name, function)
        seam = Seam(name, function, domain=domain, policy=policy, secret=secret, bind=bind)
        registry.add(seam)
        return SeamFunction(seam, function)

    return decorate


def _check_function(name: str, function: Callable[..., Any]) -> None:
    if isinstance(function, SeamFunction):
        raise SeamDefinitionError(f"seam {name!r}: the function is a seam already; decorate it once")
    inner: Any = function
    if isinstance(inner, classmethod | staticmethod):
        inner = cast("Any", inner).__func__
    if not inspect.isfunction(inner):
        raise SeamDefinitionError(f"seam {name!r}: decorate a function, not {function!r}")
