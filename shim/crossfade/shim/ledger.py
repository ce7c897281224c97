"""Reading ledgers for people: everything of one call, and the calls of which nobody knows how they ended.

Nothing here changes anything; ``claims`` writes ledgers while calls run, ``resolving`` when an operator decides.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from .claims import GRACE, CallPlace, ClaimRecord, is_unknown
from .errors import CallMissingError, MalformedEventError
from .hooks import report
from .subjects import seam_from_token, seam_token, token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ports import Bus, DeadLetter, Stored
    from .subjects import CallKind, Subjects

State = Literal["waiting", "expired", "running", "silent", "unknown", "value", "error", "not-executed"]
"""How a call stands. Without a terminal: nobody has claimed it (``waiting``, past its deadline ``expired``), or its
owner has (``running``, past deadline and grace ``silent``). Else its last terminal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """A result as the ledger holds it. ``by``: ``bus``, ``legacy``, ``operator``, or for ``unknown`` the owner's role.

    ``actor`` and ``why`` are an operator's. ``handler_ms`` is ``None`` where nothing ran.
    """

    stored: Stored
    kind: Literal["value", "error", "not-executed", "unknown"]
    reason: str
    message: str
    by: str
    handler_ms: float | None = None
    actor: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallLedger:
    """What the bus still holds of one call, oldest first. A call's terminal is its last event, or there is none."""

    callid: str
    place: CallPlace
    events: Sequence[Stored]

    def of_kind(self, kind: CallKind) -> list[Stored]:
        """Its commands, claims or results."""
        return [stored for stored in self.events if stored.subject.endswith(f".{kind}")]

    @property
    def command(self) -> Stored | None:
        """The last command; ``None`` when it is older than commands are kept."""
        return next(reversed(self.of_kind("invoke")), None)

    @property
    def claim(self) -> ClaimRecord | None:
        """Who owns the call; ``None`` when nobody has claimed it, or the claim cannot be read."""
        claims = self.of_kind("own")
        return _record(claims[-1]) if claims else None

    @property
    def terminal(self) -> Terminal | None:
        """How it ended, as far as is known."""
        last = self.events[-1]
        return read_terminal(last) if last.subject == self.place.result else None

    @property
    def seam(self) -> str:
        """The seam's name."""
        return seam_from_token(self.place.stem.split(".")[5])

    @property
    def domain(self) -> str:
        """``tool``, ``agent`` or ``http``."""
        return self.place.stem.split(".")[4]

    @property
    def deadline(self) -> datetime | None:
        """After which nobody waits, in the broker's time; ``None`` when the ledger does not say."""
        command, claim = self.command, self.claim
        named = _time(command.event.get("expirytime")) if command else None
        return named or (claim.expires if claim else None)

    def state(self, now: datetime) -> State:
        """How it stands at ``now``, the broker's time."""
        ended = self.terminal
        if ended is not None:
            return ended.kind
        if self.events[-1].subject == self.place.own:
            claim = self.claim
            return "silent" if claim is None or now > claim.expires + GRACE else "running"
        deadline = self.deadline
        return "expired" if deadline is None or now > deadline else "waiting"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCall:
    """A call that somebody started and of which nobody knows how it ended.

    ``claim`` is ``None`` when it cannot be read, or is older than claims are kept. ``since``: the broker's time of its
    last event.
    """

    callid: str
    seam: str
    state: Literal["unknown", "silent"]
    claim: ClaimRecord | None
    since: datetime


async def read_call(bus: Bus, subjects: Subjects, callid: str) -> CallLedger:
    """The ledger of the call ``callid``. Raises ``CallMissingError`` when nothing is there."""
    events = [stored async for stored in bus.read(subjects.of_call(callid))]
    if not events:
        raise CallMissingError(
            f"no call {callid!r} in the ledgers: a mistyped id (it is 32 characters long, and printed by "
            "`crossfade events tail --json`), or a call older than commands are kept (24 h)",
            callid=callid,
        )
    return CallLedger(callid=callid, place=CallPlace.of(events[-1].subject), events=events)


async def find_callids(bus: Bus, subjects: Subjects, part: str, *, limit: int = 10) -> list[str]:
    """Calls whose id begins or ends with ``part``, oldest first, ``limit`` at most. One pass over the commands."""
    found: dict[str, None] = {}
    async with aclosing(cast("Any", bus.read(f"{subjects.prefix}.*.*.*.*.*.*.*.invoke"))) as commands:
        async for stored in commands:
            callid = stored.event.get("callid") or ""
            if callid.startswith(part) or callid.endswith(part):
                found[callid] = None
            if len(found) >= limit:
                break
    return list(found)


async def find_open(bus: Bus, subjects: Subjects, *, seam: str | None = None) -> list[OpenCall]:
    """Every call that ended ``unknown``, and every claimed one without a result past its deadline and the grace.

    Oldest first. One pass over what the ledgers hold, which keeps only the calls that are still open in memory.
    """
    claims: dict[str, Stored] = {}
    unknown: dict[str, Stored] = {}
    ledgers = f"{subjects.prefix}.*.*.*.*.{seam_token(seam) if seam else '*'}.*.*.*"
    async with aclosing(cast("Any", bus.read(ledgers))) as events:
        async for stored in events:
            place = CallPlace.of(stored.subject).stem
            if stored.subject.endswith(".own"):
                claims[place] = stored
                unknown.pop(place, None)
            elif stored.subject.endswith(".result") and is_unknown(stored):
                unknown[place] = stored
            elif stored.subject.endswith(".result"):
                claims.pop(place, None)
                unknown.pop(place, None)
    now = bus.now()
    found = [_open(stored, claims.get(place), "unknown") for place, stored in unknown.items()]
    silent = [_open(stored, stored, "silent") for place, stored in claims.items() if place not in unknown]
    found += [call for call in silent if call.claim is None or now > call.claim.expires + GRACE]
    return sorted(found, key=lambda call: call.since)


async def find_dead(bus: Bus, callid: str) -> list[DeadLetter]:
    """The dead letters of one call, oldest first."""
    return [letter async for letter in bus.dead_letters() if is_of_call(letter, callid)]


def is_of_call(letter: DeadLetter, callid: str) -> bool:
    """Whether a dead letter is of this call, by its attribute, or where it cannot be read by its subject."""
    if letter.event is not None and letter.event.get("callid") == callid:
        return True
    return letter.subject.split(".")[7:8] == [token(callid)]


def read_terminal(stored: Stored) -> Terminal:
    """A stored result; one that cannot be read counts as an error that says so."""
    fields = _payload(stored)
    kind = fields.get("outcome")
    by = stored.event.get("path") or "-"
    if stored.event.data is None and stored.event.get("dataref"):
        return Terminal(stored=stored, kind="value", reason="large", message="", by=by)  # only values grow so large
    if kind not in ("value", "error", "not-executed", "unknown"):
        return Terminal(stored=stored, kind="error", reason="unreadable", message="this result cannot be read", by=by)
    error, operator = _mapping(fields.get("error")), _mapping(fields.get("operator"))
    milliseconds = _mapping(fields.get("timings")).get("handler_ms")
    timed = kind in ("value", "error") and not operator and isinstance(milliseconds, int | float)
    return Terminal(
        stored=stored,
        kind=kind,
        reason=str(error.get("type", "")) if kind == "error" else str(fields.get("reason", "")),
        message=str(error.get("message", "")) if kind == "error" else str(fields.get("message", "")),
        by="operator" if operator else by,
        handler_ms=float(cast("float", milliseconds)) if timed else None,
        actor=str(operator.get("actor", "")),
        why=str(operator.get("reason", "")),
    )


def _open(stored: Stored, claim: Stored | None, state: Literal["unknown", "silent"]) -> OpenCall:
    record = _record(claim) if claim is not None else None
    parts = stored.subject.split(".")
    return OpenCall(
        callid=record.callid if record else stored.event.get("callid") or parts[7],
        seam=seam_from_token(parts[5]),
        state=state,
        claim=record,
        since=stored.time,
    )


def _record(stored: Stored) -> ClaimRecord | None:
    try:
        return ClaimRecord.read(stored.event)
    except MalformedEventError as error:
        report.count("skipped", seam=stored.event.get("seam") or "-", reason=f"claim-{error.reason}")
        return None


def _payload(stored: Stored) -> dict[str, Any]:
    try:
        return _mapping(json.loads(stored.event.data or b"{}"))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None
