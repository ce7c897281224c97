"""``crossfade trigger`` as a supervisor has it: a ready line, a health page, an end in time."""

from __future__ import annotations

import signal
import smtplib

import httpx
import pytest

from support.commands import Process, crossfade, until
from unit.triggers.test_signatures import signed


@pytest.fixture
def folder(tmp_path, prefix, nats_server, monkeypatch):
    """A working directory whose processes use an installation of its own on the shared server."""
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.setenv("HOOK", "key")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_webhook_of_its_own_process(folder):
    """The ready line says where; a delivery is taken and can be read back; SIGTERM ends it with 0."""
    options = ("--scheme", "bearer", "--secret", "env:HOOK", "--listen", "127.0.0.1:0", "--json")
    with Process("trigger", "webhook", "orders", *options, "--health", "127.0.0.1:0", folder=folder) as process:
        ready = process.ready()
        answer = httpx.post(
            ready["triggers"]["orders"], content=b'{"n": 1}', headers=signed("bearer", b""), timeout=20, trust_env=False
        )
        health = httpx.get(f"http://{ready['health']}/healthz", timeout=20, trust_env=False)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 0

    assert answer.status_code == 202
    assert (health.status_code, health.json()["triggers"]) == (200, {"orders": "running"})


def test_a_file_is_checked_without_opening_anything(folder):
    """--check reads it and says its triggers; a mistake is exit code 2 with its place."""
    (folder / "triggers.yaml").write_text("triggers: {a: {webhook: {scheme: github, secret: [env:HOOK]}}}\n")
    (folder / "wrong.yaml").write_text("triggers: {a: {webhook: {scheme: github}}}\n")

    good, bad = crossfade("trigger", "run", "triggers.yaml", "--check"), crossfade("trigger", "run", "wrong.yaml")

    assert (good.code, good.out) == (0, "triggers.yaml: a\n")
    assert bad.code == 2
    assert "wrong.yaml:1:25: `secret` is missing" in bad.err


def test_a_check_compares_what_is_to_start_with_its_seam(folder):
    """--check says a parameter that the seam does not take, and a module that is not there, as the start would."""
    (folder / "checked_inbox.py").write_text(
        """from crossfade import shim
@shim.agent("checked.report", effects="idempotent")
def report(topic: str) -> str:
    return topic
"""
    )
    text = """
        modules: [{}]
        triggers: {{a: {{schedule: {{cron: "0 9 * * *"}}, start: {{seam: checked.report, arguments: {{{}}}}}}}}}
        """
    told = []
    for module, arguments in (
        ("checked_inbox", "topik: =x"),
        ("not_there", "topic: =x"),
        ("checked_inbox", "topic: =x"),
    ):
        (folder / "triggers.yaml").write_text(text.format(module, arguments))
        told.append(crossfade("trigger", "run", "triggers.yaml", "--check"))

    assert [one.code for one in told] == [2, 2, 0]
    assert "checked.report takes no 'topik'; its parameters: topic" in told[0].err
    assert "there is no module 'not_there'" in told[1].err


def test_all_kinds_in_one_file_and_one_that_fails_harms_no_other(folder):
    """Each says where it is; the folder of one vanishes and the others go on."""
    (folder / "inbox").mkdir()
    (folder / "triggers.yaml").write_text(
        """
        health: 127.0.0.1:0
        triggers:
          hook: {webhook: {scheme: bearer, secret: [env:HOOK], listen: "127.0.0.1:0"}}
          mail: {smtp: {recipients: ["*"], listen: "127.0.0.1:0"}}
          often: {schedule: {cron: "* * * * * *"}}
          inbox: {files: inbox}
        """
    )
    with Process("trigger", "run", "triggers.yaml", "--json", folder=folder) as process:
        ready = process.ready()
        (folder / "inbox").rmdir()
        with smtplib.SMTP(*ready["triggers"]["mail"].removeprefix("smtp://").split(":"), timeout=20) as client:
            client.sendmail("a@s.example", "b@d.example", "Subject: x\r\n\r\n")
        until(lambda: "the folder is gone" in process.log.read_text())
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 0

    assert set(ready["triggers"]) == {"hook", "mail", "often", "inbox"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("schedule", "n", "--cron", "61 * * * *"), "cron: field 1 (minute), column 1"),
        (("schedule", "n"), "say `cron` or `at`"),
        (("files", "n", "none"), "directory: 'none' is no folder"),
        (("smtp", "n", "--recipient", "me"), "recipients: 'me' is no recipient"),
        (("mqtt", "n", "http://h", "--topic", "#"), "url: this is no broker"),
        (("webhook", "n", "--scheme", "gh", "--secret", "env:HOOK"), "scheme: 'gh' is none of github"),
        (("webhook", "N", "--scheme", "github", "--secret", "env:HOOK"), "is no trigger's name"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder, arguments, words):
    """Before anything is opened."""
    done = crossfade("trigger", *arguments)

    assert done.code == 2
    assert words in done.err
