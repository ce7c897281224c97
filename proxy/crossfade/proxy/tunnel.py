"""What a connection becomes after 101: bytes both ways, each side's end passed on, nobody faster than the other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
from typing import TYPE_CHECKING, Protocol

from .framing import Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .heads import RequestHead, ResponseHead

WEBSOCKET_KEY = Refusal("websocket-key", 400, "A WebSocket handshake is a GET with a Sec-WebSocket-Key of 16 bytes.")
WEBSOCKET_VERSION = Refusal("websocket-version", 426, "The WebSocket version spoken here is 13.")
WEBSOCKET_PROTOCOL = Refusal("websocket-protocol", 400, "Sec-WebSocket-Protocol is a list of tokens.")

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def judge_handshake(request: RequestHead) -> None:
    """Raise ``RefusedError`` for a WebSocket request that cannot succeed (RFC 6455, 4.2.1); other protocols pass."""
    if request.upgrade.lower() != b"websocket":
        return
    key = request.get(b"sec-websocket-key")
    if request.method != b"GET" or key is None or _KEY.fullmatch(key) is None:
        raise RefusedError(WEBSOCKET_KEY)
    if request.get(b"sec-websocket-version") != b"13":
        raise RefusedError(WEBSOCKET_VERSION)
    if not (request.get(b"sec-websocket-protocol") or b"").isascii():
        raise RefusedError(WEBSOCKET_PROTOCOL)


def judge_switch(request: RequestHead, response: ResponseHead) -> bool:
    """Whether a 101 is the answer to this request: to the same protocol, and of one who read the key."""
    if response.upgrade.lower() not in {offer.strip().lower() for offer in request.upgrade.split(b",")}:
        return False
    if response.upgrade.lower() != b"websocket":
        return True
    key = request.get(b"sec-websocket-key") or b""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return response.get(b"sec-websocket-accept") == accept


class Side(Protocol):
    """One connection of a tunnel."""

    transport: asyncio.Transport

    def set_reading(self, reading: bool) -> None:
        """Stop or go on reading."""
        ...


class Tunnel:
    """Joins two sides. ``over`` is called once when both are done; ``timeout`` seconds of silence end it."""

    def __init__(self, client: Side, upstream: Side, *, timeout: float, over: Callable[[], None]) -> None:
        self._sides = (client, upstream)
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._over: Callable[[], None] | None = over
        self._ended: set[int] = set()
        self.received = 0
        self.sent = 0
        self.deadline = self._loop.time() + timeout
        self.from_client = End(self, 0)
        self.from_upstream = End(self, 1)

    def data(self, side: int, data: bytes) -> None:
        """``data`` from ``side`` (0: the client) for the other."""
        if side:
            self.sent += len(data)
        else:
            self.received += len(data)
        self.deadline = self._loop.time() + self._timeout
        self._sides[1 - side].transport.write(data)

    def eof(self, side: int) -> None:
        """``side`` sends no more; where only one direction cannot end (TLS), both do."""
        self._ended.add(side)
        other = self._sides[1 - side].transport
        if len(self._ended) == 2:
            self.close()
        elif other.can_write_eof() and self._sides[side].transport.can_write_eof():
            other.write_eof()
        else:
            self.close()

    def lost(self, side: int) -> None:
        """``side`` is gone: so is the tunnel."""
        self._ended.add(side)
        self.close()

    def writable(self, side: int, *, writable: bool) -> None:
        """``side`` reads too slowly, or has caught up."""
        self._sides[1 - side].set_reading(writable)

    def sweep(self, now: float) -> None:
        """End it after too long a silence."""
        if now >= self.deadline:
            self.deadline = math.inf
            self.close()

    def close(self) -> None:
        """End both sides once what was written is sent."""
        for side in self._sides:
            if not side.transport.is_closing():
                side.transport.close()
        over, self._over = self._over, None
        if over is not None:
            over()


class End:
    """A tunnel as one of its connections sees it."""

    __slots__ = ("_side", "_tunnel")

    def __init__(self, tunnel: Tunnel, side: int) -> None:
        self._tunnel = tunnel
        self._side = side

    def data(self, data: bytes) -> None:
        """Bytes for the other side."""
        self._tunnel.data(self._side, data)

    def eof(self) -> None:
        """This side sends no more."""
        self._tunnel.eof(self._side)

    def lost(self) -> None:
        """This side is gone."""
        self._tunnel.lost(self._side)

    def writable(self, writable: bool) -> None:
        """Whether this side takes more now."""
        self._tunnel.writable(self._side, writable=writable)
