"""What the demo concludes from a journal and from what people were told."""

from __future__ import annotations

import json

import pytest

from crossfade.migrations.demo.traffic import Asked
from crossfade.migrations.demo.verdict import Evidence, judge


def journal(path, *lines):
    """A journal of (tool, request, phase) lines, all of workers; a fourth says which worker's."""
    written = [
        json.dumps({"tool": tool, "request": request, "phase": phase, "role": "worker", "pid": (*pid, 1)[0]})
        for tool, request, phase, *pid in lines
    ]
    path.write_text("".join(f"{line}\n" for line in written))
    return path


def lost_report(request):
    return Asked(
        request=request, question="topic", phase="bus", report=True, answer=None, seconds=6.0, failure="outcome_unknown"
    )


@pytest.mark.parametrize(("kills", "good"), [(2, True), (1, False)])
def test_a_kill_may_leave_one_report_unknown_and_nothing_else_may(tmp_path, kills, good):
    """Two reports whose outcome nobody knows are the price of two kills, whatever they aimed at; of one, no."""
    path = journal(tmp_path / "journal.jsonl", ("write_report", "r1.1", "begin"), ("write_report", "r2.1", "begin"))

    verdict = judge(
        journal=path,
        asked=[lost_report("r1"), lost_report("r2")],
        evidence=Evidence(stages=[], killed=range(100, 100 + kills)),
        seconds=1.0,
    )

    assert (verdict.unknown, verdict.lost, verdict.doubled) == (2, 0, 0)
    assert verdict.good is good


@pytest.mark.parametrize(
    ("tool", "killed", "doubled"),
    [("search", [1], 0), ("search", [], 1), ("search", [7], 1), ("write_report", [1], 1)],
    ids=["a read of a killed worker", "nobody was killed", "somebody else was", "what is unsafe"],
)
def test_only_a_read_may_run_again_and_only_after_its_worker_was_killed(tmp_path, tool, killed, doubled):
    """It had ended, and its answer was not logged: nothing else may run twice, whatever was killed."""
    lines = [(tool, "r1.1", phase, pid) for pid in (1, 2) for phase in ("begin", "end")]

    path = journal(tmp_path / "journal.jsonl", *lines)
    verdict = judge(journal=path, asked=[], evidence=Evidence(stages=[], killed=killed), seconds=1.0)

    assert bool(verdict.doubled) is bool(doubled)
