"""The brokers of a benchmark, each on loopback and on a store of its own that goes with it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossfade.adapters.embedded import ensure_server, status, stop

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A running bus: ``url`` for ours, ``server`` (``nats://``) for bare clients, the servers' processes."""

    url: str
    server: str
    durability: str
    pids: tuple[int, ...]
    replicas: int = 1


@contextmanager
def embedded() -> Generator[Broker]:
    """What ``embedded://`` starts: one server, ``sync_interval: always``."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        path = Path(folder) / "bus"
        try:
            address = ensure_server(path, idle=60)
            yield Broker(
                url=f"embedded://{path}?idle=60",
                server=address.url,
                durability="sync always",
                pids=(status(path).pid or 0,),
            )
        finally:
            stop(path)
