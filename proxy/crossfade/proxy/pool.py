"""The connections to one upstream: idle ones are used again, last in first out; who finds none waits a bounded time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crossfade.shim.hooks import report

from .upstream import (
    CONNECT_NAME,
    CONNECT_REFUSED,
    CONNECT_TIMEOUT,
    CONNECT_TLS,
    POOL_FULL,
    Failure,
    UpstreamConnection,
)

if TYPE_CHECKING:
    from .limits import Limits


@dataclass(frozen=True, slots=True)
class Target:
    """Where an upstream listens; ``tls`` is an https one's context, ``server_name`` what its certificate must say."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    @property
    def authority(self) -> bytes:
        """``host:port`` as a ``Host`` field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        standard = 443 if self.tls else 80
        return (host if self.port == standard else f"{host}:{self.port}").encode()


class Seeker(Protocol):
    """Who waits for a connection."""

    def connected(self, connection: UpstreamConnection) -> None:
        """Here it is."""
        ...

    def unconnected(self, failure: Failure) -> None:
        """There is none."""
        ...


class Pool:
    """Connections to the ``targets`` of the upstream called ``name``; new ones go to each target in turn.

    A target that cannot be connected to is passed over for the next: no byte of a request was sent, so any may be.
    """

    def __init__(self, name: str, targets: tuple[Target, ...], *, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.targets = targets
        self.authority = targets[0].authority
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: dict[Seeker, float] = {}
        self._turn = 0
        self._closing = False

    @property
    def busy(self) -> bool:
        """Whether anything is open, being opened or waited for."""
        return bool(self._open or self._connecting or self._waiting)

    def idle(self) -> UpstreamConnection | None:
        """A connection ready for a request, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def seek(self, seeker: Seeker) -> None:
        """Give ``seeker`` a new connection, or the next that is released; never one that is idle now."""
        if len(self._waiting) >= self.limits.upstream_waiting:
            report.count("refused", seam=self.name, reason="upstream-waiting")
            seeker.unconnected(POOL_FULL)
            return
        self._waiting[seeker] = self._loop.time() + self.limits.queue_timeout
        self._connect_more()

    def withdraw(self, seeker: Seeker) -> None:
        """``seeker`` waits no longer."""
        self._waiting.pop(seeker, None)

    def sweep(self, now: float) -> None:
        """Give up what has waited too long, and close what was idle too long."""
        # The first ones wait for connections being made, which the connect timeout judges.
        for seeker, deadline in list(self._waiting.items())[len(self._connecting) :]:
            if deadline <= now:
                del self._waiting[seeker]
                report.count("refused", seam=self.name, reason="upstream-busy")
                seeker.unconnected(POOL_FULL)
        for connection in list(self._open):
            connection.sweep(now)

    def close(self) -> None:
        """Close what is idle, and take nothing back from now on."""
        self._closing = True
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    def abort(self) -> None:
        """Close everything now."""
        self.close()
        for task in self._connecting:
            task.cancel()
        for connection in list(self._open):
            connection.transport.abort()

    # -- the connections' side -----------------------------------------------------------------------------------

    def made(self, connection: UpstreamConnection) -> None:
        """See ``Owner``."""
        self._open.add(connection)

    def released(self, connection: UpstreamConnection) -> None:
        """See ``Owner``."""
        if self._waiting:
            self._serve(connection)
        elif self._closing:
            connection.transport.close()
        else:
            connection.deadline = self._loop.time() + self.limits.upstream_idle_timeout
            self._idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """See ``Owner``."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._connect_more()

    def _serve(self, connection: UpstreamConnection) -> None:
        seeker = next(iter(self._waiting))
        del self._waiting[seeker]
        seeker.connected(connection)

    def _connect_more(self) -> None:
        room = self.limits.upstream_connections - len(self._open) - len(self._connecting)
        for _ in range(min(room, len(self._waiting) - len(self._connecting))):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.result()
            self._connect_more()

    async def _connect(self) -> None:
        failure = CONNECT_REFUSED
        for _ in self.targets:
            target = self.targets[self._turn % len(self.targets)]
            self._turn += 1
            outcome = await self._open_one(target)
            if isinstance(outcome, UpstreamConnection):
                self.released(outcome)
                return
            failure = outcome
            report.count("unconnected", seam=self.name, reason=failure.name)
        if self._waiting:
            seeker = next(iter(self._waiting))
            del self._waiting[seeker]
            seeker.unconnected(failure)

    async def _open_one(self, target: Target) -> UpstreamConnection | Failure:
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self, self._loop),
                    target.host,
                    target.port,
                    ssl=target.tls,
                    server_hostname=target.server_name if target.tls else None,
                )
        except TimeoutError:
            return CONNECT_TIMEOUT
        except socket.gaierror:
            return CONNECT_NAME
        except ssl.SSLError:
            return CONNECT_TLS
        except OSError:
            return CONNECT_REFUSED
        return connection
