"""Connecting this process to a bus. Until that has succeeded once, every seam is legacy."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from .config import DEFAULT_BUS, Config, load_config, switched_off
from .errors import BusError, BusUnavailableError, ConfigurationError, NotConnectedError
from .hooks import counters, report
from .seam import registry

if TYPE_CHECKING:
    from types import TracebackType

    from ._runtime import Runtime
    from .outcomes import Answer

_REJOIN: Final = 1.0  # seconds that the first call in a forked child waits for a connection of its own
_EXIT_FLUSH: Final = 0.5  # seconds an exiting process spends on buffered observations

_POOLS: Final = ("multiprocessing.util", "billiard.util")

_log = logging.getLogger("crossfade")

_lock = threading.Lock()
_current: Connection | None = None


class Connection:
    """What ``connect`` returns; also a context manager that disconnects."""

    def __init__(self, runtime: Runtime | None) -> None:
        self._runtime = runtime
        self._finalizers: list[Any] = []

    def close_at_exit(self) -> None:
        """Close when the process ends, also where multiprocessing (or Celery's copy of it) leaves by ``os._exit``."""
        atexit.register(self.close)
        loaded: list[Any] = [sys.modules[name] for name in _POOLS if name in sys.modules]
        self._finalizers = [module.Finalize(None, self.close, exitpriority=0) for module in loaded]

    @property
    def runtime(self) -> Runtime:
        """The engine behind it, for the worker and the command line. ``ConfigurationError`` after ``close``."""
        if self._runtime is None:
            raise ConfigurationError("the connection is closed: call connect() again")
        return self._runtime

    @property
    def connected(self) -> bool:
        """Whether the bus can be reached right now; seams are legacy until it was once."""
        return self._runtime is not None and self._runtime.ready.is_set() and self._runtime.bus.connected

    def close(self) -> None:
        """Send what observations are left within half a second, then disconnect; every seam is legacy again."""
        global _current  # noqa: PLW0603 - one connection per process
        with _lock:
            runtime, self._runtime = self._runtime, None
            if _current is self:
                _current = None
        if runtime is None:
            return
        registry.on_declare = None
        atexit.unregister(self.close)
        for finalizer in self._finalizers:
            finalizer.cancel()
        try:
            runtime.thread.run(runtime.stop(flush=_EXIT_FLUSH), timeout=10)
        finally:
            runtime.thread.stop()

    def forget(self) -> None:
        """Drop everything without a word to the bus; what was inherited belongs to the parent process."""
        self._runtime = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class StandIn(Protocol):
    """What answers ``connect`` in place of a broker."""

    def __call__(self, bus: str | None, *, required: bool) -> Connection:
        """The connection for whoever asked for ``bus``."""
        ...


stand_in: StandIn | None = None
"""Set while tests run, by ``crossfade.adapters.testing``, and in a replay: neither reaches a broker by itself."""


def current() -> Connection | None:
    """The connection of this process, or ``None``."""
    return _current


def outcome(callid: str, *, timeout: float = 5.0) -> Answer | None:
    """What the log says of a call by its id, in any connected process: ``None`` when there is no result yet.

    ``timeout`` is seconds. Raises ``NotConnectedError`` when this process is not connected, ``BusError`` when the
    log cannot be read.
    """
    from ._loop import wait_for  # noqa: PLC0415 - `import crossfade.shim` loads no asyncio

    connection = _current
    if connection is None:
        raise NotConnectedError("this process is not connected: call crossfade.shim.connect()", callid=callid)
    runtime = connection.runtime
    return wait_for(runtime.thread.spawn(runtime.calls.outcome(callid)), timeout)


def connect(
    bus: str | None = None, *, config: Config | None = None, wait: float = 5.0, required: bool = False
) -> Connection:
    """Connect this process to ``bus`` (else ``CROSSFADE_BUS``, else ``crossfade.toml``, else an embedded one).

    Waits up to ``wait`` seconds. When the broker cannot be reached by then the process goes on: its seams stay
    legacy, a warning is logged, and the connection is made in the background as soon as it can be. With
    ``required`` that raises the ``BusError`` instead. Raises ``ConfigurationError`` for settings that are wrong,
    and when the process is connected to something else already; connecting again to the same bus returns the
    connection there is.
    """
    global _current  # noqa: PLW0603 - one connection per process
    if stand_in is not None:
        return stand_in(bus, required=required)
    new = False
    config = config or load_config()
    url = bus or config.bus or DEFAULT_BUS
    with _lock:
        if _current is not None:
            if _current.runtime.url != url:
                raise ConfigurationError(
                    f"this process is connected to {_current.runtime.shown_url} already: close that connection first"
                )
            connection = _current
        else:
            connection = _current = Connection(_start(url, config))
            connection.close_at_exit()
            new = True
    try:
        _wait(connection, wait, required=required)
    except BusError:
        if new:  # else it belongs to whoever connected first
            connection.close()
        raise
    return connection


def _start(url: str, config: Config) -> Runtime:
    from ._runtime import Runtime  # noqa: PLC0415 - `import crossfade.shim` loads no asyncio
    from .buses import open_bus  # noqa: PLC0415
    from .ports import BusSettings  # noqa: PLC0415
    from .redaction import Redactor  # noqa: PLC0415
    from .sealed import Sealer  # noqa: PLC0415

    importlib.import_module(".payloads", __package__)  # loads pydantic: half a second the first call must not pay
    for seam in registry.all():
        policy = config.policy(seam.name, seam.policy)  # a wrong setting is said here, not in a background thread
        if policy.fallback == "legacy" and not seam.has_body:
            where = f'{config.path}: seams."{seam.name}".fallback'
            raise ConfigurationError("'legacy' needs a body, and shim.remote has none: leave it out", where=where)
    off = switched_off()
    opened = open_bus(url, BusSettings(prefix=config.prefix, client_name=f"crossfade {os.getpid()}"), report)
    runtime = Runtime(
        bus=opened,
        url=url,
        config=config,
        registry=registry,
        redactor=Redactor.from_environment(),
        sealer=Sealer.from_environment(),
        off=off,
    )
    registry.on_declare = runtime.declared
    runtime.thread.run(runtime.start())
    return runtime


def _wait(connection: Connection, seconds: float, *, required: bool) -> None:
    import asyncio  # noqa: PLC0415 - `import crossfade.shim` loads no asyncio

    runtime = connection.runtime
    with contextlib.suppress(TimeoutError):  # judged below, and told by the log when it fails later
        runtime.thread.run(asyncio.wait_for(runtime.settled(patient=required), seconds))
    if required and not runtime.ready.is_set():
        raise runtime.failure or BusUnavailableError(f"no answer within {seconds:g} s from {runtime.shown_url}")


def _forget_in_child() -> None:
    """A forked child has no loop thread and must not share the socket: its first call of a seam connects anew."""
    global _current, _lock  # noqa: PLW0603 - one connection per process
    _lock = threading.Lock()  # another thread of the parent's may have held it
    registry.after_fork()
    counters.after_fork()
    if _current is None:
        return
    from .rejoining import Rejoining  # noqa: PLC0415 - only who was connected pays

    url, config = _current.runtime.url, _current.runtime.config
    _current.forget()
    _current = None
    registry.on_declare = None
    rejoining = Rejoining(lambda: _rejoin(url, config))
    for seam in registry.all():
        seam.take(rejoining)


def _rejoin(url: str, config: Config) -> None:
    """Connect as the parent was, unless this process has connected by itself, or closed that again."""
    from .rejoining import Rejoining  # noqa: PLC0415 - only in a child

    waiting = [seam for seam in registry.all() if isinstance(seam.unwatched, Rejoining)]
    if _current is not None:
        url = _current.runtime.url
    try:
        connect(url, config=config, wait=_REJOIN)
    except (BusError, ConfigurationError) as error:
        report.count("connect-failed", reason=type(error).__name__)
        _log.warning("a forked process could not connect as its parent was: %s", error)
    for seam in waiting:  # not connected in time: the body answers, and connecting goes on in the background
        if isinstance(seam.unwatched, Rejoining):
            seam.take(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
