"""The quiet of a seam: no process needed its legacy code, and none could have without being seen."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.migrations.hits import UNWATCHED, History, follow
from crossfade.shim.instances import Instance
from crossfade.shim.stages import Stage
from unit.migrations.seen import BEGAN

SEAM = "web.search"


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def process(name="p1", *, seen=0, hits=0, ended=False, seam=SEAM, build=""):
    counted = {seam: hits} if hits else {}
    return Instance(
        instance=name, role="caller", seen=at(seen), seams={seam: 4}, legacy_hits=counted, ended=ended, build=build
    )


def looks(*looks, stage=Stage.BUS):
    """The history after looks at (seconds, processes)."""
    history = None
    for seconds, processes in looks:
        history = follow(history, SEAM, stage, processes, now=at(seconds))
    return history


def test_the_quiet_begins_when_it_is_first_looked_at():
    """Hits before it do not count; a process that reports the same hits again keeps it."""
    found = looks((0, [process(hits=7)]), (60, [process(seen=60, hits=7)]))
    assert (found.since, found.watched, found.silent) == (at(0), at(60), [])


@pytest.mark.parametrize(
    "later",
    [
        [process(seen=60, hits=1)],
        [process(seen=60), process("p2", seen=60, hits=1)],
        [process(seen=60), process("p2", seen=58, hits=1, ended=True)],
    ],
    ids=["in one that was there", "in one that is new", "in one that came and went"],
)
def test_a_hit_ends_it(later):
    """Wherever it was, whoever is left to tell."""
    found = looks((0, [process()]), (60, later))
    assert found.since == at(60)
    assert "the legacy code ran in p" in found.why


def test_a_goodbye_does_not_end_it():
    """Deploys happen."""
    found = looks((0, [process()]), (60, [process("p2", seen=60)]))
    assert found.since == at(0)
    assert set(found.processes) == {"p2"}


def test_one_that_falls_silent_is_no_news_until_it_is_back_or_forgotten():
    """Cut off and back with the count that it had, nothing has happened; gone for good, nobody knows."""
    silent = looks((0, [process()]), (60, [process()]))
    assert (silent.since, silent.silent) == (at(0), ["p1 of unknown build"])
    back = follow(silent, SEAM, Stage.BUS, [process(seen=120)], now=at(120))
    assert (back.since, back.silent) == (at(0), [])
    forgotten = follow(silent, SEAM, Stage.BUS, [], now=at(120))
    assert (forgotten.since, forgotten.why) == (at(120), "p1 of unknown build fell silent and was not heard of again")


def told(history):
    return {build.name: (build.hits, build.processes, build.silent, build.seen) for build in history.builds}


def test_hits_are_told_by_build():
    """What a process had before the stage does not count; the build of a job that is gone keeps what the job had."""
    found = looks(
        (0, [process(hits=7, build="1")]),
        (60, [process(seen=60, hits=9, build="1"), process("p2", seen=58, hits=3, ended=True, build="2")]),
        (120, [process(seen=120, hits=10, build="1"), process("p3", seen=119, build="3")]),
    )
    assert told(found) == {"1": (3, 1, 0, at(120)), "2": (3, 0, 0, at(58)), "3": (0, 1, 0, at(119))}
    assert "p1 of build 1 (1x)" in found.why
    assert told(History.decode(SEAM, found.encode())) == told(found)


def test_a_build_that_fell_silent_is_named():
    """Before it is back, and when it is forgotten."""
    silent = looks((0, [process(build="2026.10")]), (60, [process(build="2026.10")]))
    assert silent.silent == ["p1 of build 2026.10"]
    assert told(silent) == {"2026.10": (0, 1, 1, at(0))}
    forgotten = follow(silent, SEAM, Stage.BUS, [], now=at(120))
    assert (forgotten.since, forgotten.why) == (at(120), "p1 of build 2026.10 fell silent and was not heard of again")


def test_a_history_of_an_earlier_version_goes_on():
    """It knows no builds; an upgrade of the controller must not cost a period."""
    stored = json.loads(looks((0, [process(hits=2, build="1")])).encode())
    del stored["builds"], stored["hits"]
    found = follow(
        History.decode(SEAM, json.dumps(stored).encode()), SEAM, Stage.BUS, [process(seen=9, hits=2)], now=at(9)
    )
    assert (found.since, told(found)) == (at(0), {"": (0, 1, 0, at(9))})


def test_nobody_looking_ends_it():
    """What came and went in that time left no trace."""
    limit = int(UNWATCHED.total_seconds())
    assert looks((0, [process()]), (limit, [process(seen=limit)])).since == at(0)
    found = looks((0, [process()]), (limit + 1, [process(seen=limit + 1)]))
    assert found.since == at(limit + 1)
    assert "no controller looked" in found.why


def test_another_stage_is_another_period():
    """The tripwire's begins with it, acknowledged by nobody."""
    bus = looks((0, [process()]))
    retired = follow(bus, SEAM, Stage.RETIRED, [process(seen=60)], now=at(60))
    assert (retired.since, retired.stage, retired.acknowledged) == (at(60), Stage.RETIRED, "")


def test_processes_that_do_not_have_the_seam_do_not_matter():
    """They have nothing to tell of it."""
    found = looks((0, [process()]), (60, [process(seen=60), process("p2", seen=0, seam="web.other", hits=3)]))
    assert (found.since, found.silent) == (at(0), [])


reports = st.lists(
    st.tuples(st.sampled_from(["p1", "p2"]), st.integers(0, 100), st.integers(0, 3), st.booleans()), max_size=3
)


@given(st.lists(reports, min_size=1, max_size=8))
def test_the_quiet_never_reaches_back_over_a_hit(told):
    """Whatever is reported in whatever order: a count that grew is never within the quiet; a checkpoint keeps all."""
    history, last_growth, counts = None, 0, {}
    for look, found in enumerate(told):
        processes = {name: process(name, seen=look, hits=hits, ended=ended) for name, _, hits, ended in found}
        for name, each in processes.items():
            hits = each.legacy_hits.get(SEAM, 0)
            if look and hits > (counts.get(name, 0) if history and name in history.processes else 0):
                last_growth = look
            counts[name] = hits
        history = follow(history, SEAM, Stage.BUS, list(processes.values()), now=at(look))
        assert history == History.decode(SEAM, history.encode())
    assert history.since >= at(last_growth)
