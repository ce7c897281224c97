"""Heads off the wire: one strict grammar for requests and one for responses, read by one regular expression each.

Why not llhttp, which the tests keep as a second opinion: it knows 45 methods and refuses all others, ends a request
with ``Upgrade`` and a body at its head, cannot be told that a response answers HEAD, and hands out pipelined requests
without a way to pause between them. One match of the whole head takes the same time as its callbacks (measured).

Strict means: CRLF only, no folded lines, no space before the colon, no control byte, no byte over 0x7f in a target.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .framing import NO_BODY, Framing, Refusal, RefusedError, request_framing, response_framing

if TYPE_CHECKING:
    from .limits import Limits

Field = tuple[bytes, bytes]
Sent = tuple[object, object, bytes, list[bytes], list[int], int]
"""What went on of a head, kept by headers.py: two things it depends on, the bytes, their lines, which lines of the head
are not among them (sorted), and how many stand before the head's first."""

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
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])\r\n")
_BLOCK = re.compile(_FIELDS + rb"\r\n")
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n" + _FIELDS + rb"\r\n")
_LINE = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+")
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
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
# Raw name -> its mark. Clients repeat themselves; one that does not must not fill our memory.
_marks: dict[bytes, bytes] = {}
_MARKS = 4096
# Authorities that were found well formed.
_hosts: set[bytes] = set()


class RequestHead:
    """A request up to its body: what was sent, byte for byte, and what it means.

    ``target`` is what goes upstream (an absolute form has lost its scheme and authority to ``host``); routing reads
    ``path`` and ``query``, which are cut from that same string and never decoded. ``lines`` are the raw field lines,
    ``headers`` their (name, value) pairs, both in order; ``marked`` are the (index, lower-case name, value) of those
    that concern a proxy. ``minor`` is 0 or 1, of HTTP/1.x. Nobody changes a head: the next request may share its parts.
    """

    __slots__ = (
        "_headers",
        "block",
        "changed",
        "connection",
        "expects_continue",
        "framing",
        "host",
        "keep_alive",
        "lines",
        "logs_in",
        "marked",
        "method",
        "minor",
        "path",
        "query",
        "rewritten_host",
        "sent",
        "stale",
        "target",
        "upgrade",
    )

    lines: list[bytes]
    marked: list[tuple[int, bytes, bytes]]
    host: bytes
    framing: Framing
    connection: tuple[bytes, ...]
    keep_alive: bool
    upgrade: bytes
    expects_continue: bool
    logs_in: bool
    sent: Sent | None
    stale: Sent | None  # of the request before, which differs in the lines ``changed`` alone
    changed: list[int]
    _headers: list[Field] | None

    def __init__(self, method: bytes, target: bytes, minor: int, block: bytes, last: RequestHead | None = None) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.path, _, self.query = target.partition(b"?")
        self.block = block
        self.rewritten_host = False
        if last is not None:
            self.lines = last.lines
            self.marked = last.marked
            self.host = last.host
            self.framing = last.framing
            self.connection = last.connection
            self.keep_alive = last.keep_alive
            self.upgrade = last.upgrade
            self.expects_continue = last.expects_continue
            self.logs_in = last.logs_in
            self.sent = last.sent
            self.stale = None
            self._headers = last._headers  # noqa: SLF001 - of the same class
            return
        self.lines = block.split(b"\r\n")
        del self.lines[-2:]
        self.marked = []
        self.sent = None
        self.stale = None
        self.host = b""
        self.framing = NO_BODY
        self.connection = ()
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.expects_continue = False
        self.logs_in = False
        self._headers = None

    def replace_lines(self, lines: list[bytes], changed: list[int]) -> None:
        """Have ``lines``, of which ``changed`` differ from those of the head that this one was made of."""
        self.lines = lines
        self.changed = changed
        self.stale = self.sent
        self.sent = None
        self._headers = None

    @property
    def headers(self) -> list[Field]:
        """The (name, value) pairs in order, raw but for the white space around values."""
        if self._headers is None:
            self._headers = fields_of(self.lines)
        return self._headers

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field called ``name`` (lower case)."""
        return next((value for at, value in self.headers if at.lower() == name), None)


class ResponseHead:
    """A response up to its body; ``lines`` and ``headers`` as in ``RequestHead``, and as little to be changed."""

    __slots__ = (
        "_headers",
        "changed",
        "connection",
        "framing",
        "keep_alive",
        "lines",
        "logs_in",
        "marked",
        "minor",
        "reason",
        "sent",
        "stale",
        "status",
        "upgrade",
    )

    def __init__(self, status: int, reason: bytes, minor: int, lines: list[bytes]) -> None:
        self.sent: Sent | None = None
        self.stale: Sent | None = None  # as a request's
        self.changed: list[int] = []
        self.status = status
        self.reason = reason
        self.minor = minor
        self.lines = lines
        self.marked: list[tuple[int, bytes, bytes]] = []
        self.framing = NO_BODY
        self.connection: tuple[bytes, ...] = ()
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.logs_in = False
        self._headers: list[Field] | None = None

    @property
    def headers(self) -> list[Field]:
        """The (name, value) pairs in order, raw but for the white space around values."""
        if self._headers is None:
            self._headers = fields_of(self.lines)
        return self._headers

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field called ``name`` (lower case)."""
        return next((value for at, value in self.headers if at.lower() == name), None)


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


def parse_request(head: bytes, *, limits: Limits, last: RequestHead | None = None) -> RequestHead:
    """The request whose ``head`` ends with its empty line; ``RefusedError`` names the rule it breaks.

    ``last`` is the connection's previous request: clients mostly repeat their fields to the byte (HPACK lives off it),
    and then all that was found out about them holds.
    """
    match = _REQUEST_LINE.match(head)
    if match is None:
        raise RefusedError(_why_not(head, limits))
    method, target, minor = match.groups()
    if len(target) > limits.uri_bytes:
        raise RefusedError(TARGET_TOO_LONG)
    block = head[match.end() :]
    if last is not None and block == last.block and minor[0] - 48 == last.minor:
        request = RequestHead(method, target, minor[0] - 48, block, last)
    else:
        request = (last and _like(last, method, target, minor[0] - 48, block)) or _new_request(head, match, limits)
        if len(block) > limits.header_bytes:
            raise RefusedError(HEAD_TOO_LARGE)
    if target[0] != 47 or b"#" in target or method in {b"TRACE", b"CONNECT"}:  # 47: "/"
        _read_unusual_target(request)
    return request


def _new_request(head: bytes, line: re.Match[bytes], limits: Limits) -> RequestHead:
    method, target, minor = line.groups()
    block = head[line.end() :]
    if _BLOCK.fullmatch(block) is None:
        raise RefusedError(_why_not(head, limits))
    if len(block) > limits.header_bytes:
        raise RefusedError(HEAD_TOO_LARGE)
    request = RequestHead(method, target, minor[0] - 48, block)
    if len(request.lines) > limits.header_count:
        raise RefusedError(TOO_MANY_FIELDS)
    _read_request_fields(request)
    return request


def _like(last: RequestHead, method: bytes, target: bytes, minor: int, block: bytes) -> RequestHead | None:
    """The request when it differs from ``last`` in fields that mean nothing to a proxy (traces, ids), else nothing."""
    if minor != last.minor or last.rewritten_host:
        return None
    lines = block.split(b"\r\n")
    del lines[-2:]
    changed = changed_lines(lines, last.lines)
    if changed is None:
        return None
    request = RequestHead(method, target, minor, block, last)
    request.replace_lines(lines, changed)
    return request


def _response_like(raw: bytes, last: ResponseHead, head: bytes) -> ResponseHead | None:
    """As ``_like``; the status lines must be equal."""
    end = raw.find(b"\r\n") + 2
    if raw[:end] != head[:end]:
        return None
    lines = head[end:].split(b"\r\n")
    del lines[-2:]
    changed = changed_lines(lines, last.lines)
    if changed is None:
        return None
    response = ResponseHead(last.status, last.reason, last.minor, lines)
    response.marked = last.marked
    response.framing = last.framing
    response.connection = last.connection
    response.keep_alive = last.keep_alive
    response.upgrade = last.upgrade
    response.logs_in = last.logs_in
    response.stale = last.sent
    response.changed = changed
    return response


def changed_lines(lines: list[bytes], last: list[bytes]) -> list[int] | None:
    """Which field lines differ from ``last``'s, when each is well formed and its name old and without a mark."""
    if len(lines) != len(last):
        return None
    changed = [at for at, line in enumerate(lines) if line != last[at]]
    for at in changed:
        line = lines[at]
        name = line.partition(b":")[0]
        if (_marks.get(name) or mark_of(name)) or last[at].partition(b":")[0] != name or _LINE.fullmatch(line) is None:
            return None
    return changed


def parse_response(
    head: bytes, method: bytes, *, limits: Limits, last: tuple[bytes, ResponseHead] | None = None
) -> ResponseHead:
    """The response to ``method`` whose ``head`` ends with its empty line; ``RefusedError`` says what it breaks.

    An interim response (1xx) has no body; 101 is the caller's to judge. ``last``: the bytes and the head of another
    final response to this method, by the same limits.
    """
    if last is not None:
        response = _response_like(*last, head)
        if response is not None and len(head) < limits.header_bytes:
            return response
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise RefusedError(RESPONSE_MALFORMED)
    minor, status, reason, block = match.groups()
    lines = block.split(b"\r\n")
    del lines[-1]
    if len(lines) > limits.header_count or len(block) > limits.header_bytes:
        raise RefusedError(HEAD_TOO_LARGE)
    response = ResponseHead(int(status), reason or b"", minor[0] - 48, lines)
    _read_response_fields(response, method)
    return response


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


def _read_request_fields(request: RequestHead) -> None:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    hosts: list[bytes] = []
    marked = request.marked
    for index, line in enumerate(request.lines):
        name, _, value = line.partition(b":")
        mark = _marks.get(name)
        if mark is None:
            mark = mark_of(name)
        if not mark:
            continue
        value = value.strip(b" \t")
        marked.append((index, mark, value))
        if mark == b"host":
            hosts.append(value)
        elif mark == b"content-length":
            lengths.append(value)
        elif mark == b"transfer-encoding":
            codings.append(value)
        elif mark == b"connection":
            _read_connection(request, value)
        elif mark == b"upgrade":
            request.upgrade = request.upgrade + b", " + value if request.upgrade else value
        elif mark == b"expect":
            _read_expectation(request, value)
        elif mark == b"authorization":
            request.logs_in = value[:9].lower().startswith(_LOGINS)
    if lengths or codings:
        request.framing = request_framing(request.minor, lengths, codings)
    _read_host(request, hosts)
    if request.upgrade and b"upgrade" not in request.connection:
        request.upgrade = b""


def _read_response_fields(response: ResponseHead, method: bytes) -> None:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    marked = response.marked
    for index, line in enumerate(response.lines):
        name, _, value = line.partition(b":")
        mark = _marks.get(name)
        if mark is None:
            mark = mark_of(name)
        if not mark:
            continue
        value = value.strip(b" \t")
        marked.append((index, mark, value))
        if mark == b"content-length":
            lengths.append(value)
        elif mark == b"transfer-encoding":
            codings.append(value)
        elif mark == b"connection":
            _read_connection(response, value)
        elif mark == b"upgrade":
            response.upgrade = value
        elif mark == b"www-authenticate" and value[:9].lower().startswith(_LOGINS):
            response.logs_in = True
    if response.status >= 200:
        response.framing = response_framing(method, response.status, response.minor, lengths, codings)


def _read_connection(head: RequestHead | ResponseHead, value: bytes) -> None:
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
    if request.method in {b"TRACE", b"CONNECT"}:
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
    request.block = b""
    request.sent = None
    request.stale = None
    if not rest:
        request.target = b"*" if request.method == b"OPTIONS" else b"/"
    else:
        request.target = rest if rest.startswith(b"/") else b"/" + rest
    request.path, _, request.query = request.target.partition(b"?")


def _why_not(head: bytes, limits: Limits) -> Refusal:
    line, _, _ = head.partition(b"\r\n")
    if len(line) > limits.uri_bytes:
        return TARGET_TOO_LONG
    if _BARE_LINE_FEED.search(head):
        return BARE_LINE_FEED
    if _OTHER_VERSION.match(head) and not re.search(rb" HTTP/1\.[01]\r\n", head[: len(line) + 2]):
        return VERSION_UNKNOWN
    return MALFORMED
