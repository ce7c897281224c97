"""Evidence counts live traffic of one revision, once, adds up, and stays small."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.evidence import MINUTES, MOST_KEYS, Evidence
from crossfade.migrations.sketch import ACCURACY
from unit.migrations.seen import BEGAN, observed, result, stored, verdict


@pytest.fixture
def evidence():
    return Evidence(seam="web.search", revision=3, since=BEGAN)


def test_verdicts_are_counted_by_kind_and_reason(evidence):
    """Ignored is compared as well; what was skipped or inconclusive is not, and says why."""
    for event in (verdict("match"), verdict("ignored"), verdict("mismatch"), verdict("skipped", reason="stale")):
        assert evidence.add(event)
    assert evidence.compared == 3
    assert evidence.reasons == {"skipped:stale": 1}
    assert evidence.handlers == {"new:search"}
    assert evidence.paths["shadow"].calls == 4


@pytest.mark.parametrize(
    "event",
    [
        verdict("match", source="replay"),
        verdict("match", policyrev="2"),
        verdict("match", after=-1, policyrev=""),
        stored("tool.result", {"outcome": "value"}, path="legacy"),
    ],
    ids=["replay", "another revision", "before the move", "a legacy body under its claim, which is observed as well"],
)
def test_what_is_not_live_traffic_of_this_revision_is_left_out(evidence, event):
    """And said to be."""
    assert not evidence.add(event)
    assert evidence.to_json() == Evidence(seam="web.search", revision=3, since=BEGAN).to_json()


def test_failures_are_errors_and_server_errors(evidence):
    """A 503 is a failure and a 404 is an answer; unknown and not executed are failures, and counted apart as well."""
    for event in (observed(), observed(error=True), observed(status=503), observed(status=404)):
        evidence.add(event)
    for event in (result(), result("error"), result("unknown"), result("not-executed")):
        evidence.add(event)
    legacy, bus = evidence.paths["legacy"], evidence.paths["bus"]
    assert (legacy.calls, legacy.errors) == (4, 2)
    assert (bus.calls, bus.errors, bus.unknown, bus.not_executed) == (4, 3, 1, 1)
    assert bus.answered == 2
    assert bus.latency.count == 2
    assert bus.latency.quantile(1) == pytest.approx(0.003, rel=ACCURACY)  # the queue's time with the handler's


def test_recent_is_the_last_minutes_and_an_hour_is_kept(evidence):
    """A regression of now is not hidden by yesterday."""
    for minute in range(MINUTES + 30):
        evidence.add(result("error" if minute >= MINUTES + 28 else "value", after=60 * minute + 1))
    now = BEGAN + timedelta(minutes=MINUTES + 29, seconds=30)
    recent = evidence.recent("bus", now, within=timedelta(minutes=3))
    assert (recent.calls, recent.errors) == (4, 2)
    assert evidence.paths["bus"].calls == MINUTES + 30
    assert len(evidence.minutes) == MINUTES


def test_keys_are_users_and_hashes_of_them(evidence):
    """One noisy user is one key; beyond the bound there are at least as many."""
    for user in ("ann", "ann", "bob"):
        evidence.add(verdict("match", userid=user, correlationid="other"))
    assert len(evidence.keys) == 2
    for n in range(MOST_KEYS + 50):
        evidence.add(verdict("match", correlationid=str(n)))
    assert len(evidence.keys) == MOST_KEYS
    assert "ann" not in json.dumps(evidence.to_json())


def test_keys_are_of_calls_that_prove_something(evidence):
    """Whoever legacy answered, and whose call was not compared or not run, stands for nothing of the new side."""
    for event in (observed(userid="a"), verdict("skipped", userid="b"), result("not-executed", userid="c")):
        assert evidence.add(event)
    assert not evidence.keys
    for event in (verdict("ignored", userid="d"), result("error", userid="e"), result("unknown", userid="f")):
        evidence.add(event)
    assert len(evidence.keys) == 3


@pytest.mark.parametrize("error", ["asyncio.exceptions.CancelledError", "crossfade.shim.errors.CallCancelledError"])
def test_a_call_that_its_caller_gave_up_is_no_failure(evidence, error):
    """On neither path: legacy would look worse than it is, and the bus would be taken back for it."""
    for event in (observed(error=True), result("error")):
        payload = {**json.loads(event.event.data), "error": {"type": error, "message": ""}}
        evidence.add(replace(event, event=replace(event.event, data=json.dumps(payload).encode())))
    assert [(evidence.paths[path].calls, evidence.paths[path].errors) for path in ("legacy", "bus")] == [(1, 0), (1, 0)]


@pytest.mark.parametrize("reason", ["cancelled", "stale-policy"])
def test_a_call_that_nobody_wants_any_more_is_no_failure(evidence, reason):
    """A worker refuses it, because its caller gave it up or the seam has moved: the bus did nothing wrong."""
    evidence.add(stored("tool.result", {"outcome": "not-executed", "reason": reason}, path="bus"))
    evidence.add(stored("tool.result", {"outcome": "not-executed", "reason": "expired"}, path="bus"))
    assert (evidence.paths["bus"].calls, evidence.paths["bus"].errors) == (2, 1)


def test_what_callers_were_not_answered_is_a_failure_once(evidence):
    """Processes tell totals: what was told before, or before a checkpoint, is no news; who is gone takes none back."""
    assert evidence.miss({"unknown:deadline": 3, "not-executed:breaker-open": 1}, BEGAN)
    evidence = Evidence.from_json(json.loads(json.dumps(evidence.to_json())))
    assert not evidence.miss({"unknown:deadline": 2, "not-executed:breaker-open": 1}, BEGAN)
    assert evidence.miss({"unknown:deadline": 4}, BEGAN)
    bus = evidence.recent("bus", BEGAN, within=timedelta(minutes=5))
    assert (bus.calls, bus.errors, bus.unknown, bus.not_executed, bus.answered) == (5, 5, 4, 1, 0)


def test_a_new_build_of_the_handlers_begins_the_proof_anew(evidence):
    """What its predecessor proved is forgotten, and what that still answers is left out; legacy's calls stay."""
    for event in (verdict("match", build="1"), result(build="1", userid="a"), observed(), verdict("match", build="2")):
        evidence.add(event)
    assert (evidence.build, evidence.begun, evidence.compared) == ("2", BEGAN + timedelta(seconds=1), 1)
    assert (evidence.paths["bus"].calls, evidence.paths["legacy"].calls, evidence.keys) == (0, 1, set())
    assert evidence.recent("bus", BEGAN, within=timedelta(minutes=5)).calls == 0
    assert not evidence.add(verdict("mismatch", build="1", after=2))
    assert (evidence.compared, evidence.outdated, evidence.covered.compared) == (1, 1, 3)


def test_who_names_no_build_is_judged_as_one(evidence):
    """And the first that is named is another."""
    for event in (verdict("match"), verdict("match"), verdict("match", build="1")):
        evidence.add(event)
    assert (evidence.build, evidence.compared) == ("1", 1)


def test_a_build_that_was_taken_back_is_left_to_its_predecessor(evidence):
    """Not for a straggler in a rolling deploy, but when the earlier one answers alone for a quarter of an hour."""
    for minute in range(20):
        evidence.add(verdict("match", build="1", after=60 * minute))
        if minute in (2, 3):
            evidence.add(verdict("match", build="2", after=60 * minute))
    assert (evidence.build, evidence.begun, evidence.compared) == ("1", BEGAN + timedelta(minutes=19), 1)


def test_two_builds_that_stay_do_not_take_turns_for_ever(evidence):
    """Each with one call in twenty minutes, over two weeks: the waits double, and one of them gets its proof."""
    builds, begun = ("1", "2"), set()
    for at in range(2000):
        evidence.add(verdict("match", build=builds[at % 2], after=600 * at))
        begun.add(evidence.begun)
    assert len(begun) <= 4
    assert evidence.compared > 900


def test_builds_that_were_seen_are_bounded(evidence):
    """Whoever names a process where a build is meant fills no checkpoint."""
    for at in range(100):
        evidence.add(verdict("match", build=str(at), after=at))
    assert len(evidence.builds) == 20
    assert evidence.build == "99"


def test_failures_are_told_apart_by_tenant(evidence):
    """Of comparisons and calls over the bus; a new build begins anew with them, too."""
    for event in (verdict("match", tenantid="a"), verdict("mismatch", tenantid="b"), verdict("skipped", tenantid="b")):
        evidence.add(event)
    for event in (result("unknown", tenantid="b"), result(tenantid="a"), observed(tenantid="a", error=True), result()):
        evidence.add(event)
    assert evidence.tenants.to_json() == {"a": [2, 0], "b": [2, 2]}
    assert evidence.tenants.worst()[0] == "b"
    evidence.add(result(tenantid="a", build="2"))
    assert evidence.tenants.to_json() == {"a": [1, 0]}


def test_coverage_is_what_processes_tell_now(evidence):
    """Totals replace totals; what was compared is counted here."""
    evidence.add(verdict("match", call="a"))
    evidence.add(verdict("skipped", reason="stale", call="a"))
    evidence.cover([("a", 4, 3), ("b", 1, 0)])
    evidence.cover([("a", 3, 3), ("a", 5, 4), ("b", 2, 0)])
    covered = evidence.coverage["a"]
    assert (covered.eligible, covered.observed, covered.compared, covered.unjudged) == (8, 7, 1, 1)
    assert evidence.covered.eligible == 10


events = st.lists(
    st.one_of(
        st.builds(
            verdict,
            st.sampled_from(["match", "mismatch", "ignored", "skipped"]),
            after=st.floats(0, 5000),
            build=st.sampled_from(["", "1", "2"]),
        ),
        st.builds(observed, error=st.booleans(), after=st.floats(0, 5000), milliseconds=st.floats(0, 1e5)),
        st.builds(result, st.sampled_from(["value", "error", "unknown"]), after=st.floats(0, 5000)),
    ),
    max_size=30,
)


@given(events, events)
def test_a_checkpoint_goes_on_where_it_was(first, second):
    """Kept as JSON in between or not: the same evidence, the same digest."""
    whole, parts = (Evidence(seam="web.search", revision=3, since=BEGAN) for _ in range(2))
    for event in first + second:
        whole.add(event)
    for event in first:
        parts.add(event)
    parts = Evidence.from_json(json.loads(json.dumps(parts.to_json())))
    for event in second:
        parts.add(event)
    assert parts.to_json() == whole.to_json()
    assert parts.digest() == whole.digest()


def test_an_hour_of_every_latency_stays_below_a_message(evidence):
    """A checkpoint must fit in one message of the bus: 1 MiB."""
    for minute in range(MINUTES):
        for n in range(60):
            evidence.add(result(milliseconds=1.13**n, after=60 * minute + n / 60, userid=f"{minute}-{n}"))
    assert len(json.dumps(evidence.to_json())) < 300_000


def test_a_few_samples_of_each_mismatch_are_kept():
    """What differed, by kind, through a checkpoint; matches leave none."""
    found = Evidence(seam="web.search", revision=3, since=BEGAN)
    for number in range(5):
        found.add(verdict("mismatch", signature="s1", differences=[difference(number)] * 30, callid=f"c{number}"))
    found.add(verdict("match"))
    again = Evidence.from_json(json.loads(json.dumps(found.to_json())))
    kept = again.samples.newest("web.search", "s1")
    assert again.samples.counts("web.search") == {"s1": 5}
    assert [(sample["callid"], len(sample["differences"])) for sample in kept] == [("c2", 10), ("c3", 10), ("c4", 10)]


def difference(number):
    return {"path": "$.cents", "kind": "changed", "legacy": "1", "bus": str(number)}
