from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest

from crossfade.shim import hooks, tool
from crossfade.shim.errors import NotExecutedError, OutcomeUnknownError
from crossfade.shim.seam import registry
from crossfade.shim.watching import flush, outcome_of, unwatch, watch, watchers


class Recorder:
    """Writes down what it is told; raises in the methods named."""

    def __init__(self, *broken):
        self.broken = broken
        self.told = []

    def _tell(self, method, *given):
        self.told.append((method, *given))
        if method in self.broken:
            raise RuntimeError(method)

    def count(self, name, *, seam="-", reason="-", n=1):
        self._tell("count", name)

    def begin(self, step):
        self._tell("begin", step.kind, step.seam, step.stage)
        return self

    def enter(self):
        self._tell("enter")
        return "token"

    def leave(self, token):
        self._tell("leave", token)

    def context(self):
        self._tell("context")
        return {}

    def end(self, end):
        self._tell("end", end.outcome, end.path)


@pytest.fixture
def watching(monkeypatch):
    monkeypatch.setattr(registry, "_seams", {})
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    started = []

    def start(*broken):
        started.append(Recorder(*broken))
        watch(started[-1])
        return started[-1]

    yield start
    for recorder in started:
        unwatch(recorder)
    assert watchers.all == ()


def declare():
    @tool("watch.double")
    def double(n: int) -> int:
        if n < 0:
            raise ValueError(n)
        return 2 * n

    return double


def test_absent_telemetry_leaves_the_route_as_it_is(watching):
    """Nobody watches: a legacy seam has no route at all, as if there were no telemetry; and so again afterwards."""
    double = declare()
    assert double.__crossfade_seam__.route is None
    recorder = watching()
    assert double.__crossfade_seam__.route is not None
    assert double.__crossfade_seam__.unwatched is None
    unwatch(recorder)
    assert double.__crossfade_seam__.route is None
    assert double(2) == 4
    assert recorder.told == []


def test_a_legacy_call_is_watched_without_a_connection(watching):
    """Seams declared before and after are told about, with the error that their caller gets."""
    before = declare()
    recorder = watching()

    @tool("watch.later")
    def later(n: int) -> int:
        return before(n)

    assert later(2) == 4
    with pytest.raises(ValueError, match="-1"):
        before(-1)
    one = [("enter",), ("leave", "token")]
    assert recorder.told == [
        ("begin", "call", "watch.later", "legacy"),
        one[0],
        ("begin", "call", "watch.double", "legacy"),
        *one,
        ("end", "value", "legacy"),
        one[1],
        ("end", "value", "legacy"),
        ("begin", "call", "watch.double", "legacy"),
        *one,
        ("end", "error", "legacy"),
    ]


@pytest.mark.parametrize("broken", ["begin", "enter", "leave", "end", "count"])
def test_a_watcher_that_raises_never_hurts_a_call(watching, broken, caplog):
    """Whatever method fails, the caller gets its value or its own error; the failure is logged once and counted."""
    double = declare()
    watching(broken)
    other = watching()
    assert double(2) == 4
    with pytest.raises(ValueError, match="-1"):
        double(-1)
    hooks.report.count("seen")
    assert [end for end in other.told if end[0] == "end"] == [("end", "value", "legacy"), ("end", "error", "legacy")]
    assert ("count", "seen") in other.told
    if broken != "count":
        assert hooks.report.hooks.get("hook-failed", reason=f"Recorder.{broken}") == 2
        assert len([record for record in caplog.records if "telemetry failed" in record.message]) == 1


def test_a_stream_passes_through_what_is_sent_and_thrown(watching):
    """A watched generator is one: values sent in, errors thrown in, its return value, and its end."""
    recorder = watching()

    @tool("watch.echo")
    def echo():
        got = []
        while len(got) < 2:
            try:
                got.append((yield len(got)))
            except KeyError:
                got.append("thrown")
        return got

    items = echo()
    assert recorder.told == []
    assert (next(items), items.send("a")) == (0, 1)
    with pytest.raises(StopIteration) as ended:
        items.throw(KeyError())
    assert ended.value.value == ["a", "thrown"]
    assert recorder.told[-1] == ("end", "value", "legacy")
    assert recorder.told.count(("enter",)) == recorder.told.count(("leave", "token")) == 3


def test_an_async_stream_passes_through_what_is_sent_and_thrown(watching):
    """The same for async generators; one that is closed early closes the body's, and is no error."""
    recorder, closed = watching(), []

    @tool("watch.aecho")
    async def echo():
        sent = None
        try:
            while True:
                try:
                    sent = yield sent
                except KeyError:
                    sent = "thrown"
        finally:
            closed.append(True)

    async def use():
        items = echo()
        await anext(items)
        found = [await items.asend("a"), await items.athrow(KeyError())]
        await items.aclose()
        return found

    assert asyncio.run(use()) == ["a", "thrown"]
    assert closed == [True]
    assert recorder.told[-1] == ("end", "value", "legacy")


def test_a_cancelled_call_is_no_error(watching):
    """Cancellation passes through and is told as what it is."""
    recorder = watching()

    @tool("watch.sleep")
    async def sleep() -> None:
        await asyncio.sleep(60)

    async def cancel():
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert recorder.told[-1] == ("end", "cancelled", "legacy")


def test_watchers_that_keep_things_are_told_to_hand_them_on(watching):
    """Those that keep nothing are passed over, and one that fails keeps no other from it."""
    told = []

    class Keeping(Recorder):
        def flush(self):
            told.append(self)
            self._tell("flush")

    watching()
    keeping = [Keeping("flush"), Keeping()]
    for each in keeping:
        watch(each)
    flush()
    for each in keeping:
        unwatch(each)
    assert told == keeping
    assert (
        hooks.report.hooks.get(
            "hook-failed", reason="test_watchers_that_keep_things_are_told_to_hand_them_on.<locals>.Keeping.flush"
        )
        == 1
    )


def test_outcomes_are_named_by_what_is_known_of_them():
    """A call that never ran, and one of which nobody knows, are no plain errors."""
    assert outcome_of(None) == "value"
    assert outcome_of(ValueError()) == "error"
    assert outcome_of(asyncio.CancelledError()) == "cancelled"
    assert outcome_of(NotExecutedError("", callid="-", reason="expired")) == "not-executed"
    assert outcome_of(OutcomeUnknownError("", callid="-", reason="deadline", deadline=None)) == "unknown"


def test_no_telemetry_is_loaded_by_a_process_that_calls_over_the_bus():
    """Caller and worker with a bus, and neither OpenTelemetry nor Prometheus in the process."""
    code = """
    import sys, threading
    from crossfade import shim
    from crossfade.shim.worker import Worker

    @shim.tool("watch.there", effects="none", stage="bus")
    def there(n: int) -> int:
        return n

    with shim.connect("memory://watching", required=True) as connection:
        worker = Worker(connection.runtime)
        ready = threading.Event()
        thread = threading.Thread(target=worker.run, kwargs={"when_ready": ready.set})
        thread.start()
        ready.wait(10)
        assert there(1) == 1
        worker.stop()
        thread.join()
    print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "prometheus"))))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
