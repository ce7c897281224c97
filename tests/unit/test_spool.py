"""Results on disk: whole or not at all, oldest first, never lost, their owner's only."""

from __future__ import annotations

import json
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.shim import hooks
from crossfade.shim.events import Event
from crossfade.shim.spool import Spool


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "a" / "spool")


@pytest.fixture
def counts(monkeypatch):
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


def event(n=0, data=b'{"outcome": "value"}', **extensions):
    return Event(type="tool.result", source="urn:test", id=f"e{n}", extensions=extensions, data=data)


def files(spool):
    return sorted(path.name for path in spool._folder.iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.none() | st.binary(max_size=500), st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_what_comes_out_is_what_went_in(spool, data, user):
    """Any bytes, none and empty apart, and any attribute."""
    spool.add("cf.x.result", event(data=data, userid=user))
    ((subject, again, _),) = spool.items()
    assert subject == "cf.x.result"
    assert (again.data, again.get("userid"), again.id) == (data, user, "e0")


def test_an_absent_folder_is_an_empty_spool(spool):
    """Nothing was spooled yet."""
    assert list(spool.items()) == []
    spool.remove(event())


def test_the_oldest_comes_first(spool):
    """By time, not by name."""
    for n, age in ((1, 100), (2, 300), (3, 200)):
        spool.add("s", event(n))
        os.utime(spool._folder / f"e{n}.json", (1_000_000 - age, 1_000_000 - age))
    assert [event.id for _, event, _ in spool.items()] == ["e2", "e3", "e1"]


def test_adding_twice_is_adding_once_and_removing_twice_is_fine(spool):
    """Several workers may share the folder."""
    for _ in range(2):
        spool.add("s", event())
    assert files(spool) == ["e0.json"]
    for _ in range(2):
        spool.remove(event())
    assert files(spool) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"subject": "s"}', '{"subject": 1, "headers": {}, "data": "%"}']
)
def test_a_file_that_cannot_be_read_is_kept_aside_and_counted(spool, counts, text):
    """Never deleted, never in the way of the others."""
    spool.add("s", event(1))
    (spool._folder / "torn.json").write_text(text)
    assert [event.id for _, event, _ in spool.items()] == ["e1"]
    assert files(spool) == ["e1.json", "torn.bad"]
    assert counts.get("spool-unreadable") == 1


def test_a_crash_half_way_leaves_no_half_file(spool, monkeypatch):
    """A file appears whole: what was being written is not read."""

    def crash(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", crash)
    with pytest.raises(OSError, match="No space"):
        spool.add("s", event())
    assert list(spool.items()) == []


def test_it_is_on_the_disk_before_it_counts_as_kept(spool, monkeypatch):
    """File first, then the folder that names it: both synced when ``add`` returns."""
    synced = []

    def fsync(descriptor):
        synced.append(("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file", files(spool)))

    monkeypatch.setattr(os, "fsync", fsync)
    spool.add("s", event())
    assert [what for what, _ in synced] == ["file", "folder"]
    assert synced[1][1] == ["e0.json"]


def test_only_the_owner_reads_it(spool):
    """Results may be private, whatever the umask."""
    before = os.umask(0)
    try:
        spool.add("s", event())
    finally:
        os.umask(before)
    (file,) = spool._folder.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert spool._folder.stat().st_mode & 0o077 == 0
