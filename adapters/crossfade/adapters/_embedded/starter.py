"""Starts a store's server unless one is running; a process of its own, which ends as soon as that is done.

Why not in the application: the data lock lives as long as any descriptor of it is open. An application that
forks (gunicorn, multiprocessing) while one of its threads holds the lock would hand it to a child that is no
server, and nobody could start one again. It also makes the server an orphan from its first moment: the
application has no child to reap, and killing the application's process group does not reach it.

Arguments: STORE BINARY VERSION. Prints one line of JSON: whether it started a server, or the trouble.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .locks import take_lock
from .processes import boot_command, unlocked_server_pid, write_pid
from .store import HOST, Record, StoreError, named, read_idle, read_record, write_private, write_record
from .wire import SYSTEM_USER, USER

if TYPE_CHECKING:
    from collections.abc import Sequence

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
  # A number only: streams reserve their caps against it, and by default it would be what the disk has free today.
  max_file_store: 100TB
  sync_interval: always
}}
"""


def main() -> None:
    """Read the arguments, act, report on stdout."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the application's thread blocked is not ours to keep
    os.chdir("/")
    store, binary, version = Path(sys.argv[-3]), *sys.argv[-2:]
    try:
        started = start(store, binary, version)
        if read_idle(store) > 0:
            start_keeper(store)
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


def start_keeper(store: Path) -> None:
    """Spawn the keeper with its own lock in its hands, unless there is one. Raises ``StoreError``."""
    own = take_lock(store / "keeper.lock")
    if own is None:
        return
    try:
        # Its pid is written here, not by itself: whoever stops the server right away must find its keeper, too.
        write_pid(own, detached(boot_command(sys.executable, "keeper", store, str(own)), pass_fds=[own]))
    finally:
        os.close(own)


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
        record = _new_record(newest)
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


def _new_record(version: str) -> Record:
    return Record(
        port=_free_port(),
        name=f"crossfade-{os.urandom(16).hex()}",
        token=os.urandom(24).hex(),
        system_token=os.urandom(24).hex(),
        server_version=version,
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _free_port() -> int:
    for _ in range(100):
        port = _PORTS[int.from_bytes(os.urandom(4)) % len(_PORTS)]
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


def detached(argv: Sequence[str], *, pass_fds: Sequence[int] = (), stderr: int = subprocess.DEVNULL) -> int:
    """Start a process that nobody waits for, since init inherits it; returns its pid. Raises ``StoreError``."""
    try:
        return subprocess.Popen(  # noqa: S603 - no shell; the application has checked the binary
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        ).pid
    except OSError as error:
        raise StoreError(f"{argv[0]} cannot be run: {error.strerror}", trouble="configuration") from error
