"""Live policies on the bus: one key per seam, changed by compare-and-set, with who and why beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .errors import ConfigurationError, StageChangeRefusedError, UnknownSeamError, UnknownStageError, WrongRevisionError
from .events import Event, derived_id
from .policy import Effects, Policy
from .stages import TABLE, Stage, check_move

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .ports import Bus
    from .seam import Seam
    from .subjects import Subjects

POLICIES: Final = "policy"
SEAMS: Final = "seams"
_TRIES: Final = 5  # compare-and-set races are between people and a controller: rare and short


@dataclass(frozen=True, kw_only=True, slots=True)
class LivePolicy:
    """What the bus says of one seam: the settings that override code and file, and who set them why."""

    seam: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    revision: int = 0
    actor: str = ""
    reason: str = ""
    changed: str = ""

    def over(self, base: Policy) -> Policy:
        """``base`` with the live settings. Raises ``ConfigurationError`` or ``UnknownStageError`` for bad ones."""
        policy = base.override(self.settings, where=f"live policy of {self.seam}")
        return Policy(
            stage=policy.stage,
            effects=policy.effects,
            timeout=policy.timeout,
            fallback=policy.fallback,
            revision=self.revision,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """What processes have declared of one seam."""

    seam: str
    domain: str
    effects: Effects
    stage: Stage
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageChange:
    """A stage that was set; ``was`` and ``now`` may be the same."""

    seam: str
    was: Stage
    now: Stage
    revision: int


def read_live(seam: str, value: bytes, revision: int) -> LivePolicy:
    """Read a value of the bucket ``policy``. Raises ``ConfigurationError`` when it is not one."""
    try:
        stored = json.loads(value)
        return LivePolicy(
            seam=seam,
            settings=dict(stored["policy"]),
            revision=revision,
            actor=str(stored.get("actor", "")),
            reason=str(stored.get("reason", "")),
            changed=str(stored.get("changed", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"is not a policy: {error!r}", where=f"live policy of {seam}") from error


class Policies:
    """Reads and changes live policies over a connected bus."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._policies = bus.state(POLICIES)
        self._seams = bus.state(SEAMS)

    async def announce(self, seam: Seam) -> None:
        """Tell the bus that ``seam`` is declared here, so that the command line knows it."""
        value = json.dumps(
            {
                "domain": seam.domain,
                "effects": seam.policy.effects,
                "stage": seam.policy.stage,
                "place": seam.place,
            }
        ).encode()
        known = await self._seams.get(seam.name)
        if known is None or known.value != value:
            await self._seams.put(seam.name, value)

    async def declared(self) -> dict[str, Declared]:
        """Every seam that some process has declared, by name."""
        found: dict[str, Declared] = {}
        for entry in await self._seams.entries():
            stored = json.loads(entry.value)
            found[entry.key] = Declared(
                seam=entry.key,
                domain=stored["domain"],
                effects=stored["effects"],
                stage=Stage(stored["stage"]),
                place=stored["place"],
            )
        return found

    async def live(self) -> dict[str, LivePolicy]:
        """Every live policy by seam."""
        return {
            entry.key: read_live(entry.key, entry.value, entry.revision) for entry in await self._policies.entries()
        }

    async def set_stage(  # noqa: PLR0913 - who, why and how are separate questions
        self,
        seam: str,
        target: Stage,
        *,
        actor: str,
        reason: str = "",
        force: bool = False,
        timeout: float | None = None,
    ) -> StageChange:
        """Move ``seam`` to ``target`` and publish ``seam.stage.changed``.

        Raises ``UnknownSeamError`` when no process declared it, ``StageChangeRefusedError`` when the stage table
        or the seam's effects forbid the move.
        """
        declared = (await self.declared()).get(seam)
        if declared is None:
            known = (
                ", ".join(sorted(await self.declared())) or "none yet: start a process that declares it and connects"
            )
            raise UnknownSeamError(f"no process has declared seam {seam!r}; declared are: {known}")
        for _ in range(_TRIES):
            try:
                change = await self._try_set(declared, target, actor, reason, force=force, timeout=timeout)
            except WrongRevisionError:
                continue
            await self._tell(change, actor=actor, reason=reason)
            return change
        raise StageChangeRefusedError(f"the policy of {seam} kept changing: look at `crossfade stage list`, try again")

    async def _try_set(  # noqa: PLR0913 - the private half of set_stage
        self, declared: Declared, target: Stage, actor: str, reason: str, *, force: bool, timeout: float | None
    ) -> StageChange:
        entry = await self._policies.get(declared.seam)
        live = read_live(entry.key, entry.value, entry.revision) if entry else LivePolicy(seam=declared.seam)
        base = Policy(stage=declared.stage, effects=declared.effects)
        current = live.over(base)
        check_move(current.stage, target, force=force)
        check_effects(declared.seam, target, current.effects)
        settings = {**live.settings, "stage": target.value}
        if timeout is not None:
            settings["timeout"] = timeout
        base.override(settings, where=f"seam {declared.seam}")
        value = json.dumps(
            {"policy": settings, "actor": actor, "reason": reason, "changed": datetime.now(UTC).isoformat()}
        ).encode()
        revision = (
            await self._policies.update(entry.key, value, revision=entry.revision)
            if entry
            else await self._policies.create(declared.seam, value)
        )
        return StageChange(seam=declared.seam, was=current.stage, now=target, revision=revision)

    async def _tell(self, change: StageChange, *, actor: str, reason: str) -> None:
        payload = {
            "seam": change.seam,
            "from": change.was,
            "to": change.now,
            "actor": actor,
            "reason": reason,
            "revision": change.revision,
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


def check_effects(seam: str, target: Stage, effects: Effects) -> None:
    """Raise ``StageChangeRefusedError`` when commands would carry a seam that must not run twice."""
    if effects == "unsafe" and TABLE[target].commands:
        raise StageChangeRefusedError(
            f"{seam} is declared effects='unsafe' (the default), and this version cannot yet promise that such a call "
            "starts at most once on the bus: declare effects='none' or 'idempotent' if that is true, or stay at observe"
        )


__all__ = ["Declared", "LivePolicy", "Policies", "StageChange", "UnknownStageError", "check_effects", "read_live"]
