"""What a head becomes on its way through: hop-by-hop fields end here, everything else passes as it was written.

Order and bytes are kept (RFC 9110, 5.3). What we add stands last, and is added after what ``Connection`` lists was
taken out, so that no client can take it out. Fields that say where a request came from are believed from trusted
peers only.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from crossfade.shim.hooks import report

from .framing import Framing, Refusal, RefusedError
from .heads import Head, RequestHead, ResponseHead, around, begin_response, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .framing import Kind
    from .heads import Field

LOOP = Refusal("loop", 508, "The request has come through this proxy before: its upstream leads back to it.")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What a listed option may not take away: the framing and the address of the message itself.
_KEPT = frozenset({b"close", b"content-length", b"host", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"})
_FORBIDDEN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"host max-forwards proxy-authorization range set-cookie te trailer transfer-encoding upgrade via "
    b"www-authenticate".split()
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """Who we are to the others: the pseudonym in ``Via``, and whose word about a client counts.

    ``guarded`` names the fields (lower case) that only trusted peers may send: they say who a user is.
    """

    name: bytes
    trusted: tuple[Network, ...] = ()
    guarded: frozenset[bytes] = frozenset()


class Peer:
    """The other end of a client connection: its ``address`` as text, and what upstreams are told of it."""

    __slots__ = ("added", "address", "address_bytes", "guarded", "scheme", "trusted", "via")

    def __init__(self, address: str, *, scheme: bytes, hop: Hop) -> None:
        self.address = address
        self.address_bytes = address.encode() or b"unknown"
        self.scheme = scheme
        self.trusted = is_trusted(address, hop.trusted)
        self.guarded = frozenset[bytes]() if self.trusted else hop.guarded
        self.via = hop.name
        self.added = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b" % (self.address_bytes, scheme)


@lru_cache(maxsize=4096)
def is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    """Whether ``address`` lies in one of the ``trusted`` networks; an IPv4 address written as IPv6 counts as IPv4."""
    if not trusted:
        return False
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in trusted)


def client_address(head: RequestHead, *, peer: Peer, trusted: tuple[Network, ...]) -> str:
    """The client's address as far as trusted peers vouch: the right-most of X-Forwarded-For that is not theirs."""
    if not peer.trusted:
        return peer.address
    named = b",".join(value for _, mark, value in head.marked if mark == b"x-forwarded-for")
    address = peer.address
    for hop in reversed([part.strip().decode("latin-1") for part in named.split(b",") if part.strip()]):
        address = hop
        if not is_trusted(address, trusted):
            break
    return address


def to_upstream(head: RequestHead, *, peer: Peer, authority: bytes) -> bytes:
    """The head that goes upstream, its empty line included; ``RefusedError`` when ``Via`` names us twice: a loop.

    ``authority`` is the upstream's own name, for the request of an HTTP/1.0 client that names no ``Host``.
    """
    sent = head.sent
    if sent is None or sent[0] is not authority or sent[1] is not peer:
        data = _in_shape(head, authority, peer) or _new_to_upstream(head, peer, authority)
        head.sent = sent = authority, peer, data
    return sent[2]


def _in_shape(head: Head, first: object, second: object) -> bytes | None:
    """What was sent of another head of this shape in the same circumstances, with this one's values."""
    known = head.shape.parts if head.shape is not None else None
    if known is None or known[0] != first or known[1] is not second:
        return None
    parts = known[2].copy()
    parts[0] = head.start
    parts[2::2] = head.values
    return b"".join(parts)


def _keep(  # noqa: PLR0917 - two callers, both here
    head: Head, first: object, second: object, lines: list[bytes], dropped: list[int], before: int
) -> None:
    """Keep what stands around the values for the heads of this shape that follow; nothing when values are ``dropped``.

    ``lines`` are those that are sent; ``before`` of them stand before the head's first.
    """
    shape = head.shape
    if shape is None or not shape.names.keys().isdisjoint(dropped):
        return
    names = {at + before - bisect_left(dropped, at): name for at, name in shape.names.items()}
    parts: list[bytes] = []
    for piece in around([b"", *lines[1:]], names):
        parts += b"", piece
    shape.parts = first, second, parts


def _new_to_upstream(head: RequestHead, peer: Peer, authority: bytes) -> bytes:
    lines = head.lines.copy()
    dropped: list[int] = []
    connection: list[bytes] = []
    added = _origin(head, peer, dropped) if peer.trusted else peer.added
    seen = 0
    named = False
    for index, mark, value in head.marked:
        if mark in _REQUEST_KEPT:
            if mark == b"host":
                named = True
                if head.rewritten_host:
                    lines[index] = b"Host: " + head.host
            elif mark == b"expect" and not head.expects_continue:
                dropped.append(index)
        elif mark == b"via":
            seen += [hop.split()[1:2] for hop in value.split(b",")].count([peer.via])
        elif mark == b"te":
            dropped.append(index)
            if b"trailers" in value.lower() and not connection:
                connection = [b"TE"]
        elif not (peer.trusted and mark in _ORIGIN):
            dropped.append(index)
            if b"_" in mark:
                report.count("dropped", reason="field-with-underscore")
    if seen > 1:
        raise RefusedError(LOOP)
    if head.connection and not _KEPT.issuperset(head.connection):
        dropped.extend(_listed(lines, head.connection))
    if peer.guarded:
        dropped.extend(_listed(lines, peer.guarded))
    if len(dropped) > 1:
        dropped = sorted(set(dropped))
    for index in reversed(dropped):
        del lines[index]
    if not named:
        lines.insert(0, b"Host: " + (head.host or authority))
    lines.insert(0, head.start)
    lines.append(added)
    if head.host and not peer.trusted:
        lines.append(b"X-Forwarded-Host: " + head.host)
    lines.append(b"Via: 1.%d %b" % (head.minor, peer.via))
    if head.framing.kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
    if connection:
        lines.append(b"TE: trailers")
    if wants_upgrade(head):
        connection.append(b"Upgrade")
        lines.append(b"Upgrade: " + head.upgrade)
    if connection:
        lines.append(b"Connection: " + b", ".join(connection))
    lines.append(b"\r\n")
    _keep(head, authority, peer, lines, dropped, 1 + int(not named))
    return b"\r\n".join(lines)


_REQUEST_KEPT = frozenset({b"authorization", b"content-length", b"expect", b"host", b"www-authenticate"})
_ORIGIN = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip"}
)


def wants_upgrade(head: RequestHead) -> bool:
    """Whether the upstream is told of the request's ``Upgrade``: never of h2c, which would hide requests from us."""
    return bool(head.upgrade) and b"h2c" not in head.upgrade.lower()


def _origin(head: RequestHead, peer: Peer, dropped: list[int]) -> bytes:
    """The fields that say where a trusted peer's request came from: its own word, with the peer itself appended."""
    chain: list[bytes] = []
    told = set[bytes]()
    forwarded: list[bytes] = []
    for index, mark, value in head.marked:
        if mark == b"x-forwarded-for":
            chain.append(value)
            dropped.append(index)
        elif mark == b"forwarded":
            forwarded.append(value)
            dropped.append(index)
        elif mark in _ORIGIN:
            told.add(mark)
    added = [b"X-Forwarded-For: " + b", ".join([*chain, peer.address_bytes])]
    if b"x-forwarded-proto" not in told:
        added.append(b"X-Forwarded-Proto: " + peer.scheme)
    if b"x-forwarded-host" not in told and head.host:
        added.append(b"X-Forwarded-Host: " + head.host)
    if forwarded:
        added.append(b"Forwarded: " + b", ".join([*forwarded, _element(peer)]))
    return b"\r\n".join(added)


def _element(peer: Peer) -> bytes:
    """One hop in the words of RFC 7239; an IPv6 address stands in brackets and quotes."""
    node = b'"[%b]"' % peer.address_bytes if b":" in peer.address_bytes else peer.address_bytes
    return b"for=%b;proto=%b" % (node, peer.scheme)


def _listed(lines: list[bytes], options: Iterable[bytes]) -> list[int]:
    listed = set(options) - _KEPT
    return [index for index, line in enumerate(lines) if line.partition(b":")[0].lower() in listed]


def to_client(
    head: ResponseHead, *, via: bytes, minor: int, framing: Framing, keep_alive: bool, keeps_length: bool
) -> bytes:
    """The head that goes to a client of HTTP/1.``minor``, its empty line included.

    ``framing`` is what this client gets; ``keeps_length`` says that a body-less answer still tells the length its body
    would have (HEAD, 304).
    """
    circumstances = (via, minor, framing.kind, keep_alive, keeps_length)
    sent = head.sent
    if sent is None or sent[0] != circumstances:
        data = _in_shape(head, circumstances, None)
        if data is None:
            lines, dropped = _head_to_client(head, *circumstances)
            _keep(head, circumstances, None, lines, dropped, 1)
            data = b"\r\n".join(lines)
        head.sent = sent = circumstances, None, data
    return sent[2]


def _head_to_client(  # noqa: PLR0917 - one caller, one line up
    head: ResponseHead, via: bytes, minor: int, kind: Kind, keep_alive: bool, keeps_length: bool
) -> tuple[list[bytes], list[int]]:
    """Its lines, and which of the head's are not among them."""
    lines = head.lines
    dropped: list[int] = []
    for index, mark, _ in head.marked:
        if mark == b"content-length":
            if kind != "length" and not keeps_length:
                dropped.append(index)
        elif mark in _RESPONSE_DROPPED:
            dropped.append(index)
    listed = head.connection and not _KEPT.issuperset(head.connection)
    if listed:
        dropped.extend(_listed(lines, head.connection))
    out = [head.start]
    if not dropped:
        out += lines
    elif len(dropped) == 1:
        at = dropped[0]
        out += lines[:at]
        out += lines[at + 1 :]
    else:
        gone = set(dropped)
        dropped = sorted(gone)
        out += [line for index, line in enumerate(lines) if index not in gone]
    out.append(b"Via: 1.%d %b" % (head.minor, via))
    if kind == "chunked":
        out.append(b"Transfer-Encoding: chunked")
    elif kind == "tunnel":
        out.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
        out.append(b"\r\n")
        return out, dropped
    if not keep_alive:
        out.append(b"Connection: close")
    elif minor == 0:
        out.append(b"Connection: keep-alive")
    out.append(b"\r\n")
    return out, dropped


_RESPONSE_DROPPED = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te transfer-encoding "
    b"upgrade".split()
)


def to_client_interim(head: ResponseHead) -> bytes:
    """An interim response (1xx) as its client gets it."""
    gone = {index for index, mark, _ in head.marked if mark in _RESPONSE_DROPPED or mark == b"content-length"}
    lines = [line for index, line in enumerate(head.lines) if index not in gone]
    return b"\r\n".join([head.start, *lines, b"\r\n"])


def made_response(status: int, reason: bytes, headers: Sequence[Field]) -> ResponseHead:
    """A response head from parts, for answers that no upstream sent."""
    head = ResponseHead(b"", 1, [b"%b: %b" % field for field in headers])
    begin_response(head, status, reason)
    return head


def allowed_trailers(trailers: Sequence[Field]) -> list[Field]:
    """The trailer fields that may be passed on: none that frames, routes or authenticates (RFC 9110, 6.5.1)."""
    return [(name, value) for name, value in trailers if name.lower() not in _FORBIDDEN_TRAILERS and not mark_of(name)]
