"""Generators: where the body answers, the source feels everything the consumer does; what a bus keeps of that."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import json
from collections.abc import AsyncIterator, Generator, Iterator  # noqa: TC003 - seams resolve their annotations

import pytest

from crossfade.shim import tool
from integration.shim import kit

BODY_ANSWERS = ["never connected", "legacy", "observe"]


@pytest.fixture(params=BODY_ANSWERS)
def start(request, on_bus):
    """Takes seams to a stage at which the body answers."""

    def start(*functions):
        if request.param != "never connected":
            on_bus(*functions, stage=request.param)

    return start


def streams(log):
    """A generator and an async generator that write down what happens to them."""

    @tool("streams.sync", effects="none", fallback="raise", timeout=10)
    def sync(n: int) -> Generator[int, str, str]:
        log.append("began")
        try:
            for i in range(n):
                try:
                    log.append((yield i))
                except KeyError as error:
                    log.append(error)
                    yield -1
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            log.append("ended")
        return "returned"

    @tool("streams.async", effects="none", fallback="raise", timeout=10)
    async def asynchronous(n: int) -> AsyncIterator[int]:
        log.append("began")
        try:
            for i in range(n):
                await asyncio.sleep(0)
                try:
                    log.append((yield i))
                except KeyError as error:
                    log.append(error)
                    yield -1
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            await asyncio.sleep(0)
            log.append("ended")

    return sync, asynchronous


# -- where the body answers ------------------------------------------------------------------------------------


def test_nothing_runs_before_the_first_item(start):
    """A call makes a generator and no more, and one that is never begun leaves no gap in the observations."""
    log = []
    sync, asynchronous = streams(log)
    start(sync, asynchronous)
    made, amade = sync(1), asynchronous(1)
    assert inspect.isgenerator(made)
    assert inspect.isasyncgen(amade)
    assert inspect.getgeneratorstate(made) == "GEN_CREATED"
    assert log == []
    with pytest.raises(TypeError):
        sync("too", "many")


def test_close_reaches_the_source(start):
    """GeneratorExit is raised at the yield, and cleanup has run when close returns."""
    log = []
    sync, _ = streams(log)
    start(sync)
    items = sync(3)
    assert next(items) == 0
    items.close()
    assert log == ["began", GeneratorExit, "ended"]


def test_throw_and_send_reach_the_source(start):
    """The very exception object arrives, the source may go on, and its return value comes out."""
    log, thrown = [], KeyError("x")
    sync, _ = streams(log)
    start(sync)
    items = sync(2)
    assert [next(items), items.send("hello"), items.throw(thrown)] == [0, 1, -1]
    with pytest.raises(StopIteration) as end:
        next(items)
    assert end.value.value == "returned"
    assert log == ["began", "hello", thrown, "ended"]


def test_what_the_source_raises_is_raised_here(start):
    """The same object, with the body's frame at the traceback's end."""
    error = ValueError("from inside")

    @tool("streams.raises", effects="none")
    def raises() -> Iterator[int]:
        yield 1
        raise error

    start(raises)
    items = raises()
    assert next(items) == 1
    with pytest.raises(ValueError, match="from inside") as caught:
        next(items)
    assert caught.value is error
    assert caught.traceback[-1].name == "raises"


def test_an_abandoned_stream_is_closed(start):
    """A consumer that breaks and forgets: the source's cleanup runs when the generator goes."""
    log = []
    sync, _ = streams(log)
    start(sync)
    for item in sync(3):
        assert item == 0
        break
    gc.collect()
    assert log == ["began", GeneratorExit, "ended"]


def test_async_throw_and_send_reach_the_source(start):
    """``athrow`` and ``asend`` of an async generator, as those of the plain one."""
    log, thrown = [], KeyError("x")
    _, asynchronous = streams(log)
    start(asynchronous)

    async def main():
        items = asynchronous(2)
        got = [await anext(items), await items.asend("hello"), await items.athrow(thrown)]
        return got, [item async for item in items]

    assert asyncio.run(main()) == ([0, 1, -1], [])
    assert log == ["began", "hello", thrown, "ended"]


def test_aclose_reaches_the_source(start):
    """Cleanup that awaits has run when aclose returns."""
    log = []
    _, asynchronous = streams(log)
    start(asynchronous)

    async def main():
        items = asynchronous(3)
        assert await anext(items) == 0
        await items.aclose()
        return list(log)

    assert asyncio.run(main()) == ["began", GeneratorExit, "ended"]


def test_a_break_leaves_no_task_behind(start):
    """The event loop closes what was abandoned; nothing is pending afterwards."""
    log = []
    _, asynchronous = streams(log)
    start(asynchronous)

    async def main():
        async for item in asynchronous(3):
            assert item == 0
            break
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    assert log == ["began", GeneratorExit, "ended"]


def test_a_cancelled_consumer_cancels_the_source(start):
    """CancelledError arrives where the body waits."""
    log = []

    @tool("streams.waits", effects="none")
    async def waits() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    start(waits)

    async def main():
        async def consume():
            async for _ in waits():
                began.set()

        began = asyncio.Event()
        task = asyncio.create_task(consume())
        await began.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log == ["cancelled"]


def test_context_is_the_consumers(start):
    """A generator sees the variables of whoever asks for its next item."""
    variable = contextvars.ContextVar("variable", default="outside")

    @tool("streams.context", effects="none")
    def looks() -> Iterator[str]:
        while True:
            yield variable.get()

    start(looks)
    items = looks()
    assert next(items) == "outside"
    variable.set("inside")
    assert next(items) == "inside"


# -- what is observed of it ------------------------------------------------------------------------------------


def test_a_stream_is_one_observation_without_its_items(on_bus):
    """Ended, broken off or failed: arguments and timing, no items; only a failure is an error."""
    log = []
    sync, _ = streams(log)
    connection = on_bus(sync, stage="observe")
    sync(1)  # never begun
    list(sync(2))
    next(broken := sync(3))
    broken.close()
    failing = sync(4)
    next(failing)
    with pytest.raises(OSError, match="thrown"):
        failing.throw(OSError("thrown"))
    seen = [json.loads(event.data) for event in kit.observed(connection, 3)]
    assert [(one["n"], one["arguments"], one["outcome"], "value" in one) for one in seen] == [
        (1, {"n": 2}, "value", False),
        (2, {"n": 3}, "value", False),
        (3, {"n": 4}, "error", False),
    ]


# -- what a bus keeps ------------------------------------------------------------------------------------------


def test_on_the_bus_nothing_is_sent_before_the_first_item(on_bus):
    """Lazy there, too."""
    log = []
    sync, asynchronous = streams(log)
    connection = on_bus(sync, asynchronous)
    made = sync(2)
    amade = asynchronous(2)
    assert kit.read(connection, "{p}.>") == []
    assert list(made) == [0, 1]

    async def main():
        return [item async for item in amade]

    assert asyncio.run(main()) == [0, 1]


def test_on_the_bus_items_go_one_way(on_bus):
    """What is sent in does not reach the source, and its return value stays there."""
    log = []
    sync, _ = streams(log)
    on_bus(sync)
    items = sync(2)
    assert [next(items), items.send("lost")] == [0, 1]
    with pytest.raises(StopIteration) as end:
        next(items)
    assert end.value.value is None
    assert "lost" not in log


def test_on_the_bus_a_thrown_error_comes_back_and_stops_the_source(on_bus, counts):
    """The consumer's own error is raised at the consumer; the worker is told that nobody listens."""

    @tool("streams.endless", effects="none", fallback="raise", timeout=10)
    async def endless() -> AsyncIterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
                await asyncio.sleep(0.005)
        finally:
            log.append("ended")

    log = []
    on_bus(endless)

    async def main():
        items = endless()
        assert await anext(items) == 0
        with pytest.raises(KeyError):
            await items.athrow(KeyError("x"))

    asyncio.run(main())
    kit.until(lambda: log == ["ended"])


def test_on_the_bus_closing_stops_the_source(on_bus):
    """close and aclose: the source's cleanup runs at the worker."""
    log = []

    @tool("streams.forever", effects="none", fallback="raise", timeout=10)
    def forever() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield (n := n + 1)
        finally:
            log.append("ended")

    on_bus(forever)
    items = forever()
    assert next(items) == 1
    items.close()
    kit.until(lambda: log == ["ended"])


def test_on_the_bus_an_error_comes_after_the_items_before_it(on_bus):
    """Nothing that was yielded is lost to the error."""

    @tool("streams.late", effects="none", fallback="raise", timeout=10)
    def late() -> Iterator[int]:
        yield from (1, 2)
        raise LookupError("late")

    on_bus(late)
    got = []
    with pytest.raises(LookupError, match="late"):
        got.extend(late())
    got.clear()
    items = late()
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError):
        next(items)


def test_on_the_bus_an_item_that_cannot_cross_is_an_error(on_bus):
    """Named, after what could cross; never "not executed", because it ran."""
    from crossfade.shim import RemoteError, UnserialisableError

    @tool("streams.hostile", effects="none", fallback="raise", timeout=10)
    def hostile() -> Iterator[object]:
        yield 1
        yield object()

    on_bus(hostile)
    items = hostile()
    assert next(items) == 1
    with pytest.raises((RemoteError, UnserialisableError), match="return"):
        next(items)
