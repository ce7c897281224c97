"""HTTP requests as calls: what a route's seam carries over the bus, and what a handler of one is given.

    @http_handler("http.reports")
    async def reports(request: HttpRequest) -> HttpResponse:
        return HttpResponse.json({"id": new_report(request.read_json())}, status=201)

Header values are text of the characters U+0000 to U+00FF, one per byte (ISO 8859-1, RFC 9110 5.5). A body that is
UTF-8 text by its media type travels as text, so that people and redaction can read it; any other as base64.
Credentials (``Authorization``, ``Cookie`` and whatever else is called like one) travel sealed, beside the headers, and
a handler finds them among the headers again. So do those of an answer (``Set-Cookie``), which its client finds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import quote

from .errors import CrossfadeError, SeamDefinitionError, UnserialisableError
from .redaction import is_secret_name
from .seam import Handler, Seam, place, registry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence

    from .outcomes import Answer
    from .payloads import SignatureCodec
    from .policy import Effects, Policy
    from .sealed import Sealer

Fields = list[tuple[str, str]]
"""Header fields: name and value, in order of arrival."""

PART: Final = 64 * 1024  # bytes of a streamed body that travel in one message
CAPTURE: Final = 64 * 1024  # bytes of a body that an observation keeps
# Fields like Date and Server differ between two runs of the same service: status and body are what a caller reads.
COMPARE: Final = {"$.headers": "ignore"}
BODY_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of a request's body that go over the bus; a larger one stays with the legacy service."""

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_REPEATABLE: Final = _SAFE | {b"PUT", b"DELETE"}
_MAX_KEY: Final = 255

is_secret_field: Final[Callable[[str], bool]] = lru_cache(maxsize=1024)(is_secret_name)
"""Whether a field of this name holds a credential."""

_SECRET: Final = frozenset({"credentials"})
_TEXT: Final = ("text/", "application/json", "application/xml", "application/x-www-form-urlencoded")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """A request as it was received, without hop-by-hop fields. ``target`` is path and query, not decoded."""

    method: str
    target: str
    headers: Fields = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    authority: str = ""

    @property
    def path(self) -> str:
        """The target without its query, not decoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark, not decoded; empty without one."""
        return self.target.partition("?")[2]

    def header(self, name: str, default: str = "") -> str:
        """The first value of a field, whatever its case."""
        return first(self.headers, name, default)

    def read_json(self) -> Any:
        """The body, read as JSON; ``ValueError`` when it is none."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. ``text`` and ``body`` are one body in two forms; at most one of them is not empty.

    ``sealed``: its credentials while it travels; empty in what a handler gives and a client gets.
    """

    status: int = 200
    headers: Fields = field(default_factory=list[tuple[str, str]])
    text: str = ""
    body: bytes = b""
    sealed: str = ""

    @classmethod
    def json(cls, value: Any, *, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> HttpResponse:
        """``value`` as JSON."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return cls(status, [("Content-Type", "application/json"), *headers], text)

    @classmethod
    def of(cls, status: int, headers: Fields, body: bytes) -> HttpResponse:
        """An answer that was received: its body as text where it is some."""
        text = as_text(headers, body)
        return cls(status, headers, body=body) if text is None else cls(status, headers, text)

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        return self.body or self.text.encode("utf-8", "surrogatepass")

    def header(self, name: str, default: str = "") -> str:
        """The first value of a field, whatever its case."""
        return first(self.headers, name, default)


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """An answer whose body comes in pieces, as Server-Sent Events do; ``parts`` ends with the body."""

    head: HttpResponse
    parts: AsyncIterable[bytes]

    async def items(self) -> AsyncGenerator[HttpResponse]:
        """The head, then the body in pieces that fit in a message."""
        yield self.head
        async for part in self.parts:
            for at in range(0, len(part), PART):
                yield HttpResponse(self.head.status, body=part[at : at + PART])


class HttpHandler(Protocol):
    """The new side of a route."""

    def __call__(self, request: HttpRequest, /) -> Awaitable[HttpResponse | StreamedResponse]:
        """Answer ``request``. What it raises becomes a 502 problem that names the seam, and no more."""
        ...


def http_handler(name: str) -> Callable[[HttpHandler], HttpHandler]:
    """Declare the handler of a proxied route's seam; a worker that imports it answers the route's requests."""

    def declare(handler: HttpHandler) -> HttpHandler:
        add_http_handler(name, handler)
        return handler

    return declare


def add_http_handler(name: str, handler: HttpHandler, *, policy: Policy | None = None) -> None:
    """``http_handler`` for what is no function definition; ``policy``: the route's, where it is known."""

    async def http(  # noqa: PLR0917 - the parts of a request
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        authority: str = "",
        text: str = "",
        body: bytes = b"",
        credentials: list[tuple[str, str]] = [],  # noqa: B006 - never changed
    ) -> HttpResponse:
        content = body or text.encode("utf-8", "surrogatepass")
        request = HttpRequest(
            method=method, target=target, headers=headers + credentials, body=content, authority=authority
        )
        return cast("HttpResponse", await handler(request))  # streamed or not: the worker tells them apart

    adapted = _Adapted(name, http, handler)
    adapted.policy = policy
    registry.add_handler(adapted)


class _Adapted(Handler):
    """A handler of requests, called with a call's arguments."""

    def __init__(self, name: str, function: Callable[..., Any], handler: HttpHandler) -> None:
        super().__init__(name, function, domain="http", secret=_SECRET)
        self._handler = handler

    @property
    def wrote(self) -> Any:
        """What the user wrote."""
        return self._handler if hasattr(self._handler, "__qualname__") else type(self._handler)

    @property
    def place(self) -> str:
        """``file:line`` of what the user wrote."""
        return place(getattr(self._handler, "__call__", self._handler))  # noqa: B004 - for an object with one


async def _legacy(  # noqa: PLR0917 - the signature of every route's seam
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    authority: str = "",
    text: str = "",
    body: bytes = b"",
    credentials: list[tuple[str, str]] = [],  # noqa: B006 - never changed
) -> HttpResponse:
    raise NotImplementedError(f"{method} {target}: the proxy itself asks the upstream")


class HttpSeam(Seam):
    """A proxied route. Its body is its upstream: the proxy asks it, and no worker can."""

    def __init__(self, name: str, *, policy: Policy, where: str) -> None:
        super().__init__(name, _legacy, domain="http", policy=policy, secret=_SECRET)
        self._where = where

    @property
    def place(self) -> str:
        """Where the route is declared."""
        return self._where

    def body(self) -> Callable[..., Any]:
        """See ``Seam.body``: there is none that a worker could run."""
        raise SeamDefinitionError(
            f"seam {self.name!r} is a proxied route: serve it with a handler (http_handler) or with "
            "crossfade worker --http URL"
        )


def arguments(request: HttpRequest, is_secret: Callable[[str], bool]) -> dict[str, Any]:
    """A request as the arguments of its seam's call; fields for which ``is_secret`` holds become credentials."""
    clear: Fields = []
    secret: Fields = []
    for pair in request.headers:
        (secret if is_secret(pair[0]) else clear).append(pair)
    given: dict[str, Any] = {"method": request.method, "target": request.target, "headers": clear}
    text = as_text(request.headers, request.body)
    parts = {
        "authority": request.authority,
        "text": text or "",
        "body": b"" if text is not None else request.body,
        "credentials": secret,
    }
    return given | {name: value for name, value in parts.items() if value}


def seal_answer(answer: HttpResponse, sealer: Sealer | None, *, context: bytes) -> HttpResponse:
    """``answer`` as it may be stored. Raises ``UnserialisableError`` where it has credentials and there is no key."""
    secret = [(at, *pair) for at, pair in enumerate(answer.headers) if is_secret_field(pair[0])]
    if not secret:
        return answer
    if sealer is None:
        names = ", ".join(sorted({name for _, name, _ in secret}))
        raise UnserialisableError(
            f"the answer's {names} is for its client alone, and there is no key to seal it with: set "
            "CROSSFADE_SEAL_KEY for the proxy and its workers",
            what="return",
        )
    clear = [pair for pair in answer.headers if not is_secret_field(pair[0])]
    return replace(answer, headers=clear, sealed=sealer.seal(json.dumps(secret).encode(), context=context))


def open_answer(answer: HttpResponse, sealer: Sealer | None, *, context: bytes) -> HttpResponse:
    """``seal_answer`` undone, each field where it stood. Raises ``CrossfadeError`` without the key."""
    if not answer.sealed:
        return answer
    if sealer is None:
        raise CrossfadeError("the answer has sealed fields and this process has no key: set CROSSFADE_SEAL_KEY")
    headers = list(answer.headers)
    for at, name, value in json.loads(sealer.open(answer.sealed, context=context)):
        headers.insert(at, (name, value))
    return replace(answer, headers=headers, sealed="")


def is_streamed(answer: Answer) -> bool:
    """Whether a handler gave its answer in pieces: then ``answer`` holds its head and how many there were."""
    return answer.kind == "value" and "items" in json.loads(answer.value)


def recorded(answer: Answer) -> HttpResponse:
    """What a handler answered, from the ledger alone. Raises ``UnserialisableError`` for what is none."""
    response: HttpResponse = _codec().decode_result(answer.value)
    return response


@cache
def _codec() -> SignatureCodec:
    from .payloads import SignatureCodec  # noqa: PLC0415 - `import crossfade.shim` must not load pydantic

    return SignatureCodec(_legacy, secret=_SECRET)


def as_text(headers: Sequence[tuple[str, str]], body: bytes) -> str | None:
    """``body`` as text when its media type says that it is some and it is valid UTF-8; else ``None``."""
    kind = first(headers, "content-type").partition(";")[0].strip().lower()
    if first(headers, "content-encoding") or not (kind.startswith(_TEXT) or kind.endswith(("+json", "+xml"))):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def first(headers: Sequence[tuple[str, str]], name: str, default: str = "") -> str:
    """The first value of the field called ``name``, whatever its case."""
    folded = name.lower()
    return next((value for field_name, value in headers if field_name.lower() == folded), default)


def default_effects(methods: frozenset[bytes]) -> Effects:
    """What running a request twice does, as HTTP defines its method (RFC 9110, 9.2); of several the worst."""
    if methods and methods <= _SAFE:
        return "none"
    return "idempotent" if methods and methods <= _REPEATABLE else "unsafe"


def idempotency_key(method: bytes, key: bytes, authorization: bytes, *, user: str | None) -> str | None:
    """The Idempotency-Key of an unsafe request, such that nobody's key finds the answer to somebody else.

    Whose it is says the user, or the credentials where nobody is named; a slash parts them from what the client chose.
    """
    text = key.decode("latin-1") if method not in _SAFE else ""
    if not text or not text.isprintable() or len(text) > _MAX_KEY:
        return None
    if user:
        return f"{quote(user, safe='')}/{text}"
    return f"/{hashlib.sha256(authorization).hexdigest()}/{text}"


class Kept:
    """A body, kept as it passes, up to ``limit`` bytes; of a longer one nothing is: half a body proves nothing."""

    __slots__ = ("_limit", "parts", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        """``data`` has passed."""
        self.size += len(data)
        if self.size <= self._limit:
            self.parts.append(data)
        else:
            self.parts.clear()

    @property
    def is_whole(self) -> bool:
        """Whether all that passed is kept."""
        return self.size <= self._limit
