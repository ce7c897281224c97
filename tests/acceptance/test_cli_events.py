"""``crossfade events``: what the tail shows, how it is narrowed, and when it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import pytest


def test_the_tail_shows_what_happened_in_order(told):
    """Without options everything kept is shown, one line per event, the oldest first."""
    lines = told.run("events", "tail").out.splitlines()

    assert [line.split()[1] for line in lines] == ["seam.stage.changed", *["tool.observed"] * 4]
    assert all("shop.quote" in line for line in lines)


def test_the_tail_is_json_for_scripts_and_redacted(told):
    """Each line is one document with the event's attributes and its payload; a secret is not in it."""
    done = told.run("events", "tail", "--json", "--type", "tool.observed")
    first = done.lines[0]

    assert {"time", "position", "subject", "id", "type", "source", "seam", "callid", "data"} <= first.keys()
    assert first["data"]["arguments"]["item"] == "apple"
    assert "hunter2" not in done.out
    assert "hunter2" not in told.run("events", "tail", "--data").out


def test_the_tail_can_be_narrowed(told):
    """By seam, by type, by run (its id or the end that is shown), by number."""
    runs = [event.get("correlationid") for event in told.run("events", "tail", "--json").lines]
    run = next(run for run in runs if run)

    def shown(*options) -> int:
        return len(told.run("events", "tail", *options).out.splitlines())

    assert shown("--seam", "shop.quote", "--type", "tool.observed") == 4
    assert shown("--seam", "shop.pay") == 0
    assert shown("--run", run) == shown("--run", run[-8:]) == 3
    assert shown("--since", "999999999d", "--limit", "2") == 2


@pytest.mark.parametrize("since", ["yesterday", "10", "-5m", ""])
def test_a_time_that_is_none_is_refused(told, since):
    """--since takes a number and a unit; anything else is refused with an example. Nothing is not taken for now."""
    done = told.run("events", "tail", f"--since={since}", code=2)

    assert re.fullmatch(r"crossfade: --since: .+10m.+\n", done.err)


def test_following_goes_on_until_ctrl_c(told):
    """-f shows what is there since the time asked for and waits; Ctrl-C ends it with 130 and not a word."""
    process = told.start("events", "tail", "-f", "--since", "1h", "--json", "--type", "tool.observed")
    seen = [json.loads(process.stdout.readline()) for _ in range(4)]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)

    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=10)

    assert [event["data"]["n"] for event in seen] == [1, 2, 3, 4]
    assert (process.returncode, rest, err) == (130, "", "")


def test_following_ends_at_its_limit(told):
    """-f with --limit stops after so many events, with 0 and nothing on stderr."""
    done = told.run("events", "tail", "-f", "--since", "1h", "--limit", "3")

    assert len(done.out.splitlines()) == 3
    assert done.err == ""
