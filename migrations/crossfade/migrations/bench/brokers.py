"""The brokers of a benchmark, each on loopback and on a store of its own that goes with it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats
import nats.errors

from crossfade.adapters._embedded.binary import find_binary
from crossfade.adapters.embedded import ensure_server, status, stop

from .environments import PeerUnavailableError
from .processes import free_port, server

if TYPE_CHECKING:
    from collections.abc import Generator

_STARTING: Final = 20.0  # seconds
_nats: Final[Any] = nats  # partly annotated


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A running broker: ``url`` for ours, ``server`` for other clients, what is durable when it acknowledges.

    ``synced``: on disk by then. ``pids`` are its processes, ``replicas`` how many copies of each message its streams
    have.
    """

    url: str
    server: str
    durability: str
    pids: tuple[int, ...]
    synced: bool = False
    replicas: int = 1


@contextmanager
def embedded() -> Generator[Broker]:
    """What ``embedded://`` starts: one server that is on disk before it acknowledges."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        path = Path(folder) / "bus"
        try:
            address = ensure_server(path, idle=60)
            url = f"embedded://{path}?idle=60"
            yield Broker(
                url=url, server=address.url, durability="sync always", pids=(status(path).pid or 0,), synced=True
            )
        finally:
            stop(path)


@contextmanager
def one_nats() -> Generator[Broker]:
    """One nats-server as it comes: on disk within two minutes of its acknowledgement."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, ExitStack() as stack:
        port = free_port()
        pid = stack.enter_context(_nats_server(Path(folder), port))
        url = f"nats://127.0.0.1:{port}"
        yield Broker(url=url, server=url, durability="sync default", pids=(pid,))


@contextmanager
def three_nats() -> Generator[Broker]:
    """A cluster of three as they come: two have it in memory before an acknowledgement."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder, ExitStack() as stack:
        ports, routes = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
        known = ", ".join(f"nats-route://127.0.0.1:{route}" for route in routes)
        pids = tuple(
            stack.enter_context(
                _nats_server(
                    Path(folder) / str(port),
                    port,
                    f"cluster {{ name: bench, listen: 127.0.0.1:{route}, routes: [{known}] }}",
                )
            )
            for port, route in zip(ports, routes, strict=True)
        )
        _elect([f"nats://127.0.0.1:{port}" for port in ports])
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Broker(
            url=f"nats://{hosts}?replicas=3",
            server=f"nats://127.0.0.1:{ports[0]}",
            durability="R3, sync default",
            pids=pids,
            replicas=3,
        )


@contextmanager
def redis(*, synced: bool) -> Generator[Broker]:
    """redis-server as it comes, which keeps snapshots; ``synced``: on disk before it answers.

    Raises ``PeerUnavailableError`` when it is not installed.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise PeerUnavailableError("redis-server is missing: apt-get install redis-server, or brew install redis")
    options = ("--appendonly", "yes", "--appendfsync", "always") if synced else ()
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        port = free_port()
        listen = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder)
        with server([binary, *listen, *options], port, Path(folder)) as pid:
            version = _asked(port, "INFO server", "redis_version:")
            appends, syncs = _asked(port, "CONFIG GET appendonly"), _asked(port, "CONFIG GET appendfsync")
            durability = (
                f"appendonly {appends}, appendfsync {syncs}" if synced else f"its default, appendonly {appends}"
            )
            url = f"redis://127.0.0.1:{port}/0"
            yield Broker(url=url, server=url, durability=f"redis {version} ({durability})", pids=(pid,), synced=synced)


def _asked(port: int, question: str, after: str = "") -> str:
    """What Redis answers: the line that begins with ``after``, else the last one."""
    with socket.create_connection(("127.0.0.1", port), timeout=_STARTING) as client:
        client.sendall(f"{question}\r\nQUIT\r\n".encode())
        lines = client.makefile("rb").read().decode().splitlines()[:-1]
    return next(line.removeprefix(after) for line in reversed(lines) if line.startswith(after))


def _elect(urls: list[str]) -> None:
    """Wait until the servers of a cluster agree on who leads."""

    async def elected() -> None:
        client: Any = await _nats.connect(urls)
        try:
            while True:
                try:
                    await client.jetstream(timeout=1).add_stream(name="ELECTED", subjects=["elected"], num_replicas=3)
                except (nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.1)
                else:
                    return
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(elected(), _STARTING))


@contextmanager
def _nats_server(folder: Path, port: int, more: str = "") -> Generator[int]:
    folder.mkdir(exist_ok=True)
    config = folder / "server.conf"
    store = f'jetstream {{ store_dir: "{folder}/store", max_file_store: 100TB }}'
    config.write_text(f"listen: 127.0.0.1:{port}\nserver_name: bench-{port}\n{store}\n{more}\n")
    with server([str(find_binary(folder).path), "-c", str(config)], port, folder) as pid:
        yield pid
