"""From noise to rules: what differs by nature is learnt and accepted, and the one regression is still found."""

from __future__ import annotations

import json
import random
import sys
import uuid
from datetime import UTC, datetime

import pytest

from crossfade.migrations.cli import main
from crossfade.migrations.noise import study
from crossfade.migrations.rules_file import add_rules, read_rules
from crossfade.migrations.suggestions import suggest
from crossfade.shim import handler, tool
from crossfade.shim.seam import registry
from integration.shim import kit

CALLS = 45
NOISY = {"$.at", "$.id", "$.hits"}


def answer(total):
    hits = [f"hit {n}" for n in range(8)]
    random.shuffle(hits)
    return {"at": datetime.now(UTC).isoformat(), "id": str(uuid.uuid4()), "hits": hits, "total": total}


@pytest.fixture
def search(monkeypatch):
    """A seam whose answers differ each time, and a handler that is wrong about every third call."""
    monkeypatch.setattr(registry, "_handlers", {})

    @tool("web.noisy", effects="none", stage="shadow")
    def search(n: int) -> dict[str, object]:
        return answer(n)

    @handler("web.noisy")
    def newer(n: int) -> dict[str, object]:
        return answer(n + (n % 3 == 0))

    return search


def payloads(connection, source, n):
    def found():
        read = [json.loads(event.data) for event in kit.read(connection, "{p}v.>")]
        return sum(payload["source"] == source for payload in read) >= n and read

    return kit.until(found, timeout=30, what=f"no {n} of {source}")


def learn(connection, work, search):
    worker = work(connection, search)
    kit.until(lambda: worker.ready)
    for n in range(CALLS):
        search(n)
    return payloads(connection, "noise", CALLS)


def check(connection, search, rules):
    """With the rules in force only the wrong answers differ, and only where they are wrong."""
    kit.set_live(connection, "web.noisy", {"compare": rules.to_json(), "noise": 0})
    kit.until(lambda: connection.runtime.policy("web.noisy", search.__crossfade_seam__.policy).compare)
    for n in range(9):
        search(n)
    last = [found for found in payloads(connection, "shadow", CALLS + 9) if found["source"] == "shadow"][CALLS:]
    wrong = [found for found in last if found["verdict"] != "match"]
    assert len(wrong) == 3
    assert {difference["path"] for found in wrong for difference in found["differences"]} == {"$.total"}


def test_accepted_rules_leave_the_regression_a_mismatch(connect, work, search, tmp_path):
    """On the bus in memory, by the functions that the command uses."""
    connection = connect(web__noisy={"noise": 1.0})
    found = study(learn(connection, work, search))
    assert {place.path: place.state for place in found.places} == {
        "$.at": "noise", "$.id": "noise", "$.hits[*]": "noise", "$.total": "difference",
    }  # fmt: skip
    suggested = {suggestion.path: suggestion.said for suggestion in suggest(found)}
    assert suggested.keys() == NOISY
    add_rules(str(tmp_path / "rules.yaml"), suggested)
    check(connection, search, read_rules(str(tmp_path / "rules.yaml")))


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs ``crossfade noise`` as a person would; what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["crossfade", "noise", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch, nats_server, prefix):
    """A working directory whose settings name a real server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crossfade.toml").write_text(f'bus = "{nats_server.url}"\nprefix = "{prefix}"\n')
    return tmp_path


def test_the_command_learns_from_a_real_bus(connect, work, search, nats_server, folder, command):  # noqa: PLR0917
    """On NATS, by what a person types; what is not accepted is not written."""
    connection = connect(nats_server.url, web__noisy={"noise": 1.0})
    learn(connection, work, search)
    (folder / "rules.yaml").write_text("# ours\n$.took_ms: ignore\n")
    said = json.loads(command("web.noisy", "--json"))
    assert (said["calls"], said["ran_again"]) == (CALLS, {"self": CALLS})
    assert all(found["calls"] == CALLS and found["excess_at_most"] <= 0.1 for found in said["suggestions"])
    accepted = [suggestion["path"] for suggestion in said["suggestions"]]
    assert set(accepted) == NOISY
    options = [word for path in accepted for word in ("--accept", path)]
    assert "Wrote 3 rules to rules.yaml." in command("web.noisy", "--write", "rules.yaml", *options)
    assert (folder / "rules.yaml").read_text().startswith("# ours\n$.took_ms: ignore\n")
    check(connection, search, read_rules("rules.yaml"))
