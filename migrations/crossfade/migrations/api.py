"""``/api/v1/migrations``: how far each seam is on its playbook, why it may not go on, and what people do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from crossfade.proxy.control.problems import BODY, READS, WRITES, ProblemError, problems
from crossfade.proxy.control.seams import IF_MATCH, Changed, IfMatch, SeamName, changed_view, revision_of
from crossfade.shim.stages import Stage  # noqa: TC001 - pydantic reads the annotations

from .gates import RulingKind, State  # noqa: TC001 - as above
from .operating import Act, Operating
from .overview import overview
from .progress import Status  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from crossfade.shim.policies import Policies
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

    from .progress import SeamProgress


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


class EvidenceView(BaseModel):
    """What is known of a seam since its policy last changed."""

    since: str
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

    return made


def _act(request: Request, why: Why, *, expected: int | None = None) -> Act:
    return Act(actor=request.scope["crossfade.caller"].name, reason=why.reason.strip(), expected=expected)


async def _told(act: Awaitable[SeamProgress]) -> Told:
    progress = await act
    return Told(seam=progress.seam, status=progress.status, reason=progress.reason)
