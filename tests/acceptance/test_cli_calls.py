"""``crossfade calls`` on a real broker: what an on-call engineer sees of a call, and what they may say of it."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from support.commands import Process, crossfade, python, until


def lose(on_bus):
    return on_bus(lambda calls: calls.lost())


def test_a_worker_killed_in_mid_call_is_found_and_resolved(on_bus, shop):
    """From kill -9 to the value that callers get: show, unknown, resolve, and the journal says one execution."""
    with Process("worker", "shop", "--json", "--grace", 0, folder=shop) as worker:
        worker.ready()
        callid = on_bus(lambda calls: calls.send(left=2, data=b'{"arguments":{"who":"slow"}}'))
        until(lambda: crossfade("calls", "show", callid, "--json").json["state"] == "running", "it never started")
        owner = crossfade("calls", "show", callid, "--json").json["owner"]["instance"]
        assert str(worker.process.pid) in owner
        worker.process.send_signal(signal.SIGKILL)
    on_bus(lambda calls: calls.unknown(callid))  # as a reaper does ten seconds after the deadline

    listed = crossfade("calls", "unknown")
    say = ("calls", "resolve", callid, "--outcome", "value", "--value", '"slow paid 1"', "--reason", "receipt 7")
    refused, resolved = crossfade(*say), crossfade(*say, "--owner-is-dead")

    assert callid in listed.out
    assert refused.code == 4  # it reported within ten seconds: alive as far as the bus knows
    assert f"worker {owner} is alive" in refused.err
    assert resolved.code == 0, resolved.err
    assert f"Its owner was worker {owner}." in resolved.out
    asked = python(
        f"""
        from crossfade import shim
        shim.connect(required=True)
        print(shim.outcome({callid!r}).kind)
        """,
        folder=shop,
    )
    assert asked.stdout == "value\n", asked.stderr
    assert (shop / "charged").read_text().count("slow") == 1
    assert "No call is unknown" in crossfade("calls", "unknown").out


def test_a_call_is_found_by_what_events_tail_prints_of_it(on_bus):
    """The last eight characters, or the first; several are listed with exit code 2, none is exit code 1 as ever."""
    callid, other = lose(on_bus), on_bus(lambda calls: calls.send(left=30))

    for part in (callid[-8:], callid[:-4]):
        assert crossfade("calls", "show", part, "--json").json["callid"] == callid
    common = next(n for n in range(32) if callid[: n + 1] != other[: n + 1])
    if common >= 4:
        several = crossfade("calls", "show", callid[:common])
        assert several.code == 2
        assert callid in several.err
        assert other in several.err
    assert crossfade("calls", "show", "zzzzzzzz").code == 1
    assert crossfade("calls", "show", callid[-2:]).code == 1  # two characters mean any call


def test_the_whole_story_of_a_call_fits_a_narrow_terminal(on_bus):
    """State first, then facts, then each event with its time; nothing of it is wider than 80 columns."""
    callid = lose(on_bus)

    shown = crossfade("calls", "show", callid)

    assert shown.code == 0
    assert shown.out.startswith(f"shop.charge (tool), call {callid}\nunknown: started, and nobody knows how it ended\n")
    assert "owner     worker host_1_worker\n" in shown.out
    for what in ("command", "claim", "unknown"):
        assert f"  {what}" in shown.out
    assert f"crossfade calls resolve {callid} --outcome ..." in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_secrets_of_a_call_are_not_shown(on_bus):
    """Payloads on request only, and redacted; the claim's nonce never, since it is the owner's secret."""
    callid = lose(on_bus)

    plain, full = crossfade("calls", "show", callid), crossfade("calls", "show", callid, "--data")
    document = crossfade("calls", "show", callid, "--data", "--json")

    assert "ann" not in plain.out
    assert "ann" in full.out
    for done in (plain, full, document):
        assert "hunter2" not in done.out
        assert "nonce" not in done.out
    assert document.json["events"][0]["data"]["arguments"]["who"] == "ann"


def test_a_superseded_unknown_is_shown_as_such(on_bus):
    """The owner was only slow: both results, the last one counts."""

    async def late(calls):
        callid = await calls.send(left=-60)
        claim = await calls.claim(callid, left=-60)
        await calls.unknown(callid)
        await calls.end(callid, claim)
        return callid

    callid = on_bus(late)
    document = crossfade("calls", "show", callid, "--json").json

    assert document["state"] == "value"
    results = [event for event in document["events"] if event["what"] == "result"]
    assert [(result["outcome"], result["superseded"]) for result in results] == [("unknown", True), ("value", False)]
    assert "(superseded)" in crossfade("calls", "show", callid).out


def test_a_calls_dead_letters_are_in_its_story(on_bus):
    """With where to look at them."""

    async def die(calls):
        callid = await calls.send()
        letter = await calls.die()
        return callid, letter.position

    callid, position = on_bus(die)

    assert f"dead letter  max-deliver, crossfade dlq show {position}" in crossfade("calls", "show", callid).out


def test_unknown_calls_as_data(on_bus):
    """A script gets each call's owner, and an empty list when there is none."""
    assert crossfade("calls", "unknown", "--json").json == []
    callid = lose(on_bus)

    (found,) = crossfade("calls", "unknown", "--json").json

    assert (found["callid"], found["state"], found["owner"]["instance"]) == (callid, "unknown", "host_1_worker")
    assert crossfade("calls", "unknown", "--json", "--seam", "shop.price").json == []


def test_resolving_says_who_and_why(on_bus):
    """As text and as data; the story keeps it."""
    callid = lose(on_bus)

    done = crossfade("calls", "resolve", callid, "--outcome", "error", "--reason", "card refused", "--json")

    assert done.code == 0, done.err
    assert (done.json["outcome"], done.json["by"], done.json["why"]) == ("error", "operator", "card refused")
    assert done.json["owner"]["instance"] == "host_1_worker"
    assert ": card refused" in crossfade("calls", "show", callid).out


def test_not_executed_points_to_what_comes_next(on_bus):
    """It may run again now, and how."""
    callid = lose(on_bus)
    say = ("calls", "resolve", callid, "--outcome", "not-executed", "--reason", "log is empty")

    refused, done = crossfade(*say), crossfade(*say, "--owner-is-dead")

    assert refused.code == 4
    assert "--owner-is-dead" in refused.err
    assert done.code == 0
    assert "crossfade dlq list" in done.out


@pytest.mark.parametrize("command", [("show",), ("resolve", "--outcome", "error", "--reason", "r")])
def test_a_call_that_is_not_there_is_one_line_and_code_1(installation, command):
    """Mistyped or too old; both are named."""
    name, *options = command

    done = crossfade("calls", name, "0123456789abcdef0123456789abcdef", *options)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("crossfade: no call '0123456789abcdef0123456789abcdef' in the ledgers: ")
    assert done.err.count("\n") == 1


def test_a_resolved_call_is_not_resolved_again(on_bus):
    """Code 4, and what was said first."""
    callid = lose(on_bus)
    say = ("calls", "resolve", callid, "--reason", "r", "--outcome")
    assert crossfade(*say, "error").code == 0

    done = crossfade(*say, "value", "--value", "1")

    assert done.code == 4
    assert "has resolved it already, as 'error': r" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--outcome", "value", "--reason", "r"), "value: say what the call returned"),
        (("--outcome", "value", "--reason", "r", "--value", "paid"), "value: is no JSON"),
        (("--outcome", "error", "--reason", "r", "--value", "1"), "value: the outcome 'error' has none"),
        (("--outcome", "error", "--reason", " "), "reason: say how you know"),
        (("--outcome", "perhaps", "--reason", "r"), "'perhaps' is not one of"),
        (("--outcome", "error"), "Missing option '--reason'"),
    ],
)
def test_what_means_nothing_is_code_2(installation, options, says):
    """Said before the bus is asked anything."""
    done = crossfade("calls", "resolve", "0" * 32, *options)

    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_seam_that_cannot_be_is_code_2(installation):
    """With what a name looks like."""
    done = crossfade("calls", "unknown", "--seam", "Shop Charge")

    assert done.code == 2
    assert "is no seam name" in done.err


def test_no_bus_is_code_3(monkeypatch):
    """One line; nothing was changed."""
    monkeypatch.setenv("CROSSFADE_BUS", "nats://127.0.0.1:1")

    done = crossfade("calls", "unknown")

    assert done.code == 3
    assert done.err.count("\n") == 1


def test_control_characters_of_the_bus_are_shown_not_obeyed(on_bus):
    """A hostile instance name cannot rewrite the screen of who looks at it."""

    async def hostile(calls):
        callid = await calls.send(left=-60)
        event = replace(calls.record(callid, -60, "evil\x1b[2J\nowner").event(), source="urn:test")
        last, place = await calls.bus.last(calls.place(callid).invoke), calls.place(callid)
        await calls.bus.append(place.own, event, last=place.everything, at=last.position)
        return callid

    callid = on_bus(hostile)

    for done in (crossfade("calls", "show", callid), crossfade("calls", "unknown")):
        assert "\x1b" not in done.out
    refused = crossfade("calls", "resolve", callid, "--outcome", "not-executed", "--reason", "r")
    assert refused.code == 4
    assert "\x1b" not in refused.err
