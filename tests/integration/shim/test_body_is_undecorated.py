"""Invariant 10: a worker runs the body itself; nested seams follow their own policy, in the caller's run."""

from __future__ import annotations

import asyncio
import threading

from crossfade.shim import correlate, current_call, current_correlation, tool
from integration.shim import kit


def commands(connection):
    return [event.get("seam") for event in kit.read(connection, "{p}.>") if event.type == "tool.invoke"]


def test_a_seam_that_calls_itself_stays_in_its_handler(connect, work, counts):
    """Recursion deeper than the worker has places ends at once instead of waiting for itself."""

    @tool("math.factorial", effects="none", stage="bus", timeout=5, fallback="raise")
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    @tool("math.afactorial", effects="none", stage="bus", timeout=5, fallback="raise")
    async def afactorial(n: int) -> int:
        return n * await afactorial(n - 1) if n else 1

    connection = connect()
    work(connection, factorial, afactorial, concurrency=1)
    assert factorial(20) == asyncio.run(afactorial(20)) == 2432902008176640000
    assert commands(connection) == ["math.factorial", "math.afactorial"]
    assert counts.get("skipped", reason="own-handler") == 40


def test_nested_seams_follow_their_own_stage(connect, work):
    """At bus inside bus: over the bus. At legacy inside bus: in place. At observe: in place, and observed."""
    seen = {}

    @tool("inner.bus", effects="none", stage="bus", timeout=5, fallback="raise")
    def at_bus() -> str:
        seen["bus"] = current_call().seam
        return "b"

    @tool("inner.legacy", effects="none")
    def at_legacy() -> str:
        seen["legacy"] = current_call().seam
        return "l"

    @tool("inner.observe", stage="observe")
    async def at_observe() -> str:
        seen["observe"] = current_call().seam
        return "o"

    @tool("outer.sync", effects="none", stage="bus", timeout=5, fallback="raise")
    def outer() -> str:
        return at_bus() + at_legacy() + asyncio.run(at_observe())

    @tool("outer.async", effects="none", stage="bus", timeout=5, fallback="raise")
    async def aouter() -> str:
        return await asyncio.to_thread(at_bus) + at_legacy() + await at_observe()

    connection = connect()
    work(connection, at_bus, outer, aouter)
    assert outer() == "blo"
    assert seen == {"bus": "inner.bus", "legacy": "outer.sync", "observe": "outer.sync"}
    assert asyncio.run(aouter()) == "blo"
    assert seen == {"bus": "inner.bus", "legacy": "outer.async", "observe": "outer.async"}
    assert sorted(commands(connection)) == ["inner.bus", "inner.bus", "outer.async", "outer.sync"]
    assert [event.get("seam") for event in kit.observed(connection, 2)] == ["inner.observe"] * 2


def test_nested_calls_stay_in_the_run_and_name_their_cause(connect, work):
    """What a handler calls belongs to the caller's run, user and tenant; its cause is the handler's command."""

    @tool("inner.call", effects="none", stage="bus", timeout=5, fallback="raise")
    def inner() -> list[str | None]:
        here = current_correlation()
        return [here.run, here.user, here.tenant]

    @tool("outer.call", effects="none", stage="bus", timeout=5, fallback="raise")
    def outer() -> list[str | None]:
        return inner()

    connection = connect()
    work(connection, inner, outer)
    with correlate(run="run-1", user="ann", tenant="acme"):
        assert outer() == ["run-1", "ann", "acme"]
    asked = {event.get("seam"): event for event in kit.read(connection, "{p}.>") if event.type == "tool.invoke"}
    assert asked["inner.call"].get("causationid") == asked["outer.call"].id


def test_a_handler_knows_its_call_and_nobody_else_does(connect, work):
    """``current_call`` is set inside the handler, for its call only."""
    calls = []

    @tool("who.am_i", effects="none", stage="bus", timeout=5, fallback="raise")
    def who(n: int) -> int:
        calls.append(current_call())
        return n

    connection = connect()
    work(connection, who)
    assert [who(n) for n in range(3)] == [0, 1, 2]
    assert len({call.callid for call in calls}) == 3
    assert {(call.seam, call.attempt) for call in calls} == {("who.am_i", 1)}
    assert current_call() is None


def test_a_sync_seam_called_inside_a_running_loop_works_and_warns_once(connect, work, caplog):
    """It blocks that loop, which is said once; the answer comes all the same."""

    @tool("plain.inside", effects="none", stage="bus", timeout=5, fallback="raise")
    def inside(n: int) -> int:
        return n

    async def main() -> list[int]:
        return [inside(1), inside(2)]

    connection = connect()
    work(connection, inside)
    assert asyncio.run(main()) == [1, 2]
    assert [record.getMessage().count("asyncio.to_thread") for record in caplog.records] == [1]


def test_a_sync_seam_called_from_an_async_handler_works(connect, work):
    """The handlers' loop is blocked meanwhile, but plain bodies run in threads, so nothing waits for itself."""

    @tool("inner.plain", effects="none", stage="bus", timeout=5, fallback="raise")
    def inner() -> str:
        return threading.current_thread().name.split("_")[0]

    @tool("outer.loop", effects="none", stage="bus", timeout=5, fallback="raise")
    async def outer() -> str:
        return inner()

    connection = connect()
    work(connection, inner, outer)
    assert asyncio.run(outer()) == "crossfade body"


def test_whatever_a_body_raises_does_not_end_the_worker(connect, work):
    """SystemExit, KeyboardInterrupt and a cancellation of its own are the call's error; the next call is served."""
    raised = iter([SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration("x"), asyncio.CancelledError()])

    @tool("body.exits", effects="none", stage="bus", timeout=5, fallback="raise")
    def exits() -> str:
        error = next(raised, None)
        if error is not None:
            raise error
        return "alive"

    @tool("body.aexits", effects="none", stage="bus", timeout=5, fallback="raise")
    async def aexits() -> str:
        return exits.__crossfade_seam__.function()

    connection = connect()
    work(connection, exits, aexits)
    types = []
    for call in (exits, aexits) * 3:
        try:
            answer = call() if call is exits else asyncio.run(call())
        except Exception as error:
            types.append(getattr(error, "type_name", type(error).__name__))
        else:
            types.append(answer)
    assert types == [
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "RuntimeError" if types[3] == "RuntimeError" else "StopIteration",
        "asyncio.exceptions.CancelledError",
        "alive",
    ]
