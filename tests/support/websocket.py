"""WebSocket frames as bytes (RFC 6455, 5): enough to build wrong ones and to read any."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.nasty_upstream import answer
from support.raw_client import Client, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.strict_http import Response

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = base64.b64encode(b"0123456789abcdef").decode()
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Frame:
    """One frame, unmasked."""

    opcode: int
    payload: bytes
    final: bool = True

    @property
    def code(self) -> int | None:
        """A close frame's code; 1005 where there is none."""
        return struct.unpack(">H", self.payload[:2])[0] if len(self.payload) >= 2 else 1005


def frame(opcode: int, payload: bytes = b"", *, masked: bool, final: bool = True) -> bytes:
    """A frame's bytes; clients mask."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    extended = b"" if size < 126 else struct.pack(">H" if size < 1 << 16 else ">Q", size)
    head = bytes([opcode | (0x80 if final else 0), short | (0x80 if masked else 0)]) + extended
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def read_frame(read: Callable[[int], bytes]) -> Frame | None:
    """The next frame, or nothing at the end; ``read`` gives exactly so many bytes, or fewer at the end."""
    head = read(2)
    if len(head) < 2:
        return None
    size = head[1] & 0x7F
    if size > 125:
        wide = 2 if size == 126 else 8
        size = int.from_bytes(read(wide), "big")
    mask = read(4) if head[1] & 0x80 else b""
    payload = read(size)
    if len(payload) < size:
        return None
    return Frame(head[0] & 0x0F, _masked(payload, mask) if mask else payload, final=bool(head[0] & 0x80))


def upgrade(target: str = "/ws", *lines: str | bytes, key: str | None = KEY, version: str | None = "13") -> bytes:
    """The bytes of a handshake."""
    own = [f"Sec-WebSocket-Key: {key}"] if key else []
    own += [f"Sec-WebSocket-Version: {version}"] if version else []
    return request("GET", target, "Connection: Upgrade", "Upgrade: websocket", *own, *lines)


def accepted(*lines: str) -> bytes:
    """The bytes of the answer that grants it."""
    accept = base64.b64encode(hashlib.sha1((KEY + GUID).encode(), usedforsecurity=False).digest()).decode()
    fields = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}", *lines)
    return answer("101 Switching Protocols", *fields)


def shake(client: Client, *lines: str | bytes) -> Response:
    """Ask for a WebSocket; the answer's head."""
    return client.send(upgrade("/ws", *lines)).head()
