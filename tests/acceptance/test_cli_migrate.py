"""``crossfade migrate``: what each command prints, writes and refuses."""

from __future__ import annotations

import json
import signal


def test_playbooks_that_come_along_are_listed_and_written(shell):
    """Once: a file that is there is left as it is."""
    listed = shell.run("migrate", "init", "--json").json
    words = ("migrate", "init", "mine.yaml", "--playbook", "pilot", "--seam", "shop.quote")
    written = shell.run(*words)
    mine = shell.folder / "mine.yaml"
    text = mine.read_text()
    mine.write_text("# edited\n" + text)
    refused = shell.run(*words, code=2)

    assert [each["name"] for each in listed] == ["long-running", "pilot", "retire", "tool-calls", "ui-subscriber"]
    assert written.out == "Wrote mine.yaml. Read it, then: crossfade migrate plan mine.yaml\n"
    assert "seams: [shop.quote]\n" in text
    assert "mine.yaml: is there already" in refused.err
    assert mine.read_text() == "# edited\n" + text
    assert "no-such-folder" in shell.run("migrate", "init", "no-such-folder/x.yaml", *words[3:], code=2).err


def test_what_is_watched_is_told_until_ctrl_c(shell):
    """A line for a seam as it is, and one for what a person does; then exit code 130."""
    (shell.folder / "p.yaml").write_text("seams: [shop.quote]\nsteps: [{to: shadow}]\n")
    shell.declare()
    shell.run("migrate", "apply", "p.yaml")
    process = shell.start("migrate", "watch", "--json")
    first = json.loads(process.stdout.readline())
    shell.run("migrate", "pause", "shop.quote", "--reason", "lunch")
    second = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)

    assert (first["seam"], first["stage"], first["status"]) == ("shop.quote", "legacy", "waiting")
    assert (second["status"], second["reason"].endswith(": lunch")) == ("paused", True)
    assert process.wait(20) == 130


def test_what_a_playbook_moves_is_moved_by_hand_with_force_only(shell):
    """Refused with exit code 4; forced, it is that person's act, kept as an event, and pauses the seam there."""
    (shell.folder / "p.yaml").write_text("seams: [shop.quote]\nsteps: [{to: shadow}]\n")
    shell.declare()
    shell.run("migrate", "apply", "p.yaml")
    refused = shell.run("stage", "set", "shop.quote", "observe", code=4)
    same = shell.run("stage", "set", "shop.quote", "legacy", "--timeout", "3")
    shell.run("stage", "set", "shop.quote", "observe", "--force", "--reason", "mine")
    (moved,) = [
        event["data"]
        for event in shell.run("events", "tail", "--json", "--type", "seam.stage.changed").lines
        if event["data"]["to"] == "observe"
    ]

    said = " ".join(refused.err.split())
    assert "playbook p moves shop.quote (applied by " in said
    assert "now waiting): say `crossfade migrate advance shop.quote`" in said
    assert same.out.startswith("shop.quote: legacy -> legacy (revision 1)")
    assert (moved["reason"], "evidence" in moved) == ("mine", False)


def test_a_plan_warns_of_a_gate_that_would_wait_for_ever(shell):
    """An unsafe seam has no shadow, so nothing of it is compared: before it is applied, and while it waits."""
    (shell.folder / "p.yaml").write_text(
        "seams: [shop.pay, shop.note]\nsteps: [{to: shadow, gate: {match: '>= 0.9'}}]\n"
    )
    shell.declare()
    plan = shell.run("migrate", "plan", "p.yaml")
    assert "Warning: shop.pay: an unsafe seam is never run for comparison, so match at shadow" in plan.out
    assert len(shell.run("migrate", "plan", "p.yaml", "--json").json["warnings"]) == 1
