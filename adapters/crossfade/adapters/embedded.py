"""``embedded://PATH``: a real nats-server on a directory, started when needed, shared by every process that names it.

There is one server per directory, whoever starts it, and it belongs to nobody: it outlives the process that
started it, whoever connects next adopts it, a crashed one is started again on the same port with the same
secret by any process that is connected or connects, and it is stopped when nobody has used it for a while.
``docs/explanation/embedded.md`` says how, and what is not promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qsl, unquote

from crossfade.shim.errors import BusRefusedError, BusUnavailableError, ConfigurationError

from ._embedded import store as stores
from ._embedded.binary import find_binary
from ._embedded.processes import boot_command, keeper_pid, server_pid, terminate
from ._embedded.wire import USER, facts, probe

if TYPE_CHECKING:
    from collections.abc import Generator

    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import Bus, BusSettings

    from ._embedded.wire import Presence

__all__ = ["ServerAddress", "ServerStatus", "directory", "ensure_server", "open_bus", "status", "stop"]

_SCHEME = "embedded://"
_POLL = 0.02  # seconds between looks while a server starts
_PROBE = 1.0  # seconds a running server may take to greet: it answers in one millisecond, a busy machine in more
_STARTER = 15.0  # seconds for a start to be tried; it takes 0.1
_RESTARTS = 3  # servers that end before they answer, until one call gives up
# The server outlives the application and must not carry its environment, which may hold secrets.
_ENVIRONMENT = ("GO", "LD_", "DYLD_", "HOME", "LANG", "LC_", "PATH", "TMPDIR", "TZ")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """Where the server of a store listens. ``url`` holds the secret and works with any NATS client."""

    host: str
    port: int
    user: str
    token: str

    @property
    def url(self) -> str:
        """``nats://user:token@host:port``."""
        return f"nats://{self.user}:{self.token}@{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStatus:
    """What is known of a store's server without starting it.

    ``running``: the process is there; ``answering``: it answers, too. ``store_bytes`` is the data on disk,
    ``uptime`` and ``idle`` are seconds, ``idle`` 0 means that it is never stopped. What cannot be known is ``None``.
    """

    path: Path
    running: bool
    answering: bool
    pid: int | None
    port: int | None
    version: str | None
    connections: int | None
    store_bytes: int
    uptime: float | None
    idle: float


def open_bus(url: str, settings: BusSettings, hooks: Hooks) -> Bus:
    """A bus on the server of ``embedded://PATH[?idle=SECONDS]``, which is started when it is opened.

    PATH is relative to the working directory at this moment; ``idle=0``: never stop the server. Raises
    ``ConfigurationError`` for a URL it cannot use.
    """
    from .nats import Endpoint, NatsBus, Options  # noqa: PLC0415 - `crossfade bus status` needs no client

    path, idle = _parse(url)
    patience = 0.8 * settings.connect_timeout  # our answer says more than the bus's own timeout does

    async def locate() -> Endpoint:
        address = await asyncio.to_thread(ensure_server, path, idle=idle, timeout=patience)
        return Endpoint(servers=(f"{address.host}:{address.port}",), user=address.user, password=address.token)

    return NatsBus(locate, settings, hooks, scheme="embedded", options=Options(synced=True))


def ensure_server(path: str | Path, *, idle: float | None = None, timeout: float = 10.0) -> ServerAddress:
    """Where the server of ``path`` listens; it is started when there is none, and waited for until it answers.

    ``idle`` sets after how many seconds without use it is stopped (``None``: leave as it is, 60 at first).
    ``timeout`` is seconds. Any number of processes may call this at once. Raises ``BusUnavailableError`` when no
    server answers in time, ``ConfigurationError`` (``MissingExtraError`` among them) when none can be run here,
    ``BusRefusedError`` when the disk is full or fails.
    """
    store = _resolve(path)
    deadline = time.monotonic() + timeout
    with _named_errors():
        stores.create(store)
        if idle is not None and idle != stores.read_idle(store):
            stores.write_idle(store, idle)
        stores.touch(store)  # before looking: from here on the keeper leaves the server alone
        record, asked = _reach(store, deadline)
        if not asked and keeper_pid(store) is None and stores.read_idle(store) > 0:
            _run_starter(store)
    return ServerAddress(host=stores.HOST, port=record.port, user=USER, token=record.token)


def status(path: str | Path) -> ServerStatus:
    """What is known of the server of ``path``; starts nothing and does not count as use."""
    store = _resolve(path)
    with _named_errors():
        record, pid = stores.read_record(store), server_pid(store)
        idle = stores.read_idle(store)
    found = None
    if record and pid:
        with contextlib.suppress(OSError, ValueError):  # told to the caller as answering=False
            found = facts(record, timeout=_PROBE)
    return ServerStatus(
        path=store,
        running=pid is not None,
        answering=found is not None,
        pid=pid,
        port=record.port if record else None,
        version=str(found["version"]) if found else None,
        connections=int(found["connections"]) - 1 if found else None,  # without the one that asked
        store_bytes=stores.size(store),
        uptime=_seconds(found["start"], found["now"]) if found else None,
        idle=idle,
    )


def stop(path: str | Path, *, timeout: float = 10.0) -> bool:
    """Stop the server of ``path``, and its keeper; returns whether one was running.

    Connected applications start it again. Raises ``BusUnavailableError`` when it does not end within
    ``timeout`` seconds: nothing stronger than SIGTERM is sent.
    """
    store = _resolve(path)
    pid = server_pid(store)
    if pid is not None:
        terminate(pid, lambda: server_pid(store) == pid)
        deadline = time.monotonic() + timeout
        while server_pid(store) == pid:
            if time.monotonic() > deadline:
                raise BusUnavailableError(
                    f"the server (pid {pid}) of {store} has not ended {timeout:g} s after SIGTERM: if it is paused, "
                    f"let it go on (kill -CONT {pid})"
                )
            time.sleep(_POLL)
    keeper = keeper_pid(store)
    if keeper is not None and server_pid(store) is None:
        terminate(keeper, lambda: keeper_pid(store) == keeper)
    return pid is not None


# -- finding and starting --------------------------------------------------------------------------------------


def _reach(store: Path, deadline: float) -> tuple[stores.Record, bool]:
    """The record of a server that answers, and whether the starter was asked; it is whenever there is none."""
    started, again, pause = 0, 0.0, 0.25
    while True:
        record = stores.read_record(store)
        patience = max(_POLL, min(_PROBE, deadline - time.monotonic()))
        presence: Presence = probe(record, timeout=patience) if record else "absent"
        if record and presence == "ours":
            return record, again > 0
        if time.monotonic() >= deadline:
            _give_up(store, presence)
        if time.monotonic() >= again and server_pid(store) is None:
            if started > _RESTARTS:  # here the last one has ended, too, and said why
                _give_up(store, presence)
            started += _run_starter(store)
            again, pause = time.monotonic() + pause, min(2 * pause, 1.0)
        time.sleep(_POLL)


def _run_starter(store: Path) -> bool:
    """Start the server and the keeper where missing; ``False`` when another process has the store."""
    binary = find_binary(store)
    command = boot_command(_python(), "starter", store, binary.path, binary.version)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    try:
        ended = subprocess.run(  # noqa: S603 - no shell
            command,
            capture_output=True,
            text=True,
            timeout=_STARTER,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BusUnavailableError(f"starting the server of {store} took more than {_STARTER:g} s") from error
    except OSError as error:
        raise ConfigurationError(f"{command[0]} cannot be run: {error.strerror}") from error
    if not ended.stdout.strip():  # killed, or it crashed
        raise BusUnavailableError(f"the server of {store} was not started: {ended.stderr.strip()[-500:] or 'killed'}")
    report = json.loads(ended.stdout)
    if "text" in report:
        raise stores.StoreError(report["text"], trouble=report["trouble"])
    return bool(report["started"])


def _python() -> str:
    """The interpreter; inside uWSGI and other hosts, ``sys.executable`` is the host."""
    if Path(sys.executable or "").name.startswith("python"):
        return sys.executable
    return str(Path(sys.exec_prefix) / "bin" / "python3")


def _give_up(store: Path, presence: Presence) -> NoReturn:
    pid = server_pid(store)
    if pid is not None:
        raise BusUnavailableError(
            f"the server (pid {pid}) of {store} does not answer and is not being replaced, because it holds the data: "
            f"it is paused (kill -CONT {pid}), overloaded, or still reading its data (see {store}/server.log)"
        )
    if presence in ("silent", "stranger"):
        raise BusUnavailableError(f"{store} has no server that answers, and something else listens on its port")
    raise BusUnavailableError(
        f"no server of {store} answers here. If one runs in another container or on another machine it holds the data "
        f"and is not being replaced; if it ended at once, this is why: {_last_words(store) or 'it left no word'}"
    )


def _last_words(store: Path) -> str:
    """The last complaint in the server's logs."""
    for name in ("server.err", "server.log"):
        with contextlib.suppress(FileNotFoundError):
            lines = (store / name).read_text(errors="replace")[-20_000:].splitlines()
            grave = [line for line in lines if name == "server.err" or "[FTL]" in line or "[ERR]" in line]
            if grave:
                return grave[-1].strip()
    return ""


# -- what the user wrote -----------------------------------------------------------------------------------------


def directory(url: str) -> Path:
    """The directory of ``embedded://PATH``, absolute. Raises ``ConfigurationError``."""
    return _parse(url)[0]


def _parse(url: str) -> tuple[Path, float | None]:
    text, _, query = url.removeprefix(_SCHEME).partition("?")
    if not url.startswith(_SCHEME) or not text:
        raise ConfigurationError(f"{url!r} names no directory: write embedded://PATH", where="CROSSFADE_BUS")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = set(options) - {"idle"}
    if unknown:
        raise ConfigurationError(f"unknown option {min(unknown)!r}: there is idle", where="CROSSFADE_BUS")
    return _resolve(unquote(text)), _idle(options["idle"]) if "idle" in options else None


def _idle(text: str) -> float:
    try:
        idle = float(text)
    except ValueError:
        idle = -1.0
    if not 0 <= idle <= 10**9:
        raise ConfigurationError(f"option 'idle' is {text!r}: give seconds, 0 for never", where="CROSSFADE_BUS")
    return idle


def _resolve(path: str | Path) -> Path:
    """One name for one store: absolute, without links."""
    if sys.platform == "win32":
        raise ConfigurationError(
            "embedded:// does not work on Windows yet: run nats-server yourself and use nats://HOST:PORT, or use WSL"
        )
    try:
        store = Path(path).expanduser().resolve()
        str(store).encode()
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigurationError(f"{path!r} cannot be the directory of a store: {error}") from error
    if any(not character.isprintable() for character in str(store)):
        raise ConfigurationError(f"{str(store)!r} cannot be the directory of a store: use printable characters")
    return store


def _seconds(start: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(start)).total_seconds()


@contextlib.contextmanager
def _named_errors() -> Generator[None]:
    try:
        yield
    except stores.StoreError as error:
        family = BusRefusedError if error.trouble == "disk" else ConfigurationError
        raise family(str(error)) from error.__cause__
