"""The files beside the data, and the record of where the server listens.

lock          held (flock) by the nats-server process itself, for as long as it lives
server.json   port, name and secrets, written before the first start and reused by every later one
server.conf   the server's configuration, rewritten at each start
server.pid    written by nats-server; believed only when that process has ``lock`` open
server.log    the server's log; server.err what it wrote before it had one, or while crashing
idle          seconds without use until the server is stopped; touched by whoever uses it
keeper.lock   held by the keeper, contains its pid
binary.json   which executable was checked last
jetstream/    the data
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

FORMAT = 1
DEFAULT_IDLE = 60.0
HOST = "127.0.0.1"

Trouble = Literal["configuration", "disk"]


class StoreError(Exception):
    """The store cannot be used; ``trouble`` says whether its owner's setting or the disk is at fault."""

    def __init__(self, message: str, *, trouble: Trouble) -> None:
        self.trouble: Trouble = trouble
        super().__init__(message)


class Record(NamedTuple):
    """Where the server of a store listens and what it accepts.

    ``name`` carries a nonce that the server shows before we log in, so a stranger's server on the port is
    recognised before it sees a secret. ``server_version`` is the newest server that wrote the data.
    """

    port: int
    name: str
    token: str
    system_token: str
    server_version: str


def create(store: Path) -> None:
    """Make the directory, for its owner only, if it is not there. Raises ``StoreError``."""
    with named(store):
        store.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_record(store: Path) -> Record | None:
    """The record, or ``None`` before the first start. Raises ``StoreError`` when it cannot be used."""
    path = store / "server.json"
    try:
        with named(path, may_be_absent=True):
            text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        written_by = int(found["format"])
        if written_by == FORMAT:
            return Record(**{field: found[field] for field in Record._fields})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged: stop the server if one runs, then delete this file (the data is in {store}/jetstream)",
            trouble="configuration",
        ) from error
    raise StoreError(
        f"{path} has format {written_by}, this crossfade reads {FORMAT}: "
        + ("use the newer crossfade that wrote it" if written_by > FORMAT else "it is too old, choose a new path"),
        trouble="configuration",
    )


def write_record(store: Path, record: Record) -> None:
    """Put the record on disk before anything acts on it. Raises ``StoreError``."""
    write_private(store / "server.json", json.dumps({"format": FORMAT, **record._asdict()}))


def read_idle(store: Path) -> float:
    """Seconds without use until the server stops; 0: never."""
    path = store / "idle"
    try:
        with named(path, may_be_absent=True):
            return float(path.read_text())
    except FileNotFoundError:
        return DEFAULT_IDLE
    except ValueError as error:
        raise StoreError(f"{path} does not hold a number of seconds: delete it", trouble="configuration") from error


def write_idle(store: Path, idle: float) -> None:
    """Set it; whoever named it last wins. Raises ``StoreError``."""
    write_private(store / "idle", f"{idle:g}\n")


def touch(store: Path) -> None:
    """Say that somebody is about to use the server. Raises ``StoreError``."""
    try:
        with named(store / "idle", may_be_absent=True):
            os.utime(store / "idle")
    except FileNotFoundError:
        write_idle(store, DEFAULT_IDLE)


def touched(store: Path) -> int:
    """When ``touch`` was called last, as an opaque number: only its changes mean something."""
    try:
        return (store / "idle").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def size(store: Path) -> int:
    """Bytes of data in the store."""
    total = 0
    for folder, _, names in os.walk(store / "jetstream"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the server removes blocks while we count
                total += os.stat(f"{folder}/{name}").st_size  # noqa: PTH116 - many thousands of files
    return total


def write_private(path: Path, text: str) -> None:
    """Replace a file at once and durably, readable by its owner only. Raises ``StoreError``."""
    with named(path):
        temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def named(path: Path, *, may_be_absent: bool = False) -> Generator[None]:
    """Turn what the operating system says into a ``StoreError``; an absent file may stay ``FileNotFoundError``."""
    try:
        yield
    except OSError as error:
        if may_be_absent and isinstance(error, FileNotFoundError):
            raise
        raise _explained(path, error) from error


def _explained(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"the disk of {path} is full ({error.strerror}): make room, then try again", trouble="disk")
    if error.errno == errno.EIO:
        return StoreError(f"the disk of {path} fails: {error.strerror}", trouble="disk")
    return StoreError(
        f"{path} cannot be used ({error.strerror}): choose a path that you can write", trouble="configuration"
    )
