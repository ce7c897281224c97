"""Evidence is gathered once, whoever ends when."""

from __future__ import annotations

import pytest

from crossfade.adapters import memory
from crossfade.migrations.gathering import Gatherer, OutrunError
from crossfade.migrations.progress import Live
from crossfade.shim.claimcheck import format_dataref
from crossfade.shim.coverage import Coverages, Tally
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import Event
from crossfade.shim.ports import BusSettings
from crossfade.shim.stages import Stage
from unit.migrations.conftest import Traffic
from unit.migrations.seen import again, observed, result, verdict


@pytest.fixture
def gatherer(bus, traffic):
    return Gatherer(bus, traffic.subjects)


def live(revision):
    return Live(stage=Stage.SHADOW, percent=0, revision=revision)


async def gather(gatherer, revision=1):
    return (await gatherer.gather("web.search", "tool", live(revision))).evidence


async def test_all_that_calls_left_is_counted_once(gatherer, traffic):
    """Verdicts, observations and results; looking again adds nothing, news is added."""
    await traffic.tell(verdict("match"), observed(), result(), result("error"), revision=1)
    for _ in range(2):
        found = await gather(gatherer)
        assert (found.compared, found.paths["legacy"].calls, found.paths["bus"].calls) == (1, 1, 2)
    await traffic.tell(verdict("mismatch"), revision=1)
    assert (await gather(gatherer)).compared == 2


async def test_whoever_goes_on_from_a_checkpoint_counts_nothing_twice(bus, traffic):
    """Killed at any point: before the checkpoint it is counted again from the bus, after it not at all."""
    for kept in (0, 1, 2):
        await traffic.tell(verdict("match"), result(), revision=1)
        gatherer = Gatherer(bus, traffic.subjects)
        assert (await gather(gatherer)).compared == kept + 1
        if kept != 1:
            await gatherer.keep("web.search")
    found = await gather(Gatherer(bus, traffic.subjects))
    assert (found.compared, found.paths["bus"].calls) == (3, 3)


async def test_of_two_writers_one_is_told_that_it_was_outrun(bus, traffic):
    """And its next look begins at the other's checkpoint."""
    first, second = (Gatherer(bus, traffic.subjects) for _ in range(2))
    await gather(first)
    await gather(second)
    await traffic.tell(verdict("match"), revision=1)
    await gather(first)
    await first.keep("web.search")
    await gather(second)
    with pytest.raises(OutrunError):
        await second.keep("web.search")
    assert (await gather(second)).compared == 1
    await second.keep("web.search")


async def test_a_new_revision_begins_anew_and_remembers_legacy(gatherer, traffic):
    """What legacy showed last is the measure of a stage at which it has no traffic."""
    await traffic.tell(observed(), observed(error=True), verdict("match"), revision=1)
    await gather(gatherer)
    await traffic.tell(result(), revision=2)
    kept = await gatherer.gather("web.search", "tool", live(2))
    assert (kept.evidence.compared, kept.evidence.paths["bus"].calls) == (0, 1)
    assert (kept.baseline.calls, kept.baseline.errors) == (2, 1)
    assert (await gatherer.gather("web.search", "tool", live(3))).baseline.calls == 2


async def test_what_callers_were_not_answered_is_counted_once(bus, traffic):
    """Over a checkpoint and a move: totals of a revision are no news when they are read again."""
    tally, coverages = Tally(), Coverages(bus)
    tally.begin("web.search", 1)
    for n in (1, 2, 3):
        tally.miss("web.search", "unknown:deadline", revision=1)
        await coverages.report("one", tally)
        gatherer = Gatherer(bus, traffic.subjects)
        found = await gather(gatherer)
        assert (found.paths["bus"].calls, found.paths["bus"].errors) == (n, n)
        await gatherer.keep("web.search")
    assert (await gather(gatherer, 2)).paths["bus"].calls == 0


async def test_a_straggler_after_a_move_is_no_new_build(gatherer, traffic):
    """Which builds were seen is remembered: an earlier one that answers first would be taken for the newest."""
    await traffic.tell(verdict("match", build="1"), verdict("match", build="2"), revision=1)
    await gather(gatherer)
    await traffic.tell(result(build="1"), *[result(build="2")] * 2, revision=2)
    found = await gather(gatherer, 2)
    assert (found.build, found.paths["bus"].calls, found.outdated) == ("2", 2, 1)


async def test_an_event_of_a_revision_nobody_knows_yet_waits_for_it(gatherer, traffic):
    """The policy was read a moment before it changed: nothing of the new revision is lost."""
    await traffic.tell(result(), revision=1)
    await traffic.tell(result(), result("error"), revision=2)
    assert (await gather(gatherer)).paths["bus"].calls == 1
    assert (await gather(gatherer, 2)).paths["bus"].calls == 2


async def test_what_cannot_be_read_is_counted_and_passed_over(gatherer, traffic, counts):
    """One broken event does not end the evidence."""
    broken = again(verdict("match").event, policyrev="1")
    broken = Event(type=broken.type, source=broken.source, extensions=broken.extensions, data=b'{"source": "shadow"}')
    await traffic.bus.publish(traffic.subjects.verdict("web.search"), broken)
    await traffic.tell(verdict("match"), revision=1)
    assert (await gather(gatherer)).compared == 1
    assert counts.get("skipped", seam="web.search", reason="evidence-KeyError") == 1


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(bus, traffic, counts):
    """Its positions begin again: what comes by them was never counted, a regression among it."""
    first = Gatherer(bus, traffic.subjects)
    await traffic.tell(*[verdict("match")] * 5, revision=1)
    assert (await gather(first)).compared == 5
    await first.keep("web.search")
    other = memory.MemoryBus(BusSettings(), counts, broker=memory.MemoryBroker())
    await other.open()
    await other.state("evidence").create("web.search", (await bus.state("evidence").get("web.search")).value)
    again = Traffic(other)
    await again.tell(*[verdict("mismatch")] * 2, revision=1)
    found = await gather(Gatherer(other, again.subjects))
    assert (found.compared, found.verdicts["mismatch"]) == (7, 2)
    assert counts.get("skipped", seam="web.search", reason="evidence-stream-anew") == 1
    await other.close()


async def test_a_stream_that_lost_its_end_is_followed_again(gatherer, traffic, counts):
    """A broker that lost power came back with less: no position of before may keep what comes now from counting."""
    await traffic.tell(verdict("match"), revision=1)
    await gather(gatherer)
    kept = gatherer._kept["web.search"]
    kept.positions[traffic.subjects.verdicts("web.search")] = "cfv:1000"
    await traffic.tell(verdict("match"), revision=1)
    await gather(gatherer)
    await traffic.tell(verdict("mismatch"), revision=1)
    assert (await gather(gatherer)).verdicts["mismatch"] == 1
    assert counts.get("skipped", seam="web.search", reason="evidence-stream-lost") == 1


async def test_a_newest_event_that_is_no_event_hides_none_before_it(gatherer, traffic, monkeypatch):
    """Somebody's garbage in the stream does not keep a seam from being judged."""
    await traffic.tell(verdict("mismatch"), revision=1)

    async def last(_pattern):
        raise MalformedEventError("no event", reason="headers")

    monkeypatch.setattr(traffic.bus, "last", last)
    assert (await gather(gatherer)).compared == 1


async def test_a_result_that_lies_in_the_object_store_counts_as_what_it_is(gatherer, traffic):
    """A large answer is an answer, and a large error an error."""
    large = result("error")
    ref = await traffic.bus.put_object(large.event.data)
    event = again(large.event, policyrev="1", dataref=format_dataref(ref))
    event = Event(type=event.type, source=event.source, extensions=event.extensions, data=None)
    await traffic.bus.publish(
        traffic.subjects.call("result", domain="tool", seam="web.search", run="r", callid="c"), event
    )
    assert (await gather(gatherer)).paths["bus"].errors == 1
