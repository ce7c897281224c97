"""``crossfade stage``: where each seam stands, which moves are refused, and who follows."""

from __future__ import annotations

import re
import signal

import pytest

from crossfade.shim.policies import Move, Policies
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects
from plugins.shells import NOTE
from support.nats_server import NatsServer
from support.shells import Shell, write_modules


def test_no_seam_is_said_to_be_known_before_one_is_declared(shell):
    """An empty list says what to do; for scripts it is an empty list."""
    assert "start a process" in shell.run("stage", "list").out
    assert shell.run("stage", "list", "--json").json == []


def test_declared_seams_are_listed(declared):
    """Each seam is listed with its stage, effects, where its body is, and that nobody but the code set it."""
    lines = declared.run("stage", "list").out.splitlines()
    rows = {row["seam"]: row for row in declared.run("stage", "list", "--json").json}

    assert lines[0].split() == ["seam", "stage", "effects", "rev", "procs", "set", "by", "body", "reason"]
    assert lines[2].split() == ["shop.quote", "legacy", "none", "0", "0", "(code)", "shop.py:6"]
    assert set(rows) == {"shop.pay", "shop.quote", "shop.slow"}
    assert rows["shop.quote"] == {
        "seam": "shop.quote",
        "domain": "tool",
        "stage": "legacy",
        "percent": 0.0,
        "effects": "none",
        "timeout": 30.0,
        "revision": 0,
        "processes": 0,
        "workers": 0,
        "lagging": [],
        "actor": "(code)",
        "reason": "",
        "changed": "",
        "broken": [],
        "legacy_hits": 0,
        "legacy_hits_by_build": {},
        "blockers": [],
        "place": f"{declared.folder}/shop.py:6",
    }


def test_a_move_is_kept_with_who_and_why(shell):
    """set prints the move; list and the event of the move tell who made it and why."""
    shell.declare()

    moved = shell.run("stage", "set", "shop.quote", "observe", "--reason", "ticket [/77]", "--timeout", "3")
    back = shell.run("stage", "set", "shop.quote", "legacy", "--json").json
    row = next(row for row in shell.run("stage", "list", "--json").json if row["seam"] == "shop.quote")
    told = shell.run("events", "tail", "--json", "--type", "seam.stage.changed").lines

    assert moved.out.partition("\n")[0] == "shop.quote: legacy -> observe (revision 1)"
    assert (back["seam"], back["from"], back["to"]) == ("shop.quote", "observe", "legacy")
    assert (row["stage"], row["timeout"], row["revision"], row["reason"]) == ("legacy", 3, back["revision"], "")
    assert [(event["data"]["to"], event["data"]["reason"]) for event in told] == [
        ("observe", "ticket [/77]"),
        ("legacy", ""),
    ]
    assert {event["data"]["actor"] for event in told} == {row["actor"]}


def test_a_reason_is_shown_as_it_was_written(shell):
    """Brackets are no markup, and control characters do not reach the terminal."""
    shell.declare()

    shell.run("stage", "set", "shop.quote", "observe", "--reason", "see [/bold]\n\x1b[31mred")
    shown = shell.run("stage", "list").out

    assert "see [/bold]\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31mred" in shown


REFUSALS = {
    "skips stages": (["shop.quote", "bus"], 4, "--force"),
    "skips one stage": (["shop.quote", "shadow"], 4, "legacy to shadow skips observe"),
    "changes its arguments": (["shop.note", "canary"], 4, "in place"),
    "no share of its canary": (["shop.quote", "canary", "--force"], 4, "--percent"),
    "no such stage": (["shop.quote", "production"], 2, "legacy, observe, shadow, canary, bus, retired"),
    "no such stage, forced": (["shop.quote", "production", "--force"], 2, "legacy, observe, shadow, canary, bus"),
    "no such seam": (["shop.qoute", "observe"], 2, "shop.quote"),
    "no time at all": (["shop.quote", "observe", "--timeout", "0"], 2, "timeout"),
    "not a number": (["shop.quote", "observe", "--timeout", "nan"], 2, "timeout"),
    "more than all": (["shop.quote", "observe", "--percent", "100.5"], 2, "percent"),
    "less than none": (["shop.quote", "observe", "--sample", "-0.1"], 2, "sample"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_move_that_must_not_be_is_refused_in_one_line(blocked, case):
    """Each refusal has its exit code, one line that says what can be done, and nothing on stdout."""
    words, code, text = REFUSALS[case]

    done = blocked.run("stage", "set", *words, code=code)

    assert re.fullmatch(r"crossfade: .+\n", done.err)
    assert text in done.err
    assert done.out == ""


def test_a_refused_move_changes_nothing(blocked):
    """Refused by the stage table, by a blocker or for a wrong setting: no seam and no event has changed."""

    def standing():
        told = blocked.run("events", "tail", "--json", "--type", "seam.stage.changed").lines
        return blocked.run("stage", "list", "--json").json, told

    before = standing()
    for case in ("skips stages", "changes its arguments", "more than all"):
        words, code, _ = REFUSALS[case]
        blocked.run("stage", "set", *words, code=code)

    assert {row["seam"]: row["stage"] for row in before[0]} == {
        "shop.note": "shadow",
        "shop.pay": "legacy",
        "shop.quote": "legacy",
        "shop.slow": "bus",
    }
    assert standing() == before


def test_what_blocks_a_seam_is_told_and_force_passes_over_it(blocked):
    """The list names the blocker; with --force the seam goes on, back it may go at any time."""
    listed = blocked.run("stage", "list")
    forced = blocked.run("stage", "set", "shop.note", "canary", "--force", "--percent", "1", "--json").json
    back = blocked.run("stage", "set", "shop.note", "shadow", "--json").json

    assert re.search(r"^shop\.note is blocked: .*in place", listed.out, re.MULTILINE)
    assert (forced["from"], forced["to"]) == ("shadow", "canary")
    assert (back["from"], back["to"]) == ("canary", "shadow")


def test_a_blocked_seam_is_freed_by_name_and_reason(shell):
    """It says what was cleared, and that nothing is left; a reason is asked for."""
    shell.declare(NOTE)
    shell.run("stage", "set", "shop.note", "observe")
    shell.declare(NOTE)

    unsaid = shell.run("stage", "unblock", "shop.note", code=2)
    freed = shell.run("stage", "unblock", "shop.note", "--reason", "build 7")
    again = shell.run("stage", "unblock", "shop.note", "--reason", "build 7", "--json").json

    assert "--reason" in unsaid.err
    assert re.fullmatch(r"shop\.note is no longer blocked: .*in place.*\n", freed.out)
    assert again == {"seam": "shop.note", "cleared": []}
    assert "blocked" not in shell.run("stage", "list").out


def test_a_seam_goes_through_every_stage_and_back(shell):
    """Stage by stage without --force; canary shows its share; retired is left with --force only."""
    shell.declare()
    share = ["--percent", "12.5"]
    moves = [
        shell.run("stage", "set", "shop.quote", stage, *(share if stage == "canary" else []), "--json").json
        for stage in ("observe", "shadow", "canary", "bus", "retired")
    ]
    row = shell.run("stage", "list", "--json").json[1]
    shell.run("stage", "set", "shop.slow", "canary", "--percent", "12.5")
    listed = shell.run("stage", "list").out
    held = shell.run("stage", "set", "shop.quote", "bus", code=4)
    freed = shell.run("stage", "set", "shop.quote", "legacy", "--force", "--abort")

    assert [(move["from"], move["to"]) for move in moves] == [
        ("legacy", "observe"),
        ("observe", "shadow"),
        ("shadow", "canary"),
        ("canary", "bus"),
        ("bus", "retired"),
    ]
    assert (row["seam"], row["stage"], row["percent"], row["revision"]) == ("shop.quote", "retired", 12.5, 5)
    assert re.search(r"^shop\.slow   canary 12\.5%  none ", listed, re.MULTILINE)
    assert re.search(r"^shop\.quote  retired  ", listed, re.MULTILINE)
    assert "one-way" in held.err
    assert freed.out.partition("\n")[0] == "shop.quote: retired -> legacy (revision 6)"


def test_a_move_tells_who_follows_and_a_list_what_nobody_serves(shell):
    """A running worker follows and is counted; once it is gone, its seams on the bus are named as served by nobody."""
    worker = shell.worker()
    moved = shell.run("stage", "set", "shop.quote", "observe")
    row = next(row for row in shell.run("stage", "list", "--json").json if row["seam"] == "shop.quote")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    alone = shell.run("stage", "list").out

    assert moved.out == "shop.quote: legacy -> observe (revision 1)\n1 process follows.\n"
    assert (row["processes"], row["workers"], row["lagging"]) == (1, 1, [])
    assert "shop.slow is at bus, and no worker that serves it is alive" in alone
    assert "shop.quote is at" not in alone


def test_an_unsafe_seam_travels_where_claims_are_safe(shell):
    """On a broker that syncs every write an unsafe seam goes to the bus, and a worker, not the caller, runs it."""
    worker = shell.worker()
    shell.run("stage", "set", "shop.pay", "bus", "--force")
    caller = shell.python("shim.connect(required=True); print(shop.pay('seven'))")
    answer = caller.communicate(timeout=30)[0]
    told = [event["type"] for event in shell.run("events", "tail", "--json", "--seam", "shop.pay").lines]

    assert answer == f"seven by {worker.pid}\n"
    assert told == ["seam.stage.changed", "tool.invoke", "call.claimed", "tool.result"]


def test_an_unsafe_seam_stays_where_a_power_cut_could_forget_a_claim(tmp_path):
    """Without sync_interval: always it is refused, also with --force; --unsafe-storage is the only way, and is kept."""
    with NatsServer() as server:
        shell = Shell(folder=write_modules(tmp_path), environment={"CROSSFADE_BUS": f"nats://127.0.0.1:{server.port}"})
        try:
            shell.declare()
            shell.run("stage", "set", "shop.pay", "observe")
            refused = shell.run("stage", "set", "shop.pay", "bus", "--force", code=4)
            stands = shell.run("stage", "list", "--json").json[0]
            shell.run("stage", "set", "shop.pay", "bus", "--force", "--unsafe-storage")
            shell.run("stage", "set", "shop.pay", "legacy")
            again = shell.run("stage", "set", "shop.pay", "bus", "--force")
            harmless = shell.run("stage", "set", "shop.quote", "bus", "--force")
        finally:
            shell.close()

    assert re.fullmatch(r"crossfade: shop.pay has effects='unsafe'.+--unsafe-storage\n", refused.err)
    assert (stands["seam"], stands["stage"], stands["revision"]) == ("shop.pay", "observe", 1)
    assert again.out.partition("\n")[0] == "shop.pay: legacy -> bus (revision 4)"
    assert harmless.out.partition("\n")[0] == "shop.quote: legacy -> bus (revision 1)"


def test_of_two_people_the_slower_is_told_who_and_when(shell, monkeypatch):
    """Exit code 4 for the way on; the way back wins, and settings beside the stage are checked."""
    shell.declare()
    faster = iter(["observe", "shadow"])

    async def meanwhile(bus, standing, _move):
        other = Move(target=Stage(next(faster)), actor="bob", force=True)
        await Policies(bus, Subjects(shell.environment["CROSSFADE_PREFIX"])).set_stage(standing.seam, other, wait=0)

    with monkeypatch.context() as patch:
        patch.setattr("crossfade.migrations.cli.stage.check_not_led", meanwhile)
        late = shell.run("stage", "set", "shop.quote", "observe", code=4)
        back = shell.run("stage", "set", "shop.quote", "legacy", "--reason", "it fails")
    assert "is at revision 1 (bob set it at 20" in " ".join(late.err.split())
    assert back.out.startswith("shop.quote: shadow -> legacy (revision 3)")
    assert "not between 0 and 1" in shell.run("stage", "set", "shop.quote", "legacy", "--noise", "7", code=2).err
    assert "not between 1 and 9" in shell.run("stage", "set", "shop.quote", "legacy", "--repeat", "0", code=2).err
    shell.run("stage", "set", "shop.quote", "legacy", "--noise", "0.5", "--repeat", "3")
    assert shell.run("stage", "show", "shop.quote", "--json").json["revision"] == 4
