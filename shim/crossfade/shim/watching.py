"""Who watches calls from outside: telemetry, told when a step of a call begins and how it ended.

``Hooks`` receive counts. A ``Watcher`` is told of three kinds of steps besides: a ``call`` at its call site, the
``send`` of its command, and the ``run`` of a handler. What it answers, a ``Span``, is made current around the code of
the step, and may hand trace context on in the event's attributes.

Where nobody watches, no step is made: a seam's route is the one that it always had (see ``watched``), and a command and
a handler cost one look each. A watcher that raises is logged once, counted (``hook-failed``) and never reaches a call.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from .correlate import Correlation, current_correlation
from .errors import NotExecutedError, OutcomeUnknownError
from .hooks import Hooks, add_hooks, remove_hooks, report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["call", "send", "run"]
Outcome = Literal["value", "error", "cancelled", "unknown", "not-executed"]
Path = Literal["legacy", "bus", "fallback"]

T = TypeVar("T")

_log = logging.getLogger("crossfade")
_complained: set[str] = set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What begins.

    ``stage`` is where the seam of a call stands. ``bus`` is the scheme of the bus' URL and ``address`` the filter that
    matches the command's subject: neither names a call. ``callid``, ``attempt`` and ``correlation`` are the command's;
    a run's correlation is that of who asked for it. ``waited``: seconds between command and run, where there was a
    command. ``shadow``: nobody gets the answer, it is only compared.
    """

    kind: Kind
    seam: str
    domain: str
    stage: str = ""
    bus: str = ""
    address: str = ""
    callid: str = ""
    attempt: int = 1
    size: int | None = None
    waited: float | None = None
    shadow: bool = False
    correlation: Correlation | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How a step ended. ``path`` and ``callid`` are those that a call took and got; ``reason`` says why no result."""

    outcome: Outcome
    error: BaseException | None = None
    path: Path = "legacy"
    callid: str = ""
    reason: str = ""


class Span(Protocol):
    """One step under way. Its methods must be quick, and run in whatever thread the step does."""

    def enter(self) -> object:
        """Make the step current here; what ``leave`` wants."""
        ...

    def leave(self, token: Any) -> None:
        """Undo ``enter``, in the same context; a handler's is never undone, because its context ends with it."""
        ...

    def context(self) -> Mapping[str, str]:
        """The event attributes that hand the step's context on: ``traceparent``, ``tracestate``, ``baggage``."""
        ...

    def end(self, end: End) -> None:
        """The step is over; called once."""
        ...


class Watcher(Hooks, Protocol):
    """Hooks that are told of steps, too."""

    def begin(self, step: Step) -> Span | None:
        """A step begins; ``None``: its end does not matter."""
        ...


@runtime_checkable
class Flushing(Protocol):
    """A watcher that hands on what it was told later, and so must be told when there is no later."""

    def flush(self) -> None:
        """Hand everything on now; within seconds, also where nobody takes it."""
        ...


@dataclass(slots=True, eq=False)
class Watch:
    """The spans of one step, each behind a guard. ``path`` and ``callid`` are found out on the way."""

    step: Step
    spans: list[Span]
    path: Path = "legacy"
    callid: str = ""
    _outer: Watch | None = None
    _ended: bool = False

    def enter(self) -> list[Any]:
        """See ``Span``."""
        self._outer = calling.get()
        if self.step.kind == "call":
            calling.set(self)
        return [_guarded(span.enter) for span in self.spans]

    def leave(self, tokens: list[Any]) -> None:
        """See ``Span``."""
        for span, token in zip(reversed(self.spans), reversed(tokens), strict=True):
            _guarded(span.leave, token)
        if calling.get() is self:
            calling.set(self._outer)

    def context(self) -> dict[str, str]:
        """See ``Span``; the first one's, where several have any."""
        for span in self.spans:
            if found := _guarded(span.context):
                return dict(found)
        return {}

    def end(self, error: BaseException | None = None) -> None:
        """It returned, or raised ``error``; a second end of it changes nothing."""
        if self._ended:
            return
        self._ended = True
        reason = error.reason if isinstance(error, NotExecutedError | OutcomeUnknownError) else ""
        end = End(outcome=outcome_of(error), error=error, path=self.path, callid=self.callid, reason=reason)
        for span in self.spans:
            _guarded(span.end, end)


calling: ContextVar[Watch | None] = ContextVar("crossfade_watched", default=None)
"""The watched call that the code here runs for, its own commands among it."""


class _Watchers:
    """Those that watch now; empty is what everybody pays for."""

    def __init__(self) -> None:
        self.all: tuple[Watcher, ...] = ()


watchers = _Watchers()


def watch(watcher: Watcher) -> None:
    """Tell ``watcher`` of every count and step from now on, beside whoever is told already."""
    add_hooks(watcher)
    watchers.all = (*watchers.all, watcher)
    _rewatch()


def unwatch(watcher: Watcher) -> None:
    """Tell ``watcher`` nothing any more."""
    remove_hooks(watcher)
    watchers.all = tuple(each for each in watchers.all if each is not watcher)
    _rewatch()


def flush() -> None:
    """Have the watchers hand on what they keep: for who is about to end a process without its exit handlers."""
    for watcher in watchers.all:
        if isinstance(watcher, Flushing):
            _guarded(watcher.flush)


def begin(step: Step) -> Watch | None:
    """Tell the watchers that ``step`` begins; ``None`` when none of them cares."""
    spans = [span for watcher in watchers.all if (span := _guarded(watcher.begin, step)) is not None]
    return Watch(step, spans, callid=step.callid) if spans else None


def sent(seam: str, callid: str) -> None:
    """The watched call here, if it is one of ``seam``, goes over the bus."""
    _note(seam, "bus", callid)


def fell_back(seam: str) -> None:
    """The watched call here, if it is one of ``seam``, is answered by its body after all."""
    _note(seam, "fallback", "")


def failed(seam: str, error: BaseException) -> None:
    """The watched call here, if it is one of ``seam``, raised ``error``, whatever its caller is given for it."""
    if (watched := _of(seam)) is not None:
        watched.end(error)


def outcome_of(error: BaseException | None) -> Outcome:
    """How a step ended that raised ``error``."""
    if error is None:
        return "value"
    if isinstance(error, OutcomeUnknownError):
        return "unknown"
    if isinstance(error, NotExecutedError):
        return "not-executed"
    return "error" if isinstance(error, Exception) else "cancelled"


def trace_context() -> Correlation | None:
    """The correlation in force, in the trace of the watched call here: what an observation carries."""
    watched, correlation = calling.get(), current_correlation()
    context = watched.context() if watched is not None else {}
    if "traceparent" not in context:
        return correlation
    return replace(
        correlation or Correlation(run=""),
        traceparent=context["traceparent"],
        tracestate=context.get("tracestate"),
    )


def _note(seam: str, path: Path, callid: str) -> None:
    if (watched := _of(seam)) is not None:
        watched.path = path
        watched.callid = callid or watched.callid


def _of(seam: str) -> Watch | None:
    watched = calling.get()
    return watched if watched is not None and watched.step.seam == seam else None


def _rewatch() -> None:
    """Seams that are declared already; those to come look by themselves."""
    from .seam import registry  # noqa: PLC0415 - a seam looks here for who watches it

    for seam in registry.all():
        seam.take(seam.unwatched)
        if registry.on_declare is not None:  # connected: its route is made anew, and knows that it is watched
            registry.on_declare(seam)


def _guarded(ask: Callable[..., T], *given: Any) -> T | None:
    """What a watcher answers; ``None`` when it raises."""
    try:
        return ask(*given)
    except Exception:
        name = getattr(ask, "__qualname__", repr(ask))
        report.count("hook-failed", reason=name)
        if name not in _complained:
            _complained.add(name)
            _log.exception("telemetry failed in %s; further failures of it are not logged", name)
        return None
