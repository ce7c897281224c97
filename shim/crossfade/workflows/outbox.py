"""Publishing what a transition sends: calls as commands on the bus, facts, and what a page may see.

Every event has the id that the reducer gave it, a command its call id, so a second sending is a duplicate to the broker
and, beyond its window, to whoever receives it. A command whose deadline has passed is not sent again: its ledger says
how it ended.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim._routes import Command
from crossfade.shim.claims import find_terminal
from crossfade.shim.correlate import from_event
from crossfade.shim.errors import BusUnavailableError, ConfigurationError, CrossfadeError
from crossfade.shim.events import Event
from crossfade.shim.policy import Policy
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage

from .inputs import Answered
from .naming import shard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim._runtime import Runtime
    from crossfade.shim.outcomes import Answer

    from .instance import Instance

# Reasons of "not sent" that pass: the outbox is sent again. Any other is the call's end.
_PASSING: Final = frozenset(
    {"BusUnavailableError", "BusAmbiguousError", "BusFullError", "BusRefusedError", "clock", "closed", "TimeoutError"}
)


class Outbox:
    """Sends for one connection."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def send(self, instance: Instance) -> list[Answered]:
        """Publish everything; calls that could not be sent at all have ended. Raises ``BusError`` to be tried again."""
        ended: list[Answered] = []
        for item in instance.outbox:
            if item["do"] == "call":
                ended += await self._send_call(instance, item)
            else:
                await self._publish(instance, item)
        return ended

    async def last_word(self, instance: Instance, item: Mapping[str, Any]) -> Answered:
        """How a call ended whose time is over: what its ledger says, else that it never starts, else unknown."""
        command = self._command(instance, item)
        stored = await find_terminal(self._runtime.bus, self._runtime.calls.place(command))
        if stored is not None:
            return read(command.callid, await self._runtime.calls.read_result(stored.event))
        return read(command.callid, await self._runtime.calls.follow(command))

    async def _send_call(self, instance: Instance, item: Mapping[str, Any]) -> list[Answered]:
        if self._runtime.bus.now().timestamp() >= item["deadline"]:
            return []  # its timer asks the ledger
        try:
            command = self._command(instance, item)
            self._runtime.refuse_clear_secrets(json.dumps(item["arguments"]).encode())
        except ConfigurationError:
            raise
        except CrossfadeError as error:
            refused = {"type": "secret", "message": str(error)}
            return [Answered(callid=item["callid"], kind="not-executed", error=refused)]
        answer = await self._runtime.calls.send(command)
        if answer is None:
            return []
        if answer.kind == "not-executed" and answer.reason in _PASSING:
            raise BusUnavailableError(f"a command of {item['seam']} was not sent: {answer.reason}")
        return [read(command.callid, answer)]

    def _command(self, instance: Instance, item: Mapping[str, Any]) -> Command:
        base = Policy(stage=Stage.BUS, effects=item["effects"], timeout=item["timeout"], fallback="raise")
        policy = replace(self._runtime.policy(item["seam"], base), stage=Stage.BUS, fallback="raise")
        attributes = instance.correlation
        cause = Event(type="-", source="-", id=attributes.get("causationid") or instance.id, extensions=attributes)
        return Command(
            seam=Seam(item["seam"], _nothing, domain=item["domain"], policy=policy, has_body=False),
            policy=policy,
            callid=item["callid"],
            data=json.dumps({"arguments": item["arguments"]}, ensure_ascii=False).encode("utf-8", "backslashreplace"),
            sealed=False,
            correlation=from_event(cause),
            deadline=datetime.fromtimestamp(item["deadline"], UTC),
            detached=True,
            shard=shard(instance.workflow),
            partition=instance.id,
        )

    async def _publish(self, instance: Instance, item: Mapping[str, Any]) -> None:
        attributes = instance.correlation
        event = Event(
            type=item["type"],
            id=item["id"],
            source=f"urn:crossfade:workflow:{instance.workflow}",
            subject=instance.id,
            extensions={**attributes, "partitionkey": instance.id},
            data=json.dumps(item["data"], ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )
        subjects, tenant, user = self._runtime.subjects, attributes.get("tenantid"), attributes.get("userid")
        if item["do"] == "ui":
            run = attributes.get("correlationid", instance.id)
            await self._runtime.bus.publish(subjects.ui(event.type, run=run, tenant=tenant, user=user), event)
        else:
            await self._runtime.bus.publish(subjects.fact(event.type, tenant=tenant, user=user), event)


def read(callid: str, answer: Answer) -> Answered:
    """A call's terminal as the reducer takes it."""
    if answer.kind == "value":
        return Answered(callid=callid, kind="value", value=json.loads(answer.value).get("value"))
    if answer.kind == "error" and answer.error is not None:
        error = {"type": answer.error.type, "message": answer.error.message}
        return Answered(callid=callid, kind="error", error=error)
    error = {"type": answer.kind, "message": answer.reason}
    return Answered(callid=callid, kind="unknown" if answer.kind == "unknown" else "not-executed", error=error)


def _nothing() -> None:
    """The signature of a seam that is served elsewhere, whose arguments its worker checks."""
