r"""Which route a request takes: patterns compiled once, matched against the bytes that are forwarded.

    METHOD[,METHOD...] [HOST]/path/{one segment}/{the rest...}

Rules

1. Every part of a pattern must match. Without methods any method does, without a host any host.
2. Literal segments match byte for byte: nothing is decoded, merged or folded, because the upstream gets the same
   bytes. ``{name}`` is one segment that is not empty, ``{name...}`` all that follows its slash, and that may be empty.
   Host names are compared without case, port and final dot.
3. A path in which anybody might see a dot segment (``.`` or ``..`` between slashes, backslashes or ``;``, in clear or
   percent-encoded) matches no pattern: what it means depends on who reads it, so no seam's rules may speak for it.
4. A header must be there on exactly one line and with exactly that value.
5. When several match, the most specific wins. In this order: a named host before any; the path, segment by segment
   from the left, a literal before ``{name}`` before ``{name...}``; fewer methods before more before any; more headers
   before fewer. Two patterns that this leaves equal and that one request could match are a conflict, refused at start.

So the order of routes means nothing, and a new route changes nothing for requests that it does not match.

Cost: literal paths are one look-up. Others walk a tree of segments, whose nodes are entered at most once each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

Fields: TypeAlias = "Sequence[tuple[bytes, bytes]]"
"""A request's header lines as they came: name and value."""


class Head(Protocol):
    """What is matched of a request; ``path`` is cut from the target as it travels, ``headers`` are read when needed."""

    @property
    def method(self) -> bytes:
        """Upper case."""
        ...

    @property
    def host(self) -> bytes:
        """With its port, if it came with one."""
        ...

    @property
    def path(self) -> bytes:
        """The target without its query."""
        ...

    @property
    def headers(self) -> Fields:
        """Name and value, in order."""
        ...


_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
# RFC 9110, 5789 and 4918: a mistyped one is near one of them; any other is somebody's own.
_METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH"),
)
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]*\Z")  # RFC 3986, pchar
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}\Z")
_FIELD: Final = _METHOD
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Bounded repeats only: linear. Tomcat ends a segment's name at ';', and IIS takes '\' for '/'.
winds: Final = re.compile(
    rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\;]|%2f|%5c|%3b|\Z)",
    re.IGNORECASE,
).search


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """What requests a route takes; ``methods`` empty: any, ``host`` empty: any. See the rules at the top."""

    methods: frozenset[bytes]
    host: bytes
    segments: tuple[bytes, ...]
    parameters: tuple[tuple[int, str], ...]
    open_ended: bool
    headers: frozenset[tuple[bytes, bytes]] = field(default_factory=frozenset[tuple[bytes, bytes]])
    text: str = ""

    @classmethod
    def parse(cls, text: str, headers: Mapping[str, str] | None = None) -> Pattern:
        """``METHOD[,METHOD] [HOST]/path``. Raises ``ValueError``, whose text says what to write instead."""
        words = text.split()
        if not 1 <= len(words) <= 2 or "/" not in words[-1]:
            raise ValueError(
                f"{text!r} is no match: write METHOD /path, like POST /v1/reports or GET,HEAD /users/{{id}}"
            )
        host, _, path = words[-1].partition("/")
        segments, parameters = _parse_path(path)
        return cls(
            methods=_parse_methods(words[0]) if len(words) == 2 else frozenset(),
            host=_parse_host(host),
            segments=segments,
            parameters=parameters,
            open_ended=text.endswith("...}"),
            headers=frozenset(parse_header(name, value) for name, value in (headers or {}).items()),
            text=text,
        )

    def doubts(self) -> list[str]:
        """What is legal and hardly meant, each with its remedy: another router's wildcards, a mistyped method."""
        foreign = [part.decode() for part in self.segments if part.startswith(b":") or part in {b"*", b"**"}]
        strange = [method.decode() for method in sorted(self.methods) if method.decode() not in _METHODS]
        meant = {method: get_close_matches(method, _METHODS, 1) for method in strange}
        return [
            f"compares the segment `{part}` letter by letter: write {{name}} for any one segment, "
            "{name...} at the end for all the rest"
            for part in foreign
        ] + [f"takes the method {method}: did you mean {near[0]}?" for method, near in meant.items() if near]

    def path_parameters(self, path: bytes) -> dict[str, bytes]:
        """The raw values of the pattern's parameters in a ``path`` that it matches."""
        parts = path[1:].split(b"/", len(self.segments) - 1 if self.open_ended else -1)
        return {name: parts[at] for at, name in self.parameters}

    def conflicts_with(self, other: Pattern) -> bool:
        """Whether one request could match both, and neither is the more specific."""
        return (
            (self.host, self.segments, self.open_ended, len(self.methods), len(self.headers))
            == (other.host, other.segments, other.open_ended, len(other.methods), len(other.headers))
            and (not self.methods or bool(self.methods & other.methods))
            and not _exclude_each_other(self.headers, other.headers)
        )


class Router(Generic[T]):
    """The routes of one configuration. Immutable once built, so that a new one replaces it in one assignment."""

    __slots__ = ("_any", "_hosts", "_size")

    def __init__(self, routes: Iterable[tuple[Pattern, T]]) -> None:
        self._any: _Tree[T] = _Tree()
        self._hosts: dict[bytes, _Tree[T]] = {}
        self._size = 0
        for pattern, target in sorted(routes, key=lambda route: _precedence(route[0])):
            tree = self._hosts.setdefault(pattern.host, _Tree()) if pattern.host else self._any
            tree.add(pattern, target)
            self._size += 1

    def __len__(self) -> int:
        return self._size

    def find(self, head: Head) -> T | None:
        """The target of the most specific route, or ``None``."""
        if self._hosts:
            tree = self._hosts.get(_bare_host(head.host))
            found = tree.find(head) if tree is not None else None
            if found is not None:
                return found
        return self._any.find(head)


# -- the tree: a node a segment, a leaf a path -----------------------------------------------------------------


class _Leaf(Generic[T]):
    """The routes of one path, most specific first."""

    __slots__ = ("any", "by_method")

    def __init__(self) -> None:
        self.by_method: dict[bytes, list[tuple[frozenset[tuple[bytes, bytes]], T]]] = {}
        self.any: list[tuple[frozenset[tuple[bytes, bytes]], T]] = []

    def add(self, pattern: Pattern, target: T) -> None:
        for method in pattern.methods:
            self.by_method.setdefault(method, []).append((pattern.headers, target))
        if not pattern.methods:
            self.any.append((pattern.headers, target))

    def find(self, head: Head) -> T | None:
        for wanted, target in self.by_method.get(head.method, ()):
            if not wanted or _has(head.headers, wanted):
                return target
        for wanted, target in self.any:
            if not wanted or _has(head.headers, wanted):
                return target
        return None


class _Node(Generic[T]):
    __slots__ = ("children", "leaf", "one", "rest")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[T]] = {}
        self.one: _Node[T] | None = None
        self.rest: _Leaf[T] | None = None
        self.leaf: _Leaf[T] | None = None


class _Tree(Generic[T]):
    """All routes of one host."""

    __slots__ = ("_literal", "_root")

    def __init__(self) -> None:
        self._literal: dict[bytes, _Leaf[T]] = {}
        self._root: _Node[T] = _Node()

    def add(self, pattern: Pattern, target: T) -> None:
        if not pattern.parameters:
            self._literal.setdefault(b"/" + b"/".join(pattern.segments), _Leaf()).add(pattern, target)
            return
        node = self._root
        for segment in pattern.segments[: -1 if pattern.open_ended else None]:
            node = _child(node, segment)
        if pattern.open_ended:
            node.rest = node.rest or _Leaf()
            node.rest.add(pattern, target)
        else:
            node.leaf = node.leaf or _Leaf()
            node.leaf.add(pattern, target)

    def find(self, head: Head) -> T | None:
        leaf = self._literal.get(head.path)
        found = leaf.find(head) if leaf is not None else None
        if found is not None:
            return found
        if not head.path.startswith(b"/") or winds(head.path):
            return None
        return _walk(self._root, head.path.split(b"/"), 1, head)


def _child(node: _Node[T], segment: bytes) -> _Node[T]:
    if segment != _ONE:
        return node.children.setdefault(segment, _Node())
    node.one = node.one or _Node()
    return node.one


def _walk(node: _Node[T], parts: list[bytes], at: int, head: Head) -> T | None:
    """The best match below ``node``; no deeper than the deepest pattern, however long the path."""
    if at == len(parts):
        return node.leaf.find(head) if node.leaf is not None else None
    part = parts[at]
    child = node.children.get(part)
    found = _walk(child, parts, at + 1, head) if child is not None else None
    if found is None and node.one is not None and part:
        found = _walk(node.one, parts, at + 1, head)
    if found is None and node.rest is not None:
        found = node.rest.find(head)
    return found


def _has(headers: Fields, wanted: frozenset[tuple[bytes, bytes]]) -> bool:
    """Whether each wanted header is on exactly one line, with that value."""
    for name, value in wanted:
        lines = [given for key, given in headers if key.lower() == name]
        if len(lines) != 1 or lines[0] != value:
            return False
    return True


def _bare_host(host: bytes) -> bytes:
    """Lower case, without port and final dot; an IPv6 address keeps its brackets."""
    name, _, port = host.rpartition(b":")
    return (name if port.isdigit() or (name and not port) else host).lower().removesuffix(b".")


# -- reading a pattern -----------------------------------------------------------------------------------------

_ONE: Final = b"{}"
_REST: Final = b"{...}"


def _precedence(pattern: Pattern) -> tuple[float, int]:
    """Orders the routes of one leaf, most specific first; path and host are the tree's business."""
    return len(pattern.methods) or float("inf"), -len(pattern.headers)


def _exclude_each_other(one: frozenset[tuple[bytes, bytes]], other: frozenset[tuple[bytes, bytes]]) -> bool:
    """Whether no request has both sets: one header, two values."""
    values = dict(one)
    return any(name in values and values[name] != value for name, value in other)


def _parse_methods(text: str) -> frozenset[bytes]:
    methods = text.split(",")
    for method in methods:
        if not _METHOD.match(method):
            raise ValueError(f"{method!r} is no method: write names like GET,HEAD with a comma and no space between")
        if method != method.upper() and method.upper() in _KNOWN:
            raise ValueError(f"methods are upper case: write {method.upper()}")
    return frozenset(method.encode() for method in methods)


_KNOWN: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def _parse_host(text: str) -> bytes:
    host = text.lower().removesuffix(".")
    if ":" in host:
        raise ValueError(f"{text!r}: leave the port out, a route matches its host on any port")
    if host and not _HOST.match(host):
        raise ValueError(f"{text!r} is no host name: write one like api.example.com, without wildcards")
    return host.encode()


def _parse_path(path: str) -> tuple[tuple[bytes, ...], tuple[tuple[int, str], ...]]:
    segments, parameters = list[bytes](), list[tuple[int, str]]()
    parts = path.split("/")
    for at, part in enumerate(parts):
        found = _PARAMETER.match(part)
        if not found:
            segments.append(_literal(part))
            continue
        if found[1] in {name for _, name in parameters}:
            raise ValueError(f"{{{found[1]}}} is here twice: give each parameter a name of its own")
        if found[2] and at != len(parts) - 1:
            raise ValueError(f"{part} takes the rest of the path, so nothing can follow it")
        parameters.append((at, found[1]))
        segments.append(_REST if found[2] else _ONE)
    return tuple(segments), tuple(parameters)


def _literal(part: str) -> bytes:
    if "{" in part or "}" in part:
        raise ValueError(f"{part!r}: a parameter is a whole segment, {{name}}, or {{name...}} for the rest of the path")
    if not _SEGMENT.match(part) or _BROKEN_ESCAPE.search(part):
        raise ValueError(f"{part!r} cannot be in a path as it travels: percent-encode it (no query, no space)")
    if winds(b"/" + part.encode()):
        raise ValueError(f"{part!r} is a dot segment, which no route matches: write the path it leads to")
    return part.encode()


def parse_header(name: str, value: str) -> tuple[bytes, bytes]:
    """A header a pattern asks for. Raises ``ValueError``, whose text says what to write instead."""
    if not _FIELD.match(name):
        raise ValueError(f"{name!r} is no header name")
    if value != value.strip() or not value.isprintable() or not value.isascii():
        raise ValueError(f"{value!r} is no header value: use printable ASCII without spaces around it")
    return name.lower().encode(), value.encode()
