"""A gate opens on proof, holds on missing data, and an abort rule takes back sooner than a gate promotes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from crossfade.migrations.evidence import Evidence
from crossfade.migrations.gates import Abort, Facts, Gate, ReplayPassed, ReplayWanted, judge
from crossfade.migrations.limits import parse_limit
from unit.migrations.seen import BEGAN, observed, result, verdict


def limit(text):
    kind = "time" if text.endswith("s") else "share"
    return parse_limit(text, signs=(">=", ">", "<=", "<"), kind=kind, where="test")


def facts(*events, path="shadow", minutes=10.0, **more):
    evidence = Evidence(seam="web.search", revision=3, since=BEGAN)
    for event in events:
        evidence.add(event)
    evidence.cover(more.pop("covered", []))
    return Facts(evidence=evidence, path=path, now=BEGAN + timedelta(minutes=minutes), **more)


def bus(n, **options):
    return [result(after=i / 100, **options) for i in range(n)]


def legacy(n, **options):
    return [observed(after=i / 100, **options) for i in range(n)]


def states(ruling):
    return {finding.metric: finding.state for finding in ruling.findings}


MATCH = Gate(match=limit(">= 0.99"))


def test_nothing_is_no_proof():
    """Missing data holds whatever is asked for, and each finding says what is missing."""
    gate = Gate(
        match=limit(">= 0.9"), coverage=limit(">= 0.9"), calls=1, keys=1, hold=3600, replay=60,
        errors=limit("<= legacy + 1%"), p99=limit("<= legacy * 2"), unknown=limit("<= 1%"),
    )  # fmt: skip
    ruling = judge(gate, Abort(errors=limit("> 1%"), match=limit("< 0.9")), facts())
    assert ruling.kind == "hold"
    assert set(states(ruling).values()) == {"missing"}
    assert len(ruling.findings) == 9


@pytest.mark.parametrize(("matches", "kind"), [(300, "hold"), (449, "allow")])
def test_a_match_rate_is_judged_by_what_is_proven(matches, kind):
    """A hundred percent of 300 is not yet 99 % at 95 %, when one may look at any time."""
    assert judge(MATCH, Abort(), facts(*[verdict("match")] * matches)).kind == kind


def after(minutes, *, good=100_000, bad=200):
    """Verdicts of long ago, and since a handler was deployed that is always wrong."""
    found = facts(minutes=minutes)
    for count, kind, at in ((good, "match", 1.0), (bad, "mismatch", 60 * (minutes - 1))):
        one = facts(verdict(kind, after=at)).evidence
        found.evidence.verdicts[kind] += count
        for minute, paths in one.minutes.items():
            for path, traffic in paths.items():
                traffic.compared, traffic.mismatches = count, count if kind == "mismatch" else 0
                found.evidence.minutes.setdefault(minute, {})[path] = traffic
    return found


def test_a_late_mismatch_is_not_outvoted_by_a_good_past():
    """A handler that was replaced by a wrong one promotes nothing on what the old one proved, and is taken back."""
    found = after(30)
    ruling = judge(MATCH, Abort(), found)
    assert (ruling.kind, "in the last 5m" in ruling.findings[-1].text) == ("hold", True)
    assert judge(MATCH, Abort(match=limit("< 0.9")), found).kind == "rollback"
    assert judge(MATCH, Abort(match=limit("< 0.9")), after(30, bad=1)).kind == "allow"


def test_mismatches_are_counted_by_the_minute():
    """Those that a comparison found, as it found them, through a checkpoint."""
    found = facts(verdict("match"), verdict("mismatch"), verdict("skipped"), verdict("mismatch", milliseconds=None))
    again = Evidence.from_json(json.loads(json.dumps(found.evidence.to_json())))
    recent = again.recent("shadow", found.now, within=timedelta(minutes=30))
    assert (recent.compared, recent.mismatches) == (3, 2)


def test_a_time_that_holds_its_taker_s_is_said_to():
    """A stream lasts as long as whoever takes it; no other number is affected."""
    found = observed(milliseconds=50.0)
    payload = {**json.loads(found.event.data), "stream": {"count": 2, "end": "finished"}}
    streamed = replace(found, event=replace(found.event, data=json.dumps(payload).encode()))
    gate = Gate(p99=limit("<= legacy * 1.5"), errors=limit("<= legacy + 50%"))
    for one, said in ((streamed, True), (found, False)):
        p99, errors = sorted(judge(gate, Abort(), facts(*[one] * 30, *bus(30), path="bus")).findings, key=by_metric)
        assert ("what takers of its streams did" in p99.text, "takers" in errors.text) == (said, False)


def by_metric(finding):
    return finding.metric != "p99"


def judged(n, paths, **more):
    found = verdict("match", **more)
    payload = {**json.loads(found.event.data), "judged": paths}
    return [replace(found, event=replace(found.event, data=json.dumps(payload).encode()))] * n


def test_how_many_matches_rest_on_a_comparator_is_said():
    """Beside exact structure it may have its part."""
    [finding] = judge(MATCH, Abort(), facts(*[verdict("match")] * 400, *judged(100, "$.text"))).findings
    assert (finding.state, "of 500 compared, 100 matches by a comparator of texts" in finding.text) == ("met", True)
    assert judge(MATCH, Abort(), facts(*judged(500, "$.text"))).kind == "allow"


def test_a_comparator_is_never_all_that_a_gate_rests_on():
    """Where every match is its word on the whole answer, a person decides; one match that is not does."""
    ruling = judge(MATCH, Abort(), facts(*judged(500, "$")))
    assert (ruling.kind, "a person decides" in ruling.findings[0].text) == ("hold", True)
    assert judge(MATCH, Abort(), facts(*judged(500, "$"), verdict("match"))).kind == "allow"


def test_a_mismatch_costs_more_calls_and_many_are_proof_of_the_opposite():
    """Unmet while it may still be true, violated when it is not; neither rolls back without an abort rule."""
    some = facts(*[verdict("match")] * 449, verdict("mismatch"))
    many = facts(*[verdict("match")] * 50, *[verdict("mismatch")] * 50)
    assert states(judge(MATCH, Abort(), some)) == {"match": "unmet"}
    assert states(judge(MATCH, Abort(), many)) == {"match": "violated"}
    assert judge(MATCH, Abort(), many).kind == "hold"
    assert judge(MATCH, Abort(match=limit("< 0.9")), many).kind == "rollback"


def test_one_users_calls_are_one_key():
    """However many."""
    gate = Gate(keys=2)
    assert judge(gate, Abort(), facts(*[verdict("match", userid="ann")] * 9)).kind == "hold"
    assert judge(gate, Abort(), facts(verdict("match", userid="ann"), verdict("match", userid="bob"))).kind == "allow"


def test_at_observe_the_keys_are_those_that_were_seen():
    """Nothing is compared there yet; from shadow on callers whom legacy answered prove nothing."""
    seen = [observed(userid="ann"), observed(userid="bob")]
    assert judge(Gate(keys=2), Abort(), facts(*seen, observing=True)).kind == "allow"
    assert judge(Gate(keys=3), Abort(), facts(*seen, observing=True)).kind == "hold"
    assert judge(Gate(keys=2), Abort(), facts(*seen)).kind == "hold"


def test_coverage_asks_for_every_kind_of_call_that_matters():
    """All the fast calls compared and none of the slow ones is no coverage, though the whole looks well."""
    fast = [verdict("match", call="fast")] * 90
    gate = Gate(coverage=limit(">= 0.9"))
    assert judge(gate, Abort(), facts(*fast, covered=[("fast", 90, 90), ("rare", 4, 0)])).kind == "allow"
    ruling = judge(gate, Abort(), facts(*fast, covered=[("fast", 90, 90), ("slow", 10, 10)]))
    assert ruling.kind == "hold"
    assert "of calls slow" in ruling.findings[0].text


def test_time_must_pass():
    """Since the last move."""
    gate = Gate(hold=3600)
    assert judge(gate, Abort(), facts(minutes=59)).kind == "hold"
    assert judge(gate, Abort(), facts(minutes=60)).kind == "allow"


def test_errors_are_measured_by_legacys():
    """One percent more than legacy's own."""
    gate = Gate(errors=limit("<= legacy + 1%"))
    clean = facts(*legacy(2000), *bus(2000), path="bus")
    failing = facts(*legacy(2000), *bus(1900), *bus(100, outcome="error"), path="bus")
    both = facts(*legacy(1900), *legacy(100, error=True), *bus(1900), *bus(100, outcome="error"), path="bus")
    assert judge(gate, Abort(), clean).kind == "allow"
    assert states(judge(gate, Abort(), failing)) == {"errors": "violated"}
    assert states(judge(gate, Abort(), both)) == {"errors": "unmet"}
    assert judge(gate, Abort(errors=limit("> legacy + 1%")), failing).kind == "rollback"
    assert judge(gate, Abort(errors=limit("> legacy + 1%")), both).kind == "hold"


def test_a_handful_of_errors_is_no_regression_yet_and_thirty_are():
    """Rolling back on one error of three would make every canary impossible; it does not take hundreds either."""
    rule = Abort(errors=limit("> legacy + 1%"))
    few = facts(*legacy(1000), *bus(50), *bus(1, outcome="error"), path="bus")
    enough = facts(*legacy(1000), *bus(70), *bus(10, outcome="error"), path="bus")
    assert judge(Gate(), rule, few).kind == "allow"
    assert judge(Gate(), rule, enough).kind == "rollback"


def test_latency_is_compared_by_bounds_of_the_quantile():
    """Twice as slow at the 99th percentile is found, as slow is not."""
    rule = Abort(p99=limit("> legacy * 1.5"))
    same = facts(*legacy(3000, milliseconds=10), *bus(3000, milliseconds=9), path="bus")
    slow = facts(*legacy(3000, milliseconds=10), *bus(3000, milliseconds=19), path="bus")
    assert judge(Gate(p99=limit("<= legacy * 1.5")), rule, same).kind == "allow"
    assert judge(Gate(), rule, slow).kind == "rollback"


def test_a_late_regression_is_not_outvoted_by_a_good_past():
    """A day of good calls, then two minutes of errors."""
    past = [result(after=i / 3) for i in range(6000)]
    now = [result("error", after=2400 + i) for i in range(60)]
    known = facts(*legacy(1000)).evidence.paths["legacy"]
    late = facts(*past, *now, path="bus", minutes=41.5, baseline=known)
    assert judge(Gate(), Abort(errors=limit("> legacy + 1%")), late).kind == "rollback"


def test_where_legacy_has_no_traffic_any_more_its_last_counts():
    """At bus everything goes over the bus; without a baseline nothing can be said."""
    rule = Abort(errors=limit("> legacy + 1%"))
    failing = [*bus(500), *bus(500, outcome="error")]
    known = facts(*legacy(1000)).evidence.paths["legacy"]
    assert judge(Gate(), rule, facts(*failing, path="bus")).kind == "allow"
    assert judge(Gate(), rule, facts(*failing, path="bus", baseline=known)).kind == "rollback"


def test_a_replay_must_have_passed_lately():
    """It is a precondition, and no live evidence."""
    gate = Gate(replay=ReplayWanted(within=3600))
    recent = ReplayPassed(at=BEGAN - timedelta(minutes=30), build="1.4")
    assert judge(gate, Abort(), facts(replayed=recent)).kind == "allow"
    assert judge(gate, Abort(), facts(replayed=recent, minutes=40)).kind == "hold"


def test_a_replay_of_another_build_proves_nothing():
    """However late it passed; the finding names both."""
    gate = Gate(replay=ReplayWanted(within=3600, build="1.5"))
    [found] = judge(gate, Abort(), facts(replayed=ReplayPassed(at=BEGAN, build="1.4"))).findings
    assert found.state == "missing"
    assert "of build 1.4 passed" in found.text
    assert "nothing of build 1.5: replay that with --publish" in found.text
    assert judge(gate, Abort(), facts(replayed=ReplayPassed(at=BEGAN, build="1.5"))).kind == "allow"


def test_findings_are_lines_for_people():
    """What was seen, between which bounds, and the limit."""
    ruling = judge(MATCH, Abort(), facts(*[verdict("match")] * 100))
    assert ruling.findings[0].text == "match 100 % of 100 compared, 95.6 % to 100 %; limit >= 99 %"


def test_a_bus_that_answers_nobody_proves_nothing():
    """A gate that asks for time alone must not promote a canary whose every call fell back to legacy."""
    found = facts(path="bus", minutes=60)
    found.evidence.miss({"unknown:deadline": 20}, BEGAN)
    assert judge(Gate(hold=60), Abort(), found).kind == "hold"
    assert judge(Gate(hold=60), Abort(errors=limit("> 5%")), found).kind == "rollback"
    assert states(judge(Gate(calls=5), Abort(), found))["calls"] == "missing"
    found.evidence.add(result(after=60))
    assert judge(Gate(hold=60), Abort(), found).kind == "allow"


def test_a_hold_begins_anew_with_a_build():
    """An hour of its predecessor is no hour of the handler that was deployed a minute ago."""
    events = [verdict("match", build="1"), verdict("match", build="2", after=3000)]
    assert judge(Gate(hold=3600), Abort(), facts(*events, minutes=61)).kind == "hold"
    assert judge(Gate(hold=3600), Abort(), facts(*events, minutes=111)).kind == "allow"


def test_what_a_build_proved_that_is_silent_promotes_nobody():
    """Another answers now: it may have been taken back. In a rolling deploy both do, and that is no reason to wait."""
    rolling = [
        verdict("match", build=build, after=after) for build, after in [("1", 0), ("2", 1), ("1", 60), ("2", 61)]
    ]
    assert judge(Gate(), Abort(), facts(*rolling)).kind == "allow"
    ruling = judge(Gate(), Abort(), facts(*rolling, verdict("match", build="1", after=240)))
    assert (ruling.kind, states(ruling)) == ("hold", {"build": "unmet"})
    assert "build 2 was last seen 09:01, and build 1 answers" in ruling.findings[0].text


@pytest.mark.parametrize("asked", [{"match": limit(">= 0.9")}, {"calls": 10}, {"keys": 3}, {"p99": limit("<= 1s")}])
def test_what_an_unsafe_seam_never_has_at_shadow_is_said_to_be_missing_for_ever(asked):
    """No shadow runs it: waiting does not help, and a gate that asks for nothing of it is fine."""
    ruling = judge(Gate(**asked), Abort(), facts(unsafe=True))
    assert ruling.kind == "hold"
    assert "an unsafe seam is never run for comparison" in ruling.findings[0].text
    assert "effects" not in states(judge(Gate(**asked), Abort(), facts()))
    assert "effects" not in states(judge(Gate(**asked), Abort(), facts(unsafe=True, path="bus")))
    assert judge(Gate(hold=60), Abort(), facts(unsafe=True)).kind == "allow"


def test_answers_that_are_ignored_as_a_whole_prove_nothing():
    """``{"$": "ignore"}`` makes every difference none: a person decides, unless some answers are the same."""
    masked = [verdict("ignored", rule="$")] * 500
    ruling = judge(MATCH, Abort(), facts(*masked))
    assert (ruling.kind, states(ruling)) == ("hold", {"match": "unmet"})
    assert "an answer that a rule ignores as a whole, so a person decides" in ruling.findings[0].text
    assert judge(MATCH, Abort(), facts(*masked, verdict("match"))).kind == "allow"
    assert judge(MATCH, Abort(), facts(*[verdict("ignored", rule="$.time")] * 500)).kind == "allow"
