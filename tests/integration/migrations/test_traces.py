"""Runs of real seams, legacy and on the bus, from a real log: the same tree, with its times apart."""

from __future__ import annotations

import contextlib
import time

import pytest

from crossfade.migrations.traces.aligning import align, changes
from crossfade.migrations.traces.critical import critical_path
from crossfade.migrations.traces.index import Selection, TraceIndex
from crossfade.shim import correlate, tool
from integration.shim import kit

RESEARCH = [("agent.research", 0), ("web.search", 1), ("web.fetch", 1), ("web.parse", 2)]


@pytest.fixture
def desk():
    """An agent at observe that searches, then fetches; fetching parses. Asked for before ``connected``."""
    options = {"effects": "none", "stage": "observe", "timeout": 5}

    @tool("web.search", **options)
    def search(q: str) -> str:
        return q

    @tool("web.parse", **options)
    def parse(q: str) -> str:
        time.sleep(0.02)
        return q

    @tool("web.fetch", **options)
    def fetch(q: str) -> str:
        return parse(q)

    @tool("agent.research", **options)
    def research(q: str) -> str:
        return search(q) + fetch(q)

    return search, parse, fetch, research


def move(connection, stage, *seams, **settings):
    """Put seams at ``stage`` live, and wait until this process follows."""
    for each in (function.__crossfade_seam__ for function in seams):
        kit.set_live(connection, each.name, {"stage": stage, **settings})
        kit.until(lambda each=each: connection.runtime.policy(each.name, each.policy).stage == stage)
        kit.until(lambda each=each: each.route is not None and _stage(each.route) == stage)


def _stage(route):
    return {"OverBus": "bus", "Observing": "shadow"}.get(type(route).__name__)


@pytest.fixture
def index(connected, tmp_path):
    """The index of what lies on the bus, brought up to date by calling it."""
    with contextlib.closing(TraceIndex(tmp_path / "traces.sqlite", source="test")) as made:
        made.refresh = lambda: connected.runtime.thread.run(
            made.update(connected.runtime.bus, connected.runtime.subjects), timeout=kit.SOON
        )
        yield made


def test_every_run_of_a_repeated_comparison_has_its_own_calls_below_it(desk, connected, work, index):
    """Noise, too: nothing that ran to be compared begins a tree of its own."""
    fetch = desk[2]
    move(connected, "shadow", fetch, repeat=2, noise=1.0)
    worker = work(fetch)
    kit.until(lambda: worker.ready)
    with correlate(run="run-r"):
        fetch("x")
    run = ended(index, "run-r", 8)

    (root,) = run.roots
    assert [child.call.path for child in root.children] == ["legacy", "shadow", "shadow", "noise"]
    assert [n.call.seam for each in root.children[1:] for n in each.children] == ["web.parse"] * 3
    assert len(run.twins()) == 2
    assert shape(run.served()) == [("web.fetch", 0), ("web.parse", 1)]


def test_a_task_that_runs_here_is_in_the_tree_under_its_handles_id(desk, connected, index):
    """Where its caller stands, with what it called below it."""
    _, _, fetch, _ = desk
    handles = []

    @tool("agent.planning", effects="none", stage="observe", timeout=5)
    def planning(q: str) -> str:
        handles.append(fetch.submit(q))
        return handles[0].result(5)

    kit.until(lambda: planning.__crossfade_seam__.route is not None)
    with correlate(run="run-t"):
        planning("x")
    run = ended(index, "run-t", 3)

    assert shape(run) == [("agent.planning", 0), ("web.fetch", 1), ("web.parse", 2)]
    assert next(node.call.id for node, _ in run.walk() if node.call.seam == "web.fetch") == handles[0].callid
    assert index.run(handles[0].callid) == run


def ended(index, run, calls):
    """The run, once ``calls`` calls of it are known to have ended."""

    def look():
        index.refresh()
        found = index.run(run)
        return found if found and sum(n.call.ended is not None for n, _ in found.walk()) == calls else None

    return kit.until(look, what=f"{run} has not {calls} calls")


def shape(run):
    return [(node.call.seam, depth) for node, depth in run.walk()]


def test_a_run_has_the_same_tree_on_either_path_and_its_times_lie_apart(desk, connected, work, index):
    """Legacy at observe, then all over the bus: aligned call by call, queue and handler told on the bus only."""
    research = desk[-1]
    with correlate(run="run-legacy"):
        research("x")
    legacy = ended(index, "run-legacy", 4)
    move(connected, "bus", *desk)
    work(*desk)
    with correlate(run="run-bus"):
        research("x")
    bus = ended(index, "run-bus", 4)

    assert shape(legacy) == shape(bus) == RESEARCH
    assert changes(align(legacy.roots, bus.roots)) == {"same": 4}
    assert {node.call.path for node, _ in legacy.walk()} == {"legacy"}
    for node, _ in bus.walk():
        assert (node.call.path, node.call.outcome) == ("bus", "value")
        assert 0 < node.call.handler <= node.call.seconds
        assert node.call.queue is not None
    parse = next(node for node, _ in bus.walk() if node.call.seam == "web.parse")
    assert parse.call.handler >= 0.02
    assert sum(piece.seconds for piece in critical_path(bus)) == pytest.approx(bus.seconds)
    assert [run.id for run in index.select(Selection(seam="web.fetch", path="bus"))] == ["run-bus"]
    assert [run.id for run in index.select(Selection(path="legacy"))] == ["run-legacy"]


def test_an_index_goes_on_where_it_was_and_can_be_made_anew(desk, connected, index, tmp_path):
    """What was read is not read again; a deleted index comes back the same."""
    with correlate(run="run-1"):
        desk[-1]("x")
    first = ended(index, "run-1", 4)

    assert index.refresh() == 0
    with contextlib.closing(TraceIndex(tmp_path / "again.sqlite", source="test")) as anew:
        connected.runtime.thread.run(anew.update(connected.runtime.bus, connected.runtime.subjects), timeout=kit.SOON)
        assert anew.run("run-1") == first


def test_what_ran_again_to_compare_is_beside_what_it_repeats(desk, connected, work, index):
    """A shadow's own calls hang below it, not below the legacy call."""
    fetch = desk[2]
    move(connected, "shadow", fetch)
    worker = work(fetch)
    kit.until(lambda: worker.ready)
    with correlate(run="run-s"):
        fetch("x")
    run = ended(index, "run-s", 4)

    ((first, twin),) = run.twins()
    assert (first.call.path, twin.call.path, twin.call.outcome) == ("legacy", "shadow", "match")
    assert [n.call.seam for n in first.children] == [n.call.seam for n in twin.children] == ["web.parse"]
    assert shape(run.served()) == [("web.fetch", 0), ("web.parse", 1)]
