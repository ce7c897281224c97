"""One process of a configured proxy, from its first connection to its last: signals, reload, drain."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import secrets
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from crossfade.shim.errors import ConfigurationError, CrossfadeError

from .config import Address
from .reload import Reloader, tell_refused
from .route_seams import RouteSeams
from .routing import Routing, serving_of
from .serving import DataPlane, loop_factory
from .workers import Supervisor, heed_signals, reserve

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config
    from .serving import Serving


def run(
    config: Config,
    read: Callable[[], Config],
    *,
    ready: Callable[[Address], None],
    bus: str | None = None,
    name: str = "",
    reuse_port: bool = False,
    lifeline: int | None = None,
) -> None:
    """Serve ``config`` until SIGTERM or SIGINT, then drain; a second one ends it at once. SIGHUP applies ``read``.

    ``ready`` is told the address that was bound, ``bus`` is where routes that are seams send commands, ``name`` is
    what all processes of one proxy share (see ``Serving``), and the end of ``lifeline``, a pipe, is as good as a
    SIGTERM: the process at its other end is gone.
    Raises ``ConfigurationError`` when that address or a certificate cannot be had.
    """
    # What is loaded stays for good: the collector need not look at it again, nor after every 700 objects.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    serving = serving_of(config, name=name, reuse_port=reuse_port)
    seams = RouteSeams(bus)
    seams.declare(config)
    with seams, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(config, read, serving, seams, ready=ready, lifeline=lifeline))


def run_together(
    config: Config,
    read: Callable[[], Config],
    count: int,
    *,
    ready: Callable[[Address], None],
    bus: str | None = None,
) -> bool:
    """As ``run``, by ``count`` processes that share the address; whether all of them ended well.

    A file is checked here before the workers read it, so they all take a new one or none does; and one that dies is
    started again with the last that was good.
    """
    current = config
    name = f"crossfade-{secrets.token_hex(4)}"

    def accept() -> bool:
        nonlocal current
        try:
            current = read()
        except CrossfadeError as error:
            tell_refused(error)
            return False
        return True

    def work(lifeline: int, serving: Callable[[], None]) -> None:
        settings = replace(current, listen=address)
        run(settings, read, ready=lambda _: serving(), bus=bus, name=name, reuse_port=True, lifeline=lifeline)

    try:
        reserved = reserve(config.listen.host, config.listen.port)
    except OSError as error:
        raise cannot_listen(config.listen, error) from error
    with reserved:
        address = Address(host=config.listen.host, port=int(reserved.getsockname()[1]))
        return Supervisor(count, work, accept=accept, ready=lambda: ready(address)).run()


async def _serve(
    config: Config,
    read: Callable[[], Config],
    serving: Serving,
    seams: RouteSeams,
    *,
    ready: Callable[[Address], None],
    lifeline: int | None,
) -> None:
    plane = DataPlane(serving)
    seams.tell_of(plane)
    plane.resolve = Routing(config, config.router(), plane.pools, seams.declare(config)).resolve
    reloader = Reloader(plane, config, read, seams)
    stop = _on_signals(plane, reloader, lifeline)  # first: who sees it accept may send a SIGHUP, which would end it
    try:
        host, port = await plane.listen()
    except OSError as error:
        raise cannot_listen(config.listen, error) from error
    ready(Address(host=host, port=port))
    await stop.wait()
    await plane.drain()


def cannot_listen(address: Address, error: OSError) -> ConfigurationError:
    """Why not, in the operating system's words, and what to do."""
    why = os.strerror(error.errno) if error.errno else str(error)
    taken = error.errno == errno.EADDRINUSE
    remedy = "stop what listens there, or choose another address" if taken else "choose an address of this machine's"
    return ConfigurationError(f"cannot listen on {address}: {why}; {remedy}", where="listen")


def _on_signals(plane: DataPlane, reloader: Reloader, lifeline: int | None) -> asyncio.Event:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def end() -> None:
        if stop.is_set():
            plane.server.abort()
        stop.set()

    if lifeline is not None:
        loop.add_reader(lifeline, _abandoned, loop, lifeline, stop)
    if sys.platform != "win32":  # where Ctrl-C raises KeyboardInterrupt
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        loop.add_signal_handler(signal.SIGHUP, reloader.request)
    heed_signals()
    return stop


def _abandoned(loop: asyncio.AbstractEventLoop, lifeline: int, stop: asyncio.Event) -> None:
    loop.remove_reader(lifeline)
    stop.set()
