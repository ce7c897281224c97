"""Coverage is compared / eligible by kind of call: what was lost lowers it, and missing data is no coverage."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.memory import MemoryBus
from crossfade.migrations.coverage import fold
from crossfade.shim import coverage
from crossfade.shim.coverage import ENDED, Counted, Coverages, Tally, kind_of_call
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings


@pytest.fixture
async def bus():
    bus = MemoryBus(BusSettings(prefix="cf"), Counters())
    await bus.open()
    yield bus
    await bus.close()


def compared(verdict, kind="<1K <10ms value", *, revision=3, source="shadow"):
    payload = {"seam": "web.search", "callid": "c", "verdict": verdict, "kind": kind, "source": source}
    return Event(
        type="seam.compared", source="urn:x", extensions={"policyrev": str(revision)}, data=json.dumps(payload).encode()
    )


def counted(instance="one", revision=3, **calls):
    return Counted(instance=instance, seam="web.search", revision=revision, calls=calls)


@pytest.mark.parametrize(
    ("size", "seconds", "error", "kind"),
    [
        (0, 0.0, False, "<1K <10ms value"),
        (1023, 0.0099, False, "<1K <10ms value"),
        (1024, 0.01, True, "<16K <100ms error"),
        (262_144, 10.0, False, "more more value"),
        (None, 1.0, False, "unknown <10s value"),
    ],
)
def test_kinds_have_their_borders(size, seconds, error, kind):
    """A border belongs to the larger side; a size that nobody knows is a kind of its own."""
    assert kind_of_call(size, seconds, error=error) == kind


@given(st.lists(st.tuples(st.none() | st.integers(0, 10**9), st.floats(0, 1e6), st.booleans(), st.booleans())))
def test_every_call_is_counted_once_in_few_kinds(calls):
    """No call is lost or counted twice, and hostile calls cannot grow the tally."""
    tally = Tally()
    for size, seconds, error, observed in calls:
        tally.add("web.search", kind_of_call(size, seconds, error=error), observed=observed)
    found = tally.to_json().get("web.search", {"calls": {}})["calls"].values()
    assert sum(eligible for eligible, _ in found) == len(calls)
    assert sum(observed for _, observed in found) == sum(observed for *_, observed in calls)
    assert len(found) <= 50


def test_a_new_revision_counts_anew():
    """Evidence under other settings is none for these; the same revision again changes nothing."""
    tally = Tally()
    tally.add("web.search", "a", observed=True)
    tally.begin("web.search", 0)
    assert tally.to_json() == {"web.search": {"revision": 0, "calls": {"a": [1, 1]}, "unanswered": {}}}
    tally.begin("web.search", 1)
    assert tally.to_json() == {}
    tally.add("web.search", "b", observed=False)
    assert tally.to_json() == {"web.search": {"revision": 1, "calls": {"b": [1, 0]}, "unanswered": {}}}


async def test_calls_without_an_answer_are_told_with_the_others(bus):
    """Of the revision in force only, and kept when their process has ended long ago."""
    tally, coverages = Tally(), Coverages(bus)
    tally.begin("web.search", 3)
    for revision in (2, 3, 3):
        tally.miss("web.search", "unknown:deadline", revision=revision)
    old = {"seen": (bus.now() - timedelta(days=2)).isoformat(), "seams": tally.to_json()}
    for name in ("one", "two"):
        await bus.state("coverage").put(name, json.dumps(old).encode())
    for _ in range(2):
        assert [each.unanswered for each in await coverages.counted("web.search")] == [{"unknown:deadline": 4}]
    await coverages.report("three", tally)
    assert {each.instance: each.unanswered for each in await coverages.counted("web.search")} == {
        ENDED: {"unknown:deadline": 4},
        "three": {"unknown:deadline": 2},
    }


async def test_counts_outlive_their_process_for_a_day(bus):
    """A process that ended this morning was traffic, too; of last week's there is a sum."""
    tally, coverages = Tally(), Coverages(bus)
    tally.add("web.search", "a", observed=True)
    await coverages.report("one", tally)
    old = {"seen": (bus.now() - timedelta(days=2)).isoformat(), "seams": tally.to_json()}
    await bus.state("coverage").put("old", json.dumps(old).encode())
    assert sorted(await coverages.counted("web.search"), key=lambda found: found.instance) == [
        Counted(instance=name, seam="web.search", revision=0, calls={"a": (1, 1)}) for name in sorted((ENDED, "one"))
    ]
    assert await bus.state("coverage").get("old") is None
    assert await coverages.counted("web.other") == []


async def test_counts_of_who_ended_long_ago_are_kept_together(bus):
    """Their comparisons still count, and so must the calls that were not compared: a gate may wait for a week."""
    tally, coverages = Tally(), Coverages(bus)
    tally.begin("web.search", 3)
    tally.add("web.search", "a", observed=True, n=3)
    tally.add("web.search", "b", observed=False)
    old = {"seen": (bus.now() - timedelta(days=2)).isoformat(), "seams": tally.to_json()}
    for name in ("one", "two"):
        await bus.state("coverage").put(name, json.dumps(old).encode())
    for _ in range(2):
        found = await coverages.counted("web.search")
        assert [each.calls for each in found] == [{"a": (6, 6), "b": (2, 0)}]
    assert [entry.key for entry in await bus.state("coverage").entries()] == [ENDED]
    newer = {"revision": 4, "calls": {"a": [1, 1]}}
    await bus.state("coverage").put("late", json.dumps({**old, "seams": {"web.search": newer}}).encode())
    assert [(each.revision, each.calls) for each in await coverages.counted("web.search")] == [(4, {"a": (1, 1)})]
    await bus.state("coverage").put("one", json.dumps(old).encode())
    assert [each.revision for each in await coverages.counted("web.search")] == [4]


async def test_of_two_who_clear_away_one_counts(bus):
    """Both saw the same entry: nothing is counted twice, nor lost where the one that counted died after that."""
    tally = Tally()
    tally.add("web.search", "a", observed=True)
    old = {"seen": (bus.now() - timedelta(days=2)).isoformat(), "seams": tally.to_json()}
    await bus.state("coverage").put("one", json.dumps(old).encode())
    await Coverages(bus).counted("web.search")
    await bus.state("coverage").put("one", json.dumps(old).encode())  # it died before it had deleted that
    found = await Coverages(bus).counted("web.search")
    assert [each.calls for each in found] == [{"a": (1, 1)}]
    assert await bus.state("coverage").get("one") is None


async def test_what_did_not_change_is_not_told_again(bus):
    """A quiet process writes nothing; one that never saw a call never wrote at all."""
    tally, coverages = Tally(), Coverages(bus)
    await coverages.report("one", tally)
    assert await bus.state("coverage").get("one") is None
    tally.add("web.search", "a", observed=True)
    await coverages.report("one", tally)
    before = await bus.state("coverage").get("one")
    await coverages.report("one", tally)
    assert (await bus.state("coverage").get("one")).revision == before.revision


async def test_a_process_without_news_is_not_taken_for_one_that_ended(bus, monkeypatch):
    """It says the same again, now and then, and keeps its own entry."""
    tally, coverages = Tally(), Coverages(bus)
    tally.add("web.search", "a", observed=True)
    await coverages.report("one", tally)
    before = await bus.state("coverage").get("one")
    monkeypatch.setattr(coverage, "_AGAIN", timedelta(0))
    await coverages.report("one", tally)
    assert (await bus.state("coverage").get("one")).revision > before.revision


def test_coverage_adds_up_over_processes_and_verdicts():
    """Three verdicts are a comparison; skipped and inconclusive ones are told apart from what never arrived."""
    quick, slow = "<1K <10ms value", "unknown <1s error"
    verdicts = ["match", "mismatch", "ignored", "skipped", "inconclusive"]
    found = fold(
        "web.search",
        3,
        [
            counted(**{quick: (6, 5)}),
            counted("two", **{quick: (4, 4), slow: (10, 0)}),
            counted("late", 2, **{slow: (9, 9)}),
        ],
        [*map(compared, verdicts), compared("match", revision=2), compared("match", source="replay")],
    )
    assert (found.kinds[quick].eligible, found.kinds[quick].observed) == (10, 9)
    assert (found.kinds[quick].compared, found.kinds[quick].unjudged, found.kinds[quick].share) == (3, 2, 0.3)
    assert found.kinds[slow].share == 0.0
    assert (found.total.eligible, found.total.compared, found.total.share) == (20, 3, 0.15)


def test_nothing_eligible_is_no_coverage():
    """Neither 0 nor 1: a gate must hold."""
    assert fold("web.search", 3, [], []).total.share is None
    assert fold("web.search", 3, [], [compared("match")]).total.share is None
