"""The desk's inbox, as its triggers.yaml has it: a mail and a dropped file each start a report."""

from __future__ import annotations

import shutil
import signal
import smtplib

from support.commands import Process, crossfade, until
from support.desks import DESK, environment


def test_a_mail_and_a_file_start_reports(home, prefix, nats_server, monkeypatch):
    """At legacy the report is written where the mail comes in; on the bus, by a worker. Each once."""
    for name, value in environment(home, DESK_REPORT_SECONDS="0.1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.chdir(home)
    text = (DESK / "triggers.yaml").read_text()
    (home / "triggers.yaml").write_text(text.replace("127.0.0.1:8025", "127.0.0.1:0"))
    shutil.rmtree(home / "inbox", ignore_errors=True)
    (home / "inbox").mkdir()

    with Process("trigger", "run", "triggers.yaml", "--json", folder=home) as triggers:
        where = triggers.ready()["triggers"]
        (home / "inbox" / "draft.tmp").write_text("please")
        (home / "inbox" / "draft.tmp").rename(home / "inbox" / "context managers.txt")
        until(lambda: list((home / "reports").glob("context-managers-*.md")), "no report of the file")

        assert crossfade("stage", "set", "desk.report_about", "bus", "--force", "--reason", "test").code == 0
        with Process("worker", "desk.inbox", "--json", folder=home) as worker:
            worker.ready()
            host, _, port = where["mail"].removeprefix("smtp://").partition(":")
            for _ in "ab":  # the second is a retry, of a sender that did not hear the answer
                with smtplib.SMTP(host, int(port), timeout=20) as client:
                    message = "Subject: list comprehensions\r\nMessage-ID: <1@s.example>\r\n\r\nplease"
                    client.sendmail("ada@s.example", "reports@desk.example", message)
            until(lambda: list((home / "reports").glob("list-comprehensions-*.md")), "no report of the mail")
        triggers.process.send_signal(signal.SIGTERM)
        assert triggers.process.wait(30) == 0

    assert len(list((home / "reports").glob("*.md"))) == 2
