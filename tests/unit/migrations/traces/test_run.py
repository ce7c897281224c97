"""Calls become a tree, whatever is missing of them, and each says where its time went."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.traces.run import Call, Run, covered, facts
from crossfade.shim.events import derived_id
from unit.migrations import seen
from unit.migrations.traces.calls import call, run, shape


def test_callers_come_first_and_children_in_the_order_they_began():
    """Whatever order the log had them in."""
    found = run(call("b", parent="a", at=2), call("c", parent="b", at=2.5), call("a"), call("d", parent="a", at=1))
    assert shape(found) == [("a", 0), ("d", 1), ("b", 1), ("c", 2)]


def test_a_call_whose_cause_is_not_known_is_a_root():
    """Expired, or never recorded: it is shown, not dropped."""
    assert shape(run(call("a", parent="gone"), call("b", parent="a"))) == [("a", 0), ("b", 1)]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=7))
def test_every_call_is_in_the_tree_once_whatever_causes_are_told(parents):
    """Circles included, which only a hand-written cause can make."""
    calls = [call(str(at), parent=str(parent), at=at) for at, parent in enumerate(parents)]
    assert sorted(name for name, _ in shape(run(*calls))) == sorted(each.id for each in calls)


def test_a_chain_deeper_than_pythons_stack_is_a_tree():
    """Seams that submit one another may go on for long."""
    found = run(*(call(str(at), parent=str(at - 1)) for at in range(5000)))
    assert shape(found)[-1] == ("4999", 4999)
    assert len(shape(found.served())) == 5000


def test_time_is_told_apart():
    """Waiting, the handler without its own calls, and what came after; an exact handler wins over an estimated wait."""
    outer = call("a", path="bus", took=10, queue=2, handler=7)
    found = run(outer, call("b", parent="a", at=3, took=2), call("c", parent="a", at=4, took=3))
    assert (outer.handled, outer.transport) == ((2, 9), 1)
    assert found.roots[0].own == 3
    assert call("a", path="bus", took=10, queue=5, handler=8).handled == (2, 10)
    assert call("a", path="bus", took=10, queue=5, handler=80).handled == (0, 10)


def test_idle_is_when_nothing_recorded_is_under_way():
    """Between the roots of a run."""
    found = run(call("a", took=1), call("b", at=3, took=1))
    assert (found.seconds, found.idle) == (4, 2)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))))
def test_covered_counts_each_moment_once(spans):
    """As counting moments does."""
    moments = {at for low, high in spans for at in range(max(low, 5), min(high, 15))}
    assert covered(spans, 5, 15) == len(moments)


def test_a_body_under_a_claim_is_one_call_though_it_was_claimed_and_observed():
    """Its time is the observation's, its place the claim's."""
    claim = call("k", "pay", parent="a", took=9, by="legacy")
    observed = call("o", "pay", parent="k", took=3, handler=3)
    found = run(call("a"), claim, observed, call("x", parent="o"))
    assert shape(found) == [("a", 0), ("k", 1), ("x", 2)]
    assert next(n.call.handler for n, _ in found.walk() if n.call.id == "k") == 3


def test_what_was_run_again_is_no_part_of_what_was_served():
    """And is handed out beside what it repeats."""
    found = run(
        call("a"),
        call("b", parent="a"),
        call("s", "a", parent="a", path="shadow"),
        call("n", parent="s"),
        call("z", parent="a", path="noise"),
    )
    assert shape(found.served()) == [("a", 0), ("b", 1)]
    ((first, twin),) = found.twins()
    assert [node.call.id for node, _ in first.walk()] == ["a", "b"]
    assert [node.call.id for node, _ in twin.walk()] == ["s", "n"]


def test_what_a_result_says_is_read_and_a_workers_result_names_no_cause():
    """Its causationid is its own command."""
    (said,) = facts(seen.result(queue=1.5, milliseconds=2, callid="c", correlationid="r", causationid="c"))
    assert (said.id, said.run, said.parent, said.queue, said.handler) == ("c", "r", None, 0.0015, 0.002)


@pytest.mark.parametrize("payload", [[], 3, {"outcome": "value"}, {"started": "now", "duration_ms": "x", "outcome": 1}])
def test_an_unreadable_observation_is_refused(payload):
    """The index counts it."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        facts(seen.stored("tool.observed", payload))


def test_other_events_say_nothing_of_calls():
    """Facts, progress, workflows."""
    assert facts(seen.stored("email.received", {})) == []


@pytest.mark.parametrize(("ran", "spans"), [([500, 250], [(0.25, 0.75), (0.75, 1.0)]), ([], [(0.0, 1.0)])])
def test_each_run_of_a_repeated_comparison_is_a_call_of_its_own(ran, spans):
    """One after the other until the verdict was told; a worker of before tells of one only."""
    payload = {"verdict": "match", "source": "shadow", "bus_ms": 1000.0, "ran_ms": ran}
    said = facts(seen.stored("seam.compared", payload, after=1, callid="c", correlationid="r"))
    began = seen.BEGAN.timestamp()
    assert [(round(each.began - began, 3), round(each.ended - began, 3)) for each in said] == spans
    assert [each.id for each in said] == [derived_id("c", f"shadow{n}") for n in ("", "-1")][: len(spans)]
    assert {(each.parent, each.path) for each in said} == {("c", "shadow")}


def test_an_open_call_takes_no_time_yet():
    """Nobody has said how it ended."""
    assert Call(id="a", run="r", seam="a", path="bus", began=5.0).seconds == 0
    assert Run.of("r", []).roots == ()
