"""What the demo concludes from a journal and from what people were told."""

from __future__ import annotations

import json

import pytest

from crossfade.migrations.demo.traffic import Asked
from crossfade.migrations.demo.verdict import Evidence, Kill, Moved, Way, judge


def journal(path, *lines):
    """A journal of (tool, request, phase) lines, all of workers; a fourth says which worker's."""
    written = [
        json.dumps({"tool": tool, "request": request, "phase": phase, "role": "worker", "pid": (*pid, 1)[0]})
        for tool, request, phase, *pid in lines
    ]
    path.write_text("".join(f"{line}\n" for line in written))
    return path


def asked(request, kind, *, answer=None, failure=""):
    """Somebody who waited from 10 to 16."""
    return Asked(
        request=request, question="?", phase="bus", kind=kind, answer=answer, seconds=6.0, failure=failure, began=10.0
    )


@pytest.mark.parametrize(("at", "lost"), [(12.0, 0), (9.0, 2), (17.0, 2)], ids=["meanwhile", "before", "after"])
def test_a_report_may_be_unknown_whose_worker_was_killed_and_no_other(tmp_path, at, lost):
    """Nobody else may be told that nobody can know: such a report is lost, and so is its execution."""
    path = journal(tmp_path / "journal.jsonl", ("write_report", "r1.1", "begin"))

    verdict = judge(
        journal=path,
        asked=[asked("r1", "report", failure="504 outcome_unknown")],
        evidence=Evidence(kills=[Kill(pid=100, at=at)]),
        seconds=1.0,
    )

    assert (verdict.unknown, verdict.lost, verdict.doubled) == (not lost, lost, 0)
    assert verdict.good is (lost == 0)


@pytest.mark.parametrize(
    ("tool", "killed", "doubled"),
    [("search", [1], 0), ("search", [], 1), ("search", [7], 1), ("write_report", [1], 1)],
    ids=["a read of a killed worker", "nobody was killed", "somebody else was", "what is unsafe"],
)
def test_only_a_read_may_run_again_and_only_after_its_worker_was_killed(tmp_path, tool, killed, doubled):
    """It had ended, and its answer was not logged: nothing else may run twice, whatever was killed."""
    lines = [(tool, "r1.1", phase, pid) for pid in (1, 2) for phase in ("begin", "end")]

    path = journal(tmp_path / "journal.jsonl", *lines)
    evidence = Evidence(kills=[Kill(pid=pid, at=0.0) for pid in killed])
    verdict = judge(journal=path, asked=[], evidence=evidence, seconds=1.0)

    assert bool(verdict.doubled) is bool(doubled)


@pytest.mark.parametrize(
    ("tool", "kind", "at", "doubled"),
    [
        ("search", "look", 12.0, 0),
        ("search", "look", 17.0, 1),
        ("search", "ask", 12.0, 1),
        ("write_report", "look", 12.0, 1),
    ],
    ids=["a look-up at a kill", "nobody was killed then", "not by the route", "what is unsafe"],
)
def test_a_service_may_be_asked_again_for_who_waited_at_a_kill(tmp_path, tool, kind, at, doubled):
    """A route's worker was killed while it waited for the living service: a look-up may run there twice, no more."""
    lines = [(tool, "l1.1", phase) for _ in range(2) for phase in ("begin", "end")]
    path = journal(tmp_path / "journal.jsonl", ("search", "l1.1", "begin"), ("search", "l1.1", "end"), *lines)
    if tool == "search":
        path = journal(tmp_path / "journal.jsonl", *lines)

    verdict = judge(
        journal=path,
        asked=[asked("l1", kind, answer={"page": "..."})],
        evidence=Evidence(kills=[Kill(pid=100, at=at)]),
        seconds=1.0,
    )

    assert bool(verdict.doubled) is bool(doubled)


SEAM = "desk.report"


def way(status="retired", was="", at=0.0):
    """A seam's way: to canary; and, when it says from where, back."""
    moves = [Moved(seam=SEAM, was="shadow", to="canary", actor="controller", reason="", ruling="allow", at=5.0)]
    if was:
        moves.append(Moved(seam=SEAM, was=was, to="shadow", actor="controller", reason="", ruling="rollback", at=at))
    return Way(status=status, moves=moves)


def verdict_on(tmp_path, *asked_for, **evidence):
    path = journal(tmp_path / "journal.jsonl")
    return judge(journal=path, asked=asked_for, evidence=Evidence(**evidence), seconds=1.0)


@pytest.mark.parametrize(
    ("ways", "regression", "good"),
    [
        ({SEAM: way()}, "", True),
        ({SEAM: way("holding")}, "", False),
        ({SEAM: way("rolled-back", was="canary", at=11.0)}, "", False),
        ({SEAM: way("rolled-back", was="canary", at=11.0)}, SEAM, True),
        ({SEAM: way("rolled-back")}, SEAM, False),
        ({SEAM: way()}, SEAM, False),
        ({}, SEAM, False),
    ],
    ids=["promoted", "stuck", "taken back without a bug", "caught", "by hand", "the bug got through", "never moved"],
)
def test_every_seam_gets_where_it_must(tmp_path, ways, regression, good):
    """A good one to its last step, the one with the bug back by the controller's own ruling; nothing else will do."""
    assert verdict_on(tmp_path, ways=ways, regression=regression).good is good


@pytest.mark.parametrize(
    ("kind", "was", "at", "spoiled"),
    [
        ("report", "canary", 11.0, 1),
        ("report", "canary", 9.0, 0),
        ("report", "shadow", 11.0, 0),
        ("ask", "canary", 11.0, 0),
    ],
    ids=["before it was taken back", "after", "at shadow nobody gets its answer", "something else"],
)
def test_only_the_planted_bug_may_fail_people_and_only_at_canary(tmp_path, kind, was, at, spoiled):
    """Such a report counts by itself; any other that failed is lost."""
    ways = {SEAM: way("rolled-back", was=was, at=at)}
    verdict = verdict_on(tmp_path, asked("r1", kind, failure="500 no author"), ways=ways, regression=SEAM)

    assert (verdict.spoiled, verdict.lost) == (spoiled, 1 - spoiled)
