"""Metrics as a collector gets them, from both sides of the bus."""

from __future__ import annotations

from support.commands import until

CALL = {
    "crossfade.seam": "desk.search",
    "crossfade.stage": "bus",
    "crossfade.path": "bus",
    "crossfade.outcome": "value",
}
BUS = {
    "crossfade.seam": "desk.search",
    "messaging.system": "nats",
    "messaging.destination.name": "otel.*.*.*.tool.desk-search.*.*.invoke",
    "messaging.destination.template": "otel.*.*.*.tool.desk-search.*.*.invoke",
}
SEND = {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
PROCESS = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
GEN_AI = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "desk.search", "gen_ai.tool.type": "function"}


def test_both_sides_measure_calls_by_the_conventions_and_by_seam(world):
    """Durations at the call site, of the publish, in the queue and of the handler; nothing names a call or a run."""
    world.app.search("events")
    world.providers[1].force_flush()

    def attributes(name):
        return [told for told, _ in world.collector.points[name]]

    assert CALL in attributes("crossfade.call.duration")
    assert GEN_AI in attributes("gen_ai.execute_tool.duration")
    assert BUS | SEND in attributes("messaging.client.operation.duration")
    assert BUS | SEND in attributes("messaging.client.sent.messages")
    until(lambda: BUS | PROCESS | {"crossfade.shadow": False} in attributes("messaging.process.duration"))
    until(lambda: BUS | PROCESS in attributes("messaging.client.consumed.messages"))
    until(lambda: {"crossfade.seam": "desk.search"} in attributes("crossfade.queue.duration"))
    served = {"crossfade.event": "served", "crossfade.seam": "desk.search", "crossfade.reason": "value"}
    until(lambda: served in attributes("crossfade.events"))
    keys = {key for points in world.collector.points.values() for told, _ in points for key in told}
    assert not {key for key in keys if "callid" in key or "user" in key or "message.id" in key or "conversation" in key}
