"""Traces as a collector gets them: a caller here, a worker in another process, a real broker between the two."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager

import pytest

from crossfade.shim import correlate


@contextmanager
def user_span(world):
    """A span of the application's own; yields its trace and its id."""
    with world.tracer.start_as_current_span("user") as span:
        context = span.get_span_context()
        yield f"{context.trace_id:032x}", f"{context.span_id:016x}"


def test_a_call_over_the_bus_is_one_trace(world):
    """User > call > producer > consumer at the worker, which is linked to its producer, too."""
    with user_span(world) as (trace, user), correlate(run="r1", session="s1"):
        assert world.app.search("events") == "EVENTS"

    spans = world.collector.trace(trace, 4)
    call, send = spans["caller execute_tool desk.search"], spans["caller publish tool.desk-search"]
    run = spans["worker process tool.desk-search"]
    assert (call.parent, send.parent, run.parent) == (user, call.id, send.id)
    assert (call.links, send.links, run.links) == ([], [], [(trace, send.id)])
    assert (call.kind, send.kind, run.kind) == ("INTERNAL", "PRODUCER", "CONSUMER")
    assert not any(span.failed for span in spans.values())


def test_spans_say_what_the_conventions_ask_for(world):
    """GenAI attributes at the call site, messaging attributes on both sides of the bus, and ours."""
    with user_span(world) as (trace, _), correlate(run="r2", session="s2"):
        world.app.search("events")

    spans = world.collector.trace(trace, 4)
    call = spans["caller execute_tool desk.search"].attributes
    callid = call["crossfade.callid"]
    assert call == {
        "crossfade.callid": callid,
        "crossfade.outcome": "value",
        "crossfade.path": "bus",
        "crossfade.seam": "desk.search",
        "crossfade.stage": "bus",
        "gen_ai.conversation.id": "s2",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.id": callid,
        "gen_ai.tool.name": "desk.search",
        "gen_ai.tool.type": "function",
        "messaging.message.conversation_id": "r2",
    }
    address = "otel.*.*.*.tool.desk-search.*.*.invoke"
    both = {
        "crossfade.callid": callid,
        "crossfade.outcome": "value",
        "crossfade.path": "bus",
        "crossfade.seam": "desk.search",
        "gen_ai.conversation.id": "s2",
        "messaging.destination.name": address,
        "messaging.destination.template": address,
        "messaging.message.body.size": len('{"arguments":{"query":"events"}}'),
        "messaging.message.conversation_id": "r2",
        "messaging.message.id": callid,
        "messaging.system": "nats",
    }
    sending = {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
    assert spans["caller publish tool.desk-search"].attributes == both | sending
    run = spans["worker process tool.desk-search"].attributes
    assert 0 <= run.pop("crossfade.queue.seconds") < 10
    processing = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert run == both | processing | {"crossfade.attempt": 1, "crossfade.shadow": False}


def test_a_seam_called_by_a_handler_goes_on_in_the_trace(world):
    """Two buses deep: the worker's own call, command and handler hang under the first handler."""
    with user_span(world) as (trace, _):
        assert world.app.read("deep") == "DEEP"

    spans = world.collector.trace(trace, 7)
    outer, call = spans["worker process tool.desk-read"], spans["worker execute_tool desk.search"]
    send, inner = spans["worker publish tool.desk-search"], spans["worker process tool.desk-search"]
    assert (call.parent, send.parent, inner.parent) == (outer.id, call.id, send.id)


def test_every_branch_of_a_fan_out_has_its_own_parent_and_link(world):
    """Concurrent calls of one run, each of which calls concurrently again: no span hangs under a sibling's.

    Both sides: tasks of one loop and threads of one pool at the caller, tasks at the worker.
    """

    async def ask():
        with user_span(world) as (trace, user), correlate(run="fan"):
            blocking = asyncio.to_thread(world.app.search, "thread")
            spread = [world.app.spread([f"{branch}{n}" for n in range(3)]) for branch in "abc"]
            assert await asyncio.gather(*spread, blocking) == [
                ["A0", "A1", "A2"],
                ["B0", "B1", "B2"],
                ["C0", "C1", "C2"],
                "THREAD",
            ]
        return trace, user

    trace, user = asyncio.run(ask())
    spans = world.collector.all_of(trace, 1 + 3 * (3 + 3 * 3) + 3)
    by_id = {span.id: span for span in spans}

    def children(of, name):
        return [span for span in spans if span.parent == of and name in span.name]

    assert len(by_id) == len(spans)
    assert len(children(user, "execute_tool desk.spread")) == 3
    assert len(children(user, "execute_tool desk.search")) == 1
    for call in [span for span in spans if span.name.startswith("execute_tool")]:
        (send,) = children(call.id, "publish")
        (run,) = children(send.id, "process")
        assert run.links == [(trace, send.id)]
        callids = {span.attributes["crossfade.callid"] for span in (call, send, run)}
        assert len(callids) == 1, "the three spans of one call are of one call"
        if call.name.endswith("spread"):
            assert len(children(run.id, "execute_tool desk.search")) == 3
    assert {span.attributes.get("messaging.message.conversation_id") for span in spans if span.id != user} == {"fan"}


def test_a_handler_runs_inside_its_span_with_the_callers_baggage(world):
    """What a body's own instrumentation makes hangs under the handler; so is the call's baggage."""
    with user_span(world) as (trace, _), correlate(baggage={"colour": "blue"}):
        inside, colour = world.app.context()

    assert inside == world.collector.trace(trace, 4)["worker process tool.desk-context"].id
    assert colour == "blue"


def test_an_error_is_on_both_sides(world):
    """The handler's span has the exception, the caller's what the call site saw; the producer did its part."""
    with user_span(world) as (trace, _), pytest.raises(ValueError, match="bad"):
        world.app.search("bad")

    spans = world.collector.trace(trace, 4)
    call, run = spans["caller execute_tool desk.search"], spans["worker process tool.desk-search"]
    assert (call.failed, run.failed) == (True, True)
    assert (call.exceptions, run.exceptions) == (["ValueError"], ["ValueError"])
    assert (call.attributes["error.type"], call.attributes["crossfade.outcome"]) == ("ValueError", "error")
    assert not spans["caller publish tool.desk-search"].failed


def test_an_agent_on_the_bus_is_a_client_span(world):
    """``invoke_agent``, by the conventions for agents that run elsewhere."""

    async def ask():
        with user_span(world) as (trace, _):
            assert await world.app.research("bees") == "bees"
        return trace

    spans = world.collector.trace(asyncio.run(ask()), 4)
    call = spans["caller invoke_agent desk.research"]
    assert (call.kind, call.attributes["gen_ai.agent.name"]) == ("CLIENT", "desk.research")
    assert spans["worker process agent.desk-research"].parent == spans["caller publish agent.desk-research"].id


def test_a_stream_is_one_span_that_its_consumer_is_not_in(world):
    """From the first item to the end; what is done with an item between two is no part of the call."""
    with user_span(world) as (trace, user):
        for _ in world.app.lines(2):
            with world.tracer.start_as_current_span("used"):
                pass

    spans = world.collector.trace(trace, 6)
    assert spans["caller publish tool.desk-lines"].parent == spans["caller execute_tool desk.lines"].id
    assert {span.parent for span in world.collector.spans if (span.trace, span.name) == (trace, "used")} == {user}


def test_an_async_stream_is_one_span_that_its_consumer_is_not_in(world):
    """The same for async generators, left early: that is no error."""

    async def take_one():
        with user_span(world) as (trace, user):
            async with asyncio.timeout(10):
                items = world.app.alines(3)
                await anext(items)
                with world.tracer.start_as_current_span("used"):
                    pass
                await items.aclose()
        return trace, user

    trace, user = asyncio.run(take_one())
    spans = world.collector.trace(trace, 5)
    assert spans["caller used"].parent == user
    assert spans["caller execute_tool desk.alines"].attributes["crossfade.outcome"] == "value"
    assert not spans["caller execute_tool desk.alines"].failed


def test_a_submitted_call_is_worked_in_the_trace_that_submitted_it(world):
    """Its producer hangs under whoever submitted; there is no call that waits."""
    with user_span(world) as (trace, user):
        task = world.app.search.submit("later")
    assert task.result(10) == "LATER"

    spans = world.collector.trace(trace, 3)
    send, run = spans["caller publish tool.desk-search"], spans["worker process tool.desk-search"]
    assert (send.parent, run.parent, run.links) == (user, send.id, [(trace, send.id)])


def test_a_shadow_is_linked_to_the_call_and_never_in_its_trace(world):
    """The body answers under the user's span; the worker's run, and the seams it calls, are a trace of their own."""
    with user_span(world) as (trace, user):
        assert world.app.compared("same") == "SAME"

    call = world.collector.trace(trace, 8)["caller execute_tool desk.compared"]
    assert (call.parent, call.attributes["crossfade.path"], call.attributes["crossfade.stage"]) == (
        user,
        "legacy",
        "shadow",
    )
    shadow = world.collector.linked_to(call)
    assert (shadow.service, shadow.parent, shadow.kind) == ("worker", "", "INTERNAL")
    assert shadow.attributes["crossfade.shadow"] is True
    inside = world.collector.trace(shadow.trace, 5)
    assert inside["worker execute_tool desk.read"].parent == shadow.id


def test_a_trace_that_came_from_elsewhere_goes_on(world):
    """With no span of OpenTelemetry's own in force, a call's parent is the ``traceparent`` in force."""
    trace = "5" * 32
    with correlate(traceparent=f"00-{trace}-{'7' * 16}-01", tracestate="vendor=1"):
        world.app.search("from a proxy")

    assert world.collector.trace(trace, 3)["caller execute_tool desk.search"].parent == "7" * 16


def test_a_workers_log_names_the_call_and_its_span(world):
    """JSON lines: what a body logs there has the trace that its caller is in."""
    with user_span(world) as (trace, _), correlate(run="logged"):
        world.app.search("logged")

    run = world.collector.trace(trace, 4)["worker process tool.desk-search"]
    (line,) = [line for line in map(json.loads, world.log.read_text().splitlines()) if line.get("trace_id") == trace]
    assert line.pop("time")
    assert line == {
        "level": "INFO",
        "logger": "desk",
        "message": "searched",
        "trace_id": trace,
        "span_id": run.id,
        "correlationid": "logged",
        "callid": run.attributes["crossfade.callid"],
        "seam": "desk.search",
    }
