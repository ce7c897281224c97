"""A worker's health over HTTP, for load balancers and supervisors: ``GET /healthz``, and its metrics if it has any.

200 while it serves, 503 while it starts, stops, or the bus is away, and once every slot of a seam is stuck with a
handler that does not end, which only a restart helps; the body is the same JSON either way. It answers on the loop
that serves the bus, so an answer shows that this loop turns. Nothing but the standard library, one request a
connection, no input beyond the request line: it listens on loopback unless somebody wants it otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol

from .errors import ConfigurationError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PATIENCE: Final = 5.0  # seconds for a whole request
_HEAD: Final = 8192  # bytes of request line and headers
_JSON: Final = "application/json"

_log = logging.getLogger("crossfade")

Status = Literal["starting", "serving", "stuck", "no-bus", "stopping"]


class Condition(Protocol):
    """What a process says of itself: a dataclass, shown as JSON. It is well when ``status`` is ``serving``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def status(self) -> str:
        """One word."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How a worker is.

    ``in_flight``: calls in hand; ``spooled``: results on disk that the bus has not taken yet; ``stuck``: by seam, how
    many handlers run on though they were told to stop.
    """

    status: Status
    seams: tuple[str, ...]
    in_flight: int
    connected: bool
    spooled: int
    stuck: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, anywhere: bool = False) -> Address:
        """``HOST:PORT``. Raises ``ConfigurationError`` for anything else, and for a host off this machine.

        ``anywhere``: that is wanted, whoever can reach the port then learns the seams' names and how busy they are.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or int(port) > 65_535:
            raise ConfigurationError(
                f"{text!r} is no HOST:PORT: use one like 127.0.0.1:8080, port 0 to have one chosen",
                where="--health",
            )
        if not anywhere and not _is_loopback(host):
            raise ConfigurationError(
                f"{host} can be reached from other machines: say --health-anywhere if it shall be", where="--health"
            )
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HealthServer:
    """Answers ``GET /healthz`` with what ``look`` says. Its coroutines run on the loop that ``look`` runs on.

    ``metrics`` gives the media type and body of ``GET /metrics``, in a thread, so that no call waits for a long page;
    without it there is no such path.
    """

    def __init__(
        self, look: Callable[[], Awaitable[Condition]], *, metrics: Callable[[], tuple[str, bytes]] | None = None
    ) -> None:
        self._look = look
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def start(self, address: Address) -> Address:
        """Listen; returns where. Raises ``ConfigurationError`` when that address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._serve, address.host, address.port, limit=_HEAD)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address}: {os.strerror(error.errno) if error.errno else error}", where="--health"
            ) from error
        return Address(host=address.host, port=self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            report.count("health-request-failed", reason=type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        paths = ["/healthz"] if self._metrics is None else ["/healthz", "/metrics"]
        if path not in paths:
            return _response("404 Not Found", {"error": f"there is only {' and '.join(paths)}"}, method)
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", {"error": "GET it"}, method)
        if self._metrics is not None and path == "/metrics":
            return await _measured(self._metrics, method)
        health = await self._look()
        status = "200 OK" if health.status == "serving" else "503 Service Unavailable"
        return _response(status, asdict(health), method)


async def _measured(metrics: Callable[[], tuple[str, bytes]], method: str) -> bytes:
    """The metrics; collectors of the user's own are among them, and may fail."""
    try:
        media_type, data = await asyncio.to_thread(metrics)
    except Exception as error:
        _log.exception("the metrics cannot be read")
        report.count("metrics-failed", reason=type(error).__name__)
        return _response("500 Internal Server Error", {"error": "see the worker's log"}, method)
    return _head("200 OK", media_type, len(data)) + (b"" if method == "HEAD" else data)


def _response(status: str, body: object, method: str) -> bytes:
    data = json.dumps(body).encode()
    return _head(status, _JSON, len(data)) + (b"" if method == "HEAD" else data)


def _head(status: str, media_type: str, length: int) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if status.startswith("405") else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n"
        f"Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
    ).encode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
