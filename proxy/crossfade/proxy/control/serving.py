"""Running a control process: its socket, uvicorn, and an end that lets streams go."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from crossfade.shim.errors import ConfigurationError

from .auth import CERTIFICATE, common_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .app import Control
    from .settings import ControlSettings

_BACKLOG: Final = 2048
_SEND_BUFFER: Final = 128 * 1024  # bytes in the kernel for a browser that reads nothing
_GIVE_UP: Final = 30_000  # milliseconds until the kernel ends a connection that acknowledges nothing
_GRACE: Final = 3  # seconds for requests in flight when asked to stop


class _Server(uvicorn.Server):
    """uvicorn, which waits for open connections when it stops: streams would never end by themselves."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's own name for it
        """Asked to stop, which is no accident: uvicorn's own would end the process by the signal after all."""
        asyncio.get_running_loop().call_soon(self._leave)
        self.force_exit = self.should_exit
        self.should_exit = True


class _Connection(HttpToolsProtocol):
    """uvicorn's, which tells nobody whose certificate a client has shown."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        name = common_name(transport.get_extra_info("peercert"))
        if name:
            self.app = _Shown(self.app, name)


@dataclass(frozen=True, slots=True)
class _Shown:
    """An application, asked by somebody with a certificate."""

    app: Any
    name: str

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, CERTIFICATE: self.name}, receive, send)


def listen(settings: ControlSettings) -> socket.socket:
    """The listening socket. Raises ``ConfigurationError`` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both: what a browser that stopped reading can hold here is bounded.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GIVE_UP)
        made.bind((settings.host, settings.port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}", where="--listen"
        ) from error
    return made


async def serve(app: Any, control: Control, listening: socket.socket, *, when_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ConfigurationError`` for certificates that cannot be used."""
    settings = control.settings
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="websockets-sansio",
        loop="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # a stream's URL holds its token
        log_level=logging.WARNING,  # below it uvicorn logs each WebSocket with its URL, and so with its token
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,
        ssl_certfile=settings.certificate,
        ssl_keyfile=str(settings.key) if settings.key else None,
        ssl_ca_certs=str(settings.client_ca) if settings.client_ca else None,
        ssl_cert_reqs=ssl.CERT_OPTIONAL if settings.client_ca else ssl.CERT_NONE,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"this certificate or key cannot be used: {error}", where="--tls-certificate"
        ) from error
    server = _Server(config, lambda: control.hub.close("stopping"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.02)
        if server.started:
            await control.hub.ready.wait()
            when_ready()
        await asyncio.shield(serving)
    finally:
        control.hub.close("stopping")
        server.should_exit = True
        await serving
