"""A recording gives back what it was given, in order, and knows what was called inside what."""

from __future__ import annotations

import dataclasses
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crossfade.migrations.replay.recording import UNFINISHED
from crossfade.migrations.replay.selecting import Selection
from crossfade.shim.comparison import Outcome
from unit.migrations.replay.conftest import BEGAN, call


def callids(recording, **wanted):
    return [each.callid for each in recording.selected(Selection(**{"seams": ("a", "b"), **wanted}))]


def test_a_call_comes_back_as_it_was(recording):
    """Value, error or stream, with everything said of it."""
    calls = [call("a", {"q": "ü"}, {"x": [1, None]}), call("a", {}, error=ValueError("no"), at=1, run="r", cause="c")]
    for at, each in enumerate([*calls, call("a", {})], start=2):
        outcome = dataclasses.replace(each.outcome, items=(1, {"a": None}), closed=at == 4)
        calls.append(dataclasses.replace(each, callid=str(at), begun=each.begun + at, outcome=outcome))
    for each in calls:
        recording.add(each)

    assert sorted(recording.selected(Selection(seams=("a",))), key=calls.index) == calls
    assert len(recording) == 5


def test_the_selection_selects(recording):
    """By seam, time, run and call, oldest first whatever the order they came in."""
    for at, seam, run in ((2.0, "a", "r"), (0.0, "b", "r"), (1.0, "a", "s"), (3.0, "c", "r")):
        recording.add(call(seam, {}, at=at, callid=f"{at:g}", run=run))
    recording.index()
    moments = [datetime.fromtimestamp(BEGAN + at, UTC) for at in (1, 2)]

    assert callids(recording) == ["0", "1", "2"]
    assert callids(recording, since=moments[0], until=moments[1]) == ["1"]
    assert callids(recording, run="r") == ["0", "2"]
    assert callids(recording, callid="1") == ["1"]
    assert callids(recording, seams=("b",)) == ["0"]


def test_a_result_ends_its_command_once(recording):
    """A second word on it changes nothing, and a result without its command is nobody's."""
    recording.add(call("a", {}, callid="1", outcome=None, unfit=UNFINISHED))
    recording.add(call("a", {}, callid="2", at=1, outcome=None, unfit="redacted"))
    for value in (1, 2):
        for callid in ("1", "2", "3"):
            recording.end(callid, Outcome(kind="value", value=value, duration=0.5), redaction="f")
    first, second = recording.selected(Selection(seams=("a",)))

    assert (first.outcome.value, first.seconds, first.unfit) == (1, 0.5, "")
    assert second.unfit == "redacted"


def test_what_was_called_inside_is_known_by_its_cause(recording):
    """Never another call's, even of the same time and run."""
    outer = call("a", {}, callid="outer", run="r", seconds=5)
    inside = [call("b", {}, at=at, callid=f"in{at}", run="r", cause="outer") for at in (2, 1)]
    for each in (*inside, outer, call("b", {}, at=1, callid="other", run="r", cause="x"), call("b", {}, at=1, run="r")):
        recording.add(each)

    assert [each.callid for each in recording.inside(outer)] == ["in1", "in2"]


@pytest.mark.parametrize(("at", "run", "found"), [(1, "r", True), (6, "r", False), (1, "s", False), (1, "", False)])
def test_without_a_cause_time_and_run_tell(recording, at, run, found):
    """What was made during the call, in its run; nothing where there is no run to tell by."""
    outer = call("a", {}, callid="outer", run="r" if run else "", seconds=5)
    for each in (outer, call("b", {}, at=at, callid="in", run=run)):
        recording.add(each)

    assert [each.callid for each in recording.inside(outer)] == ["in"] * found


def test_nothing_stays_behind(recording):
    """The file lies in a folder that others cannot read, and is gone afterwards."""
    folder = Path(recording._folder.name)
    assert folder.stat().st_mode & 0o077 == 0
    recording.close()
    assert not folder.exists()


def test_its_length_costs_no_memory(recording):
    """Five hundred calls of 80 KB are gone through within 2 MB."""
    text = "x" * 40_000
    tracemalloc.start()
    try:
        for n in range(500):
            recording.add(call("a", {"text": text}, text, at=n, callid=str(n)))
        recording.index()
        assert sum(1 for _ in recording.selected(Selection(seams=("a",)))) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
