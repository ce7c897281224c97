"""Seams under a playbook, and the traffic a test makes up for them, on the bus of a control plane."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.controller import Controller
from crossfade.shim.events import Event, new_id
from crossfade.shim.instances import Instance
from crossfade.shim.policies import Move
from crossfade.shim.policy import Policy
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from unit.migrations import seen

if TYPE_CHECKING:
    from integration.control.kit import Plane

SEAM = "web.search"
PLAYBOOK = """
title: Tool calls through the bus
seams: [web.search]
steps:
  - {to: shadow, gate: {match: '>= 0.99', calls: 400}, abort: {match: '< 0.5'}}
  - {to: canary 5%, gate: {errors: '<= legacy + 5%', keys: 5}, abort: {errors: '> legacy + 20%'}}
  - {to: canary 25%, gate: {calls: 50}}
  - {to: bus, approve: anyone}
"""


class Migration:
    """What a team would have: seams declared, a playbook in force, a controller that is asked to look now and then."""

    def __init__(self, plane: Plane) -> None:
        control = plane.control
        self.bus, self.subjects, self.policies = control.bus, control.subjects, control.policies
        self.migrations = Migrations(self.bus)
        self.controller = Controller(self.bus, self.subjects, instance="control_a")

    async def declare(self, *names: str) -> None:
        for name in names:
            seam = Seam(name, lambda q: q, domain="tool", policy=Policy(effects="none"), secret=frozenset())
            await self.policies.announce(seam, seam.policy)

    async def apply(self, text: str = PLAYBOOK, name: str = "tools") -> None:
        applied = Applied(name=name, text=text, actor="ann", applied=datetime.now(UTC).isoformat())
        await self.migrations.apply(applied)

    async def begin(self) -> None:
        """``web.search`` at shadow."""
        await self.declare(SEAM)
        await self.apply()
        await self.tick(2)

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            await self.controller.tick()

    async def move(
        self, stage: str, *, seam: str = SEAM, actor: str = "ann", reason: str = "by hand", **more: Any
    ) -> None:
        move = Move(target=Stage(stage), actor=actor, reason=reason, force=True, settings=more)
        await self.policies.set_stage(seam, move, wait=0)

    async def lives(self, hits: int = 0, *, seam: str = SEAM) -> None:
        """A process that declares the seam tells how often it ran the legacy code."""
        now = self.bus.now()
        last = Instance(instance="web_1", role="caller", seen=now, seams={seam: 9}, legacy_hits={seam: hits})
        await self.policies.instances.report(last)

    async def tell(self, *events: Any, seam: str = SEAM) -> None:
        """Publish what calls left behind, under the policy in force."""
        live = (await self.policies.live()).get(seam)
        revision = str(live.revision if live else 0)
        made = [
            seen.again(each.event, policyrev=revision, seam=seam, userid=f"u{n % 40}") for n, each in enumerate(events)
        ]
        await asyncio.gather(*(self.bus.publish(self._subject(event, seam), event) for event in made))

    async def observe(self, call: str, arguments: Any, value: Any) -> None:
        """Publish what a legacy call left to be compared."""
        payload = {"arguments": arguments, "outcome": "value", "value": value, "duration_ms": 12.1, "instance": "web_1"}
        event = seen.stored("tool.observed", payload, callid=call, correlationid="run-1").event
        await self.bus.publish(self.subjects.observation(SEAM, shadow=True), seen.again(event))

    async def differ(
        self, *differences: dict[str, str], seam: str = SEAM, call: str = "c1", run: str = "run-1", **more: Any
    ) -> None:
        """Publish one mismatch."""
        payload = {
            "verdict": "mismatch",
            "source": "shadow",
            "kind": "<1K <10ms value",
            "callid": call,
            "handler": "shop.search:search@2",
            "legacy_ms": 12.1,
            "bus_ms": 8.4,
            "signature": "-".join(each["path"] for each in differences),
            "differences": list(differences),
            **more,
        }
        await self.tell(seen.stored("seam.compared", payload, correlationid=run, callid=call), seam=seam)

    async def run(
        self, run: str, *calls: tuple[str, float, float], nested: bool = False, ended: bool = True, user: str = "u1"
    ) -> list[str]:
        """Calls of one run: seam, milliseconds in the queue and in the handler; their ids.

        ``nested``: the first made all others; not ``ended``: nobody has answered yet.
        """
        made: list[str] = []
        for seam, queue, ran in calls:
            call = new_id()
            cause = {"causationid": made[0]} if nested and made else {}
            made.append(call)
            for kind in ("invoke", "result") if ended else ("invoke",):
                payload = {
                    "outcome": "value",
                    "value": 1,
                    "handler": "new:search",
                    "timings": {"queue_ms": queue, "handler_ms": ran},
                }
                event = Event(
                    type=f"tool.{kind}",
                    source="urn:test",
                    extensions={"seam": seam, "correlationid": run, "callid": call, "userid": user, **cause},
                    data=json.dumps({"arguments": {}} if kind == "invoke" else payload).encode(),
                )
                subject = self.subjects.call(kind, domain="tool", seam=seam, run=run, callid=call)
                await self.bus.publish(subject, event)
        return made

    async def say(self, text: str) -> None:
        """Publish a fact whose type and attributes are somebody's text."""
        event = Event(
            type=text,
            source="urn:test",
            extensions={"seam": text, "correlationid": text},
            data=json.dumps({"reason": text}).encode(),
        )
        await self.bus.publish(self.subjects.fact("file.created"), event)

    def _subject(self, event: Event, seam: str) -> str:
        if event.type == "seam.compared":
            return self.subjects.verdict(seam)
        if event.type.endswith("observed"):
            return self.subjects.observation(seam, shadow=False)
        return self.subjects.call("result", domain="tool", seam=seam, run="run-1", callid=event.id)
