"""The index is the log's shadow: brought up to date by position, made anew at will, linear in events."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from datetime import timedelta

import pytest

from crossfade.migrations.traces import otlp
from crossfade.migrations.traces.index import Selection, TraceIndex
from crossfade.migrations.traces.run import Fact
from crossfade.migrations.traces.waterfall import run_section
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.subjects import Subjects
from unit.migrations import seen


@pytest.fixture
def index(tmp_path):
    with contextlib.closing(TraceIndex(tmp_path / "i.sqlite", source="here")) as made:
        yield made


def observation(at, **attributes):
    payload = {"started": "2026-03-02T09:00:00+00:00", "duration_ms": 2.0, "outcome": "value", "value": 1}
    return seen.again(
        seen.stored("tool.observed", payload).event, callid=f"c{at}", correlationid=f"r{at}", **attributes
    )


async def publish(bus, *events):
    for event in events:
        await bus.publish(Subjects().observation("web.search"), event)


async def test_only_what_is_new_is_read(bus, index):
    """And what was read before stays."""
    await publish(bus, observation(1))
    assert await index.update(bus, Subjects()) == 1
    await publish(bus, observation(2))
    assert await index.update(bus, Subjects()) == 1
    assert await index.update(bus, Subjects()) == 0
    assert [index.run(f"r{at}").roots[0].call.id for at in (1, 2)] == ["c1", "c2"]


async def test_what_cannot_be_read_is_counted_and_the_rest_is_there(bus, index, counts):
    """One bad observation hides no other."""
    bad = seen.again(seen.stored("tool.observed", {"started": 3}).event, callid="bad")
    await publish(bus, bad, observation(1))
    await index.update(bus, Subjects())
    assert counts.get("skipped", reason="trace-TypeError") == 1
    assert index.run("r1") is not None


def test_an_index_of_another_bus_is_refused_and_so_is_what_is_none(tmp_path, index):
    """Runs of two buses must not mix."""
    with pytest.raises(ConfigurationError, match="index of here"):
        TraceIndex(tmp_path / "i.sqlite", source="there")
    (tmp_path / "no.sqlite").write_text("something else, and long enough to be taken for a header of a database")
    with pytest.raises(ConfigurationError, match="name another"):
        TraceIndex(tmp_path / "no.sqlite", source="here")


def test_a_later_result_wins_and_a_claim_moves_no_beginning(index):
    """Unknown, then the owner's word; the claim came after the command."""
    index.add([Fact(id="c", run="r", seam="s", path="bus", began=1.0, parent="p")])
    index.add([Fact(id="c", seam="s", began=2.0)])
    index.add([Fact(id="c", run="r", outcome="unknown", ended=9.0), Fact(id="c", outcome="value", ended=10.0)])
    call = index.run("r").roots[0].call
    assert (call.began, call.outcome, call.seconds, call.parent) == (1.0, "value", 9.0, "p")


def test_a_run_is_found_by_its_id_a_part_of_it_or_a_call(index):
    """And a wildcard is no wildcard."""
    index.add(
        [Fact(id="call-1", run="run-abc", seam="s", began=1.0), Fact(id="call-2", run="run%abd", seam="s", began=1.0)]
    )
    assert index.run("call-1").id == index.run("run-abc").id == "run-abc"
    assert index.matching("run%") == ["run%abd"]
    assert index.matching("abc") == ["run-abc"]


def test_runs_are_selected_by_seam_path_and_time(index):
    """Newest first; the path alone is that of what began the run."""
    index.add(
        [
            Fact(id="1", run="old", seam="agent", path="legacy", began=1.0),
            Fact(id="2", run="old", seam="tool", path="bus", began=1.0, parent="1"),
            Fact(id="3", run="new", seam="agent", path="bus", began=5.0),
        ]
    )

    def found(**wanted):
        return [run.id for run in index.select(Selection(**wanted))]

    assert found() == ["new", "old"]
    assert found(path="bus") == ["new"]
    assert found(seam="tool", path="bus") == ["old"]
    assert found(since=2.0) == ["new"]
    assert found(until=2.0) == ["old"]
    assert [run.id for run in index.select(Selection(), limit=1)] == ["new"]


@pytest.mark.slow
def test_a_run_among_fifty_thousand_calls_is_shown_within_100_ms(index):
    """By index, whatever else there is; CPU time, since machines are busy."""
    index.add(
        Fact(
            id=f"{at}",
            run=f"r{at // 10}",
            seam="s",
            path="bus",
            began=float(at),
            parent=f"{at - 1}" if at % 10 else None,
        )
        for at in range(50_000)
    )
    began = time.process_time()
    found = index.run("r2500")
    assert time.process_time() - began < 0.1
    assert len(list(found.walk())) == 10


def test_the_long_log_fills_in_what_is_lacking_and_changes_nothing(index):
    """Its times are those of copying."""
    index.add([Fact(id="c", run="r", seam="s", path="bus", began=1.0)])
    index.add([Fact(id="c", seam="s", began=7.0, ended=9.0), Fact(id="d", run="r", seam="s", began=3.0)], fill=True)
    assert [(n.call.id, n.call.began, n.call.ended) for n, _ in index.run("r").walk()] == [
        ("c", 1.0, 9.0),
        ("d", 3.0, None),
    ]


def test_runs_are_chosen_by_whose_they_were_and_what_their_id_contains(index):
    """A wildcard is a character like any other."""
    index.add(
        [
            Fact(id="a", run="run-abc", seam="s", began=1.0, user="ann"),
            Fact(id="b", run="run%abd", seam="s", began=2.0, user="bob"),
        ]
    )
    assert [run.id for run in index.select(Selection(user="ann"))] == ["run-abc"]
    assert [run.id for run in index.select(Selection(run="n%a"))] == ["run%abd"]
    assert [run.id for run in index.select(Selection(run="ab"))] == ["run%abd", "run-abc"]


def test_old_runs_are_forgotten_whole_and_the_newest_stay(index):
    """A run that still goes on keeps its oldest call; a claim without a run goes like any other call."""
    index.add([Fact(id="old", run="done", seam="s", began=1.0), Fact(id="claim", seam="s", began=1.0)])
    index.add([Fact(id="first", run="long", seam="s", began=2.0), Fact(id="last", run="long", seam="s", began=9.0)])
    index.add([Fact(id="new", run="new", seam="s", began=8.0)])
    assert index.prune(most=9) == 0
    assert index.prune(most=2) == 2
    assert index.run("done") is None
    assert len(list(index.run("long").walk())) == 2
    assert index.prune(most=9, before=8.5) == 1
    assert [run.id for run in index.select(Selection())] == ["long"]


async def test_a_glance_takes_in_so_much_at_a_time_and_nothing_from_before_its_reach(bus):
    """What it did not reach is there at the next one."""
    await publish(bus, *map(observation, range(5)))
    with contextlib.closing(TraceIndex(None, source="here")) as index:
        for behind in (True, True, False):
            assert await index.glance(bus, Subjects(), reach=timedelta(minutes=5), most=2) is behind
        assert len(list(index.select(Selection()))) == 5
    with contextlib.closing(TraceIndex(None, source="here")) as index:
        assert not await index.glance(bus, Subjects(), reach=timedelta(), most=9)
        assert index.run("r1") is None


def peak(index, ask, tmp_path):
    """The greatest memory in bytes while ``ask`` goes over every run."""
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        tracemalloc.start()
        try:
            file.writelines(ask(index.select(Selection(path="legacy"))))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("ask", [otlp.export, lambda runs: (t for run in runs for t in run_section(run))])
def test_what_goes_over_all_runs_holds_a_few_of_them(index, tmp_path, ask):
    """Export and report of four times as many runs take no more memory."""

    def calls(first, last):
        return (
            Fact(
                id=f"c{n}",
                run=f"r{n // 4}",
                seam="web.search",
                path="legacy",
                began=float(n),
                ended=n + 0.5,
                outcome="value",
            )
            for n in range(first * 4, last * 4)
        )

    index.add(calls(0, 300))
    peak(index, ask, tmp_path)  # what is made once
    few = peak(index, ask, tmp_path)
    index.add(calls(300, 1200))
    assert peak(index, ask, tmp_path) < few + 400_000
