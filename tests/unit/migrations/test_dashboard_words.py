"""What the dashboard says and draws: numbers with units, the one answer, coordinates inside their drawing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crossfade.migrations.applied import Applied
from crossfade.migrations.dashboard import drawing, numbers, saying
from crossfade.migrations.gates import Finding, Ruling
from crossfade.migrations.overview import SeamView
from crossfade.migrations.progress import Live, SeamProgress
from crossfade.shim.stages import Stage

STEPS = "seams: [web.search]\nsteps: [{to: shadow, gate: {calls: 9}}, {to: canary 5%, approve: owner}]"


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (numbers.percent(None), "\u2013"),
        (numbers.percent(1.0), "100 %"),
        (numbers.percent(0.9998), "99.98 %"),
        (numbers.percent(0.962), "96.2 %"),
        (numbers.seconds(0.0123), "12.3 ms"),
        (numbers.seconds(0.0000005), "0.50 µs"),
        (numbers.seconds(12), "12.0 s"),
        (numbers.count(12480), "12,480"),
        (numbers.span(59), "59 s"),
        (numbers.span(3660), "1 h 1 min"),
        (numbers.span(90_000), "1 d 1 h"),
        (numbers.change(0.010, 0.008), "\u221220 %"),
        (numbers.change(0.010, 0.01005), "same"),
        (numbers.change(None, 1), ""),
    ],
)
def test_numbers_carry_their_unit(shown, wanted):
    """Three digits of a latency, more digits of a share the nearer it is to an end."""
    assert shown.replace("\u202f", " ") == wanted


def view(status="holding", ruling="hold", *, step=1, findings=(), approved=None):
    applied = Applied(name="tools", text=STEPS, actor="ann", applied=datetime.now(UTC).isoformat())
    progress = SeamProgress(seam="web.search", step=step, status=status, reason="why", approved=approved or {})
    live = Live(stage=Stage.SHADOW, percent=0, revision=2)
    return SeamView(applied=applied, progress=progress, live=live, ruling=Ruling(ruling, tuple(findings)))


@pytest.mark.parametrize(
    ("seen", "tone", "sentence"),
    [
        (view(), "hold", "web.search may not go on to canary 5% yet"),
        (view(ruling="allow"), "ask", "web.search may go on to canary 5% once approved"),
        (view(ruling="allow", approved={2: "ann"}), "go", "web.search may go on to canary 5%"),
        (view(ruling="rollback"), "stop", "web.search must go back from shadow"),
        (view("rolled-back", "allow"), "stop", "web.search was taken back to shadow"),
        (view("paused", "rollback"), "ask", "web.search is paused at shadow"),
        (view("done", step=2), "go", "web.search is at shadow, the last step of its playbook"),
        (view("retired"), "rest", "web.search is retired"),
    ],
)
def test_every_state_has_one_answer(seen, tone, sentence):
    """What a person did stands above what the gate says; a broken abort rule above everything else."""
    found = saying.answer(seen)
    assert (found.tone, found.sentence) == (tone, sentence)


def test_what_is_broken_is_said_first():
    """The reason begins with what matters most, and says what was wanted."""
    keys = Finding(metric="keys", state="missing", wanted=">= 20", text="", seen=3, limit=20)
    match = Finding(
        metric="match", state="violated", wanted=">= 99 %", text="", seen=0.9, low=0.8, high=0.95, limit=0.99
    )
    why = saying.answer(view(findings=[keys, match])).why.replace("\u202f", " ")
    assert why == ("Match rate 90.0 % (80.0 % to 95.0 %), wanted at least 99 %; Distinct keys 3, wanted at least 20")


@pytest.mark.parametrize(
    "finding",
    [
        Finding(metric="match", state="met", wanted=">= 99 %", text="", seen=1.0, low=0.991, high=1.0, limit=0.99),
        Finding(metric="p99", state="unmet", wanted="<= 1", text="", seen=0.2, low=0.0, high=float("inf"), limit=0.3),
        Finding(metric="errors", state="met", wanted="<= 1", text="", seen=0.0, low=0.0, high=0.0, limit=0.0),
        Finding(metric="hold", state="missing", wanted=">= 1", text="", seen=0.0, limit=60),
    ],
)
def test_bounds_are_drawn_inside_their_drawing(finding):
    """Whatever the numbers, infinity and nothing but zeros included, and in order."""
    bar = drawing.bound_bar(finding)
    assert 0 <= bar.low <= bar.seen <= bar.high <= drawing.WIDTH
    assert 0 <= bar.limit <= drawing.WIDTH


def test_a_bound_nobody_knows_is_null():
    """JSON has no infinity; the API, and the event of a decision, say null."""
    finding = Finding(metric="p99", state="unmet", wanted="<= 1", text="", seen=0.2, low=0.0, high=float("inf"))
    assert finding.to_json()["high"] is None
