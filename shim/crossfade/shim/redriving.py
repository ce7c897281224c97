"""Sending dead commands again, without doing anything twice.

What may be sent again depends on what running twice does, and on what the dead call's ledger says:

    effects      dead call's ledger                              sent again
    none         whatever                                        as a new call
    idempotent   whatever                                        under its own call id: that is its idempotency key
    unsafe       nobody claimed it, callers stopped waiting      as a new call
    unsafe       resolved as not-executed by an operator         as a new call
    unsafe       not-executed, or gone (older than 24 h)         only with an operator's word that it was not done:
                                                                 its caller may have run the legacy body instead
    unsafe       started, silent, unknown                        no: ``crossfade calls resolve`` comes first
    unsafe       value or error                                  no: it ran

A seam that no process declares counts as unsafe. Before an unsafe command is sent again, its dead call is closed: an
operator claims it on the condition that nothing happened since it was judged, and logs an error that names the new
call. So no retry of its caller and no late worker can start it beside the new one.

What was sent again is marked in the state bucket ``redriven``, under the dead letter's identity and a number. The new
call's id follows from both, so a redrive that died at any step sends the same call when repeated, and the ledger takes
it once.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ._runtime import seal_context
from .claimcheck import CLAIM_CHECK, format_dataref, load_data
from .claims import GRACE, CallPlace, ClaimRecord, Nonces, Won, fingerprint, is_unknown, log_result, take
from .domains import answer_type
from .errors import (
    BusAmbiguousError,
    CallMissingError,
    ConfigurationError,
    MalformedEventError,
    ObjectMissingError,
    WrongPositionError,
    WrongRevisionError,
)
from .events import TYPES, Event, derived_id
from .hooks import report
from .ledger import read_call, read_terminal
from .policies import Policies
from .policy import Policy
from .resolving import Resolution
from .subjects import seam_from_token, token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .ledger import CallLedger, State
    from .ports import Bus, DeadLetter, Position
    from .sealed import Sealer
    from .subjects import Subjects

BUCKET: Final = "redriven"
KEPT: Final = timedelta(days=31)
"""How long it is remembered what was sent again: a day longer than dead letters are kept."""

CLOSED: Final = "SentAgain"
"""The error that an unsafe call ends in when it was sent again as another one."""

_PATIENCE: Final = 10.0  # seconds for the claim that closes the dead call
_CARRIED: Final = (
    "correlationid",
    "tenantid",
    "userid",
    "sessionid",
    "partitionkey",
    "traceparent",
    "tracestate",
    "baggage",
    "seam",
    "path",
    "dataref",
    "sealed",
)

Why = Literal[
    "no-command", "no-payload", "sealed", "redriven", "waiting", "running", "unknown", "ran", "legacy", "gone"
]
"""Why a dead letter is not sent again, for programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """That a dead letter was sent again: as which call, by whom, when (broker's time), as which attempt to mend it."""

    n: int
    callid: str
    actor: str
    time: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a dead letter may be sent again.

    ``why`` is empty when it may; else it names the reason, and ``text`` says what to do. ``marks``: how often it was
    sent again before. ``at``: the last event of an unsafe call's ledger when it was judged, ``None``: there is none.
    """

    letter: DeadLetter
    policy: Policy
    why: Why | Literal[""] = ""
    text: str = ""
    marks: tuple[Mark, ...] = ()
    at: Position | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """How an operator wants it.

    ``again``: also what was sent again before. ``not_done``: the operator's word, with how they know, that the effect
    of an unsafe call has not happened on any path; kept with the mark. ``timeout``: seconds that the new call may
    take, else what the seam's policy says.
    """

    actor: str
    again: bool = False
    not_done: str = ""
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None:
            Policy(timeout=self.timeout)  # its bounds are these


@dataclass(slots=True)
class Redriving:
    """Judges and sends dead letters over a connected bus. ``sealer`` opens secrets, which are bound to a call's id."""

    bus: Bus
    subjects: Subjects
    sealer: Sealer | None = None
    _nonces: Nonces = field(default_factory=Nonces)
    _marks: dict[str, tuple[Mark, ...]] | None = None
    _policies: Callable[[str], Policy | None] | None = None

    async def marks(self) -> dict[str, tuple[Mark, ...]]:
        """What was sent again, by ``identity`` of the dead letter; read once, since a second sender sends the same."""
        if self._marks is None:
            self._marks = await self._read_marks()
        return self._marks

    async def _read_marks(self) -> dict[str, tuple[Mark, ...]]:
        found: dict[str, list[Mark]] = {}
        for entry in await self.bus.state(BUCKET).entries():
            found.setdefault(entry.key.partition(".")[0], []).append(Mark(**json.loads(entry.value)))
        return {key: tuple(sorted(marks, key=lambda mark: mark.n)) for key, marks in found.items()}

    async def judge(self, letter: DeadLetter, wish: Wish) -> Verdict:
        """Whether ``letter`` may be sent again as ``wish`` has it; changes nothing. Raises ``BusError``."""
        verdict = Verdict(letter=letter, policy=Policy(), marks=(await self.marks()).get(identity(letter), ()))
        unfit = await self._unfit(letter)
        if unfit is not None:
            return replace(verdict, why=unfit[0], text=unfit[1])
        verdict = replace(verdict, policy=await self._policy(letter))
        unsafe = verdict.policy.effects == "unsafe"
        if verdict.marks and (unsafe or not wish.again):
            return replace(verdict, why="redriven", text=_told(verdict.marks[-1], unsafe=unsafe))
        return await self._judge_unsafe(verdict, wish) if unsafe else verdict

    async def redrive(self, letter: DeadLetter, wish: Wish) -> tuple[Verdict, Mark | None]:
        """Send ``letter`` again when it may be; the mark says as which call.

        Raises ``BusError``; repeating it then sends nothing twice.
        """
        verdict = await self.judge(letter, wish)
        if verdict.why:
            return verdict, None
        number = verdict.marks[-1].n + 1 if verdict.marks else 1
        new = derived_id("redriven", identity(letter), str(number))
        if verdict.policy.effects == "unsafe" and not await self._close(verdict, new, wish):
            return replace(verdict, why="running", text="something happened to it just now: look at the call"), None
        callid = await self._send(letter, verdict.policy, new, wish)
        mark = Mark(n=number, callid=callid, actor=wish.actor, time=self.bus.now().isoformat(), reason=wish.not_done)
        await self._mark(letter, mark)
        report.count("redriven", seam=_seam(letter), reason=letter.reason)
        return verdict, mark

    # -- judging -----------------------------------------------------------------------------------------------

    async def _unfit(self, letter: DeadLetter) -> tuple[Why, str] | None:
        """Why this could not be sent whatever the ledger says."""
        event = letter.event
        if event is None:
            return "no-command", "it cannot be read as an event, so nobody knows what to send"
        try:
            kind = self.subjects.parse_call(letter.subject).kind
        except MalformedEventError:
            kind = "-"
        if kind != "invoke" or TYPES.get(event.type) != "command":
            return "no-command", f"it is {event.type}, and only commands are executed"
        if not event.data and not event.get("dataref"):
            return "no-payload", "its payload was too large to be kept here, so the arguments are gone"
        try:
            await load_data(self.bus, event)
        except (ObjectMissingError, MalformedEventError) as error:
            return "no-payload", f"its arguments are gone: {error}"
        if event.get("sealed") and self.sealer is None:
            return "sealed", "it carries sealed arguments: set CROSSFADE_SEAL_KEY here as its callers have it"
        return None

    async def _policy(self, letter: DeadLetter) -> Policy:
        """The seam's policy in force when we began; unsafe, with the dead command's own time, if nobody declares it."""
        if self._policies is None:
            policies = Policies(self.bus, self.subjects)
            declared, live, now = await policies.declared(), await policies.live(), self.bus.now()

            def in_force(seam: str) -> Policy | None:
                base = declared[seam].policy if seam in declared else None
                return live[seam].over(base, now=now) if base and seam in live else base

            self._policies = in_force
        return self._policies(_seam(letter)) or Policy(timeout=_budget(letter))

    async def _judge_unsafe(self, verdict: Verdict, wish: Wish) -> Verdict:
        ledger = await self._ledger(verdict.letter)
        if ledger is None:
            return verdict if wish.not_done else replace(verdict, why="gone", text=_GONE)
        why, text = judge_unsafe(ledger, now=self.bus.now(), vouched=bool(wish.not_done))
        return replace(verdict, why=why, text=text, at=ledger.events[-1].position)

    async def _ledger(self, letter: DeadLetter) -> CallLedger | None:
        try:
            return await read_call(self.bus, self.subjects, _callid(letter))
        except CallMissingError:
            return None

    # -- sending -----------------------------------------------------------------------------------------------

    async def _close(self, verdict: Verdict, new: str, wish: Wish) -> bool:
        """Claim the dead call as operator and log what became of it; ``False`` when something else happened to it."""
        letter, place = verdict.letter, CallPlace.of(verdict.letter.subject)
        domain = self.subjects.parse_call(letter.subject).domain
        closing = self._closing(letter, new, wish)
        if verdict.at is not None and await self._was_begun(place, closing):
            return True
        record = ClaimRecord(
            callid=_callid(letter),
            seam=_seam(letter),
            role="operator",
            instance=f"operator:{wish.actor}",
            attempt=letter.attempts,
            policyrev=0,
            arguments=fingerprint(letter.event.data or b"", domain=domain) if letter.event else "",
            expires=self.bus.now(),
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                claim = await take(self.bus, place, record, at=verdict.at, nonces=self._nonces)
                if isinstance(claim, Won):
                    await log_result(self.bus, place, closing, claim=claim.position)
        except TimeoutError:
            raise BusAmbiguousError("the ledger did not answer clearly: nothing was sent, try again") from None
        return isinstance(claim, Won)

    async def _was_begun(self, place: CallPlace, closing: Event) -> bool:
        """Whether an earlier redrive has closed it, or claimed it to do so and died: then that is finished here.

        An operator's claim starts nothing, so whoever comes next may go on with it.
        """
        last, claim = await self.bus.last(place.everything), await self.bus.last(place.own)
        if last is None or claim is None or ClaimRecord.read(claim.event).role != "operator":
            return False
        if last.subject == place.own or is_unknown(last):
            await log_result(self.bus, place, closing, claim=claim.position)
            return True
        return last.subject == place.result and read_terminal(last).reason == CLOSED

    def _closing(self, letter: DeadLetter, new: str, wish: Wish) -> Event:
        domain = self.subjects.parse_call(letter.subject).domain
        resolution = Resolution(outcome="error", actor=wish.actor, reason=f"sent again as call {new}")
        payload = resolution.payload(replaces=letter.origin, now=self.bus.now(), error=CLOSED)
        return Event(
            type=answer_type(domain, "error"),
            source="urn:crossfade:operator",
            id=derived_id(new, "closing"),
            subject=_seam(letter),
            extensions={"callid": _callid(letter), "seam": _seam(letter), "path": "operator"},
            data=payload,
        )

    async def _send(self, letter: DeadLetter, policy: Policy, new: str, wish: Wish) -> str:
        """Publish the new command; returns its call id. A copy that is there already is the same one."""
        assert letter.event is not None  # noqa: S101 - ``_unfit`` said so; for the type checker
        callid = _callid(letter) if policy.effects == "idempotent" else new
        attributes = {
            **{name: value for name in _CARRIED if (value := letter.event.get(name))},
            "callid": callid,
            "causationid": letter.event.id,
            "replayof": letter.event.id,
            "policyrev": str(policy.revision),
            "expirytime": (self.bus.now() + timedelta(seconds=wish.timeout or policy.timeout)).isoformat(),
        }
        if policy.effects == "unsafe":
            attributes["guarded"] = "1"
        data = letter.event.data
        if letter.event.get("sealed"):
            data, dataref = await self._resealed(letter, callid)
            attributes = {name: value for name, value in {**attributes, "dataref": dataref}.items() if value}
        event = Event(
            type=letter.event.type,
            source=f"urn:crossfade:operator:{wish.actor}",
            id=new,
            subject=_seam(letter),
            extensions=attributes,
            data=data,
        )
        place = CallPlace.of(_moved(letter.subject, callid))
        if callid == _callid(letter):
            await self.bus.publish(place.invoke, event)
            return callid
        try:
            await self.bus.append(place.invoke, event, last=place.everything, at=None)
        except WrongPositionError:
            report.count("redriven", seam=_seam(letter), reason="already-sent")
        return callid

    async def _resealed(self, letter: DeadLetter, callid: str) -> tuple[bytes | None, str]:
        """The payload with its secrets sealed for the new call, and where it lies when it is large."""
        assert letter.event is not None and self.sealer is not None  # noqa: S101, PT018 - ``_unfit`` said so
        payload: dict[str, Any] = json.loads(await load_data(self.bus, letter.event))
        sealed: Mapping[str, str] = payload["sealed"]
        seam, old = _seam(letter), _callid(letter)
        payload["sealed"] = {
            name: self.sealer.seal(
                self.sealer.open(text, context=seal_context(seam, old, name)), context=seal_context(seam, callid, name)
            )
            for name, text in sealed.items()
        }
        data = json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if len(data) <= CLAIM_CHECK:
            return data, ""
        return None, format_dataref(await self.bus.put_object(data))

    async def _mark(self, letter: DeadLetter, mark: Mark) -> None:
        value = json.dumps({name: getattr(mark, name) for name in Mark.__slots__}).encode()
        try:
            await self.bus.state(BUCKET).create(f"{identity(letter)}.{mark.n}", value, ttl=KEPT.total_seconds())
        except WrongRevisionError:  # somebody redrove it at the same moment: the same call, sent once
            report.count("redriven", seam=_seam(letter), reason="already-marked")
        marks = await self.marks()
        marks[identity(letter)] = (*marks.get(identity(letter), ()), mark)


_LEGACY: Final = (
    "it was not executed on the bus, and its caller, told so, may have run the legacy body instead: "
    'make sure that it was not done, then say --not-done "how you know"'
)
_GONE: Final = (
    "its ledger is gone (kept 24 h), so nobody can tell whether it ran: "
    'make sure that it was not done, then say --not-done "how you know"'
)
_BY_STATE: Final[Mapping[State, tuple[Why, str]]] = {
    "value": ("ran", "it ran and has its result: sending it again may do it twice"),
    "error": ("ran", "it ran and raised: sending it again may do it twice"),
    "running": ("running", "somebody has started it and may still finish it: wait"),
    "silent": ("unknown", "it was started and nobody knows how it ended: first `crossfade calls resolve {callid}`"),
    "unknown": ("unknown", "it was started and nobody knows how it ended: first `crossfade calls resolve {callid}`"),
}


def judge_unsafe(ledger: CallLedger, *, now: datetime, vouched: bool) -> tuple[Why | Literal[""], str]:
    """Why a dead unsafe call must not be sent again, by its ledger; nothing when it may. Pure.

    ``vouched``: an operator says that it was not done.
    """
    state, ended = ledger.state(now), ledger.terminal
    begun = ledger.claim is not None and ledger.claim.role == "operator"
    if begun and (state in ("running", "silent", "unknown") or (ended is not None and ended.reason == CLOSED)):
        return "", ""  # by a redrive that died before it could send
    if state in _BY_STATE:
        why, text = _BY_STATE[state]
        return why, text.format(callid=ledger.callid)
    if ended is not None:  # not executed
        return ("", "") if vouched or ended.by == "operator" else ("legacy", _LEGACY)
    left = (ledger.deadline + GRACE - now).total_seconds() if ledger.deadline else 0.0
    return ("waiting", f"its caller may still wait for it: try again in {left:.0f} s") if left > 0 else ("", "")


def identity(letter: DeadLetter) -> str:
    """What marks are kept under: a dead letter's own, whatever position it has after a restore."""
    return derived_id("dead", letter.group, letter.origin, letter.event.id if letter.event else letter.position)


def seam_of(letter: DeadLetter) -> str:
    """The seam a dead letter belongs to, ``-`` when it cannot be told."""
    named = letter.event.get("seam") if letter.event else None
    parts = letter.subject.split(".")
    return named or (seam_from_token(parts[5]) if len(parts) == 9 else "-")


def _told(mark: Mark, *, unsafe: bool) -> str:
    told = f"{mark.actor} sent it again at {mark.time[:19]}Z as call {mark.callid}"
    if unsafe:  # the copy may have run, so its own ledger decides
        return f"{told}: if that one died, it has a dead letter of its own"
    return f"{told}: --again sends it once more"


def _seam(letter: DeadLetter) -> str:
    return seam_from_token(letter.subject.split(".")[5])


def _callid(letter: DeadLetter) -> str:
    return (letter.event.get("callid") if letter.event else None) or letter.subject.split(".")[7]


def _moved(subject: str, callid: str) -> str:
    """``subject`` of another call, everything else as it was."""
    parts = subject.split(".")
    parts[7] = token(callid)
    return ".".join(parts)


def _budget(letter: DeadLetter) -> float:
    """Seconds that the dead command was given."""
    try:
        event = letter.event
        expiry = datetime.fromisoformat((event.get("expirytime") if event else None) or "")
        seconds = (expiry - event.time).total_seconds() if event else 0.0
        return Policy(timeout=max(1.0, seconds)).timeout
    except (ValueError, TypeError, ConfigurationError):
        return Policy().timeout
