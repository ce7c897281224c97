"""Live policies on the bus: one key per seam, changed by compare-and-set, with who and why beside it.

A rollback must reach everyone, also a process that has lost its watch. So every command carries the revision it
was sent under, a rollback that aborts raises the least revision workers accept, and processes report which
revision they have applied.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from .claims import GRACE
from .errors import (
    ConfigurationError,
    PolicyChangedError,
    StageChangeRefusedError,
    UnknownSeamError,
    UnknownStageError,
    WrongRevisionError,
)
from .events import Event, derived_id
from .instances import Instances
from .policy import Policy
from .stages import TABLE, Stage, check_move

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from .instances import Instance
    from .policy import Effects
    from .ports import Bus, BusInfo, Entry
    from .seam import Seam
    from .subjects import Subjects

POLICIES: Final = "policy"
SEAMS: Final = "seams"
DRAIN: Final = timedelta(minutes=5)
"""How long runs that began on the bus may end there after a rollback by hand."""

_TRIES: Final = 5  # compare-and-set races are between people and a controller: rare and short
_LOOK: Final = 0.05  # seconds between looks at who follows

Mode = Literal["drain", "abort"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LivePolicy:
    """What the bus says of one seam: the settings that override code and file, and who set them why.

    ``drain_until`` and ``claim_until`` are the broker's time; see ``Policy`` for what they and ``minrev`` do.
    """

    seam: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    revision: int = 0
    minrev: int = 0
    drain_until: datetime | None = None
    claim_until: datetime | None = None
    actor: str = ""
    reason: str = ""
    changed: str = ""

    def over(self, base: Policy, *, now: datetime) -> Policy:
        """``base`` with the live settings. Raises ``ConfigurationError`` or ``UnknownStageError`` for bad ones."""
        policy = base.override(self.settings, where=f"live policy of {self.seam}")
        return replace(
            policy,
            revision=self.revision,
            minrev=self.minrev,
            draining=self.drain_until is not None and now < self.drain_until,
            claiming=TABLE[policy.stage].commands or (self.claim_until is not None and now < self.claim_until),
        )

    def next_change(self, now: datetime) -> datetime | None:
        """When ``over`` will next give something else without anybody changing anything."""
        return min((at for at in (self.drain_until, self.claim_until) if at and at > now), default=None)

    def encode(self) -> bytes:
        """The value of the bucket ``policy``."""
        return json.dumps(
            {
                "policy": dict(self.settings),
                "revision": self.revision,
                "minrev": self.minrev,
                "drain_until": self.drain_until.isoformat() if self.drain_until else None,
                "claim_until": self.claim_until.isoformat() if self.claim_until else None,
                "actor": self.actor,
                "reason": self.reason,
                "changed": self.changed,
            }
        ).encode()


def read_live(seam: str, value: bytes) -> LivePolicy:
    """Read a value of the bucket ``policy``. Raises ``ConfigurationError`` when it is not one."""
    try:
        stored = json.loads(value)
        return LivePolicy(
            seam=seam,
            settings=dict(stored["policy"]),
            revision=int(stored["revision"]),
            minrev=int(stored.get("minrev", 0)),
            drain_until=_time(stored.get("drain_until")),
            claim_until=_time(stored.get("claim_until")),
            actor=str(stored.get("actor", "")),
            reason=str(stored.get("reason", "")),
            changed=str(stored.get("changed", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"is not a policy: {error!r}", where=f"live policy of {seam}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """What processes have declared of one seam; ``blockers`` are reasons that keep it from leaving observe."""

    seam: str
    domain: str
    policy: Policy
    place: str
    blockers: Sequence[str] = ()

    @property
    def effects(self) -> Effects:
        """The declared effects."""
        return self.policy.effects

    @property
    def stage(self) -> Stage:
        """The stage in code and file."""
        return self.policy.stage


@dataclass(frozen=True, kw_only=True, slots=True)
class StageChange:
    """A stage that was set; ``was`` and ``now`` may be the same.

    ``following`` counts the live processes that have applied it, ``lagging`` names those that had not in time:
    they act on what they last knew until they hear of it, and workers refuse what they send when it was aborted.
    ``silent`` names those not heard of for ten seconds to an hour: ended without a word, or cut off.
    """

    seam: str
    was: Stage
    now: Stage
    revision: int
    following: int = 0
    lagging: Sequence[str] = ()
    silent: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A change that somebody asks for.

    ``mode`` says what a way back does with runs that began on the bus: ``drain`` lets them end there within
    ``drain``, ``abort`` breaks their pins and has workers refuse older commands. ``settings`` are further settings
    of the policy to change. ``unsafe_storage`` accepts a broker that may lose claims in a power cut.
    ``expected``: only if the policy still is at this revision (0: there is none). ``evidence``: what a decision that
    no person made rests on; it goes into ``seam.stage.changed``.
    """

    target: Stage
    actor: str
    reason: str = ""
    force: bool = False
    mode: Mode = "drain"
    drain: timedelta = DRAIN
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unsafe_storage: bool = False
    expected: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Policies:
    """Reads and changes live policies over a connected bus."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._policies = bus.state(POLICIES)
        self._seams = bus.state(SEAMS)
        self.instances = Instances(bus)

    async def announce(self, seam: Seam, policy: Policy, blockers: Collection[str] = ()) -> None:
        """Tell the bus that ``seam`` is declared here with ``policy`` in code and file, and what blocks it.

        Blockers are only ever added to those known: what one process saw is not undone by another that starts.
        Raises ``WrongRevisionError`` when the entry kept changing.
        """
        declared = {
            "domain": seam.domain,
            "policy": {name: getattr(policy, name) for name in ("stage", "effects", "timeout", "percent")},
            "place": seam.place,
        }

        def merged(known: Mapping[str, Any]) -> dict[str, Any]:
            return {**known, **declared, "blockers": sorted({*known.get("blockers", ()), *blockers})}

        await self._change_declared(seam.name, merged)

    async def unblock(self, seam: str, *, actor: str, reason: str) -> Sequence[str]:
        """Clear the blockers of ``seam``; returns what they were. A body that still does it blocks again.

        Publishes ``seam.unblocked``. Raises ``UnknownSeamError`` when no process declared it,
        ``WrongRevisionError`` when the entry kept changing.
        """
        await self.find(seam)
        cleared: list[str] = []

        def without(known: Mapping[str, Any]) -> dict[str, Any]:
            cleared[:] = known.get("blockers", ())
            return {**known, "blockers": []}

        await self._change_declared(seam, without)
        if cleared:
            payload = {"seam": seam, "blockers": cleared, "actor": actor, "reason": reason}
            event = Event(
                type="seam.unblocked",
                source="urn:crossfade:control",
                subject=seam,
                extensions={"seam": seam},
                data=json.dumps(payload).encode(),
            )
            await self._bus.publish(self._subjects.fact(event.type), event)
        return cleared

    async def _change_declared(self, seam: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Write what ``change`` makes of the entry of ``seam``, if it differs, by compare-and-set."""
        for attempt in range(1, _TRIES + 1):
            known = await self._seams.get(seam)
            value = json.dumps(change(json.loads(known.value) if known else {}), sort_keys=True).encode()
            if known is not None and known.value == value:
                return
            try:
                if known is None:
                    await self._seams.create(seam, value)
                else:
                    await self._seams.update(seam, value, revision=known.revision)
            except WrongRevisionError:
                if attempt == _TRIES:
                    raise
            else:
                return

    async def declared(self) -> dict[str, Declared]:
        """Every seam that some process has declared, by name."""
        return {entry.key: _read_declared(entry) for entry in await self._seams.entries()}

    async def live(self) -> dict[str, LivePolicy]:
        """Every live policy by seam; one that cannot be read is shown as such, and is mended by the next move."""
        return {entry.key: _read_or_say(entry) for entry in await self._policies.entries()}

    async def set_stage(self, seam: str, move: Move, *, wait: float = 2.0) -> StageChange:
        """Move ``seam``, publish ``seam.stage.changed``, and wait until every live process follows.

        ``wait`` seconds at most; whoever does not follow by then is named in the result. Raises
        ``UnknownSeamError`` when no process declared it, ``StageChangeRefusedError`` when the stage table, the
        seam's effects, its blockers or the broker's storage forbid the move, and ``PolicyChangedError`` when the
        policy is not at the move's ``expected`` revision.
        """
        declared = await self.find(seam)
        check_fallback(seam, move, await self.instances.live())
        info = await self._bus.info()
        for _ in range(_TRIES):
            try:
                change = await self._try_set(declared, move, info)
            except WrongRevisionError:
                continue
            await self._tell(change, move)
            return await self._await_followers(change, wait)
        raise StageChangeRefusedError(f"the policy of {seam} kept changing: look at `crossfade stage list`, try again")

    async def find(self, seam: str) -> Declared:
        """What processes declare of ``seam``. Raises ``UnknownSeamError``, naming those there are."""
        declared = await self.declared()
        if seam not in declared:
            known = ", ".join(sorted(declared)) or "none yet: start a process that declares it and connects"
            raise UnknownSeamError(f"no process has declared seam {seam!r}; declared are: {known}")
        return declared[seam]

    async def _try_set(self, declared: Declared, move: Move, info: BusInfo) -> StageChange:
        entry = await self._policies.get(declared.seam)
        now = self._bus.now()
        live, current = self._standing(declared, entry, now)
        if move.expected not in (None, live.revision):
            raise PolicyChangedError(
                declared.seam,
                expected=move.expected,
                actual=live.revision,
                actor=live.actor,
                changed=live.changed,
            )
        check_move(current.stage, move.target, force=move.force)
        check_blockers(declared, move)
        following = next_live(live, current, move, now=now)
        check_share(declared.seam, following.over(declared.policy, now=now), move)
        check_storage(declared.seam, following.over(declared.policy, now=now), info)
        if entry:
            await self._policies.update(entry.key, following.encode(), revision=entry.revision)
        else:
            await self._policies.create(declared.seam, following.encode())
        return StageChange(seam=declared.seam, was=current.stage, now=move.target, revision=following.revision)

    def _standing(self, declared: Declared, entry: Entry | None, now: datetime) -> tuple[LivePolicy, Policy]:
        """The live policy and what it makes of the seam; an unreadable one stands for the stage in code and file.

        It must not keep anybody from rolling back: the move overwrites it, under a higher revision than it had.
        """
        if entry is None:
            return LivePolicy(seam=declared.seam), declared.policy
        live = _read_or_say(entry)
        return live, live.over(declared.policy, now=now)

    async def _tell(self, change: StageChange, move: Move) -> None:
        payload = {
            "seam": change.seam,
            "from": change.was,
            "to": change.now,
            "actor": move.actor,
            "reason": move.reason,
            "revision": change.revision,
            **({"evidence": dict(move.evidence)} if move.evidence else {}),
        }
        event = Event(
            type="seam.stage.changed",
            source="urn:crossfade:control",
            id=derived_id("seam.stage.changed", change.seam, str(change.revision)),
            subject=change.seam,
            extensions={"seam": change.seam, "policyrev": str(change.revision)},
            data=json.dumps(payload).encode(),
        )
        await self._bus.publish(self._subjects.fact(event.type), event)

    async def _await_followers(self, change: StageChange, wait: float) -> StageChange:
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while True:
            known = await self.instances.known()
            having = [found for found in known if change.seam in found.seams and not found.ended]
            behind = [found for found in having if found.seams[change.seam] < change.revision]
            lagging = [found.instance for found in behind if self.instances.is_live(found)]
            if not lagging or loop.time() >= end:
                silent = [found.instance for found in behind if not self.instances.is_live(found)]
                return replace(change, following=len(having) - len(behind), lagging=lagging, silent=silent)
            await asyncio.sleep(_LOOK)


def next_live(live: LivePolicy, current: Policy, move: Move, *, now: datetime) -> LivePolicy:
    """The live policy after ``move``. Pure."""
    revision = live.revision + 1
    leaving = TABLE[current.stage].commands and not TABLE[move.target].commands
    draining = leaving and move.mode == "drain"
    drain_until = now + move.drain if draining else None
    last_command = (drain_until or now) + timedelta(seconds=current.timeout) + GRACE
    return LivePolicy(
        seam=live.seam,
        settings={**live.settings, **move.settings, "stage": move.target.value, **_accepted(move)},
        revision=revision,
        minrev=revision if leaving and move.mode == "abort" else live.minrev,
        drain_until=drain_until,
        claim_until=last_command if leaving else live.claim_until,
        actor=move.actor,
        reason=move.reason,
        changed=datetime.now(UTC).isoformat(),
    )


def _accepted(move: Move) -> dict[str, Any]:
    return {"unsafe_storage": True} if move.unsafe_storage else {}


def check_blockers(declared: Declared, move: Move) -> None:
    """Raise ``StageChangeRefusedError`` when something seen at observe would be lost over a bus."""
    if declared.blockers and TABLE[move.target].commands and not move.force:
        raise StageChangeRefusedError(
            f"{declared.seam} cannot leave observe and shadow: {'; '.join(declared.blockers)}. Mend it and say "
            f"`crossfade stage unblock {declared.seam}`, or pass over it with --force"
        )


def check_share(seam: str, policy: Policy, move: Move) -> None:
    """Raise ``StageChangeRefusedError`` when ``seam`` would stand at canary and nobody has said for whom."""
    if policy.stage is Stage.CANARY and policy.percent == 0 and "percent" not in move.settings:
        raise StageChangeRefusedError(
            f"{seam} has no share yet, so at canary nobody would take the bus: say --percent, like --percent 5"
        )


def check_fallback(seam: str, move: Move, instances: Sequence[Instance]) -> None:
    """Raise ``StageChangeRefusedError`` when the body is to be the way out of call sites that have none."""
    bare = [found.instance for found in instances if seam in found.remotes]
    if bare and move.settings.get("fallback") == "legacy":
        raise StageChangeRefusedError(
            f"{seam} cannot fall back to its body in {', '.join(bare)}: shim.remote has none there; leave it at raise"
        )


def check_storage(seam: str, policy: Policy, info: BusInfo) -> None:
    """Raise ``StageChangeRefusedError`` when an unsafe seam would trust claims that a power cut can undo."""
    if TABLE[policy.stage].commands and not storage_holds_claims(policy, info):
        raise StageChangeRefusedError(
            f"{seam} has effects='unsafe', and this broker acknowledges before its disk has the data: a power cut "
            "could let a call start twice. Set sync_interval: always (and ?sync=always in the bus URL), or three "
            "replicas; or accept it with --unsafe-storage"
        )


def storage_holds_claims(policy: Policy, info: BusInfo | None) -> bool:
    """Whether a claim that was acknowledged survives a power cut, or ``policy`` needs none, or accepts the risk."""
    if policy.effects != "unsafe" or policy.unsafe_storage:
        return True
    return info is not None and (bool(info.synced) or info.replicas >= 3)


def _read_or_say(entry: Entry) -> LivePolicy:
    try:
        live = read_live(entry.key, entry.value)
        Policy().override(live.settings, where=f"live policy of {entry.key}")
    except (ConfigurationError, UnknownStageError) as error:
        # The broker's own revision is at least as high as any of ours: workers take the next one for newer.
        return LivePolicy(seam=entry.key, revision=entry.revision, reason=f"cannot be read: {error}")
    return live


def _read_declared(entry: Entry) -> Declared:
    stored = json.loads(entry.value)
    return Declared(
        seam=entry.key,
        domain=stored["domain"],
        policy=Policy().override(stored["policy"], where=f"seam {entry.key}"),
        place=stored["place"],
        blockers=tuple(stored.get("blockers", ())),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
