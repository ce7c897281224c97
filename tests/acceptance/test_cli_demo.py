"""``crossfade demo``: its summary holds."""

from __future__ import annotations

import pytest

from plugins.kafka import NEEDED

KAFKA = [pytest.mark.slow, pytest.mark.timeout(300), *NEEDED]


@pytest.mark.parametrize("bus", [pytest.param("kafka", marks=KAFKA)])
def test_the_demo_on_another_broker(declared, kafka_broker, bus, note):
    """On a broker that is there nothing is lost or doubled either, and every seam without the bug ends retired."""
    done = declared.process("demo", "--json", "--bus", f"{bus}://{kafka_broker.server}", seconds=250)
    summary = done.json

    assert (summary["lost"], summary["doubled"], summary["kills"]) == (0, 0, 3)
    assert summary["stuck"] == []
    assert summary["regression_caught"]
    note(f"crossfade demo on {bus}: {summary['calls']} calls in {summary['seconds']} s")


def test_a_broker_that_nobody_names(declared):
    """--bus with a scheme alone needs CROSSFADE_BUS; the text says what to write."""
    done = declared.process("demo", "--bus", "kafka", code=2)
    assert "--bus kafka://HOST:PORT" in done.err


def test_the_demo_loses_and_doubles_nothing(declared, note):
    """demo --json tells its story on stderr, one summary on stdout, and the summary holds."""
    done = declared.process("demo", "--json", seconds=110)
    summary = done.json

    assert {"calls", "executed", "mismatches", "seams", "latency_ms", "seconds", "unknown"} <= summary.keys()
    assert (summary["lost"], summary["doubled"], summary["kills"]) == (0, 0, 3)
    assert summary["redelivered"] >= 1
    assert summary["tasks"] > 0
    assert min(summary["routed"].get(route, 0) for route in ("http.search", "http.reports")) > 0
    assert summary["mismatches"] == []
    assert summary["executed"].keys() == summary["latency_ms"].keys() == {"legacy", "bus"}
    assert min(summary["executed"].values()) > 0
    assert all(latency.keys() == {"p50", "p99"} for latency in summary["latency_ms"].values())
    ways = {seam: [move["to"] for move in way["moves"]] for seam, way in summary["seams"].items()}
    there = ["observe", "shadow", "canary", "bus", "retired"]
    reads, writes = ("desk.search", "http.search"), ("desk.report", "http.reports")
    assert ways == dict.fromkeys((*reads, *writes), there) | {"desk.summarise": ["observe", "shadow", "observe"]}
    moves = [move for way in summary["seams"].values() for move in way["moves"]]
    assert {move["actor"] for move in moves if move["to"] != "retired"} == {"controller"}
    assert all(move["digest"] for move in moves if move["to"] != "retired")
    statuses = {seam: way["status"] for seam, way in summary["seams"].items()}
    assert statuses == dict.fromkeys((*reads, *writes), "retired") | {"desk.summarise": "rolled-back"}
    assert done.err.count(", acknowledged.") == 4
    assert summary["regression_caught"]
    assert summary["stuck"] == []
    back = summary["seams"]["desk.summarise"]["moves"][-1]
    assert (back["ruling"], back["findings"][0]["metric"], back["findings"][0]["state"]) == (
        "rollback",
        "match",
        "violated",
    )
    assert summary["verdicts"]["desk.search"].keys() == {"match"}
    assert summary["verdicts"]["desk.summarise"]["mismatch"] > 0
    assert set(summary["verdicts"]["http.search"]) <= {"match", "ignored"}
    assert summary["verdicts"]["http.reports"] == {}, "what writes ran as a shadow"
    assert done.err.count("kill -9") == 3
    note(
        f"crossfade demo: {summary['calls']} calls in {summary['seconds']} s, {summary['redelivered']} delivered again"
    )
