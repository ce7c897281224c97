"""Timers that outlive engines, calls that nobody serves, and versions side by side."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from crossfade.migrations import unserved
from crossfade.workflows import Engine, Workflow, engine, reducer
from crossfade.workflows.workflow import Workflows
from integration.shim import kit
from integration.workflows.desk import Desk


def clock(known, version=1, due=0.3):
    flow = Workflow("clock", on="clock.set", key="data.name", version=version)

    @flow.timer()
    def rang(event):
        return event.get("due", due)

    @flow.result
    def told():
        return version

    return flow


def test_a_timer_fires_when_it_is_due(connect, run, known):
    """Within a second of its time, and not before."""
    clock(known)
    desk = run(connect())
    desk.publish("clock.set", {"name": "a"})
    found = desk.until("clock", "a", "completed")

    assert 0.3 <= found.updated - found.started < 1.3


def test_a_timer_outlives_its_engine(connect, known, run):
    """An engine that starts takes what fell due while none ran."""
    clock(known)
    opened = connect()
    started = threading.Event()
    first = Engine(opened.runtime, known)
    thread = threading.Thread(target=lambda: first.run(when_ready=started.set))
    thread.start()
    assert started.wait(kit.SOON)
    desk = Desk(opened)
    desk.publish("clock.set", {"name": "a", "due": 0.5})
    desk.step("clock", "a", "rang", "waiting")
    first.stop()
    thread.join(kit.SOON)
    time.sleep(0.6)  # it falls due meanwhile
    assert desk.find("clock", "a").status == "running"

    run(opened)
    assert desk.until("clock", "a", "completed")


def test_two_engines_fire_a_timer_once(connect, run, known):
    """Both know it, one transition is stored, and the end is told once."""
    clock(known)
    opened = connect()
    desk = run(opened)
    run(opened)
    for name in "abcdef":
        desk.publish("clock.set", {"name": name})
    for name in "abcdef":
        desk.until("clock", name, "completed")

    assert sorted(fact["instance"] for fact in desk.facts("workflow.completed", 6)) == sorted(
        reducer.instance_id("clock", name) for name in "abcdef"
    )


def test_a_call_that_nobody_serves_ends_and_never_starts(connect, run, known, monkeypatch):
    """Past its deadline the engine takes the call from workers that have not started it: no later one can."""
    monkeypatch.setattr(reducer, "GRACE", 0.1)
    monkeypatch.setattr("crossfade.shim._calls.GRACE", timedelta(seconds=0.1))
    flow = Workflow("lonely", on="clock.set", key="data.name")

    @flow.tool("nobody.serves", timeout=0.3)
    def asked(event):
        return {}

    opened = connect()
    desk = run(opened)
    desk.publish("clock.set", {"name": "a"})

    assert desk.until("lonely", "a", "failed").error["type"] == "not-executed"
    kinds = [event.type for event in kit.read(opened, "{p}.w-lonely.>")]
    assert kinds[0] == "tool.invoke"
    assert "call.claimed" in kinds


def test_an_instance_stays_on_its_version(connect, run, known):
    """Both registered: what began on 1 ends on 1, what begins now ends on 2."""
    clock(known)
    opened = connect()
    desk = run(opened)
    desk.publish("clock.set", {"name": "old", "due": 1.0})
    desk.step("clock", "old", "rang", "waiting")
    desk.engine.stop()
    clock(known, version=2)
    run(opened)
    desk.publish("clock.set", {"name": "new"})

    assert desk.until("clock", "new", "completed").value == 2
    assert desk.until("clock", "old", "completed").value == 1


def test_an_engine_without_a_version_leaves_its_instances(connect, run, known, caplog, counts, monkeypatch):  # noqa: PLR0917
    """They stay as they are; their events are tried again, and end as dead letters that name the version."""
    monkeypatch.setattr(engine, "_DELIVERIES", 2)
    monkeypatch.setattr(engine, "_MISSING", 0.05)
    flow = Workflow("pinned", on="clock.set", key="data.name")

    @flow.wait("clock.touched")
    def touched(event):
        return None

    opened = connect()
    desk = run(opened)
    desk.publish("clock.set", {"name": "old"})
    desk.step("pinned", "old", "touched", "waiting")
    before = kit.until(lambda: not (found := desk.find("pinned", "old")).outbox and found)
    desk.engine.stop()

    later = Workflow("pinned", on="clock.set", key="data.name", version=2)
    later.wait("clock.touched")(touched)
    only_new = Workflows()
    only_new.add(later)
    known._known = only_new._known
    run(opened)
    kit.until(lambda: counts.get("skipped", seam="pinned", reason="version") == 1)
    kit.until(lambda: "pinned v1 is not here; instances that wait until it is: 1" in caplog.text)
    kit.on_loop(opened, unserved.count(opened.runtime.bus))
    assert counts.get("unserved", seam="pinned", reason="version-1") == 1
    desk.publish("clock.touched", {"name": "old"})

    (letter,) = kit.until(lambda: kit.dead_letters(opened))
    assert letter.reason == "version"
    assert "is of version 1, and this process has 2" in letter.detail
    assert desk.find("pinned", "old").revision == before.revision


def test_an_ended_instance_moves_where_it_expires_and_starts_no_other(connect, run, known, counts, monkeypatch):
    """An event with its key, new or delivered again, has no effect as long as it is kept; then it starts anew."""
    monkeypatch.setattr(engine, "_TIDY", 0.05)
    clock(known, due=0.01)
    opened = connect()
    desk = run(opened, keep=1.5)
    desk.publish("clock.set", {"name": "a"})
    desk.until("clock", "a", "completed")
    kit.until(lambda: kit.on_loop(opened, desk.store.live()) == [])
    assert len(kit.on_loop(opened, desk.store.ended())) == 1
    desk.publish("clock.set", {"name": "a"})
    kit.until(lambda: counts.get("ignored", reason="ended") == 1)

    kit.until(lambda: kit.on_loop(opened, desk.store.ended()) == [])
    desk.publish("clock.set", {"name": "a"})
    assert desk.until("clock", "a", "completed")
    assert len(desk.facts("workflow.started", 2)) == 2
