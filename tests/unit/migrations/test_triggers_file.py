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


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
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
