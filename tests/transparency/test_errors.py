"""Errors: the very object where the body answers; over a bus a faithful copy or plain text, and the worker lives on."""

from __future__ import annotations

import asyncio
import threading
import traceback

import pytest

from crossfade.shim import (
    CallCancelledError,
    RemoteError,
    Retry,
    UnserialisableError,
    outcomes,
    register_error,
    tool,
)
from integration.shim import kit

ANSWERED_HERE = ["never connected", "legacy", "observe"]


class PlainError(Exception):
    """Its constructor takes what its ``args`` hold."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)


class KeywordError(Exception):
    """Its constructor needs what its ``args`` do not hold."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class HalfError(Exception):
    """Its ``args`` are not JSON."""

    def __init__(self, thing: object) -> None:
        super().__init__(thing)


def raised_by(error):
    """A decorated function and a decorated coroutine function that raise ``error``, then answer."""
    left = {"sync": 1, "async": 1}

    @tool("errors.sync", effects="none", fallback="raise", timeout=10)
    def sync() -> str:
        left["sync"] -= 1
        if left["sync"] == 0:
            raise error
        return "alive"

    @tool("errors.async", effects="none", fallback="raise", timeout=10)
    async def asynchronous() -> str:
        left["async"] -= 1
        if left["async"] == 0:
            raise error
        return "alive"

    return sync, lambda: asyncio.run(asynchronous()), asynchronous


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The classes that this process accepts, as before the test."""
    monkeypatch.setattr(outcomes, "_registered", dict(outcomes._registered))


@pytest.fixture
def over_the_bus(on_bus):
    """What a call site gets when the handler raises ``error``; the worker must answer the next call."""

    def over_the_bus(error):
        sync, asynchronous, seam = raised_by(error)
        on_bus(sync, seam)
        caught = []
        for call in (sync, asynchronous):
            with pytest.raises(Exception) as raised:
                call()
            caught.append(raised.value)
            assert call() == "alive"
        first, second = caught
        assert (type(first), str(first)) == (type(second), str(second))
        return first

    return over_the_bus


# -- where the body answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ANSWERED_HERE)
@pytest.mark.parametrize(
    "make",
    [
        lambda: PlainError(1, "x"),
        lambda: KeywordError(code=1),
        lambda: ExceptionGroup("g", [ValueError(1)]),
        KeyboardInterrupt,
        SystemExit,
    ],
    ids=["plain", "keyword", "group", "interrupt", "exit"],
)
def test_here_it_is_the_very_object(on_bus, stage, make):
    """Same object, cause and notes; no frame of ours hides the body's, which ends the traceback."""
    error = make()
    error.__cause__ = cause = OSError("cause")
    error.add_note("a note")
    sync, _, seam = raised_by(error)
    if stage != "never connected":
        on_bus(sync, seam, stage=stage)
    with pytest.raises(BaseException) as raised:
        sync()
    assert raised.value is error
    assert raised.value.__cause__ is cause
    assert error.__notes__ == ["a note"]
    assert traceback.extract_tb(error.__traceback__)[-1].name == "sync"


# -- over the bus ----------------------------------------------------------------------------------------------


def test_a_registered_class_comes_back_with_its_arguments(over_the_bus):
    """Made without its constructor, the handler's traceback as a note."""
    register_error(PlainError)
    error = over_the_bus(PlainError(7, "why"))
    assert (type(error), error.args) == (PlainError, (7, "why"))
    assert "raise error" in error.__notes__[-1]


def test_a_constructor_that_wants_something_else_is_no_obstacle(over_the_bus):
    """It is not called: arguments and text are the handler's error's."""
    register_error(KeywordError)
    caught = over_the_bus(KeywordError(code=7))
    assert (type(caught), str(caught)) == (KeywordError, "code 7")


@pytest.mark.parametrize("error", [HalfError(object())], ids=lambda error: type(error).__name__)
def test_a_class_that_cannot_be_rebuilt_comes_as_text(over_the_bus, error):
    """Registered or not: what JSON cannot hold is never guessed."""
    register_error(type(error))
    caught = over_the_bus(error)
    assert type(caught) is RemoteError
    assert caught.type_name == f"{__name__}.{type(error).__name__}"
    assert str(error)[:20] in str(caught)


def test_an_unregistered_class_comes_as_text(over_the_bus):
    """Although its module is loaded right here."""
    error = over_the_bus(PlainError(7, "why"))
    assert type(error) is RemoteError
    assert error.type_name == f"{__name__}.PlainError"
    assert "PlainError" in error.remote_traceback


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        ExceptionGroup("many", [ValueError("first"), KeyError("second")]),
        BaseExceptionGroup("more", [KeyboardInterrupt()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_end_a_process_ends_the_call_only(over_the_bus, error):
    """Exits, interrupts, cancellations and groups are the call's error as text; the worker answers the next call."""
    caught = over_the_bus(error)
    assert type(caught) is RemoteError
    assert caught.type_name.rpartition(".")[2] == type(error).__name__


def test_members_of_a_group_are_in_the_text(over_the_bus):
    """What a group held can be read, though not caught."""
    caught = over_the_bus(ExceptionGroup("many", [ValueError("first"), KeyError("second")]))
    assert "first" in caught.remote_traceback
    assert "second" in caught.remote_traceback


def test_a_stop_iteration_cannot_end_somebody_elses_loop(on_bus):
    """Raised by a handler it must not silently end the iteration it is called from."""

    @tool("errors.stop", effects="none", fallback="raise", timeout=10)
    def stop() -> int:
        raise StopIteration("value")

    on_bus(stop)
    with pytest.raises(RemoteError, match="StopIteration"):
        list(stop() for _ in range(1))  # noqa: C400 - a list comprehension would not be a generator


def test_causes_and_notes_are_kept(over_the_bus):
    """``raise ... from`` as text in the traceback, notes as notes."""
    error = ValueError("outer")
    error.__cause__ = OSError("the cause")
    error.add_note("look here")
    caught = over_the_bus(error)
    assert type(caught) is ValueError
    assert caught.__notes__[0] == "look here"
    assert "the cause" in caught.__notes__[-1]


def test_a_long_message_is_cut(over_the_bus):
    """One MiB of text is no reason for a claim check; its beginning arrives."""
    caught = over_the_bus(ValueError("ä" * (1 << 20)))
    assert type(caught) is ValueError
    assert 1_000 < len(str(caught)) <= 16 * 1024


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.Popen", "__main__.x"])
def test_a_class_that_calls_itself_something_else_is_only_text(over_the_bus, name, monkeypatch):
    """The name on the wire is never imported nor looked up among loaded modules."""
    import os

    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    module, _, qualname = name.rpartition(".")
    hostile = type(qualname, (Exception,), {"__module__": module, "__qualname__": qualname})
    caught = over_the_bus(hostile("touch hostile"))
    assert type(caught) is RemoteError
    assert caught.type_name.endswith(qualname)
    assert ran == []


def test_a_callers_cancellation_is_the_callers(on_bus):
    """A task that waits for the bus is cancelled at once; its handler hears of it, and how it ended is logged."""
    reached, told = threading.Event(), threading.Event()

    @tool("errors.slow", effects="none", fallback="raise", timeout=10)
    async def slow(seconds: float) -> str:
        reached.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            told.set()
            raise
        return "done"

    connection = on_bus(slow)

    async def main():
        task = asyncio.create_task(slow(5))
        assert await asyncio.to_thread(reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert told.wait(5)
    assert asyncio.run(slow(0.0)) == "done"
    kit.until(lambda: sum(event.type == "tool.result" for event in kit.read(connection, "{p}.>")) == 2)


def test_the_errors_of_ours_that_a_result_can_be(on_bus):
    """A cancelled task and a handler that asked once too often raise what the page of errors promises."""
    reached = threading.Event()

    @tool("errors.waits", effects="none", fallback="raise", timeout=10)
    async def waits() -> str:
        reached.set()
        await asyncio.sleep(9)
        return "done"

    @tool("errors.asks", fallback="raise", timeout=10)
    def asks() -> str:
        raise Retry("not now")

    @tool("errors.returns", effects="none", fallback="raise", timeout=10)
    def returns() -> int:
        return object()

    on_bus(waits, asks, returns)
    task = waits.submit()
    assert reached.wait(5)
    assert task.cancel() is False
    with pytest.raises(CallCancelledError) as caught:
        task.result(5)
    assert caught.value.callid == task.callid
    with pytest.raises(Retry, match="not now"):
        asks()
    with pytest.raises(UnserialisableError):
        returns()
