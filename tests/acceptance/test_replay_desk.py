"""A bug of the desk's next version, met in production's calls: reproduced by replaying them, and its fix proven."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DESK = Path(__file__).resolve().parents[2] / "examples" / "desk" / "desk"
RECORD = """
from crossfade import shim
from desk import agent
from desk.wiring import wire

QUESTIONS = ["How do I copy a list?", "What is the difference between a list and a tuple?", "parse JSON"]
with shim.connect(required=True):
    for number, question in enumerate(QUESTIONS):
        with shim.correlate(user=f"user{number}"):
            agent.answer(question, f"r{number}", wire())
"""
SETTINGS = """
[seams."desk.search"]
stage = "observe"
[seams."desk.summarise"]
stage = "observe"
"""


@pytest.fixture
def desk(tmp_path, nats_server, prefix):
    """A copy of the desk that anybody may change; runs a command there, on a broker of its own."""
    shutil.copytree(DESK, tmp_path / "desk", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "record.py").write_text(RECORD)
    (tmp_path / "crossfade.toml").write_text(SETTINGS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DESK_", "CROSSFADE_"))}
    ours = {"CROSSFADE_BUS": nats_server.url, "CROSSFADE_PREFIX": prefix, "PYTHONPATH": str(tmp_path)}
    ours["DESK_JOURNAL"] = str(tmp_path / "journal.jsonl")

    def run(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=clean | ours,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_a_production_bug_is_reproduced_and_its_fix_proven(desk, tmp_path):
    """The version that loses a sentence fails on just the calls that show it; mended, it passes on all of them."""
    desk("record.py")
    journal = tmp_path / "journal.jsonl"
    recorded = len(journal.read_text().splitlines())
    replay = ("-m", "crossfade", "replay", "--app", "desk.tools", "--app", "desk.next_version.summarise", "--json")

    broken = json.loads(desk(*replay, "--seam", "desk.summarise", code=1))
    seam = broken["seams"]["desk.summarise"]
    assert (seam["calls"], seam["compared"]) == (3, 3)
    assert 1 <= seam["verdicts"]["mismatch"] <= 3
    assert all(
        [difference["kind"] for difference in call["differences"]] == ["missing"]
        and difference["path"].startswith("$.points[")
        for call in broken["calls"]
        for difference in call["differences"]
    )

    version = tmp_path / "desk" / "next_version" / "summarise.py"
    mended = version.read_text().replace("points = points[:-1]", "pass")
    assert mended != version.read_text()
    version.write_text(mended)

    fixed = json.loads(desk(*replay))
    assert fixed["passed"]
    assert fixed["seams"]["desk.summarise"]["verdicts"] == {"match": 3}
    assert fixed["seams"]["desk.search"]["verdicts"].keys() == {"match"}
    run_again = [json.loads(line)["role"] for line in journal.read_text().splitlines()[recorded:]]
    assert set(run_again) == {"shadow"}, "a replay is nobody's call"
