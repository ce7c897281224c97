"""``crossfade dlq`` on a real broker with real workers: look at what died, mend it, send it again."""

from __future__ import annotations

import pytest

from crossfade.shim.errors import BusUnavailableError
from crossfade.shim.ports import ConsumeOptions
from crossfade.shim.redriving import Redriving
from support.commands import Process, crossfade, until


def die(on_bus, n=1, *, effects="none", left=-60.0, **options):
    """``n`` dead commands of ``shop.charge``; returns their call ids and positions."""

    async def work(calls):
        await calls.declare(effects)
        dead = []
        for _ in range(n):
            callid = await calls.send(left=left, guarded=effects == "unsafe", **options)
            dead.append((callid, (await calls.die()).position))
        return dead

    return on_bus(work)


def sent(on_bus):
    """How many commands there are."""

    async def work(calls):
        return len(await calls.commands())

    return on_bus(work)


def test_a_poison_call_is_mended_by_the_next_version(on_bus, shop):
    """A real worker cannot read a command, and gives it up; sent again as a new call, a mended one runs and answers."""
    data = b'{"arguments":{"who":"ann","cents":"many"}}'

    async def work(calls):
        return await calls.send(data=data)

    callid = on_bus(work)
    with Process("worker", "shop", "--json", folder=shop) as worker:
        worker.ready()
        letter = wait_for_letter(callid)
    assert letter["reason"] == "arguments"
    assert crossfade("calls", "show", callid, "--json").json["state"] == "not-executed"
    refused = crossfade("dlq", "redrive", letter["position"])
    assert refused.code == 4  # its caller may have run the legacy body when it was told
    assert "may have run the legacy body" in refused.out

    redriven = crossfade("dlq", "redrive", letter["position"], "--not-done", "asked the caller", "--json").json
    (shop / "mended.py").write_text((shop / "shop.py").read_text().replace("cents: int", "cents: str"))
    with Process("worker", "mended", "--json", folder=shop) as worker:
        worker.ready()
        assert wait_for_end(redriven["callid"]) == "value"
    (shown,) = [
        event
        for event in crossfade("calls", "show", redriven["callid"], "--json").json["events"]
        if event["what"] == "command"
    ]
    assert shown["replayof"] == callid
    assert "again" in crossfade("calls", "show", redriven["callid"]).out


def wait_for_letter(callid):
    def find():
        letters = crossfade("dlq", "list", "--json").json["letters"]
        return next((letter for letter in letters if letter["callid"] == callid), None)

    return until(find, "it did not die")


def wait_for_end(callid):
    def find():
        state = crossfade("calls", "show", callid, "--json").json["state"]
        return state if state not in ("waiting", "running") else None

    return until(find, "it did not end")


def test_dead_letters_fit_a_narrow_terminal(on_bus):
    """The newest last, with what to type next; the older ones are counted."""
    dead = die(on_bus, 3)

    shown = crossfade("dlq", "list", "--limit", 2)

    rows = shown.out.splitlines()
    assert rows[0].split() == ["pos", "died", "at", "seam", "call", "reason", "tries", "again"]
    assert [row.split()[0] for row in rows[1:3]] == [str(position) for _, position in dead[1:]]
    assert "The newest 2 of 3; --limit 3 shows all." in shown.out
    assert max(map(len, rows)) <= 88


def test_dead_letters_are_selected(on_bus):
    """By group, seam and reason; none is said plainly, as data it is an empty list."""
    die(on_bus)

    def total(*options):
        return crossfade("dlq", "list", "--json", *options).json["total"]

    assert (total(), total("--seam", "shop.charge"), total("--seam", "shop.price")) == (1, 1, 0)
    assert (total("--group", "tool-shop-charge"), total("--group", "other")) == (1, 0)
    assert (total("--reason", "max-deliver"), total("--reason", "other")) == (1, 0)
    assert crossfade("dlq", "list", "--reason", "other").out == "No dead letter like that.\n"


def test_no_dead_letters(installation):
    """Good news is one line."""
    assert crossfade("dlq", "list").out == "No dead letters.\n"
    assert crossfade("dlq", "list", "--json").json == {"letters": [], "total": 0}


def test_one_dead_letter_in_full_without_its_secrets(on_bus):
    """Payload and detail redacted, and whether it can be sent again."""
    ((callid, position),) = die(on_bus)

    text, document = crossfade("dlq", "show", position), crossfade("dlq", "show", position, "--json")

    for done in (text, document):
        assert done.code == 0
        assert callid in done.out
        assert "ann" in done.out
        assert "hunter2" not in done.out
    assert f"It can be sent again: crossfade dlq redrive {position}\n" in text.out
    assert document.json["redrive"] == {"possible": True, "why": "", "text": ""}


def test_a_started_unsafe_call_is_not_sent_again(on_bus):
    """Neither by name nor with --all; the text says what comes first, and then it goes."""

    async def work(calls):
        await calls.declare("unsafe")
        callid = await calls.send(left=-60)
        letter = await calls.die()
        await calls.claim(callid, left=-60)
        await calls.unknown(callid)
        return callid, letter.position

    callid, position = on_bus(work)
    for done in (crossfade("dlq", "redrive", position), crossfade("dlq", "redrive", "--all", "--not-done", "sure")):
        assert done.code == 4
        assert f"first `crossfade calls resolve {callid}`" in done.out
    assert "It is not sent again as it stands" in crossfade("dlq", "show", position).out
    assert sent(on_bus) == 1

    say = ("calls", "resolve", callid, "--outcome", "not-executed", "--reason", "r", "--owner-is-dead")
    assert crossfade(*say).code == 0
    assert crossfade("dlq", "redrive", position).code == 0
    assert sent(on_bus) == 2


def test_all_are_sent_once(on_bus):
    """--all passes over what was sent before; --again means it."""
    die(on_bus, 3)

    first, second, third = (
        crossfade("dlq", "redrive", "--all", "--group", "tool-shop-charge"),
        crossfade("dlq", "redrive", "--all"),
        crossfade("dlq", "redrive", "--all", "--again"),
    )

    assert [done.code for done in (first, second, third)] == [0, 0, 0]
    assert "3 sent again, 0 refused." in first.out
    assert "3 dead letters passed over" in second.out
    assert "3 sent again" in third.out
    assert sent(on_bus) == 9


def test_what_was_sent_again_is_refused_by_name(on_bus):
    """Code 4, with who sent it and as which call; the list shows it, too."""
    ((_, position),) = die(on_bus)
    new = crossfade("dlq", "redrive", position, "--json").json["callid"]

    done = crossfade("dlq", "redrive", position)

    assert done.code == 4
    assert f"as call {new}: --again sends it once more" in done.out
    assert crossfade("dlq", "list").out.splitlines()[1].endswith("sent")
    assert crossfade("dlq", "list", "--json").json["letters"][0]["redriven"] == [new]


def test_a_run_that_fails_tells_what_it_did(on_bus, monkeypatch):
    """The broker goes away after the second of three: code 3, two are done, and run again sends the third only."""
    die(on_bus, 3)
    kept, counted = Redriving.redrive, []

    async def failing(self, *arguments):
        counted.append(1)
        if len(counted) == 3:
            raise BusUnavailableError("the broker is gone")
        return await kept(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Redriving, "redrive", failing)
        done = crossfade("dlq", "redrive", "--all")

    assert done.code == 3
    assert done.err == "crossfade: the broker is gone (2 sent before that; run it again, nothing is sent twice)\n"
    assert done.out.count("sent again as call") == 2
    again = crossfade("dlq", "redrive", "--all")
    assert again.out.count("sent again as call") == 1
    assert sent(on_bus) == 6


def test_a_position_that_is_not_there(on_bus):
    """Code 1 and one line; those that are there are sent."""
    ((_, position),) = die(on_bus)

    shown, done = crossfade("dlq", "show", "999"), crossfade("dlq", "redrive", "999", position)

    assert (shown.code, shown.out) == (1, "")
    assert shown.err == "crossfade: no dead letter at 999: `crossfade dlq list` shows their positions\n"
    assert done.code == 1
    assert "sent again as call" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name positions"),
        (("1", "--all"), "either name positions or say --all"),
        (("1", "--group", "g"), "--group, --seam and --reason go with --all"),
        (("--all", "--seam", "No Seam"), "is no seam name"),
        (("--all", "--timeout", "nan"), "timeout"),
        (("--all", "--timeout", "-1"), "timeout"),
        (("--all", "--timeout", "soon"), "--timeout"),
    ],
)
def test_what_means_nothing_is_code_2(installation, arguments, says):
    """Nothing is sent by a command line that contradicts itself."""
    done = crossfade("dlq", "redrive", *arguments)

    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_bytes_that_are_no_event_are_shown_and_not_sent(on_bus):
    """Somebody's garbage on a command's subject: listed with its reason, its bytes kept from the screen."""

    async def work(calls):
        calls.bus._connection.send(calls.place("x1").invoke, b"\x1b[2Jsecret", {"ce-id": "1"})
        filters = [calls.subjects.commands("tool", calls.seam)]
        async with calls.bus.consume("tool-shop-charge", filters, ConsumeOptions()) as deliveries:
            assert await deliveries.next(timeout=0.5) is None

    on_bus(work)

    (listed,) = crossfade("dlq", "list", "--json").json["letters"]
    shown = crossfade("dlq", "show", listed["position"])
    assert (listed["reason"], shown.code) == ("attributes", 0)
    assert "\x1b" not in shown.out
    assert "secret" not in shown.out
    assert "bytes that are no event" in shown.out
    assert crossfade("dlq", "redrive", listed["position"]).code == 4
