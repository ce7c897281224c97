"""``/api/v1/seams``: where each seam stands, who follows, and moving it by compare-and-set."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from crossfade.shim.errors import PolicyChangedError, UnknownSeamError
from crossfade.shim.policies import DRAIN, Mode, Move
from crossfade.shim.policy import Effects, Fallback, LedgerDown  # noqa: TC001 - pydantic reads the annotations
from crossfade.shim.stages import Stage  # noqa: TC001 - as above
from crossfade.shim.standing import standings

from .problems import BODY, READS, WRITES, ProblemError, problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crossfade.shim.policies import Policies, StageChange
    from crossfade.shim.ports import Bus
    from crossfade.shim.standing import Standing

SeamName = Annotated[str, Path(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=128, description="like web.search")]
IfMatch = Annotated[str | None, Header(include_in_schema=False)]  # optional, so that we say what is missing: 428
IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": 'the revision you looked at, in quotes: what ETag said, like "7"; 428 without it, 412 with another',
    "schema": {"type": "string"},
    "example": '"0"',
}
_ETAG: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "ETag": {
                "description": "the policy's revision, for If-Match",
                "schema": {"type": "string"},
                "required": True,
            }
        }
    }
}


class InstanceView(BaseModel):
    """A process that declares the seam, and which revision of its policy it has applied."""

    instance: str
    role: str
    revision: int
    seen: str
    legacy_hits: int
    build: str = Field(description="of the application, as somebody named it; empty when nobody did")
    breaker: str = Field(description="open or half-open where it does not ask the bus now, else closed")


class PolicyView(BaseModel):
    """The policy in force."""

    stage: Stage
    effects: Effects
    percent: float
    sample: float
    timeout: float
    fallback: Fallback
    ledger_down: LedgerDown
    unsafe_storage: bool
    compare: dict[str, Any]
    noise: float
    repeat: int
    revision: int
    minrev: int
    draining: bool


class SeamView(BaseModel):
    """A seam. ``lagging`` names the processes that have not applied the policy yet."""

    seam: str
    domain: str
    place: str
    policy: PolicyView
    actor: str = Field(description="who set it; (code) when nobody has")
    reason: str
    changed: str
    blockers: list[str] = Field(description="what keeps it from leaving observe and shadow")
    instances: list[InstanceView]
    lagging: list[str]
    workers: int


class Change(BaseModel):
    """What to change, and why. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000, pattern=r"\S", description="why; kept with the change")
    stage: Stage | None = None
    percent: float | None = Field(default=None, ge=0, le=100, description="share of keys that take the bus at canary")
    sample: float | None = Field(default=None, ge=0, le=1, description="share of calls observed in full")
    timeout: float | None = Field(default=None, ge=0.01, le=86_400, description="seconds a call may take on the bus")
    fallback: Fallback | None = None
    ledger_down: LedgerDown | None = None
    compare: dict[str, Any] | None = Field(default=None, description="comparison rules by path")
    noise: float | None = Field(default=None, ge=0, le=1, description="share of shadow runs compared with themselves")
    repeat: int | None = Field(default=None, ge=1, le=9, description="how often a shadow runs the handler")
    mode: Mode = Field(default="drain", description="a way back: let runs end on the bus, or refuse them")
    drain: float = Field(default=DRAIN.total_seconds(), ge=0, le=86_400, description="seconds in which runs may end")
    force: bool = Field(default=False, description="skip stages forward, pass over blockers, or over a playbook")
    unsafe_storage: bool = Field(
        default=False, description="accept that a power cut may let an unsafe call start twice"
    )
    wait: float = Field(default=2.0, ge=0, le=30, description="seconds to wait until every process follows")


class Changed(BaseModel):
    """What was done. ``lagging`` are those that had not followed in time."""

    seam: str
    was: Stage
    now: Stage
    revision: int
    following: int
    lagging: list[str]


Check: TypeAlias = "Callable[[Standing, Move], Awaitable[None]]"
"""Asked before a seam is changed; raises ``StageChangeRefusedError`` when somebody else moves it."""

_SETTINGS: Final = ("percent", "sample", "timeout", "fallback", "ledger_down", "compare", "noise", "repeat")


def router(policies: Policies, bus: Bus, check: Check | None = None) -> APIRouter:
    """The routes over these policies; ``check`` is asked before each change."""
    made = APIRouter(prefix="/api/v1/seams", tags=["seams"], responses=problems(*READS))

    @made.get("")
    async def list_seams() -> list[SeamView]:
        """Every seam that a process has declared."""
        return [_view(found) for found in await standings(policies, bus)]

    @made.get("/{seam}", responses={**_ETAG, **problems(404, 422)})
    async def show_seam(seam: SeamName, response: Response) -> SeamView:
        """One seam; its ETag is what a change must name."""
        found = await _find(policies, bus, seam)
        response.headers["ETag"] = _etag(found.policy.revision)
        return _view(found)

    @made.patch(
        "/{seam}",
        responses={**_ETAG, **problems(404, 409, 412, 428, *BODY, *WRITES)},
        openapi_extra={"parameters": [IF_MATCH]},
    )
    async def change_seam(
        seam: SeamName, change: Change, request: Request, response: Response, if_match: IfMatch = None
    ) -> Changed:
        """Change its policy, or move it to a stage, if nobody has changed it since you looked."""
        found = await _find(policies, bus, seam)
        expected = revision_of(if_match)
        actor = request.scope["crossfade.caller"].name
        move = _move(change, found, actor, expected)
        if check is not None:
            await check(found, move)
        try:
            done = await policies.set_stage(seam, move, wait=change.wait)
        except PolicyChangedError as error:
            raise ProblemError(412, str(error), headers={"ETag": _etag(error.actual)}) from error
        response.headers["ETag"] = _etag(done.revision)
        return changed_view(done)

    return made


async def _find(policies: Policies, bus: Bus, seam: str) -> Standing:
    found = next((each for each in await standings(policies, bus) if each.seam == seam), None)
    if found is None:
        raise UnknownSeamError(f"no process has declared seam {seam!r}")
    return found


def _move(change: Change, found: Standing, actor: str, expected: int) -> Move:
    given = {name: value for name in _SETTINGS if (value := getattr(change, name)) is not None}
    return Move(
        target=change.stage or found.policy.stage,
        actor=actor,
        reason=change.reason.strip(),
        force=change.force,
        mode=change.mode,
        drain=timedelta(seconds=change.drain),
        settings=given,
        unsafe_storage=change.unsafe_storage,
        expected=expected,
    )


def revision_of(if_match: str | None) -> int:
    """The revision that somebody looked at. Raises ``ProblemError``: 428 where they do not say, 412 for no revision."""
    if if_match is None:
        raise ProblemError(428, "say which revision you looked at: If-Match with the ETag of GET /api/v1/seams/{seam}")
    digits = if_match.strip().removeprefix('"').removesuffix('"')
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 16):
        raise ProblemError(412, 'If-Match must be one ETag of this seam, like "7"')
    return int(digits)


def _etag(revision: int) -> str:
    return f'"{revision}"'


def _view(found: Standing) -> SeamView:
    seam, policy, live = found.declared, found.policy, found.live
    return SeamView(
        seam=seam.seam,
        domain=seam.domain,
        place=seam.place,
        policy=PolicyView(
            stage=policy.stage,
            effects=policy.effects,
            percent=policy.percent,
            sample=policy.sample,
            timeout=policy.timeout,
            fallback=policy.fallback,
            ledger_down=policy.ledger_down,
            unsafe_storage=policy.unsafe_storage,
            compare=dict(policy.compare),
            noise=policy.noise,
            repeat=policy.repeat,
            revision=policy.revision,
            minrev=policy.minrev,
            draining=policy.draining,
        ),
        actor=live.actor if live else "(code)",
        reason=live.reason if live else "",
        changed=live.changed if live else "",
        blockers=list(seam.blockers),
        instances=[
            InstanceView(
                instance=each.instance,
                role=each.role,
                revision=each.seams[seam.seam],
                seen=each.seen.isoformat(),
                legacy_hits=each.legacy_hits.get(seam.seam, 0),
                build=each.build,
                breaker=each.breakers.get(seam.seam, "closed"),
            )
            for each in found.instances
        ],
        lagging=list(found.lagging),
        workers=found.workers,
    )


def changed_view(done: StageChange) -> Changed:
    """What was done, for an answer."""
    return Changed(
        seam=done.seam,
        was=done.was,
        now=done.now,
        revision=done.revision,
        following=done.following,
        lagging=list(done.lagging),
    )
