"""Two control planes on one broker, a worker, real calls; the one that leads is killed in the middle of a migration."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from itertools import pairwise

import pytest

from crossfade.migrations.lease import TERM
from support.commands import until

PLAYBOOK = """
seams: [shop.quote]
abort: {errors: "> 50%", match: "< 0.5"}
steps:
  - {to: shadow, gate: {calls: 60, match: ">= 0.9", hold: 1s}}
  - {to: canary 20%, gate: {calls: 40, errors: "<= legacy + 20%", hold: 1s}}
  - {to: canary 60%, gate: {calls: 40, errors: "<= 20%", hold: 1s}}
  - {to: bus}
"""
MODULES = {
    "deal.py": """
from crossfade import shim

@shim.tool("shop.quote", effects="none", timeout=10)
def quote(item: str) -> str:
    return f"{item}!"
""",
    "caller.py": """
import itertools, time
import deal
from crossfade import shim

with shim.connect(required=True):
    for number in itertools.count():
        with shim.correlate(user=f"u{number % 50}"):
            assert deal.quote(f"i{number}") == f"i{number}!"
        time.sleep(0.01)
""",
}


@pytest.mark.slow
def test_the_other_goes_on_when_the_leader_is_killed(shell):
    """No step twice, none skipped, none without its proof, evidence counted once, and callers never see an error."""
    for name, text in MODULES.items():
        (shell.folder / name).write_text(text)
    (shell.folder / "p.yaml").write_text(PLAYBOOK)
    controls = [
        shell.start("control", "--listen", "127.0.0.1:0", "--json", "--state", f"state{number}") for number in (1, 2)
    ]
    worker = shell.start("worker", "deal")
    assert all(process.stdout.readline() for process in (*controls, worker))
    caller = shell.start("caller.py", command=(sys.executable,))
    shell.run("migrate", "apply", "p.yaml")

    def seam():
        return shell.run("migrate", "status", "shop.quote", "--json").json

    until(lambda: seam()["seams"][0]["stage"] == "canary", "no canary")
    pid = int(re.match(r"control_(\d+)_", seam()["leader"])[1])
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    (left,) = [process for process in controls if process.pid != pid]
    while (status := seam())["seams"][0]["status"] != "done":
        assert time.monotonic() - killed < TERM.total_seconds() + 60, status
        time.sleep(0.2)

    told = [event["data"] for event in shell.run("events", "tail", "--json", "--type", "seam.stage.changed").lines]
    assert [move["to"] for move in told] == ["observe", "shadow", "canary", "canary", "bus"]
    assert [after["revision"] - before["revision"] for before, after in pairwise(told)] == [1] * 4
    assert {finding["state"] for move in told for finding in move["evidence"]["findings"]} == {"met"}
    for move, what in ((told[2], "seam.compared"), (told[3], "tool.result"), (told[4], "tool.result")):
        (counted,) = [each["seen"] for each in move["evidence"]["findings"] if each["metric"] == "calls"]
        assert counted <= len(events(shell, what, move["revision"] - 1))
    assert status["leader"].startswith(f"control_{left.pid}_")
    assert caller.poll() is None, caller.communicate()


def events(shell, kind, revision):
    lines = shell.run("events", "tail", "--json", "--type", kind).out.splitlines()
    return [event for event in map(json.loads, lines) if event.get("policyrev") == str(revision)]
