"""Starts a store's server unless one is running; a process of its own, which ends as soon as that is done.

Why not in the application: the data lock lives as long as any descriptor of it is open. An application that
forks (gunicorn, multiprocessing) while one of its threads holds the lock would hand it to a child that is no
server, and nobody could start one again. It also makes the server an orphan from its first moment: the
application has no child to reap, and killing the application's process group does not reach it.

    python -I -S -c BOOT ROOT STORE BINARY VERSION     prints one line of JSON: started, or held, or an error
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .processes import keeper_pid, unlocked_server_pid
from .store import HOST, Record, StoreError, named, new_record, read_idle, read_record, write_private, write_record
from .wire import SYSTEM_USER, USER

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from crossfade.adapters._embedded.{0} import main; main()"

# Below the range that systems take for outgoing connections (32768 up on Linux, 49152 up on macOS): there, a
# client that reconnects to a port nobody listens on can be given that very port and connect to itself.
_PORTS = range(15_000, 32_768)

_CONFIGURATION = """\
# Written at every start of the server, from server.json.
listen: "{host}:{port}"
server_name: {name}
pid_file: {store}/server.pid"
logfile: {store}/server.log"
logfile_size_limit: 8MB
logfile_max_num: 3
max_payload: 1MB
authorization {{ users: [{{user: {user}, password: "{token}"}}] }}
accounts {{ SYS: {{ users: [{{user: {system_user}, password: "{system_token}"}}] }} }}
system_account: SYS
jetstream {{
  store_dir: {store}"
  sync_interval: always
}}
"""


def main() -> None:
    """Read the arguments, act, report on stdout."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the application's thread blocked is not ours to keep
    os.chdir("/")
    root, store, binary, version = sys.argv[1:5]
    try:
        started = start(Path(store), binary, version)
        if not keeper_pid(Path(store)) and read_idle(Path(store)) > 0:
            detached([sys.executable, "-I", "-S", "-c", BOOT.format("keeper"), root, store])
    except StoreError as error:
        report: dict[str, object] = {"trouble": error.trouble, "text": str(error)}
    else:
        report = {"started": started}
    print(json.dumps(report))  # noqa: T201 - the answer to the process that asked


def start(store: Path, binary: str, version: str) -> bool:
    """Spawn the server with the lock in its hands; ``False`` when somebody else holds it. Raises ``StoreError``."""
    lock = take_lock(store / "lock")
    if lock is None:
        return False
    try:
        _refuse_second(store)
        record = _record_for(store, version)
        write_private(store / "server.conf", _configuration(store, record))
        with _fresh_errors(store) as errors:
            detached([binary, "-c", f"{store}/server.conf"], pass_fds=[lock], stderr=errors.fileno())
    finally:
        os.close(lock)  # without unlocking: from here on the server's copy alone keeps it
    return True


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


def _refuse_second(store: Path) -> None:
    """Somebody deleted the lock file below a running server: the lock is free, the data is not."""
    pid = unlocked_server_pid(store)
    if pid is not None:
        raise StoreError(
            f"{store}/lock was deleted while the server (pid {pid}) was running: end that server (kill {pid}) first",
            trouble="configuration",
        )


def _record_for(store: Path, version: str) -> Record:
    """The stored record, with a new port and new secrets when a stranger has taken the port."""
    record = read_record(store)
    if record is None or not _is_free(record.port):
        # New secrets too: clients that were reconnecting have shown the old ones to whoever is there.
        newest = version if record is None else max(version, record.server_version, key=_numbers)
        record = new_record(_free_port(), newest)
    if _numbers(record.server_version)[:2] > _numbers(version)[:2]:
        raise StoreError(
            f"the data in {store} was written by nats-server {record.server_version}, this one is {version}: "
            "an older server may misread it, use the newer one (CROSSFADE_NATS_SERVER)",
            trouble="configuration",
        )
    record = record._replace(server_version=max(version, record.server_version, key=_numbers))
    if record != read_record(store):
        write_record(store, record)
    return record


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _free_port() -> int:
    for _ in range(100):
        port = secrets.choice(_PORTS)
        if _is_free(port):
            return port
    raise StoreError(f"no free port found from {_PORTS.start} to {_PORTS.stop}", trouble="configuration")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: old closed connections
        try:
            trial.bind((HOST, port))
            trial.listen()
        except OSError:
            return False
        return True


def _configuration(store: Path, record: Record) -> str:
    opened = json.dumps(str(store), ensure_ascii=False)[:-1]  # the template closes the quotes
    return _CONFIGURATION.format(host=HOST, store=opened, user=USER, system_user=SYSTEM_USER, **record._asdict())


def _fresh_errors(store: Path) -> BinaryIO:
    """An empty server.err; a crash's last words stay readable for one more start."""
    path = store / "server.err"
    with named(path):
        if path.exists() and path.stat().st_size:
            path.replace(store / "server.err.old")
        return path.open("wb")


def detached(argv: Sequence[str], *, pass_fds: Sequence[int] = (), stderr: int = subprocess.DEVNULL) -> None:
    """Start a process that nobody waits for: init inherits it when this process ends. Raises ``StoreError``."""
    try:
        subprocess.Popen(  # noqa: S603 - no shell; the application has checked the binary
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise StoreError(f"{argv[0]} cannot be run: {error.strerror}", trouble="configuration") from error
