"""Tasks as the outside world sees them: found by id, told only to whoever created them, cancelled.

The ledger is the only source: this process keeps nothing of a task. A task's owner is the tenant and user of its
command, so a task of nobody is nobody's. Functions over a connected bus, without HTTP: the proxy's ``202`` uses them.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from crossfade.shim.claimcheck import load_data
from crossfade.shim.claims import GRACE, CallPlace, ClaimRecord, Held, Nonces, Won, fingerprint, log_result, take
from crossfade.shim.domains import answer_type
from crossfade.shim.errors import BusError, CallMissingError
from crossfade.shim.events import Event, derived_id
from crossfade.shim.hooks import report
from crossfade.shim.outcomes import read_answer, refusal_payload
from crossfade.shim.projection import ENDED, ending
from crossfade.shim.subjects import seam_from_token

if TYPE_CHECKING:
    from crossfade.shim.outcomes import Answer
    from crossfade.shim.ports import Bus, Stored
    from crossfade.shim.subjects import Subjects

Status = Literal["waiting", "running", "completed", "failed", "cancelled", "not-executed", "unknown"]
"""``waiting``: nobody has started it, ``running``: somebody has claimed it. ``unknown``: it was started, and nobody can
know how it ended."""

ENDED_STATUSES: Final = frozenset({"completed", "failed", "cancelled", "not-executed", "unknown"})

_BY_ENDING: Final[dict[str, Status]] = {
    "value": "completed",
    "error": "failed",
    "cancelled": "cancelled",
    "not-executed": "not-executed",
    "unknown": "unknown",
}
_KEPT: Final = timedelta(hours=24)
_ID_LENGTH: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who asks. An empty tenant is none; an empty user owns nothing."""

    user: str
    tenant: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A submitted call as its ledger tells it. ``deadline`` is the broker's time, ``None`` when the command has none.

    ``last`` is the newest event of the ledger.
    """

    id: str
    seam: str
    status: Status
    reason: str
    owner: Principal
    run: str
    created: datetime
    deadline: datetime | None
    command: Stored
    last: Stored

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDED_STATUSES


async def find_task(bus: Bus, subjects: Subjects, callid: str, *, asks: Principal | None = None) -> Task:
    """The task ``callid``, two reads at the leader; with ``asks`` only if it is theirs.

    Raises ``CallMissingError`` for one that is not there, or not theirs: which one is not said.
    """
    command = await bus.last(subjects.of_call(callid, "invoke"))
    if command is None or (asks is not None and not _is_of(asks, command.event)):
        raise CallMissingError(f"there is no task {callid[:64]!r}", callid=callid)
    last = await bus.last(CallPlace.of(command.subject).everything)
    return read_task(command, last or command, now=bus.now())


def read_task(command: Stored, last: Stored, *, now: datetime) -> Task:
    """A task from its command and its ledger's newest event. Pure."""
    event = command.event
    place = CallPlace.of(command.subject)
    deadline = _time(event.get("expirytime"))
    status, reason = _status(last, place, overdue=deadline is not None and now > deadline + GRACE)
    return Task(
        id=event.get("callid") or "",
        seam=event.get("seam") or seam_from_token(place.stem.split(".")[5]),
        status=status,
        reason=reason,
        owner=Principal(user=event.get("userid") or "", tenant=event.get("tenantid") or ""),
        run=event.get("correlationid") or event.id,
        created=command.time,
        deadline=deadline,
        command=command,
        last=last,
    )


def is_older_than_kept(callid: str, *, now: datetime) -> bool:
    """Whether an id (UUID version 7) is of a time whose ledgers are gone: such a task was there, perhaps."""
    if len(callid) != _ID_LENGTH or callid[12:13] != "7":
        return False
    try:
        made = datetime.fromtimestamp(int(callid[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return False
    return now - made > _KEPT


async def result_of(bus: Bus, task: Task) -> Answer:
    """How a task that is over ended, with its value. Raises ``BusError``, ``MalformedEventError``."""
    return read_answer(await load_data(bus, task.last.event))


async def cancel(bus: Bus, subjects: Subjects, task: Task, *, instance: str, nonces: Nonces) -> bool:
    """Give a task up. ``True``: it had not started and never will; ``False``: it runs, or is over, and was told.

    The claim decides, as between workers. Raises ``BusError`` when the ledger cannot be asked.
    """
    if task.over:
        return False
    command, place = task.command, CallPlace.of(task.command.subject)
    record = ClaimRecord(
        callid=task.id,
        seam=task.seam,
        role="caller",
        instance=instance,
        attempt=1,
        policyrev=0,
        arguments=fingerprint(await load_data(bus, command.event), domain=subjects.parse_call(command.subject).domain),
        expires=task.deadline or bus.now(),
    )
    claim = await take(bus, place, record, at=command.position, nonces=nonces)
    if isinstance(claim, Won):
        await log_result(bus, place, _refusal(subjects, task, claim, instance), claim=claim.position)
        await _tell(bus, subjects, task, instance)
        return True
    if isinstance(claim, Held):
        _tell_workers(bus, subjects, task, instance)
    return False


async def list_tasks(
    bus: Bus, subjects: Subjects, *, since: datetime, limit: int, scan: int = 20_000
) -> tuple[list[Task], bool]:
    """The newest tasks stored since a time, newest first; ``True`` when there are more than were looked at.

    One pass over the ledgers, ``scan`` events at most.
    """
    commands: dict[str, Stored] = {}
    last: dict[str, Stored] = {}
    looked = 0
    async with aclosing(cast("Any", bus.read(f"{subjects.prefix}.>", since=since))) as events:
        async for stored in events:
            looked += 1
            if looked > scan:
                break
            stem = CallPlace.of(stored.subject).stem
            if stored.subject.endswith(".invoke") and stored.event.get("task"):
                commands[stem] = stored
            if stem in commands:
                last[stem] = stored
    now = bus.now()
    tasks = [read_task(command, last[stem], now=now) for stem, command in commands.items()]
    tasks.sort(key=lambda task: task.created, reverse=True)
    return tasks[:limit], looked > scan or len(tasks) > limit


def _is_of(asks: Principal, command: Event) -> bool:
    owner = (command.get("userid") or "", command.get("tenantid") or "")
    return bool(asks.user) and owner == (asks.user, asks.tenant)


def _status(last: Stored, place: CallPlace, *, overdue: bool) -> tuple[Status, str]:
    if last.subject == place.result:
        return _ended(last)
    if last.subject == place.own:
        return ("unknown", "owner-silent") if overdue else ("running", "")
    return ("not-executed", "expired") if overdue else ("waiting", "")


def _ended(result: Stored) -> tuple[Status, str]:
    if result.event.data is None and result.event.get("dataref"):
        return "completed", ""  # only values grow so large
    outcome, reason = ending(result.event.data or b"")
    return _BY_ENDING[outcome], reason


def _refusal(subjects: Subjects, task: Task, claim: Won, instance: str) -> Event:
    domain = subjects.parse_call(task.command.subject).domain
    return Event(
        type=answer_type(domain, "cancelled"),
        source=f"urn:crossfade:{instance}",
        id=derived_id(task.id, "refused", claim.position),
        subject=task.seam,
        extensions={"callid": task.id, "seam": task.seam, "path": "caller", **_correlation(task)},
        data=refusal_payload("not-executed", reason="cancelled"),
    )


async def _tell(bus: Bus, subjects: Subjects, task: Task, instance: str) -> None:
    """The UI learns that nothing will come; fail-open."""
    event = Event(
        type=ENDED,
        source=f"urn:crossfade:{instance}",
        id=derived_id(task.id, ENDED, "cancelled"),
        subject=task.seam,
        extensions={"callid": task.id, "seam": task.seam, **_correlation(task)},
        data=json.dumps({"outcome": "cancelled", "reason": ""}).encode(),
    )
    try:
        await bus.publish(subjects.ui(ENDED, run=task.run, tenant=task.owner.tenant, user=task.owner.user), event)
    except BusError as error:
        report.count("dropped", seam=task.seam, reason=type(error).__name__)


def _tell_workers(bus: Bus, subjects: Subjects, task: Task, instance: str) -> None:
    """Whoever runs it may stop; fail-open, as from any caller."""
    event = Event(
        type="tool.progress",
        source=f"urn:crossfade:{instance}",
        subject=task.seam,
        extensions={"callid": task.id, "seam": task.seam},
    )
    try:
        bus.reply(subjects.reply("cancel"), event)
    except BusError as error:
        report.count("dropped", seam=task.seam, reason=type(error).__name__)


def _correlation(task: Task) -> dict[str, str]:
    given = {"correlationid": task.run, "tenantid": task.owner.tenant, "userid": task.owner.user}
    return {name: value for name, value in given.items() if value}


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None
