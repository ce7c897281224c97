"""``/api/v1/migrations``: how far each seam is on its playbook, why it may not go on, and what people do about it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from crossfade.proxy.control.problems import BODY, READS, WRITES, ProblemError, problems
from crossfade.proxy.control.seams import IF_MATCH, Changed, IfMatch, SeamName, changed_view, revision_of
from crossfade.shim.stages import Stage  # noqa: TC001 - pydantic reads the annotations

from .gates import RulingKind, State  # noqa: TC001 - as above
from .operating import Act, Operating
from .overview import overview
from .progress import Status  # noqa: TC001 - as above
from .retirements import Asked, Retirements, told_of
from .retiring import Step  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from crossfade.shim.policies import Policies
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

    from .progress import SeamProgress
    from .retirements import Seen
    from .retiring import Deletion


PeriodHours = Annotated[float, Field(ge=0, le=24 * 366, description="how long nobody may have needed the legacy code")]
DEFAULT_PERIOD: Final = 24.0 * 7


class FindingView(BaseModel):
    """What was found of one number. ``low`` and ``high``: between which it truly is; null: nothing is known yet."""

    metric: str
    state: State
    wanted: str
    text: str = Field(description="for people")
    seen: float | None
    low: float | None
    high: float | None
    limit: float | None = Field(description="what all of it must keep to")


class TrafficView(BaseModel):
    """Calls that went one path. Times in seconds."""

    calls: int
    errors: int
    unknown: int
    not_executed: int
    p50: float | None
    p99: float | None


class MismatchView(BaseModel):
    """One mismatch. ``differences``: ten at most, each with `path`, `kind`, `legacy` and `bus`, short and redacted."""

    callid: str
    correlationid: str
    time: str
    handler: str
    differences: list[dict[str, Any]]


class MismatchesView(BaseModel):
    """Mismatches that differ in the same places: how many, and the newest of them."""

    signature: str
    count: int
    samples: list[MismatchView]


class TenantView(BaseModel):
    """One tenant's calls that were compared or went over the bus; ``failed``: mismatches and errors."""

    calls: int
    failed: int


class EvidenceView(BaseModel):
    """What is known of a seam since its policy last changed, or a new build of its handlers came."""

    since: str
    build: str | None = Field(description="of the handlers that it is of; empty where they name none")
    outdated: int = Field(description="calls of other builds, left out")
    unanswered: dict[str, int] = Field(description="calls over the bus that no result tells of, by outcome and reason")
    tenants: dict[str, TenantView] = Field(description="fifty at most, the rest as `(others)`")
    newest: str | None
    verdicts: dict[str, int]
    reasons: dict[str, int]
    handlers: list[str]
    keys: int = Field(description="distinct users, else sessions, else runs; 1000: at least so many")
    eligible: int
    compared: int
    coverage: float | None
    digest: str
    mismatches: list[MismatchesView] = Field(description="by kind, the one met last first")
    paths: dict[Literal["legacy", "bus", "shadow"], TrafficView]


class RolledBackView(BaseModel):
    """Why a seam was taken back, in the evidence of then; without findings where a person did it."""

    at: str
    from_: str = Field(alias="from", description="the step it stood at")
    digest: str
    build: str
    findings: list[FindingView]
    mismatches: list[MismatchesView]


class MigrationView(BaseModel):
    """One seam on its playbook. Null where no process has declared the seam."""

    seam: str
    playbook: str
    stage: Stage | None
    percent: float | None
    revision: int | None = Field(description="of its policy: what If-Match names")
    step: int = Field(description="index in `steps` of where it stands, -1 before the first")
    steps: list[str]
    next: str | None
    status: Status
    reason: str
    ruling: RulingKind | None
    findings: list[FindingView]
    evidence: EvidenceView | None
    rolled_back: RolledBackView | None = Field(description="while its status is `rolled-back`")


class Migrating(BaseModel):
    """Every seam under a playbook. ``leader``: the process that moves them, empty when none does."""

    leader: str
    seams: list[MigrationView]


class Why(BaseModel):
    """Why it is done; kept with what is done."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000, pattern=r"\S")


class Back(Why):
    """Where to take a seam, and why."""

    to: Stage | None = Field(default=None, description="an earlier stage; else to where legacy answers everybody")


class Skip(Why):
    """Why a seam moves without proof."""

    unsafe_storage: bool = Field(
        default=False, description="accept that a power cut may let an unsafe call start twice"
    )


class Retire(Why):
    """The next step of leading the legacy code out, why, and how long nobody may have needed it."""

    step: Literal["retire", "acknowledge"] = Field(
        description="what you saw to be next; `acknowledge`: I know that the code goes"
    )
    period_hours: PeriodHours = DEFAULT_PERIOD


class HitsView(BaseModel):
    """How often one process ran the legacy code since it began. ``silent``: not heard of again, so nobody knows."""

    build: str
    hits: int
    seen: str
    silent: bool


class BuildView(BaseModel):
    """How often one build of the application ran the legacy code since the seam came to its stage."""

    build: str = Field(description="empty: nobody named it")
    legacy_hits: int
    processes: int
    silent: int = Field(description="processes that were not heard of again")
    seen: str


class DeletionView(BaseModel):
    """A place whose code can go, and what to do there."""

    place: str
    what: str


class RetirementView(BaseModel):
    """Where a seam's legacy code is on its way out. ``holds``: what the next step waits for; empty: it may be done."""

    seam: str
    stage: Stage
    revision: int = Field(description="of its policy: what If-Match names")
    next: Step
    holds: list[str]
    quiet_since: str | None
    why: str = Field(description="why the quiet began then")
    builds: list[BuildView]
    processes: dict[str, HitsView]
    acknowledged: str = Field(description="by whom, when, and why; empty before")
    delete: DeletionView = Field(description="what can go once `next` is `delete`")


class Left(BaseModel):
    """What was done on the way out."""

    seam: str
    done: str
    delete: DeletionView | None = Field(description="what can be deleted now")


class Told(BaseModel):
    """How the seam stands on its playbook now; the controller acts within a second or two."""

    seam: str
    status: Status
    reason: str


_CHANGES: Final = problems(404, 409, *BODY, *WRITES)
_GUARDED: Final = problems(404, 409, 412, 428, *BODY, *WRITES)
_HEADERS: Final[dict[str, Any]] = {"parameters": [IF_MATCH]}


def router(bus: Bus, subjects: Subjects, policies: Policies) -> APIRouter:
    """The routes over this bus."""
    made = APIRouter(prefix="/api/v1/migrations", tags=["migrations"], responses=problems(*READS))
    operating = Operating(bus, policies)

    @made.get("")
    async def list_migrations() -> Migrating:
        """Every seam under a playbook, judged now."""
        found = await overview(bus, subjects, policies)
        return Migrating(leader=found.leader, seams=[MigrationView(**view.to_json()) for view in found.seams])

    @made.get("/{seam}", responses=problems(404, 422))
    async def show_migration(seam: SeamName) -> MigrationView:
        """One seam on its playbook, judged now."""
        found = await overview(bus, subjects, policies)
        view = next((view for view in found.seams if view.progress.seam == seam), None)
        if view is None:
            raise ProblemError(404, f"no playbook moves {seam}: crossfade migrate apply FILE")
        return MigrationView(**view.to_json())

    @made.post("/{seam}/approve", responses=_GUARDED, openapi_extra=_HEADERS)
    async def approve(seam: SeamName, why: Why, request: Request, if_match: IfMatch = None) -> Told:
        """Say yes to the seam's next step, if it still stands where you saw it."""
        act = _act(request, why, expected=revision_of(if_match))
        return await _told(operating.approve(seam, act))

    @made.post("/{seam}/advance", responses=_GUARDED, openapi_extra=_HEADERS)
    async def advance(seam: SeamName, skip: Skip, request: Request, if_match: IfMatch = None) -> Changed:
        """Move the seam to its next step past its gate, as your own decision, if it still stands where you saw it."""
        act = _act(request, skip, expected=revision_of(if_match))
        return changed_view(await operating.skip_gate(seam, act, unsafe_storage=skip.unsafe_storage))

    @made.post("/{seam}/pause", responses=_CHANGES)
    async def pause(seam: SeamName, why: Why, request: Request) -> Told:
        """Keep the controller's hands off a seam; abort rules are not judged either."""
        return await _told(operating.pause(seam, _act(request, why)))

    @made.post("/{seam}/resume", responses=_CHANGES)
    async def resume(seam: SeamName, why: Why, request: Request) -> Told:
        """Give a paused or rolled-back seam back to the controller, where it stands."""
        return await _told(operating.resume(seam, _act(request, why)))

    @made.post("/{seam}/rollback", responses=_CHANGES)
    async def roll_back(seam: SeamName, back: Back, request: Request) -> Changed:
        """Take a seam back at once, breaking off what is under way. It stays back until resumed."""
        return changed_view(await operating.roll_back(seam, _act(request, back), to=back.to))

    _add_retiring(made, Retirements(bus, subjects, policies))
    return made


def _add_retiring(made: APIRouter, retirements: Retirements) -> None:
    @made.get("/{seam}/retirement", responses=problems(404, 422))
    async def show_retirement(seam: SeamName, period_hours: PeriodHours = DEFAULT_PERIOD) -> RetirementView:
        """Whether the seam's legacy code may go: hits by process, what it waits for, what can be deleted then."""
        return _retirement(await retirements.look(seam, timedelta(hours=period_hours)))

    @made.post("/{seam}/retire", responses=_GUARDED, openapi_extra=_HEADERS)
    async def retire(seam: SeamName, wanted: Retire, request: Request, if_match: IfMatch = None) -> Left:
        """Retire the seam, or acknowledge that its code goes, if nobody needed it for so long."""
        asked = Asked(
            seam=seam,
            period=timedelta(hours=wanted.period_hours),
            act=_act(request, wanted, expected=revision_of(if_match)),
            acknowledge=wanted.step == "acknowledge",
            only=wanted.step,
        )
        done = await retirements.carry_out(asked)
        return Left(seam=seam, done=done.did, delete=_deletion(done.deletion) if done.deletion else None)


def _act(request: Request, why: Why, *, expected: int | None = None) -> Act:
    return Act(actor=request.scope["crossfade.caller"].name, reason=why.reason.strip(), expected=expected)


def _retirement(seen: Seen) -> RetirementView:
    found, history = seen.retirement, seen.history
    processes = history.processes.items() if history else ()
    return RetirementView(
        seam=found.seam,
        stage=found.stage,
        revision=seen.standing.policy.revision,
        next=found.next,
        holds=list(found.holds),
        quiet_since=found.since.isoformat() if found.since else None,
        why=history.why if history else "",
        builds=[BuildView(**told_of(build)) for build in found.builds],
        processes={
            name: HitsView(build=last.build, hits=last.hits, seen=last.seen.isoformat(), silent=last.silent)
            for name, last in processes
        },
        acknowledged=history.acknowledged if history else "",
        delete=_deletion(seen.deletion),
    )


def _deletion(code: Deletion) -> DeletionView:
    return DeletionView(place=code.place, what=code.what)


async def _told(act: Awaitable[SeamProgress]) -> Told:
    progress = await act
    return Told(seam=progress.seam, status=progress.status, reason=progress.reason)
