"""The ledger of one call: at most one side starts it, and it ends in one terminal.

The ledger is the call's own subjects: ``invoke`` at position C, ``own`` (the claim), ``result``.

Rule 1: a claim is appended on the condition that the last event of the call lies at C. It carries a nonce drawn
once per process and call, and no message id: a loser taken for a duplicate would be told that it won. Within a
process one claim of a call is under way at a time, since two would recognise each other's nonce as their own.
Rule 2: won is a clean acknowledgement, or a leader's read that shows our nonce. Anything ambiguous: the same
claim again until the answer is clean; until then nobody runs, falls back or acknowledges.
Rule 3: absence never means free. When the command is gone, the claim fails and nobody runs.
Rule 4: a claim is never taken over. A result is accepted from the owner only; ``unknown`` may be written by
anybody once the deadline and a grace have passed, if there is no result; the owner's later result supersedes it.
Rule 5: ``not-executed`` proves that the owner never starts, so a retry with the same outside key may claim again, on
the condition that this terminal is the call's last event. So a call's terminal is its last event, or there is none.
``docs/explanation/at-most-once.md`` has the table of states and messages; the measured traps behind each rule are
named there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

from .errors import BusAmbiguousError, BusUnavailableError, MalformedEventError, WrongPositionError
from .events import Event, derived_id, new_id
from .hooks import report
from .outcomes import refusal_payload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .ports import Bus, Position, Stored

GRACE: Final = timedelta(seconds=10)
"""How long past a call's deadline its owner may still log a result before anybody may write ``unknown``: longer
than the clocks may differ and a broker takes to come back."""

_PAUSES: Final = (0.02, 0.05, 0.1, 0.25, 0.5)  # seconds between repetitions of an ambiguous claim

Role = Literal["worker", "caller", "operator"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPlace:
    """Where one call's ledger lies: the common stem of its subjects, without a kind."""

    stem: str

    @classmethod
    def of(cls, subject: str) -> CallPlace:
        """The place of the call that ``subject`` (of any kind) belongs to."""
        return cls(stem=subject.rpartition(".")[0])

    @property
    def invoke(self) -> str:
        """Where the command lies."""
        return f"{self.stem}.invoke"

    @property
    def own(self) -> str:
        """Where the claim lies."""
        return f"{self.stem}.own"

    @property
    def result(self) -> str:
        """Where the terminal lies."""
        return f"{self.stem}.result"

    @property
    def everything(self) -> str:
        """The filter of all of it."""
        return f"{self.stem}.>"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRecord:
    """What a claim says of its owner. ``expires`` is when it should have ended in the broker's time.

    ``nonce`` is drawn by ``take``.
    """

    callid: str
    seam: str
    role: Role
    instance: str
    attempt: int
    policyrev: int
    arguments: str
    expires: datetime
    nonce: str = ""

    def event(self) -> Event:
        """The claim's event; two claims of one process for one call are one event."""
        record: dict[str, Any] = {**asdict(self), "expires": self.expires.isoformat()}
        return Event(
            type="call.claimed",
            source=f"urn:crossfade:{self.instance}",
            id=derived_id(self.callid, "own", self.nonce),
            subject=self.seam,
            extensions={"callid": self.callid, "seam": self.seam, "attempt": str(self.attempt)},
            data=json.dumps(record).encode(),
        )

    @classmethod
    def read(cls, event: Event) -> ClaimRecord:
        """The record in a claim's event; what a later version adds is ignored.

        Raises ``MalformedEventError`` (reason ``payload``).
        """
        try:
            record: dict[str, Any] = json.loads(event.data or b"")
            expires: Any = datetime.fromisoformat(record["expires"])
            known = {field.name: record[field.name] for field in fields(cls)}
            found = cls(**{**known, "expires": expires})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise MalformedEventError(f"this is no claim: {error!r}", reason="payload") from error
        if found.expires.tzinfo is None:  # no clock could be held against it
            raise MalformedEventError("this is no claim: its time has no zone", reason="payload")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Won:
    """The claim is ours; ``position`` fences our result and is a fencing token for what the call changes.

    ``expires``: what the claim says of when its owner shall have ended.
    """

    position: Position
    expires: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Somebody else owns the call."""

    record: ClaimRecord
    position: Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Vanished:
    """The command is not there (any more): nobody may run it."""


Claim = Won | Held | Vanished


class Nonces:
    """One nonce per call and role in this process until it wins, and one claim of it at a time.

    So a claim whose acknowledgement was lost is recognised as ours when it is taken up again; a later claim of the
    same call by this process is somebody else's, like any other.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._nonces: dict[tuple[str, Role], str] = {}
        self._turns: WeakValueDictionary[tuple[str, Role], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, callid: str, role: Role) -> AsyncGenerator[str]:
        """The nonce to claim ``callid`` with, once no other claim of it is under way here."""
        turn = self._turns.get((callid, role)) or asyncio.Lock()
        self._turns[callid, role] = turn
        async with turn:
            yield self._of(callid, role)

    def _of(self, callid: str, role: Role) -> str:
        if len(self._nonces) >= self._limit:
            # A forgotten nonce can only turn our own lost claim into somebody else's: nobody runs, never two.
            del self._nonces[next(iter(self._nonces))]
        return self._nonces.setdefault((callid, role), new_id())

    def spend(self, record: ClaimRecord) -> None:
        """The claim is won: whoever claims the call from now on must find it taken."""
        self._nonces.pop((record.callid, record.role), None)


async def take(bus: Bus, place: CallPlace, record: ClaimRecord, *, at: Position | None, nonces: Nonces) -> Claim:
    """Claim the call at ``place``, whose last event lies at ``at`` (``None``: there must be nothing at all).

    Returns when the answer is clean, however long that takes: cancel it to give up, and then nobody knows.
    """
    async with nonces.turn(record.callid, record.role) as nonce:
        claim = await _take(bus, place, replace(record, nonce=nonce), at)
        if isinstance(claim, Won):
            nonces.spend(record)
    return claim


async def _take(bus: Bus, place: CallPlace, record: ClaimRecord, at: Position | None) -> Claim:
    event = record.event()
    failures = 0
    while True:
        try:
            position = await bus.append(place.own, event, last=place.everything, at=at)
            return Won(position=position, expires=record.expires)
        except WrongPositionError:
            claim = await _read_owner(bus, place, record)
            if claim is not None:
                return claim
        except (BusAmbiguousError, BusUnavailableError) as error:
            report.count("claim-repeated", seam=record.seam, reason=type(error).__name__)
        await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
        failures += 1


async def _read_owner(bus: Bus, place: CallPlace, record: ClaimRecord) -> Claim | None:
    """Who owns the call by a leader's read; ``None`` when the read itself failed."""
    try:
        stored = await bus.last(place.own)
    except (BusAmbiguousError, BusUnavailableError) as error:
        report.count("claim-repeated", seam=record.seam, reason=type(error).__name__)
        return None
    if stored is None:
        return Vanished()
    found = ClaimRecord.read(stored.event)
    if found.nonce == record.nonce:
        return Won(position=stored.position, expires=found.expires)
    return Held(record=found, position=stored.position)


async def log_result(bus: Bus, place: CallPlace, event: Event, *, claim: Position, timeout: float = 5.0) -> None:
    """Log the owner's result, fenced by its claim; idempotent by the event's id.

    Raises ``WrongPositionError`` when the claim is not the owner's any more, which only a restore can cause.
    """
    await bus.append(place.result, event, last=place.own, at=claim, unique=True, timeout=timeout)


async def log_unknown(bus: Bus, place: CallPlace, record: ClaimRecord, *, reason: str, writer: str) -> bool:
    """Write the terminal ``unknown`` for a claimed call; ``False`` when it has a terminal, or another owner."""
    last = await bus.last(place.everything)
    if last is None or last.subject != place.own or ClaimRecord.read(last.event).nonce != record.nonce:
        return False
    event = Event(
        type="tool.result",
        source=f"urn:crossfade:{writer}",
        subject=record.seam,
        extensions={"callid": record.callid, "seam": record.seam, "path": record.role},
        data=refusal_payload("unknown", reason=reason, message=f"the owner was {record.role} {record.instance}"),
    )
    try:
        await bus.append(place.result, event, last=place.everything, at=last.position)
    except WrongPositionError:
        return False
    report.count("unknown", seam=record.seam, reason=reason)
    return True


async def find_terminal(bus: Bus, place: CallPlace) -> Stored | None:
    """The call's terminal: its last event, when that is a result. Never stale."""
    last = await bus.last(place.everything)
    return last if last is not None and last.subject == place.result else None


def overdue(bus: Bus, record: ClaimRecord) -> bool:
    """Whether the broker's time is past the call's deadline and the grace."""
    return bus.now() > record.expires + GRACE


def fingerprint(data: bytes, *, domain: str) -> str:
    """What tells two calls' arguments apart: the sha256 of the clear ones, for one secret sealed twice looks like two.

    Of a request only what its sender means: method, target and body. Its other fields differ from one try to the next
    (the trace, the hops it came by), and a retry must still be one.
    """
    try:
        arguments: Any = json.loads(data)["arguments"]
        if domain == "http":
            arguments = {name: arguments.get(name) for name in ("method", "target", "text", "body")}
        data = json.dumps(arguments, separators=(",", ":")).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # unreadable: the worker will say so, and its bytes tell it apart
    return hashlib.sha256(data).hexdigest()


def is_unknown(stored: Stored) -> bool:
    """Whether a stored result says that nobody knows."""
    try:
        return bool(json.loads(stored.event.data or b"{}").get("outcome") == "unknown")
    except (ValueError, AttributeError, RecursionError):
        return False
