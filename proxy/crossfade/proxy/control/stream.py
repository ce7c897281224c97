"""``/_crossfade/stream``: a user's events as they happen, as Server-Sent Events and over a WebSocket.

Plain ASGI: a framework's response objects would cost each of thousands of open streams more than the stream itself.
A frame is the same in both: ``{"id", "event", "data"}`` as one JSON text over a WebSocket, the three fields of an
event in SSE (WHATWG HTML, server-sent events).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import report
from crossfade.shim.subjects import token as subject_token

from .following import Following, Item
from .hub import Waiter
from .problems import problem
from .tokens import TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from fastapi.responses import Response

    from .hub import Hub
    from .revocations import Revocations
    from .ring import Owner
    from .tokens import Keyring, StreamToken

END: Final = "crossfade.end"
HEARTBEAT: Final = "crossfade.heartbeat"

_NOT_AGAIN: Final = 4401  # WebSocket: come back with another token
_LATER: Final = 1013  # WebSocket: try again later (RFC 6455 registry)
_POLICY: Final = 1008
_CODES: Final = {"expired": _NOT_AGAIN, "revoked": _NOT_AGAIN}
_RESUME_LIMIT: Final = 256  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLimits:
    """What streams may take.

    Attributes:
        heartbeat: Seconds without an event until a sign of life. Default 15. Danger: longer than a proxy's patience
            and it cuts the connection.
        send_timeout: Seconds a browser may take none of what is sent before it is cut off. Default 20. Danger: a
            browser asleep for longer comes back and catches up.
        streams: Open streams of this process. Default 5000. Danger: about 25 KB each, and a file descriptor.
        per_user: Open streams of one user. Default 50: tabs, on several devices.
    """

    heartbeat: float = 15.0
    send_timeout: float = 20.0
    streams: int = 5000
    per_user: int = 50

    def __post_init__(self) -> None:
        for name in ("heartbeat", "send_timeout", "streams", "per_user"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError("must be more than 0", where=name)


class RefusedError(Exception):
    """A stream that is not opened: status and words."""

    def __init__(self, status: int, detail: str, *, retry: bool = False) -> None:
        self.status = status
        self.retry = retry
        super().__init__(detail)


class Streams:
    """Opens streams for whoever shows a token; an ASGI application of this one path."""

    def __init__(
        self,
        hub: Hub,
        keyring: Keyring,
        revocations: Revocations,
        *,
        limits: StreamLimits | None = None,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self.hub = hub
        self.keyring = keyring
        self.revocations = revocations
        self.limits = limits or StreamLimits()
        self.origins = origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "websocket":
            await self._over_websocket(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await problem(405, "GET it", headers={"Allow": "GET, HEAD"})(scope, receive, send)
        else:
            await self._over_http(scope, receive, send)

    # -- who may -----------------------------------------------------------------------------------------------

    def authenticate(self, headers: dict[str, str], query: dict[str, str]) -> StreamToken:
        """Whose stream it is. Raises ``RefusedError`` (401)."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        text = bearer.strip() if scheme.lower() == "bearer" else query.get("token", "")
        if not text:
            raise RefusedError(401, "whose? Send Authorization: Bearer, or ?token=, with a token of your user")
        try:
            found = self.keyring.read(text)
        except TokenRefusedError as error:
            raise RefusedError(401, f"{error}: open the page again to get a new one") from error
        if found.id in self.revocations:
            raise RefusedError(401, "the token is revoked")
        return found

    def _check_origin(self, headers: dict[str, str]) -> None:
        """Another site's page may not open a WebSocket here, token or not: it shows that it has stolen one."""
        origin = headers.get("origin")
        if origin and origin not in self.origins and urlsplit(origin).netloc != headers.get("host"):
            raise RefusedError(403, "this page's origin is not allowed: name it with --allow-origin")

    @contextmanager
    def waiting(self, token: StreamToken) -> Generator[Waiter]:
        """A place among those who are woken. Raises ``RefusedError`` (429, 503) when there is none."""
        with self.place((subject_token(token.tenant), subject_token(token.user)), token=token.id) as waiter:
            yield waiter

    @contextmanager
    def place(self, owner: Owner, *, token: str = "") -> Generator[Waiter]:
        """As ``waiting``, for a stream that shows something else than one user's events."""
        hub, limits = self.hub, self.limits
        waiter = Waiter(owner=owner, token=token)
        if not hub.ready.is_set():
            raise RefusedError(503, "the bus cannot be read yet", retry=True)
        if hub.count(waiter.owner) >= limits.per_user:
            raise RefusedError(429, f"this user has {limits.per_user} streams open already", retry=True)
        if hub.total >= limits.streams:
            raise RefusedError(503, "this process has as many streams open as it may", retry=True)
        hub.join(waiter)
        try:
            yield waiter
        finally:
            hub.leave(waiter)

    # -- Server-Sent Events --------------------------------------------------------------------------------------

    async def _over_http(self, scope: Any, receive: Any, send: Any) -> None:
        headers, query = read_head(scope)
        try:
            token = self.authenticate(headers, query)
            with self.waiting(token) as waiter:
                following = Following(self.hub, waiter)
                first = following.begin(resume_of(headers, query))
                await send_events(
                    receive,
                    send,
                    waiter=waiter,
                    batches=self.pump(following, waiter, token, first=first),
                    headers=self.head(headers),
                    limits=self.limits,
                )
        except RefusedError as error:
            await self.refuse(error, headers)(scope, receive, send)

    def head(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """The headers of a stream's answer; another origin on the list may read it."""
        origin = headers.get("origin", "")
        allowed = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"origin")]
        return [*_SSE_HEADERS, *(allowed if origin in self.origins else [])]

    def refuse(self, error: RefusedError, headers: Mapping[str, str]) -> Response:
        """The answer of a stream that is not opened."""
        more = {"Retry-After": "5"} if error.retry else {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        if headers.get("origin", "") in self.origins:
            more |= {"Access-Control-Allow-Origin": headers["origin"], "Vary": "Origin"}
        report.count("stream-refused", reason=str(error.status))
        return problem(error.status, str(error), headers=more)

    async def pump(
        self, following: Following, waiter: Waiter, token: StreamToken, *, first: list[Item]
    ) -> AsyncGenerator[list[Item]]:
        """What to send, in batches, signs of life among it. The last says why it ends."""
        yield first
        while not waiter.closed:
            left = (token.expires - datetime.now(UTC)).total_seconds()
            if left <= 0:
                waiter.close("expired")
                break
            items = await following.next()
            if items:
                yield items
            elif not waiter.closed and not await waiter.wait(min(self.limits.heartbeat, left)):
                yield [Item(id=following.id, kind=HEARTBEAT, data=b"{}")]
        yield [Item(id=following.id, kind=END, data=b'{"reason":"%s"}' % waiter.closed.encode())]

    # -- WebSocket -----------------------------------------------------------------------------------------------

    async def _over_websocket(self, scope: Any, receive: Any, send: Any) -> None:
        headers, query = read_head(scope)
        await receive()  # websocket.connect
        try:
            self._check_origin(headers)
            token = self.authenticate(headers, query)
            with self.waiting(token) as waiter:
                await send({"type": "websocket.accept"})
                following = Following(self.hub, waiter)
                first = following.begin(resume_of(headers, query))
                listening = asyncio.ensure_future(_hear(receive, following, waiter))
                try:
                    await self._talk(send, self.pump(following, waiter, token, first=first), waiter)
                finally:
                    listening.cancel()
        except RefusedError as error:
            report.count("stream-refused", reason=str(error.status))
            await send(_denial(error))

    async def _talk(self, send: Any, batches: AsyncGenerator[list[Item]], waiter: Waiter) -> None:
        async with aclosing(batches):
            async for items in batches:
                for item in items:
                    if waiter.closed == _LEFT or not await in_time(send, _message(item), self.limits.send_timeout):
                        return
        code = _CODES.get(waiter.closed, _LATER)
        await in_time(
            send, {"type": "websocket.close", "code": code, "reason": waiter.closed}, self.limits.send_timeout
        )


async def send_events(
    receive: Any,
    send: Any,
    *,
    waiter: Waiter,
    batches: AsyncGenerator[list[Item]],
    headers: list[tuple[bytes, bytes]],
    limits: StreamLimits,
) -> None:
    """Answer with Server-Sent Events until there are no more batches, or the browser leaves or takes nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    leaving = asyncio.ensure_future(_until_gone(receive, waiter))
    hello = b"retry: 1000\n\n"  # milliseconds after which a browser comes back
    try:
        async with aclosing(batches):
            async for items in batches:
                message = {"type": "http.response.body", "body": hello + b"".join(map(frame, items)), "more_body": True}
                hello = b""
                if waiter.closed == _LEFT or not await in_time(send, message, limits.send_timeout):
                    return
        await in_time(send, {"type": "http.response.body", "body": b""}, limits.send_timeout)
    finally:
        leaving.cancel()


def frame(item: Item) -> bytes:
    """One event in SSE. The data is JSON of one line, the other two are ours.

    A sign of life is a comment and an id: it moves a browser's resume point and shows it nothing.
    """
    if item.kind == HEARTBEAT:
        return b":\nid: %s\n\n" % item.id.encode()
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (item.id.encode(), item.kind.encode(), item.data)


def read_head(scope: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Headers by lower-case name and the query's first values."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20)
    except ValueError:
        query = dict[str, list[str]]()
    return headers, {name: values[0] for name, values in query.items()}


def resume_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Where a browser wants to go on; it cannot set the header the first time, so there is ``?after=``, too."""
    found = headers.get("last-event-id") or query.get("after") or None
    return found if found is None or len(found) <= _RESUME_LIMIT else "?"


async def in_time(send: Any, message: Any, seconds: float) -> bool:
    """Send; ``False``, counted, when the other side takes nothing for so long."""
    try:
        async with asyncio.timeout(seconds):
            await send(message)
    except TimeoutError:
        report.count("stream-ended", reason="slow")
        return False
    except OSError:  # it left
        return False
    return True


async def _until_gone(receive: Any, waiter: Waiter) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    waiter.close(_LEFT)


async def _hear(receive: Any, following: Following, waiter: Waiter) -> None:
    """What the browser says: ``{"op": "resume", "after": ID}``, at any time; anything else is counted."""
    while (message := await receive())["type"] != "websocket.disconnect":
        after = _resume_in(message.get("text") or "")
        if after is None:
            report.count("skipped", reason="websocket-message")
            continue
        following.resume(after)
        waiter.wake()
    waiter.close(_LEFT)


def _resume_in(text: str) -> str | None:
    try:
        said: Any = json.loads(text)
        after = said["after"] if said["op"] == "resume" else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return after if isinstance(after, str) and 0 < len(after) <= _RESUME_LIMIT else None


def _message(item: Item) -> dict[str, Any]:
    text = b'{"id":"%s","event":"%s","data":%s}' % (item.id.encode(), item.kind.encode(), item.data)
    return {"type": "websocket.send", "text": text.decode()}


def _denial(error: RefusedError) -> dict[str, Any]:
    """Before the handshake is over, closing answers 403; a code for why reaches no browser then."""
    return {"type": "websocket.close", "code": _POLICY, "reason": str(error)[:100]}


_LEFT: Final = "left"
_SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)
