"""A lock that does not lock is noticed before a server is started on it."""

from __future__ import annotations

import fcntl
import os

import pytest

from crossfade.adapters._embedded import store as stores
from crossfade.adapters._embedded.locks import take_lock
from integration.embedded.observed import open_files


def test_a_held_lock_is_not_taken_until_its_last_descriptor_is_closed(tmp_path):
    """What the server inherits keeps the lock although we closed ours: that is the whole design."""
    lock = take_lock(tmp_path / "lock")
    inherited = os.dup(lock)
    os.close(lock)
    assert take_lock(tmp_path / "lock") is None
    os.close(inherited)
    again = take_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    """The error says what would happen without them and what to do."""

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(stores.StoreError, match=r"no working file locks \(Operation not supported\).*local disk"):
        take_lock(tmp_path / "lock")


def test_a_file_system_that_only_pretends_to_lock_is_named(tmp_path, monkeypatch):
    """A lock that two can hold is worse than none."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(stores.StoreError, match="could be locked twice"):
        take_lock(tmp_path / "lock")


def test_refused_locks_leave_no_descriptor_behind(tmp_path, monkeypatch):
    """Each way out closes what it opened."""
    held = take_lock(tmp_path / "lock")
    before = open_files()
    assert take_lock(tmp_path / "lock") is None
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(stores.StoreError):
        take_lock(tmp_path / "lock")
    assert open_files() == before
    os.close(held)
