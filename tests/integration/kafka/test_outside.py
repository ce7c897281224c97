"""The contract suite as a run of its own: on a broker that somebody else started, and on the one it starts."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.kafka_broker import KafkaBroker
from support.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[3]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options = ["-n", "0", "-k", "kafka", f"--override-ini=cache_dir={folder}"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**ours, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550, check=False)


def test_the_suite_on_somebody_elses_broker(tmp_path):
    """It runs there, outages included, without Java and Maven, and skips nothing but what the broker is too slow for:
    it looks for what to discard every five minutes, as a Kafka does that nobody configured for tests."""
    with KafkaBroker(tmp_path / "theirs", settings={"log.retention.check.interval.ms": "300000"}) as broker:
        server = f"127.0.0.1:{broker.port}"
        files = ["tests/contract/test_lifecycle.py", "tests/contract/test_publishing.py"]
        done = run(tmp_path / "cache", *files, CROSSFADE_TEST_KAFKA=server, CI="true", PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = re.findall(r"^SKIPPED.*", done.stdout, re.MULTILINE)
    assert len(skipped) == 1
    assert "set its log.retention.check.interval.ms to 200" in skipped[0]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30


@pytest.mark.timeout(600)
def test_the_suite_on_three_brokers(tmp_path):
    """Three brokers keep each promise, too, though each hears of new topics and leaders in its own time."""
    with KafkaCluster(tmp_path / "three") as cluster:
        theirs = {"CROSSFADE_TEST_KAFKA": cluster.server, "CI": "true"}
        done = run(tmp_path / "cache", "-n", "2", "tests/contract", **theirs)
        if done.returncode:  # as .ci/run does: passing alone, it is a test that minds a busy machine
            print(done.stdout)
            done = run(tmp_path / "cache", "--last-failed", "tests/contract", **theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_the_broker_of_a_run_ends_after_it(tmp_path):
    """Nobody is warned of a process that is left, and none is left."""
    base = tmp_path / "run"
    done = run(tmp_path / "cache", f"--basetemp={base}", "tests/contract/test_replies.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stdout + done.stderr
    port = int((base / "kafka" / "ready").read_text())
    deadline = time.monotonic() + 10
    while _listens(port):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
