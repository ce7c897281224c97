"""Invariant 1: value, exception and side effects of the legacy body reach the caller unchanged."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import pickle  # noqa: TID251 - what an app's process pools do
import sys
import threading
import traceback
import weakref
from typing import Any

import pytest

from crossfade.shim import observations, tool
from integration.shim import kit

STAGES = ["legacy", "observe"]


@pytest.fixture(params=[*STAGES, "never connected"])
def stage(request, connect):
    """Each stage at which the body answers; connected unless it is never."""
    if request.param == "never connected":
        return "observe"
    connect()
    return request.param


# -- what comes out ------------------------------------------------------------------------------------------------


def test_the_very_object_is_returned(stage):
    """Identity, not equality."""
    thing = object()

    @tool("any.thing", stage=stage)
    def give(x):
        return x

    @tool("any.athing", stage=stage)
    async def agive(x):
        return x

    assert give(thing) is thing
    assert asyncio.run(agive(thing)) is thing


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_the_very_exception_is_raised(stage, error):
    """Same object, cause, context and notes; the body's own frames end the traceback."""
    cause, context = OSError("cause"), KeyError("context")

    @tool("always.raises", stage=stage)
    def fail():
        try:
            raise context
        except KeyError:
            raise error from cause

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    assert not hasattr(error, "__notes__")
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[0].filename == frames[-1].filename == __file__
    assert frames[-1].name == "fail"


def test_a_cancelled_call_is_cancelled_once(stage):
    """The body's own cleanup runs, and CancelledError passes."""
    log = []

    @tool("slow.wait", stage=stage)
    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cleaned up")
            raise

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert log == ["cleaned up"]


def test_iterators_arrive_unread(stage):
    """Generators, open files and their like are passed in and out without being used up."""

    @tool("rows.sum", stage=stage)
    def total(rows):
        return sum(rows)

    @tool("rows.make", stage=stage)
    def make():
        return (n for n in range(4))

    assert total(n for n in range(4)) == 6
    assert total(map(int, "123")) == 6
    assert list(make()) == [0, 1, 2, 3]


def test_arguments_are_the_callers_own_objects(stage):
    """What the body does to its arguments, the caller sees."""

    @tool("list.grow", stage=stage)
    def grow(items: list[int], *, into: dict[str, Any]) -> None:
        items.append(1)
        into["x"] = items

    items, into = [0], {}
    grow(items, into=into)
    assert items == [0, 1]
    assert into["x"] is items


def test_contextvars_are_the_callers(stage):
    """Read and written in the caller's own context and thread."""
    variable = contextvars.ContextVar("variable", default="outside")

    @tool("context.swap", stage=stage)
    def swap() -> str:
        seen = variable.get()
        variable.set(threading.current_thread().name)
        return seen

    def main():
        variable.set("caller")
        return swap(), variable.get()

    assert contextvars.copy_context().run(main) == ("caller", threading.current_thread().name)


def test_wrong_arguments_raise_pythons_own_error(stage):
    """The same TypeError as undecorated."""

    @tool("one.argument", stage=stage)
    def one(x: int) -> int:
        return x

    with pytest.raises(TypeError, match=r"one\(\) missing 1 required positional argument: 'x'"):
        one()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        one(1, z=2)


@pytest.mark.parametrize(
    "value",
    [10**5000, float("nan"), b"\xff", "\ud800", object(), lambda: 0, sys, type, ..., {1: 2}, {"a": {1, 2}}, [[]] * 3],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_serialised_makes_no_difference(stage, value):
    """Neither as an argument nor as a result, whatever the annotation says."""

    @tool("echo.any", stage=stage)
    def echo(x):
        return x

    @tool("echo.int", stage=stage)
    def echo_int(x: int) -> int:
        return x

    assert echo(value) is value
    assert echo_int(value) is value


def test_a_hostile_argument_makes_no_difference(connect, counts):
    """Objects that raise when looked at, compared, printed or serialised: the body never notices us."""

    class Hostile:
        def boom(self, *args):
            raise RuntimeError("do not look at me")

        __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __getattr__ = boom

    class HostileError(Exception):
        def __str__(self):
            raise RuntimeError("do not print me")

        __repr__ = __str__

    @tool("echo.hostile", stage="observe")
    def echo(x):
        return x

    @tool("raise.hostile", stage="observe")
    def fail():
        raise HostileError

    connection = connect()
    thing = Hostile()
    assert echo(thing) is thing
    with pytest.raises(HostileError):
        fail()
    payloads = [json.loads(event.data) for event in kit.observed(connection, 2)]
    assert "arguments" not in payloads[0]
    assert "unprintable" in payloads[1]["error"]["message"]
    assert counts.get("skipped", seam="echo.hostile", reason="unserialisable") == 1


def test_deep_recursion_ends_as_it_would(stage):
    """RecursionError reaches the caller as itself."""

    @tool("down.down", stage=stage)
    def down(n: int) -> int:
        return down(n + 1)

    with pytest.raises(RecursionError):
        down(0)

    @tool("down.some", stage=stage)
    def some(n: int) -> int:
        return some(n - 1) + 1 if n else 0

    assert some(100) == 100


# -- what is left behind ---------------------------------------------------------------------------------------------


def test_what_the_body_does_to_its_arguments_is_not_in_the_record(connect):
    """Arguments are recorded as they came in."""

    @tool("list.clear", stage="observe")
    def clear(items: list[int]) -> None:
        items.clear()

    connection = connect()
    clear([1, 2])
    assert json.loads(kit.observed(connection)[0].data)["arguments"] == {"items": [1, 2]}


def test_an_observation_says_what_happened(connect):
    """Value or error, duration, numbers without gaps."""

    @tool("div.ide", stage="observe")
    def divide(a: int, b: int = 1) -> float:
        return a / b

    connection = connect()
    divide(6)
    with pytest.raises(ZeroDivisionError):
        divide(1, b=0)
    first, second = kit.observed(connection, 2)
    value, error = json.loads(first.data), json.loads(second.data)
    assert (value["outcome"], value["value"], value["arguments"], value["n"]) == ("value", 6.0, {"a": 6}, 1)
    assert (error["outcome"], error["error"]["type"], error["n"]) == ("error", "ZeroDivisionError", 2)
    assert "return a / b" in error["error"]["traceback"]
    assert first.extensions["obsseq"] == "1"
    assert value["duration_ms"] >= 0


def test_an_observed_error_is_not_kept_alive(connect, broker):
    """With the broker gone the buffer fills; the frames of a failed call, and what they hold, still go."""

    class Held:
        pass

    alive = []

    @tool("holds.much", stage="observe")
    def fail():
        held = Held()
        alive.append(weakref.ref(held))
        raise ValueError("gone")

    connect()
    broker.stop()
    with pytest.raises(ValueError, match="gone"):
        fail()
    gc.collect()
    assert alive[0]() is None


def test_observations_of_large_calls_are_bounded_in_bytes(connect, broker, counts, monkeypatch):
    """A stopped broker and megabytes of arguments do not fill the memory."""

    @tool("large.calls", stage="observe")
    def large(text: str) -> None: ...

    connection = connect()
    broker.stop()
    monkeypatch.setattr(observations, "BUFFER_BYTES", 1_000_000)
    text = "x" * 100_000
    for _ in range(100):
        large(text)
    kept = list(connection.runtime.observer._buffer)
    assert 1_000_000 <= sum(map(observations.size, kept)) <= 1_200_000
    assert counts.get("dropped", reason="buffer-full") == 100 - len(kept)
    broker.start()
    kit.until(lambda: counts.get("observed") == len(kept))
    assert connection.runtime.observer._bytes == 0


# -- what it still is ------------------------------------------------------------------------------------------------


class Agent:
    def __init__(self, name: str = "agent") -> None:
        self.name = name
        self.tools = [self.act]

    @tool("agent.act", stage="observe")
    def act(self, x: int) -> str:
        return f"{self.name}{x}"

    @classmethod
    @tool("agent.make", stage="observe")
    def make(cls, name: str) -> str:
        return f"{cls.__name__}:{name}"

    @staticmethod
    @tool("agent.static", stage="observe")
    def static(x: int) -> int:
        return x + 1


@tool("module.double", stage="observe")
def double(x: int) -> int:
    """Twice."""
    return 2 * x


@tool("module.adouble", stage="observe")
async def adouble(x: int) -> int:
    return 2 * x


def test_methods_stay_legacy_and_work(connect, counts):
    """Each is called on what it was called on, and leaves an observation without it."""
    from crossfade.shim.seam import registry

    for function in (Agent.act, Agent.make, Agent.static):
        registry._seams[function.__crossfade_seam__.name] = function.__crossfade_seam__
    connection = connect()
    agent = Agent("a")
    assert agent.act(1) == Agent.act(agent, 1) == agent.tools[0](1) == "a1"
    assert Agent.make("m") == agent.make("m") == "Agent:m"
    assert Agent.static(1) == agent.static(1) == 2
    assert [json.loads(event.data)["arguments"] for event in kit.observed(connection, 7)] == [
        *[{"x": 1}] * 3,
        *[{"name": "m"}] * 2,
        *[{"x": 1}] * 2,
    ]


def test_a_method_without_an_instance_at_the_worker_stays_legacy(connect, counts):
    """``self`` cannot cross a bus: at ``bus`` the body answers, observed, and each call is counted."""

    class Careless:
        @tool("careless.act", effects="none", stage="bus")
        def act(self, x: int) -> int:
            return x

    connection = connect()
    assert [Careless().act(n) for n in range(3)] == [0, 1, 2]
    assert counts.get("skipped", seam="careless.act", reason="method") == 3
    assert len(kit.observed(connection, 3)) == 3


@pytest.mark.parametrize("function", [double, adouble, Agent().act, Agent.act, Agent.make, Agent.static])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_by_name(function, protocol):
    """As plain functions and methods are; wrapt's own wrappers refuse."""
    again = pickle.loads(pickle.dumps(function, protocol))
    assert again.__crossfade_seam__ is function.__crossfade_seam__
    assert again.__qualname__ == function.__qualname__


def test_copies_of_a_function_are_the_function():
    """copy and deepcopy of a seam, and of what holds one."""
    assert copy.copy(double) is copy.deepcopy(double) is double
    assert copy.deepcopy({"tools": [double]})["tools"][0] is double


def test_deep_copies_of_an_object_have_methods_of_their_own():
    """An agent that holds its own bound tools is copied with them."""
    agent = Agent("first")
    twin = copy.deepcopy(agent)
    twin.name = "second"
    assert (agent.tools[0](1), twin.tools[0](1)) == ("first1", "second1")
    assert copy.copy(agent.act)(1) == "first1"


def test_a_spawned_pool_runs_it(tmp_path):
    """The child imports the module and calls the plain function: it was never connected."""
    code = """
        import multiprocessing
        from crossfade.shim import connect, tool

        @tool("module.double", effects="none", stage="bus")
        def double(x: int) -> int:
            return 2 * x

        if __name__ == "__main__":
            connect("memory://spawned")
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
    """
    assert kit.finish(kit.python(code, folder=tmp_path)) == ("[2, 4]\n", "")
