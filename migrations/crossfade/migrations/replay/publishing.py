"""What a replay says on the bus of each call: its verdict, marked as a replay's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from crossfade.shim.events import Event, derived_id, new_id

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

    from .running import Replayed


class Publishing:
    """Publishes the verdicts of one replay. Evidence counts none of them: they are no live traffic."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._replay = new_id()

    async def tell(self, done: Replayed) -> None:
        """Publish ``seam.compared`` of one call. Raises ``BusError``."""
        call = done.call
        payload = {
            "seam": call.seam,
            "callid": call.callid,
            "handler": done.handler,
            "source": "replay",
            "replay": True,
            **done.verdict.to_json(),
            "legacy_ms": round(call.seconds * 1000, 3),
            "bus_ms": round(done.seconds * 1000, 3),
            "kind": call.kind,
        }
        kept = ("callid", "correlationid", "tenantid", "userid", "sessionid", "policyrev", "obsseq")
        event = Event(
            type="seam.compared",
            source=f"urn:crossfade:replay:{self._replay}",
            id=derived_id(call.callid, "replayed", self._replay),
            subject=call.seam,
            extensions={name: value for name in kept if (value := call.attributes.get(name))}
            | {"seam": call.seam, "replayof": call.callid},
            data=json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        )
        await self._bus.publish(self._subjects.verdict(call.seam, tenant=call.attributes.get("tenantid")), event)
