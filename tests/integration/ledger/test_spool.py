"""Results on disk: several workers of one machine share the folder."""

from __future__ import annotations

import pytest

from crossfade.shim.events import Event
from crossfade.shim.spool import Spool


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def event(name):
    return Event(type="tool.result", source="urn:t", id=name, data=b"{}")


def test_another_worker_logs_what_we_are_about_to_read(spool):
    """A file that goes away while the folder is read was logged by somebody else; the rest is read."""
    for name in ("a", "b", "c"):
        spool.add("subject", event(name), claim="7")
    items = spool.items()
    subject, first, claim = next(items)
    assert (subject, claim) == ("subject", "7")
    others = {"a", "b", "c"} - {first.id}
    spool.remove(event(others.pop()))
    assert [found.id for _, found, _ in items] == [others.pop()]


def test_a_file_that_goes_away_before_it_is_looked_at(spool, monkeypatch):
    """The same, a moment earlier: between listing the folder and sorting it."""
    spool.add("subject", event("a"))
    glob = type(spool._folder).glob
    monkeypatch.setattr(type(spool._folder), "glob", lambda self, pattern: [*glob(self, pattern), self / "gone.json"])
    assert [found.id for _, found, _ in spool.items()] == ["a"]


def test_no_folder(spool):
    """Nothing was ever spooled."""
    assert list(spool.items()) == []
