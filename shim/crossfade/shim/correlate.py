"""Who a call is for and which run it belongs to, carried in a context variable and in an event's attributes.

    with correlate(user="alice", tenant="acme"):
        search("events")

A run is everything that one user action triggers. An inner ``correlate`` overrides what it names and inherits
the rest; a worker puts a command's correlation back with ``correlated(from_event(event))``, so that calls made
by a handler stay in the run and name their cause. Threads start without one unless they copy the context.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .errors import ConfigurationError
from .events import new_id
from .hooks import report
from .tracecontext import format_baggage, format_tracestate, parse_baggage, parse_traceparent, parse_tracestate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .events import Event

_NO_BAGGAGE: Final[Mapping[str, str]] = MappingProxyType({})
_MAX_LENGTH: Final = 1024  # characters of a user, tenant, session or run: they travel in every event


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """What every event of a call carries.

    ``causation`` is the id of the event that caused this call, ``None`` at the start of a run. ``traceparent``
    and ``tracestate`` are valid W3C headers, ``baggage`` has decoded values. ``key`` is an
    idempotency key from outside (an ``Idempotency-Key`` header, an order number): it stays in this process.
    """

    run: str
    user: str | None = None
    tenant: str | None = None
    session: str | None = None
    causation: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    baggage: Mapping[str, str] = field(default_factory=lambda: _NO_BAGGAGE)
    key: str | None = None


_NOBODY: Final = Correlation(run="")
_current: ContextVar[Correlation | None] = ContextVar("crossfade.correlation", default=None)


def current_correlation() -> Correlation | None:
    """The correlation in force here, or ``None``."""
    return _current.get()


def correlate(
    *,
    user: str | None = None,
    tenant: str | None = None,
    run: str | None = None,
    session: str | None = None,
    baggage: Mapping[str, str] | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    key: str | None = None,
) -> AbstractContextManager[Correlation]:
    """Say for whom the calls inside are made; ``with`` it in plain and async code alike.

    What is left out is inherited; baggage is merged, and a ``run`` is minted when there is none. A
    ``traceparent`` brings its own ``tracestate`` or none; one that is not valid is counted (``skipped``,
    reason ``traceparent``) and ignored, as W3C wants it. An empty ``user``, ``tenant`` or ``session`` is
    nobody, whoever is outside. Use what this returns once.

    With a ``key``, each seam called inside is one call however often it is made: a retry with the same key and
    arguments gets the first one's result, on whichever path, and other arguments raise ``KeyReusedError``.

    Raises ``ConfigurationError`` at once for a name that no event can carry (not text, over 1,024 characters,
    with controls) or an empty ``run``: ignoring it would run the call as somebody else.
    """
    outer = _current.get() or _NOBODY
    inner = Correlation(
        run=_text("run", run) if run is not None else outer.run or new_id(),
        user=outer.user if user is None else _text("user", user) or None,
        tenant=outer.tenant if tenant is None else _text("tenant", tenant) or None,
        session=outer.session if session is None else _text("session", session) or None,
        causation=outer.causation,
        traceparent=outer.traceparent,
        tracestate=outer.tracestate,
        baggage=MappingProxyType(_checked({**outer.baggage, **baggage})) if baggage else outer.baggage,
        key=outer.key if key is None else _text("key", key) or None,
    )
    if traceparent is not None:
        inner = _in_trace(inner, traceparent, tracestate)
    return correlated(inner)


class correlated(AbstractContextManager[Correlation]):  # noqa: N801 - reads as the statement it is
    """Put ``correlation`` in force as it is, for a worker that goes on with somebody's run. Use it once."""

    def __init__(self, correlation: Correlation) -> None:
        self._inner = correlation
        self._outer: Correlation | None = None

    def __enter__(self) -> Correlation:
        self._outer = _current.get()
        _current.set(self._inner)
        return self._inner

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # No token: frameworks may leave in another context (FastAPI runs a plain dependency's two halves in
        # two threads' contexts), where a reset raises and where there is nothing of ours to undo.
        if _current.get() is self._inner:
            _current.set(self._outer)


def extensions(correlation: Correlation | None) -> dict[str, str]:
    """The event attributes of ``correlation``; none for ``None``."""
    if correlation is None:
        return {}
    given = {
        "correlationid": correlation.run,
        "causationid": correlation.causation,
        "tenantid": correlation.tenant,
        "userid": correlation.user,
        "sessionid": correlation.session,
        "traceparent": correlation.traceparent,
        "tracestate": correlation.tracestate,
        "baggage": format_baggage(correlation.baggage) if correlation.baggage else None,
    }
    return {name: value for name, value in given.items() if value}


def from_event(event: Event) -> Correlation:
    """The correlation of whatever ``event`` causes; an event without a run starts one named after itself.

    Trace context and baggage that are not valid are counted (``skipped``) and left out.
    """
    correlation = Correlation(
        run=event.get("correlationid") or event.id,
        user=event.get("userid") or None,
        tenant=event.get("tenantid") or None,
        session=event.get("sessionid") or None,
        causation=event.id,
        baggage=_readable_baggage(event.get("baggage")),
    )
    traceparent = event.get("traceparent")
    return _in_trace(correlation, traceparent, event.get("tracestate")) if traceparent else correlation


def _in_trace(correlation: Correlation, traceparent: str, tracestate: str | None) -> Correlation:
    parent = parse_traceparent(traceparent)
    if parent is None:
        report.count("skipped", reason="traceparent")
        return correlation
    members = parse_tracestate(tracestate or "")
    if tracestate and not members:
        report.count("skipped", reason="tracestate")
    return replace(correlation, traceparent=str(parent), tracestate=format_tracestate(members) or None)


def _readable_baggage(text: str | None) -> Mapping[str, str]:
    if not text:
        return _NO_BAGGAGE
    members, lost = parse_baggage(text)
    if lost:
        report.count("skipped", reason="baggage", n=lost)
    return MappingProxyType(members)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_LENGTH or not value.isprintable():
        raise ConfigurationError(
            f"must be printable text of {_MAX_LENGTH} characters at most", where=f"correlate({name}=)"
        )
    if not value and name == "run":
        raise ConfigurationError("is empty: leave it out to have one minted", where="correlate(run=)")
    return value


def _checked(baggage: Mapping[str, str]) -> dict[str, str]:
    try:
        format_baggage(baggage)
    except ValueError as error:
        raise ConfigurationError(str(error), where="correlate(baggage=)") from error
    return dict(baggage)
