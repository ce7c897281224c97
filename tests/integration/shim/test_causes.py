"""Every call names the call that made it, on either path, so that a run is a tree and not a heap."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.shim import callers, correlate, tool
from integration.shim import kit


def told(connection, n):
    """What is said of each call, by seam: ``n`` observations, and every command."""
    commands = [event for event in kit.read(connection, "{p}.>") if event.type == "tool.invoke"]
    return {event.get("seam"): event for event in [*kit.observed(connection, n), *commands]}


def test_an_observed_call_names_the_observed_call_around_it(connect):
    """Plain functions and coroutines, three deep, siblings and tasks alike; without a run it is the outermost's id."""

    @tool("leaf.call", stage="observe")
    def leaf() -> int:
        return 1

    @tool("middle.call", stage="observe")
    async def middle() -> int:
        return leaf()

    @tool("second.call", stage="observe")
    async def second() -> int:
        await asyncio.sleep(0)
        return 1

    @tool("outer.call", stage="observe")
    async def outer() -> int:
        return sum(await asyncio.gather(middle(), second()))

    connection = connect()
    assert asyncio.run(outer()) == 2
    seen = told(connection, 4)
    top = seen["outer.call"].get("callid")
    causes = {name: event.get("causationid") for name, event in seen.items()}
    middles = seen["middle.call"].get("callid")
    assert causes == {"outer.call": None, "middle.call": top, "second.call": top, "leaf.call": middles}
    assert {event.get("correlationid") for event in seen.values()} == {None, top}


def test_a_command_names_the_observed_call_that_sent_it_and_keeps_the_run(connect, work):
    """An agent at observe, its tool on the bus, a tool of that at observe again: one chain, one run."""

    @tool("inner.observed", stage="observe")
    def inner() -> int:
        return 1

    @tool("on.bus", effects="none", stage="bus", timeout=5, fallback="raise")
    def on_bus() -> int:
        return inner()

    @tool("outer.observed", stage="observe")
    def outer() -> int:
        return on_bus()

    connection = connect()
    work(connection, on_bus)
    with correlate(run="run-1"):
        assert outer() == 1
    seen = told(connection, 2)
    ids = {name: event.get("callid") for name, event in seen.items()}
    assert seen["on.bus"].get("causationid") == ids["outer.observed"]
    assert seen["inner.observed"].get("causationid") == ids["on.bus"]
    assert {event.get("correlationid") for event in seen.values()} == {"run-1"}


def test_a_body_that_runs_here_under_a_claim_is_the_cause_of_what_it_calls(connect, broker):
    """Not the call around it: the call that was to travel is the same call wherever it runs."""

    @tool("inner.observed", stage="observe")
    def inner() -> int:
        return 1

    @tool("on.bus", effects="unsafe", stage="bus", timeout=0.2)
    def on_bus() -> int:
        return inner()

    connection = connect()
    assert on_bus() == 1
    seen = told(connection, 1)
    assert seen["inner.observed"].get("causationid") == seen["on.bus"].get("callid")


def test_a_call_after_another_is_not_inside_it(connect):
    """One that raised included; and a thread that does not copy the context starts a tree of its own."""

    @tool("first.call", stage="observe")
    def first() -> None:
        raise ValueError("none")

    @tool("second.call", stage="observe")
    def second() -> None:
        return None

    @tool("third.call", stage="observe")
    def third() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(second).result()

    connection = connect()
    with pytest.raises(ValueError, match="none"):
        first()
    third()
    assert [event.get("causationid") for event in told(connection, 3).values()] == [None] * 3
    assert callers.calling.get() is None


def test_what_a_consumer_calls_between_the_items_of_a_stream_is_not_inside_it(connect):
    """A generator runs in its consumer's context."""

    @tool("inner.call", stage="observe")
    def inner() -> None:
        return None

    @tool("stream.call", stage="observe")
    def stream():
        yield 1
        yield 2

    connection = connect()
    for _ in stream():
        inner()
    assert [event.get("causationid") for event in told(connection, 3).values()] == [None] * 2


def test_a_seam_that_calls_no_other_is_looked_into_now_and_then_and_from_the_first_find_on_always(connect):
    """A context variable costs a third of an observed call: most seams pay for one call in sixteen."""
    nested = []

    @tool("inner.call", stage="observe")
    def inner() -> None:
        return None

    @tool("outer.call", stage="observe")
    def outer() -> None:
        if nested:
            inner()

    connection = connect()
    for _ in range(callers.NEW):
        outer()
    nested.append(True)
    for _ in range(48):
        outer()
    observed = kit.observed(connection, callers.NEW + 96)
    causes = [event.get("causationid") for event in observed if event.get("seam") == "inner.call"]
    found = next(at for at, cause in enumerate(causes) if cause)
    assert found <= 16
    assert all(causes[found:])
