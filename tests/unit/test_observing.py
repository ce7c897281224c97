"""What is kept of an observed call is what it was given and returned, whatever becomes of those values after."""

from __future__ import annotations

import asyncio
import itertools
import json
from types import SimpleNamespace

import pytest

from crossfade.shim import hooks, observations
from crossfade.shim._observing import Observing
from crossfade.shim.policy import Policy
from crossfade.shim.redaction import Redactor
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects


class Observer:
    def __init__(self):
        self.seen, self.failures = [], []

    def numbers(self, _name):
        return itertools.count(1)

    def offer(self, seen):
        self.seen.append(seen)

    def failed(self, _name, error):
        self.failures.append(error)


@pytest.fixture
def watch():
    """Calls a body as an observed seam does: the observation read afterwards, and why the seam was blocked."""
    blocked = []
    observer = Observer()
    runtime = SimpleNamespace(
        instance="here", sealer=None, observer=observer, block=lambda _seam, why: blocked.append(why)
    )

    def call(body, *args, then=lambda: None):
        policy = Policy(stage="observe")
        seam = Seam("test.observed", body, domain="tool", policy=policy)
        route = Observing(runtime, seam, policy)
        value = route.call(seam, body, args, {})
        then()
        return value, route.read(observer.seen[-1]), blocked

    async def cancelled(body):
        policy = Policy(stage=Stage.SHADOW, effects="none")
        seam = Seam("test.observed", body, domain="tool", policy=policy)
        route = Observing(runtime, seam, policy)
        task = asyncio.create_task(route.acall(seam, body, (), {}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return route.read(observer.seen[-1])

    call.cancelled = cancelled
    call.observer = observer
    return call


def test_what_the_caller_does_after_does_not_change_the_record(watch):
    """Arguments and value are copied when they are seen, not when they are read."""
    given = {"a": [1]}
    kept = []

    def body(x):
        kept.append([1])
        return kept[0]

    _, seen, blocked = watch(body, given, then=lambda: (given["a"].append(2), kept[0].append(2)))
    assert (json.loads(seen.arguments), json.loads(seen.value)) == ({"x": {"a": [1]}}, {"value": [1]})
    assert not blocked


def test_a_body_that_changes_its_arguments_is_told_and_recorded_as_called(watch):
    """The record holds what it was given."""
    _, seen, blocked = watch(lambda x: x.append(2), [1])
    assert json.loads(seen.arguments) == {"x": [1]}
    assert len(blocked) == 1


async def test_a_call_that_its_caller_gave_up_is_recorded_and_not_compared(watch, monkeypatch):
    """Cancelled, legacy said nothing that a handler's answer could be held against; counted by that name."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)

    async def body():
        await asyncio.sleep(3600)

    seen = await watch.cancelled(body)
    assert (seen.shadow, seen.error.record().type) == (False, "asyncio.exceptions.CancelledError")
    assert counters.get("skipped", seam="test.observed", reason="cancelled") == 1


def test_what_takes_long_to_write_ends_with_the_time_to_flush(monkeypatch):
    """However few calls a batch would hold: what is not written by then is counted, and the loop is free again."""
    clock = itertools.count(step=0.3)  # seconds that each look at the clock finds gone
    monkeypatch.setattr(observations, "monotonic", lambda: next(clock))
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    wire = SimpleNamespace(emitter=lambda _alike: lambda *_sent: None)
    observer = observations.Observer(wire, Subjects("t"), Redactor(key=b"k" * 16), instance="i")
    policy = Policy(stage="observe")
    seam = Seam("test.slow", lambda: None, domain="tool", policy=policy)
    route = Observing(SimpleNamespace(instance="here", observer=observer, sealer=None, block=None), seam, policy)
    for _ in range(100):
        route.call(seam, lambda: None, (), {})

    asyncio.run(observer.flush(0.0))

    assert counters.get("observed") == 1
    assert counters.get("dropped", reason="exit") == 99


def test_an_iterator_is_left_to_its_body(watch):
    """Whatever can be read only once is not read by us."""
    value, seen, _ = watch(lambda x: list(x), iter([1, 2]))  # noqa: PLW0108 - a signature is needed
    assert value == [1, 2]
    assert seen.arguments is None


def test_a_value_that_holds_itself_reaches_its_caller(watch):
    """It has no JSON form, which is counted, and nothing is raised."""
    loop = []
    loop.append(loop)
    value, seen, _ = watch(lambda x: loop, 1)
    assert value is loop
    assert seen.value is None
    assert watch.observer.failures
