"""Locks that live as long as any copy of their descriptor is open: flock, proved to work where it is used."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from .store import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def take_lock(path: Path) -> int | None:
    """The descriptor of an exclusively locked file, or ``None`` when it is held. Raises ``StoreError``."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}", trouble="configuration") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _prove_exclusive(path)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:
        os.close(lock)
        raise _no_locks(path, error.strerror or "unknown error") from error
    except StoreError:
        os.close(lock)
        raise
    return lock


def _prove_exclusive(path: Path) -> None:
    """Some network and user-space file systems answer yes to every lock."""
    second = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(second)
    raise _no_locks(path, "the same file could be locked twice")


def _no_locks(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the file system of {path} has no working file locks ({why}), and without them two servers could run on "
        "the same data: choose a path on a local disk",
        trouble="configuration",
    )
