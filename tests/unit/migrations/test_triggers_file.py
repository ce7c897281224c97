"""``triggers.yaml``: what it says, and mistakes told at their places."""

from __future__ import annotations

import textwrap

import pytest

from crossfade.migrations.triggers_file import load_triggers
from crossfade.proxy.documents import FileError


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a file of this text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "s3cret")

    def read_text(text):
        (tmp_path / "triggers.yaml").write_text(textwrap.dedent(text))
        return load_triggers("triggers.yaml")

    return read_text


def mistakes(read, text):
    with pytest.raises(FileError) as refused:
        read(text)
    return [(one.line, one.column, one.message) for one in refused.value.mistakes]


def test_a_webhook_is_read(read):
    """Its path is its name's where none is set; the secret is the environment's."""
    loaded = read("""
        health: 127.0.0.1:8071
        triggers:
          orders:
            webhook: {scheme: github, secret: [env:SECRET], listen: "127.0.0.1:0"}
            tenant: acme
    """)

    (one,) = loaded.triggers
    assert loaded.health == "127.0.0.1:8071"
    assert (one.name, one.listen) == ("orders", ("127.0.0.1", 0))
    assert (one.settings.path, one.settings.secrets, one.settings.tenant) == ("/orders", (b"s3cret",), "acme")
    assert "s3cret" not in repr(loaded)


def test_each_kind_is_read(read, tmp_path):
    """A setting that nobody wrote is the adapter's own default."""
    (tmp_path / "inbox").mkdir()
    loaded = read("""
        triggers:
          mail: {smtp: {recipients: ["@desk.example"], max_bytes: 1000}, user: ada}
          nightly: {schedule: {cron: 30 2 * * *, zone: Europe/Berlin, catch_up: none}}
          once: {schedule: {at: "2026-12-24T18:00:00+01:00"}}
          inbox: {files: inbox}
          drop: {files: {directory: inbox, patterns: ["*.csv"], settle: 0.5, content: false}}
          plant: {mqtt: {url: "mqtt://127.0.0.1", topics: ["d/{tenant}/#"], username: me, password: env:SECRET}}
    """)
    found = {one.name: one.settings for one in loaded.triggers}

    assert (found["mail"].recipients, found["mail"].max_bytes, found["mail"].user) == (("@desk.example",), 1000, "ada")
    assert (found["nightly"].catch_up, str(found["nightly"].times)) == ("none", "30 2 * * * Europe/Berlin")
    assert str(found["once"].times) == "2026-12-24 18:00:00+01:00"
    assert (str(found["inbox"].directory), found["inbox"].settle, found["inbox"].content) == ("inbox", 2.0, True)
    assert (found["drop"].patterns, found["drop"].settle, found["drop"].content) == (("*.csv",), 0.5, False)
    assert (found["plant"].client_id, found["plant"].password) == ("crossfade-plant", b"s3cret")
    assert "s3cret" not in repr(loaded)


def test_all_mistakes_are_told_at_once(read):
    """One run of it shows every trigger's."""
    found = mistakes(
        read,
        """
        triggers:
          a: {schedule: {cron: 61 * * * *}}
          b: {files: {directory: none}}
    """,
    )

    assert [(line, column) for line, column, _ in found] == [(3, 24), (4, 26)]
    assert "field 1 (minute), column 1" in found[0][2]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("triggers: {o: {schedule: {cron: '* * * *'}}}", (1, 33), "has 4 fields"),
        ("triggers: {o: {schedule: {cron: '* * * * *', zone: Mars}}}", (1, 52), "is no time zone"),
        ("triggers: {o: {schedule: {at: noon}}}", (1, 31), "is no time"),
        ("triggers: {o: {schedule: {at: 2026-12-24T18:00:00}}}", (1, 31), "needs its zone"),
        ("triggers: {o: {schedule: {cron: '* * * * *'}, smtp: {recipients: ['*']}}}", (1, 15), "is smtp and schedule"),
        ("triggers: {o: {smtp: {recipients: [me]}}}", (1, 35), "is no recipient"),
        ("triggers: {o: {smtp: {recipients: ['*'], users: {a: env:SECRET}}}}", (1, 49), "need TLS"),
        ("triggers: {o: {mqtt: {url: 'http://h', topics: ['#']}}}", (1, 28), "is no broker"),
        ("triggers: {o: {mqtt: {url: 'mqtt://h', topics: ['#/a']}}}", (1, 48), "is no level"),
        ("triggers: {}", (1, 11), "there is no trigger here"),
        ("triggers: {orders: {}}", (1, 20), "must be one of"),
        ("triggers: {orders: {webhok: {}}}", (1, 21), "did you mean `webhook`?"),
        ("triggers: {orders: {webhook: {scheme: github}}}", (1, 30), "`secret` is missing"),
        ("triggers: {o: {webhook: {scheme: gihub, secret: [env:SECRET]}}}", (1, 34), "must be github or stripe"),
        ("triggers: {o: {webhook: {scheme: github, secret: [env:NONE]}}}", (1, 50), "the environment has no NONE"),
        ("triggers: {o: {webhook: {scheme: github, secret: [hunter2]}}}", (1, 50), "never write it down"),
        ("triggers: {o: {webhook: {scheme: github, secret: ['file:none']}}}", (1, 50), "cannot be read"),
        ("triggers: {o: {webhook: {scheme: github, secret: [env:SECRET], path: in}}}", (1, 70), "is no path"),
        ("triggers: {o: {webhook: {scheme: github, secret: [env:SECRET], listen: a}}}", (1, 72), "is no HOST:PORT"),
        ("triggers: {Orders: {webhook: {scheme: github, secret: [env:SECRET]}}}", (1, 20), "is no trigger's name"),
    ],
)
def test_a_mistake_is_told_at_its_place(read, text, place, words):
    """Line and column are the value's, and the text says what to write."""
    ((line, column, message),) = mistakes(read, text)

    assert (line, column) == place
    assert words in message


def test_a_secret_written_down_is_not_repeated(read):
    """What looks like the secret itself is not shown in the error."""
    ((_, _, message),) = mistakes(read, "triggers: {o: {webhook: {scheme: github, secret: [hunter2]}}}")

    assert "hunter2" not in message
