"""A peer that cannot be measured says what is missing and how to get it: never an omission, never an old version."""

from __future__ import annotations

import os
import sys

import pytest
from typer.testing import CliRunner

from crossfade.migrations.bench import against, environments, shim
from crossfade.migrations.bench.environments import Peer, PeerUnavailableError, check_versions, opened
from crossfade.migrations.bench.processes import with_children
from crossfade.migrations.cli import _app

PEER = Peer(name="laboratory", module="with_laboratory", least={"laboratory": "1.0.2"})
ANSWERING = """
import json, sys
sys.stdin.readline()
print(json.dumps({"laboratory": "%s"}), flush=True)
print(json.dumps({"setting": "off"}), flush=True)
for line in sys.stdin:
    print(json.dumps([0.5] * int(line)), flush=True)
"""


@pytest.fixture
def uv(tmp_path, monkeypatch):
    """Put a uv on PATH that runs ``body`` in place of a peer; there is no other."""

    def fake(body: str) -> None:
        path = tmp_path / "uv"
        path.write_text(f"#!{sys.executable}\n{body}")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return fake


def refusal(peer: Peer = PEER) -> str:
    with pytest.raises(PeerUnavailableError) as caught, opened(peer, {}):
        pass
    return str(caught.value)


def test_a_peer_new_enough_is_measured_and_its_version_shown(uv):
    """What it answers are its seconds, and the title has the version that really ran."""
    uv(ANSWERING % "1.0.2")
    before = with_children([os.getpid()])  # the session's servers among them

    with opened(PEER, {}) as peer:
        assert peer.side.run(3) == [0.5, 0.5, 0.5]

    assert peer.title == "laboratory 1.0.2, off"
    assert with_children([os.getpid()]) == before


def test_an_old_version_that_runs_is_refused(uv):
    """The running peer's version counts, whatever was asked for; the text has both versions."""
    uv(ANSWERING % "0.14.0")

    assert "laboratory 0.14.0 was resolved, and 1.0.2 is the least that counts" in refusal()


@pytest.mark.parametrize("version", ["9.9", "1.0.1", "0.14.0", "10.9.9"])
def test_versions_are_compared_as_numbers(version):
    """9 is older than 10.10, whatever the text sorts like."""
    with pytest.raises(PeerUnavailableError):
        check_versions(Peer(name="x", module="x", least={"x[extra]": "10.10"}), {"x": version})


@pytest.mark.parametrize("version", ["10.10", "10.10.1", "11.0rc1"])
def test_a_newer_version_counts(version):
    """The least itself counts, too."""
    check_versions(Peer(name="x", module="x", least={"x": "10.10"}), {"x": version})


def test_without_uv_the_remedy_is_named(monkeypatch, tmp_path):
    """The line that brings it is in the text."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "pip install uv" in refusal()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("error: No solution found: only laboratory<=0.4.2 is available", "no version that counts can be had"),
        ("error: No solution found\\nhint: because the network was disabled", "is there a network?"),
        ("error: Failed to fetch the index", "is there a network?"),
        ("ModuleNotFoundError: no module named x", "could not be run: ModuleNotFoundError"),
    ],
)
def test_what_uv_says_is_told(uv, said, reason):
    """Too old, no network and a broken peer are told apart."""
    uv(f'import sys; sys.exit("{said}")')

    assert reason in refusal()


def test_a_peer_that_hangs_is_ended(uv, monkeypatch):
    """It gets its time, then its process goes."""
    monkeypatch.setattr(environments, "_INSTALLING", 0.2)
    uv("import sys; sys.stdin.read()")
    before = with_children([os.getpid()])

    assert "it said nothing in time" in refusal()
    assert with_children([os.getpid()]) == before


def test_a_missing_server_is_said_and_exits_with_1(monkeypatch, tmp_path):
    """`bench shim --peers` prints a line for each row it could not measure, and fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shim, "run", lambda **_: against.task_queues(Calling(), Calling()))

    result = CliRunner().invoke(_app.app, ["bench", "shim", "--peers"])

    assert result.exit_code == 1
    assert result.stdout.count("NOT MEASURED: bus call, sync, against ") == 3
    assert "apt-get install redis-server" in result.stdout
    assert "NOT MEASURED: bus call, async, against taskiq" in result.stdout


class Calling:
    """As much of calls and broker as is looked at before something is missing."""

    where, synced, server, pids = "", True, "", ()
