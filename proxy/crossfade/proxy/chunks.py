"""The chunked coding, read strictly and written plainly (RFC 9112, section 7.1).

A size is one to fifteen hex digits, a line ends with CRLF, extensions are read by their grammar and dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .framing import Refusal, RefusedError
from .heads import HEAD_TOO_LARGE, Field, parse_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .limits import Limits

CHUNK_MALFORMED = Refusal("chunk-malformed", 400, "A chunk is its size in hex, CRLF, as many bytes, CRLF.")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;[ \t]*+" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+)*+\r\n"
)
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
# Longer lines carry nothing but a sender's wish to spend our memory.
_SIZE_LINE = 512
LAST = b"0\r\n\r\n"


class Decoder:
    """Takes a chunked body apart as it arrives."""

    __slots__ = ("_gap", "_held", "_in_trailers", "_left", "_limits", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = 0  # bytes of the current chunk still to come
        self._gap = False  # the CRLF behind a chunk's data is still to come
        self._in_trailers = False
        self._held = b""
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """The body's bytes in ``data`` as pieces, and what follows the body's end (``None``: it has not ended).

        Raises ``RefusedError`` for a malformed chunk; whatever was read before it is not to be trusted either.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._gap = not self._left
                continue
            if self._gap:
                if data[at : at + 2] == b"\r\n":
                    at += 2
                    self._gap = False
                    continue
                if size - at < 2 and data[at:] == b"\r":
                    break
                raise RefusedError(CHUNK_MALFORMED)
            if self._in_trailers:
                end = self._trailers_end(data, at)
                if end < 0:
                    break
                return pieces, data[end:]
            line = _SIZE.match(data, at, at + _SIZE_LINE)
            if line is None:
                self._judge_unfinished(data, at)
                break
            at = line.end()
            self._left = int(line[1], 16)
            self._in_trailers = not self._left
        self._held = data[at:]
        return pieces, None

    def _judge_unfinished(self, data: bytes, at: int) -> None:
        rest = data[at : at + _SIZE_LINE]
        if len(rest) == _SIZE_LINE or b"\n" in rest or re.match(rb"[0-9A-Fa-f]{1,15}(?:\r?$|;)", rest) is None:
            raise RefusedError(CHUNK_MALFORMED)

    def _trailers_end(self, data: bytes, at: int) -> int:
        if data[at : at + 2] == b"\r\n":
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(data)) - at > self._limits.header_bytes:
            raise RefusedError(HEAD_TOO_LARGE)
        if end >= 0:
            self.trailers = parse_fields(data[at : end + 2], limits=self._limits)
            return end + 4
        if _BARE_LINE_FEED.search(data, at):
            raise RefusedError(CHUNK_MALFORMED)
        return -1


def encode(data: bytes) -> tuple[bytes, bytes, bytes]:
    """``data`` (not empty: that would be the end) as one chunk, in parts to be written one after another."""
    return b"%x\r\n" % len(data), data, b"\r\n"


def last(trailers: Sequence[Field]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"
