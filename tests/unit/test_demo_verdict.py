"""What the demo concludes from a journal and from what people were told."""

from __future__ import annotations

import json

import pytest

from crossfade.migrations.demo.traffic import Asked
from crossfade.migrations.demo.verdict import Evidence, judge


def journal(path, *lines):
    """A journal of (tool, request, phase) lines, all of workers."""
    written = [
        json.dumps({"tool": tool, "request": request, "phase": phase, "role": "worker"})
        for tool, request, phase in lines
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
        evidence=Evidence(stages=[], kills=kills),
        seconds=1.0,
    )

    assert (verdict.unknown, verdict.lost, verdict.doubled) == (2, 0, 0)
    assert verdict.good is good
