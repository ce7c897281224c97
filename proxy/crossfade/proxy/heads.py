"""Heads off the wire: one strict grammar for requests and one for responses, read by one regular expression each.

Why not llhttp, which the tests keep as a second opinion: it knows 45 methods and refuses all others, ends a request
with ``Upgrade`` and a body at its head, cannot be told that a response answers HEAD, and hands out pipelined requests
without a way to pause between them. One match of the whole head takes the same time as its callbacks (measured).

Strict means: CRLF only, no folded lines, no space before the colon, no control byte, no byte over 0x7f in a target.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, cast

from .framing import NO_BODY, Framing, Refusal, RefusedError, measured_framing, request_framing, response_framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Limits

Field = tuple[bytes, bytes]
Marked = tuple[int, bytes, bytes]
Sent = tuple[object, object, bytes]
"""What went on of a head, kept by headers.py: two things it depends on, and the bytes."""

MALFORMED = Refusal("malformed", 400, "The request is not HTTP/1.1 as RFC 9112 writes it.")
BARE_LINE_FEED = Refusal("bare-line-feed", 400, "A line ends with LF alone: end lines with CRLF.")
VERSION_UNKNOWN = Refusal("version-unknown", 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
TARGET_TOO_LONG = Refusal("target-too-long", 414, "The request target is too long.")
HEAD_TOO_LARGE = Refusal("head-too-large", 431, "The header fields are too large.")
TOO_MANY_FIELDS = Refusal("too-many-fields", 431, "There are too many header fields.")
TARGET_MALFORMED = Refusal("target-malformed", 400, "The request target must be a path, or * with OPTIONS.")
HOST_MISSING = Refusal("host-missing", 400, "An HTTP/1.1 request names its Host, once.")
HOST_TWICE = Refusal("host-twice", 400, "There is more than one Host.")
HOST_MALFORMED = Refusal("host-malformed", 400, "Host is a name or address and a port, nothing else.")
METHOD_REFUSED = Refusal("method-refused", 501, "CONNECT and TRACE are not served here.")
EXPECTATION_UNKNOWN = Refusal("expectation-unknown", 417, "The only expectation understood is 100-continue.")
RESPONSE_MALFORMED = Refusal("response-malformed", 502, "The response is not HTTP/1.1 as RFC 9112 writes it.")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS = rb"((?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+)"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ((?=[!-~])([!->@-~]*+)(?:\?[!-~]*+)?+) HTTP/1\.([01])")
_BLOCK = re.compile(_FIELDS + rb"\r\n")
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n" + _FIELDS + rb"\r\n")
_match_value = cast("Callable[[bytes, int], re.Match[bytes]]", re.compile(rb"[\t\x20-\x7e\x80-\xff]*+").match)
_OTHER_VERSION = re.compile(rb"[^\r\n]* HTTP/[0-9](?:\.[0-9])?\r\n")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+;=%]*)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)([/?].*)?")

# The fields that mean something to a proxy; all others pass untouched and are not even looked at twice.
_MARKED = frozenset(
    b"authorization connection content-length expect forwarded host http2-settings keep-alive proxy-authenticate "
    b"proxy-authorization proxy-connection te transfer-encoding upgrade via www-authenticate x-real-ip".split()
)
_MARKED_PREFIXES = (b"x-forwarded-", b"x-crossfade-")
# Schemes that authenticate the connection, not the request: whoever used it next would be logged in as somebody else.
_LOGINS = (b"ntlm", b"negotiate")
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})
# Raw name -> its mark. Clients repeat themselves; one that does not must not fill our memory.
_marks: dict[bytes, bytes] = {}
_MARKS = 4096
# Authorities that were found well formed.
_hosts: set[bytes] = set()


class Shape:
    """How the heads of one connection look that differ in the values of a few fields.

    ``pieces`` stand before such a value each, the ``tail`` behind the last. ``names`` are of the lines that differ, by
    their index: the name and its colon. ``measures`` is which of the values says how long the body is, or -1.
    ``parts``: what went on of such a head, kept by headers.py: two things it depends on, and its pieces, in places that
    are free for the start line and the values.
    """

    __slots__ = ("measures", "names", "parts", "pieces", "tail")

    def __init__(self, names: dict[int, bytes], lines: list[bytes], *, measured: int) -> None:
        self.names = names
        self.measures = sorted(names).index(measured) if measured in names else -1
        self.parts: tuple[object, object, list[bytes]] | None = None
        *self.pieces, self.tail = around([b"", *lines, b"\r\n"], {at + 1: name for at, name in names.items()})

    def read(self, head: bytes, at: int) -> list[bytes] | None:
        """The values in ``head``, whose start line ends at ``at``; nothing when it has another shape, or a fault."""
        values: list[bytes] = []
        for piece in self.pieces:
            if not head.startswith(piece, at):
                return None
            value = _match_value(head, at + len(piece))
            values.append(value[0])
            at = value.end()
        return values if head[at:] == self.tail else None


def around(lines: list[bytes], names: dict[int, bytes]) -> list[bytes]:
    """What stands around the values of those ``lines`` that ``names`` has: before each of them, and behind the last."""
    pieces = [b""]
    for at, line in enumerate(lines):
        name = names.get(at)
        pieces[-1] += (b"\r\n" if at else b"") + (line if name is None else name)
        if name is not None:
            pieces.append(b"")
    return pieces


class Head:
    """What requests and responses have in common, up to the body: what was sent, byte for byte, and what it means.

    ``lines`` are the raw field lines, ``headers`` their (name, value) pairs, both in order; ``marked`` are the (index,
    lower-case name, value) of those that concern a proxy. ``minor`` is 0 or 1, of HTTP/1.x; ``start`` is the line that
    stands first on the way out. ``last`` is a head that differs only in the ``values`` of its ``shape``: what was found
    out about it holds. Nobody changes a head: the next may share its parts.
    """

    __slots__ = (
        "_headers",
        "_lines",
        "connection",
        "framing",
        "keep_alive",
        "logs_in",
        "marked",
        "measured",
        "minor",
        "raw",
        "sent",
        "shape",
        "start",
        "upgrade",
        "values",
    )

    start: bytes
    framing: Framing
    marked: list[Marked]
    connection: tuple[bytes, ...]
    keep_alive: bool
    upgrade: bytes
    logs_in: bool
    measured: int
    """The index of the line that says how long the body is, or -1."""
    sent: Sent | None
    shape: Shape | None
    values: list[bytes]

    def __init__(self, raw: bytes, minor: int, lines: list[bytes]) -> None:
        self.raw = raw
        self.minor = minor
        self._lines: list[bytes] | None = lines
        self._headers: list[Field] | None = None
        self.sent = None
        self.shape = None
        self.marked = marked_of(lines)
        self.measured = -1
        self.framing = NO_BODY
        self.connection = ()
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.logs_in = False

    def take_after(self, last: Head, raw: bytes, shape: Shape, values: list[bytes]) -> None:
        """Be a head like ``last`` but for its ``values``; instead of ``__init__``. Raises ``RefusedError``."""
        self.raw = raw
        self.minor = last.minor
        self._lines = None
        self._headers = None
        self.sent = None
        self.shape = shape
        self.values = values
        self.marked = last.marked
        self.measured = last.measured
        self.framing = last.framing
        self.connection = last.connection
        self.keep_alive = last.keep_alive
        self.upgrade = last.upgrade
        self.logs_in = last.logs_in
        if shape.measures >= 0:
            self._measure(values[shape.measures].strip(b" \t"))

    def _measure(self, value: bytes) -> None:
        framing = measured_framing(value)
        if framing != self.framing:
            self.framing = framing
            self.marked = [(index, mark, value if index == self.measured else old) for index, mark, old in self.marked]

    @property
    def lines(self) -> list[bytes]:
        """The raw field lines."""
        if self._lines is None:
            self._lines = self.raw.split(b"\r\n")[1:-2]
        return self._lines

    @property
    def headers(self) -> list[Field]:
        """The (name, value) pairs in order, raw but for the white space around values."""
        if self._headers is None:
            self._headers = fields_of(self.lines)
        return self._headers

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field called ``name`` (lower case)."""
        return next((value for at, value in self.headers if at.lower() == name), None)


_Head = TypeVar("_Head", bound=Head)


class RequestHead(Head):
    """A request up to its body.

    ``target`` is what goes upstream (an absolute form has lost its scheme and authority to ``host``); routing reads
    ``path`` and ``query``, which are cut from that same string and never decoded.
    """

    __slots__ = ("expects_continue", "host", "method", "path", "rewritten_host", "target")

    method: bytes
    target: bytes
    path: bytes
    host: bytes
    expects_continue: bool
    rewritten_host: bool

    @property
    def query(self) -> bytes:
        """What follows the target's first question mark."""
        return self.target[len(self.path) + 1 :]


class ResponseHead(Head):
    """A response up to its body; ``line`` is its status line as it came."""

    __slots__ = ("line", "reason", "status")

    line: bytes
    status: int
    reason: bytes


def fields_of(lines: list[bytes]) -> list[Field]:
    """The (name, value) pairs of raw field lines."""
    pairs = [line.partition(b":") for line in lines]
    return [(name, value.strip(b" \t")) for name, _, value in pairs]


def parse_fields(block: bytes, *, limits: Limits) -> list[Field]:
    """The trailer fields of ``block`` (each line with its CRLF); ``RefusedError`` when one is malformed."""
    if re.fullmatch(_FIELDS, block) is None:
        raise RefusedError(MALFORMED)
    lines = block.split(b"\r\n")[:-1]
    if len(lines) > limits.header_count:
        raise RefusedError(TOO_MANY_FIELDS)
    return fields_of(lines)


def judge_incomplete(data: bytes, *, limits: Limits) -> None:
    """Raise ``RefusedError`` when no continuation of ``data``, an unfinished request head, could be good."""
    if len(data) > limits.uri_bytes + 64 and b"\r\n" not in data[: limits.uri_bytes + 64]:
        raise RefusedError(TARGET_TOO_LONG)
    if len(data) > limits.header_bytes + limits.uri_bytes:
        raise RefusedError(HEAD_TOO_LARGE)
    if _BARE_LINE_FEED.search(data):
        raise RefusedError(BARE_LINE_FEED)
    if re.match(_TOKEN + rb"(?: |$)", data) is None:
        raise RefusedError(MALFORMED)


def parse_request(
    head: bytes, *, limits: Limits, last: RequestHead | None = None, other: RequestHead | None = None
) -> RequestHead:
    """The request whose ``head`` ends with its empty line; ``RefusedError`` names the rule it breaks.

    ``last`` is the connection's previous request: clients mostly repeat their fields to the byte (HPACK lives off it),
    and then all that was found out about them holds. ``other`` is an earlier one of another shape: pages and what they
    load take turns.
    """
    if last is not None and head == last.raw:
        return last
    line = head.partition(b"\r\n")[0]
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RefusedError(_why_not(head, limits))
    method, target, path, version = match.groups()
    if len(target) > limits.uri_bytes:
        raise RefusedError(TARGET_TOO_LONG)
    minor = 1 if version == b"1" else 0
    request = None
    for known in (last, other):
        if known is not None and minor == known.minor and not known.rewritten_host:
            request = _like(known, head, len(line))
            if request is not None:
                request.host = known.host
                request.expects_continue = known.expects_continue
                break
    if request is None and _BLOCK.fullmatch(head, len(line) + 2) is None:
        raise RefusedError(_why_not(head, limits))
    if len(head) - len(line) - 2 > limits.header_bytes:
        raise RefusedError(HEAD_TOO_LARGE)
    if request is None:
        request = RequestHead(head, minor, head.split(b"\r\n")[1:-2])
        if len(request.lines) > limits.header_count:
            raise RefusedError(TOO_MANY_FIELDS)
        _read_request_fields(request)
    request.method = method
    request.target = target
    request.path = path
    request.start = line if minor else b"%b %b HTTP/1.1" % (method, target)
    request.rewritten_host = False
    if target[0] != 47 or b"#" in target or method in _REFUSED_METHODS:  # 47: "/"
        _read_unusual_target(request)
    return request


def _like(last: _Head, head: bytes, at: int) -> _Head | None:
    """A head whose fields, behind ``at``, differ from ``last``'s in values alone that mean nothing to a proxy."""
    shape = last.shape
    values = shape.read(head, at) if shape is not None else None
    if values is None:
        shape = _shape_of_both(last, head.split(b"\r\n")[1:-2])
        values = shape.read(head, at) if shape is not None else None
    if shape is None or values is None:
        return None
    new = object.__new__(type(last))
    new.take_after(last, head, shape, values)
    return new


def _shape_of_both(last: Head, lines: list[bytes]) -> Shape | None:
    known = last.lines
    if len(lines) != len(known):
        return None
    names = dict(last.shape.names) if last.shape is not None else {}
    for at, line in enumerate(lines):
        if line != known[at] and at not in names:
            name, colon, _ = known[at].partition(b":")
            if (mark_of(name) and at != last.measured) or not line.startswith(name + colon):
                return None
            names[at] = name + colon
    return Shape(names, known, measured=last.measured)


def parse_response(head: bytes, method: bytes, *, limits: Limits, last: ResponseHead | None = None) -> ResponseHead:
    """The response to ``method`` whose ``head`` ends with its empty line; ``RefusedError`` says what it breaks.

    An interim response (1xx) has no body; 101 is the caller's to judge. ``last`` is another final response to this
    method, by the same limits.
    """
    if last is not None:
        if head == last.raw:
            return last
        line = head.partition(b"\r\n")[0]
        response = _like(last, head, len(line)) if line == last.line else None
        if response is not None and len(head) < limits.header_bytes:
            response.line = line
            response.start = last.start
            response.status = last.status
            response.reason = last.reason
            return response
    return _new_response(head, method, limits)


def _new_response(head: bytes, method: bytes, limits: Limits) -> ResponseHead:
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise RefusedError(RESPONSE_MALFORMED)
    minor, status, reason, block = match.groups()
    lines = head.split(b"\r\n")
    line = lines.pop(0)
    del lines[-2:]
    if len(lines) > limits.header_count or len(block) > limits.header_bytes:
        raise RefusedError(HEAD_TOO_LARGE)
    response = ResponseHead(head, 1 if minor == b"1" else 0, lines)
    response.line = line
    begin_response(response, int(status), reason or b"")
    _read_response_fields(response, method)
    return response


def begin_response(response: ResponseHead, status: int, reason: bytes) -> None:
    """Give ``response`` its status line."""
    response.status = status
    response.reason = reason
    response.start = b"HTTP/1.1 %d %b" % (status, reason)


def mark_of(name: bytes) -> bytes:
    """The lower-case ``name`` when it means something to a proxy, or could be mistaken for such a one; else nothing.

    An underscore makes a name suspicious: CGI and WSGI servers read ``X_Forwarded_For`` as ``X-Forwarded-For``.
    """
    mark = _marks.get(name)
    if mark is None:
        lower = name.lower()
        mark = lower if lower in _MARKED or b"_" in lower or lower.startswith(_MARKED_PREFIXES) else b""
        if len(_marks) < _MARKS:
            _marks[name] = mark
    return mark


def marked_of(lines: list[bytes]) -> list[Marked]:
    """The index, lower-case name and value of those ``lines`` that mean something to a proxy."""
    marked: list[Marked] = []
    for index, line in enumerate(lines):
        name, _, value = line.partition(b":")
        mark = _marks.get(name)
        if mark is None:
            mark = mark_of(name)
        if mark:
            marked.append((index, mark, value.strip(b" \t")))
    return marked


def _read_request_fields(request: RequestHead) -> None:
    request.host = b""
    request.expects_continue = False
    hosts: list[bytes] = []
    lengths, codings = _read_fields(request)
    for _, mark, value in request.marked:
        if mark == b"host":
            hosts.append(value)
        elif mark == b"expect":
            _read_expectation(request, value)
        elif mark == b"authorization":
            request.logs_in = value[:9].lower().startswith(_LOGINS)
    if lengths or codings:
        request.framing = request_framing(request.minor, lengths, codings)
        _note_measure(request)
    _read_host(request, hosts)
    if request.upgrade and b"upgrade" not in request.connection:
        request.upgrade = b""


def _read_response_fields(response: ResponseHead, method: bytes) -> None:
    lengths, codings = _read_fields(response)
    for _, mark, value in response.marked:
        if mark == b"www-authenticate" and value[:9].lower().startswith(_LOGINS):
            response.logs_in = True
    if response.status >= 200:
        response.framing = response_framing(method, response.status, response.minor, lengths, codings)
        _note_measure(response)


def _note_measure(head: Head) -> None:
    if head.framing.kind == "length":
        head.measured = next(index for index, mark, _ in head.marked if mark == b"content-length")


def _read_fields(head: Head) -> tuple[list[bytes], list[bytes]]:
    """Note what means the same in requests and responses; the lengths and codings that the head names."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for _, mark, value in head.marked:
        if mark == b"content-length":
            lengths.append(value)
        elif mark == b"transfer-encoding":
            codings.append(value)
        elif mark == b"connection":
            _read_connection(head, value)
        elif mark == b"upgrade":
            head.upgrade = head.upgrade + b", " + value if head.upgrade else value
    return lengths, codings


def _read_connection(head: Head, value: bytes) -> None:
    if value == b"keep-alive" and not head.connection:
        head.keep_alive = True
        return
    options = tuple(option.strip(b" \t").lower() for option in value.split(b","))
    head.connection += options
    if b"close" in head.connection:
        head.keep_alive = False
    elif b"keep-alive" in options:
        head.keep_alive = True


def _read_expectation(request: RequestHead, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise RefusedError(EXPECTATION_UNKNOWN)
    request.expects_continue = request.minor == 1


def _read_host(request: RequestHead, hosts: list[bytes]) -> None:
    if len(hosts) == 1:
        request.host = hosts[0]
        if hosts[0] not in _hosts:
            _judge_authority(hosts[0])
    elif hosts:
        raise RefusedError(HOST_TWICE)
    elif request.minor == 1:
        raise RefusedError(HOST_MISSING)


def _judge_authority(authority: bytes) -> None:
    if _HOST.fullmatch(authority) is None:
        raise RefusedError(HOST_MALFORMED)
    if len(_hosts) < _MARKS:
        _hosts.add(authority)


def _read_unusual_target(request: RequestHead) -> None:
    if request.method in _REFUSED_METHODS:
        raise RefusedError(METHOD_REFUSED)
    if request.target == b"*" and request.method == b"OPTIONS":
        return
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None or b"#" in request.target:
        raise RefusedError(TARGET_MALFORMED)
    authority, rest = match.groups()
    _judge_authority(authority)
    # RFC 9112, 3.2.2: the target's authority replaces whatever Host said.
    request.host = authority
    request.rewritten_host = True
    request.shape = None
    if not rest:
        request.target = b"*" if request.method == b"OPTIONS" else b"/"
    else:
        request.target = rest if rest.startswith(b"/") else b"/" + rest
    request.path = request.target.partition(b"?")[0]
    request.start = b"%b %b HTTP/1.1" % (request.method, request.target)


def _why_not(head: bytes, limits: Limits) -> Refusal:
    line, _, _ = head.partition(b"\r\n")
    if len(line) > limits.uri_bytes:
        return TARGET_TOO_LONG
    if _BARE_LINE_FEED.search(head):
        return BARE_LINE_FEED
    if _OTHER_VERSION.match(head) and not re.search(rb" HTTP/1\.[01]\r\n", head[: len(line) + 2]):
        return VERSION_UNKNOWN
    return MALFORMED
