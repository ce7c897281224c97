"""Seams: named functions whose calls can be diverted, and the registry of all that this process declares."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

from ._wrapper import SeamFunction
from .errors import SeamDefinitionError, UnknownSeamError
from .policy import Effects, Fallback, Policy
from .stages import parse_stage
from .subjects import check_seam

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .payloads import SignatureCodec

P = ParamSpec("P")
R = TypeVar("R")

SeamDomain = Literal["tool", "agent"]


class Route(Protocol):
    """Takes a diverted call; ``None`` in its place means that the body is simply called."""

    def call(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of a plain function."""
        ...

    async def acall(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of a coroutine function."""
        ...


class Seam:
    """A declared seam. ``route`` is what the next call takes: ``None`` at legacy, when off, when never connected."""

    def __init__(
        self, name: str, body: Callable[..., Any], *, domain: SeamDomain, policy: Policy, secret: frozenset[str]
    ) -> None:
        self.name = check_seam(name)
        self.body = body
        self.domain: SeamDomain = domain
        self.policy = policy
        self.secret = secret
        self.is_async = inspect.iscoroutinefunction(body)
        self.route: Route | None = None
        self._codec: SignatureCodec | SeamDefinitionError | None = None

    @property
    def place(self) -> str:
        """``file:line`` of the body."""
        code = getattr(self.body, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "<no source>"

    @property
    def codec(self) -> SignatureCodec:
        """The codec of the body's signature, built on first use because it imports pydantic.

        Raises ``SeamDefinitionError`` when the signature has no JSON form.
        """
        if self._codec is None:
            from .payloads import SignatureCodec  # noqa: PLC0415 - `import crossfade.shim` must not load pydantic

            try:
                self._codec = SignatureCodec(self.body, secret=self.secret)
            except SeamDefinitionError as error:
                self._codec = error  # trying again would cost every call milliseconds
        if isinstance(self._codec, SeamDefinitionError):
            raise self._codec.with_traceback(None)
        return self._codec

    def __repr__(self) -> str:
        return f"<Seam {self.name} ({self.domain}) at {self.place}>"


class Registry:
    """The seams of this process by name. ``on_declare`` is told of each new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seams: dict[str, Seam] = {}
        self.on_declare: Callable[[Seam], None] | None = None

    def add(self, seam: Seam) -> None:
        """Add ``seam``; a second body under the same name raises ``SeamDefinitionError`` naming both places.

        The same function declared again (a reloaded module) replaces itself.
        """
        with self._lock:
            known = self._seams.get(seam.name)
            if known is not None and _identity(known) != _identity(seam):
                raise SeamDefinitionError(
                    f"seam {seam.name!r} is declared twice: at {known.place} and at {seam.place}; rename one"
                )
            if known is not None:
                known.route = None  # no policy change reaches it any more, so it must not stay on the bus
            self._seams[seam.name] = seam
        if self.on_declare is not None:
            self.on_declare(seam)

    def get(self, name: str) -> Seam:
        """The seam called ``name``; ``UnknownSeamError`` listing what there is otherwise."""
        try:
            return self._seams[name]
        except KeyError:
            raise UnknownSeamError(f"no seam {name!r} here; declared are: {self._names()}") from None

    def all(self) -> list[Seam]:
        """Every seam, in order of declaration."""
        with self._lock:
            return list(self._seams.values())

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent process may have held; call it in the child, first thing."""
        self._lock = threading.Lock()

    def _names(self) -> str:
        return ", ".join(sorted(self._seams)) or "none (import the module that declares it)"


registry = Registry()


def _identity(seam: Seam) -> tuple[str, str]:
    return seam.body.__module__, seam.body.__qualname__


class SeamDecorator(Protocol):
    """Turns a function into a seam; its type, signature and look survive."""

    def __call__(self, function: Callable[P, R], /) -> SeamFunction[P, R]:
        """Decorate ``function``."""
        ...


def tool(  # noqa: PLR0913 - keyword-only options
    name: str,
    *,
    effects: Effects = "unsafe",
    stage: str = "legacy",
    timeout: float = 30.0,
    fallback: Fallback = "legacy",
    secret: tuple[str, ...] = (),
) -> SeamDecorator:
    """Declare a function as the seam ``name``. Until a bus is connected, calls go straight to the function.

    ``effects``, ``stage``, ``timeout`` (seconds) and ``fallback`` are the start of the seam's ``Policy``, which
    the file and live state override. ``secret`` names parameters whose values never leave this process in
    clear. Raises ``SeamDefinitionError`` for a name that is no seam name, a name declared twice, and a function
    of a kind that cannot be a seam; ``ConfigurationError`` for an option out of range.
    """
    policy = Policy(stage=parse_stage(stage), effects=effects, timeout=timeout, fallback=fallback)

    def decorate(function: Callable[P, R], /) -> SeamFunction[P, R]:
        _check_kind(name, function)
        seam = Seam(name, function, domain="tool", policy=policy, secret=frozenset(secret))
        registry.add(seam)
        return SeamFunction(seam, function)

    return decorate


def _check_kind(name: str, function: Callable[..., Any]) -> None:
    if isinstance(function, SeamFunction):
        raise SeamDefinitionError(f"seam {name!r}: the function is a seam already; decorate it once")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SeamDefinitionError(f"seam {name!r}: generators cannot be seams in this version; return a list")
    if not inspect.isfunction(function):
        raise SeamDefinitionError(f"seam {name!r}: decorate a function, not {function!r}")
