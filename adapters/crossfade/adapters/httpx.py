"""An httpx client's requests as seams, where the code that makes them cannot be decorated.

    ROUTES = [route("http.reports", "POST api.example.com/v1/reports")]

    client = httpx.Client(transport=SeamTransport(ROUTES))
    client = httpx.AsyncClient(transport=AsyncSeamTransport(ROUTES))

Redirects, cookies, authentication and ``raise_for_status`` are the client's own, above the transport; TLS, proxies and
HTTP/2 are the inner transport's, below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from crossfade.shim.errors import MissingExtraError
from crossfade.shim.fields import answer_fields, reason_of
from crossfade.shim.http import BODY_LIMIT, HttpResponse
from crossfade.shim.watched import current, watch_call

from ._http import Asked, HttpRoute, Routes, Watching, aanswer, answer, begin, during, failure_of, route

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("httpx", needed_for="crossfade.adapters.httpx") from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from crossfade.shim.watching import Watch

    from ._http import AsyncParts, Begun, Failure, Parts

__all__ = ["AsyncSeamTransport", "HttpRoute", "SeamTransport", "route"]

_ERRORS: Final = {"unsent": httpx.ConnectError, "late": httpx.ReadTimeout, "broken": httpx.ReadError}
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class SeamTransport(httpx.BaseTransport):
    """Answers the requests that ``routes`` take as their seams' stages say; all others are ``inner``'s, untouched.

    ``inner`` is by default ``httpx.HTTPTransport()``. Give your own where the client had options of a transport
    (``verify``, ``http2``, ``limits``, ``proxy``): httpx ignores those when it is given a transport.

    When the bus answers nothing and asking the service instead is not legal, it raises what a client knows:
    ``httpx.ConnectError`` when nothing ran, ``httpx.ReadTimeout`` when no answer came in time and ``httpx.ReadError``
    for anything else, after both of which it may have run; the cause is crossfade's own error.
    """

    def __init__(self, routes: Iterable[HttpRoute], inner: httpx.BaseTransport | None = None) -> None:
        self._routes = Routes(routes)
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx.BaseTransport``."""
        asked = _asked(request)
        found = self._routes.find(asked)
        if found is None:
            return self._inner.handle_request(request)
        watch = watch_call(found.seam)
        if watch is None:
            return self._answered(request, begin(found, asked))
        with during(watch):
            response = self._answered(request, begin(found, asked))
        if response.is_closed:
            watch.end()
        else:
            response.stream = _Told(cast("httpx.SyncByteStream", response.stream), watch)
        return response

    def _answered(self, request: httpx.Request, begun: Begun) -> httpx.Response:
        bus = begun.way.bus
        if bus is not None and bus.runtime.thread.is_current():
            begun = begun.skip("own-loop")
        if begun.way.kind == "legacy":
            return _Site(self._inner, request, begun).legacy()
        stream = cast("httpx.SyncByteStream", request.stream)
        parts, rest = _ahead(stream)
        site = _Site(self._inner, request, begun, stream=_Again(parts, rest))
        if rest is not None:
            site.begun = begun.skip("too-large")
            begun.hit()
            return site.legacy()
        command = begun.command(b"".join(parts))
        if command is None:
            begun.hit()
            return site.legacy()
        return answer(begun, command, site)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


class AsyncSeamTransport(httpx.AsyncBaseTransport):
    """``SeamTransport`` for ``httpx.AsyncClient``; ``inner`` is by default ``httpx.AsyncHTTPTransport()``."""

    def __init__(self, routes: Iterable[HttpRoute], inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._routes = Routes(routes)
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx.AsyncBaseTransport``."""
        asked = _asked(request)
        found = self._routes.find(asked)
        if found is None:
            return await self._inner.handle_async_request(request)
        watch = watch_call(found.seam)
        if watch is None:
            return await self._answered(request, begin(found, asked))
        with during(watch):
            response = await self._answered(request, begin(found, asked))
        if response.is_closed:
            watch.end()
        else:
            response.stream = _AsyncTold(cast("httpx.AsyncByteStream", response.stream), watch)
        return response

    async def _answered(self, request: httpx.Request, begun: Begun) -> httpx.Response:
        if begun.way.kind == "legacy":
            return await _AsyncSite(self._inner, request, begun).legacy()
        stream = cast("httpx.AsyncByteStream", request.stream)
        parts, rest = await _aahead(stream)
        site = _AsyncSite(self._inner, request, begun, stream=_AsyncAgain(parts, rest))
        if rest is not None:
            site.begun = begun.skip("too-large")
            begun.hit()
            return await site.legacy()
        command = begun.command(b"".join(parts))
        if command is None:
            begun.hit()
            return await site.legacy()
        return await aanswer(begun, command, site)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


def _asked(request: httpx.Request) -> Asked:
    timeout: dict[str, float | None] = request.extensions.get("timeout") or {}
    return Asked(
        method=request.method.encode("ascii"),
        host=request.headers.get("host", "").encode("latin-1"),
        target=request.url.raw_path,
        headers=request.headers.raw,
        patience=timeout.get("read"),
    )


def _told(request: httpx.Request, begun: Begun, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Request:
    """``request`` as the service gets it; the client's own stays as it is."""
    told = httpx.Request(request.method, request.url, stream=stream, extensions=request.extensions)
    told.headers = httpx.Headers([*request.headers.raw, *begun.added])
    return told


class _Making:
    """What both kinds of transport make of an answer, or of none."""

    def __init__(self, request: httpx.Request, begun: Begun) -> None:
        self._request = request
        self.begun = begun

    def made(self, answer: HttpResponse) -> httpx.Response:
        """See ``Site``."""
        return self._response(answer, httpx.ByteStream(answer.content), mended=True)

    def failed(self, kind: Failure, error: Exception) -> httpx.TransportError:
        """See ``Site``."""
        return _ERRORS[kind](str(error) or "no answer in time", request=self._request)

    def is_unsent(self, error: Exception) -> bool:
        """See ``Site``."""
        return isinstance(error, _UNSENT)

    def _response(
        self, head: HttpResponse, stream: httpx.SyncByteStream | httpx.AsyncByteStream, *, mended: bool
    ) -> httpx.Response:
        method = self._request.method.encode()
        pairs = answer_fields(head, method)
        if not mended:  # of a body that is still to come nobody knows the length
            pairs = [pair for pair in pairs if pair[0].lower() != b"content-length"]
        return httpx.Response(
            head.status,
            headers=pairs,
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": reason_of(head.status)},
        )


class _Site(_Making):
    """See ``Site``."""

    def __init__(
        self,
        inner: httpx.BaseTransport,
        request: httpx.Request,
        begun: Begun,
        *,
        stream: httpx.SyncByteStream | None = None,
    ) -> None:
        super().__init__(request, begun)
        self._inner = inner
        self._stream = stream or cast("httpx.SyncByteStream", request.stream)

    def legacy(self) -> httpx.Response:
        """See ``Site``."""
        begun, stream = self.begun, self._stream
        if begun.way.observing is None:
            plain = not begun.added and stream is self._request.stream
            return self._inner.handle_request(self._request if plain else _told(self._request, begun, stream))
        watching = Watching(begun, begun.way.observing)
        told = _told(self._request, begun, _Sent(stream, watching))
        try:
            response = self._inner.handle_request(told)
        except BaseException as error:
            watching.ended(error)
            raise
        watching.head(response.status_code, response.headers.raw)
        if response.is_closed:  # a transport without a network may have read it already
            watching.data(response.content)
            watching.ended()
        else:
            response.stream = _Received(cast("httpx.SyncByteStream", response.stream), watching)
        return response

    def read(self, response: httpx.Response) -> HttpResponse:
        """See ``Site``."""
        stream = cast("httpx.SyncByteStream", response.stream)
        try:
            body = b"".join(stream)
        finally:
            stream.close()
        response.stream = httpx.ByteStream(body)
        return _recorded(response, body)

    def streamed(self, head: HttpResponse, parts: Parts) -> httpx.Response:
        """See ``Site``."""
        return self._response(head, _Parts(head, parts, self), mended=False)


class _AsyncSite(_Making):
    """See ``AsyncSite``."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        request: httpx.Request,
        begun: Begun,
        *,
        stream: httpx.AsyncByteStream | None = None,
    ) -> None:
        super().__init__(request, begun)
        self._inner = inner
        self._stream = stream or cast("httpx.AsyncByteStream", request.stream)

    async def legacy(self) -> httpx.Response:
        """See ``AsyncSite``."""
        begun, stream = self.begun, self._stream
        if begun.way.observing is None:
            plain = not begun.added and stream is self._request.stream
            return await self._inner.handle_async_request(
                self._request if plain else _told(self._request, begun, stream)
            )
        watching = Watching(begun, begun.way.observing)
        told = _told(self._request, begun, _AsyncSent(stream, watching))
        try:
            response = await self._inner.handle_async_request(told)
        except BaseException as error:
            watching.ended(error)
            raise
        watching.head(response.status_code, response.headers.raw)
        if response.is_closed:
            watching.data(response.content)
            watching.ended()
        else:
            response.stream = _AsyncReceived(cast("httpx.AsyncByteStream", response.stream), watching)
        return response

    async def read(self, response: httpx.Response) -> HttpResponse:
        """See ``AsyncSite``."""
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            body = b"".join([part async for part in stream])
        finally:
            await stream.aclose()
        response.stream = httpx.ByteStream(body)
        return _recorded(response, body)

    def streamed(self, head: HttpResponse, parts: AsyncParts) -> httpx.Response:
        """See ``AsyncSite``."""
        return self._response(head, _AsyncParts(head, parts, self), mended=False)


def _recorded(response: httpx.Response, body: bytes) -> HttpResponse:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
    return HttpResponse.of(response.status_code, pairs, body)


# -- bodies that go to the service -------------------------------------------------------------------------------------


def _ahead(stream: httpx.SyncByteStream) -> tuple[list[bytes], Iterator[bytes] | None]:
    """A request's body, and what is left of one that is too large for the bus."""
    parts, size, rest = list[bytes](), 0, iter(stream)
    for part in rest:
        parts.append(part)
        size += len(part)
        if size > BODY_LIMIT:
            return parts, rest
    return parts, None


async def _aahead(stream: httpx.AsyncByteStream) -> tuple[list[bytes], AsyncIterator[bytes] | None]:
    parts, size, rest = list[bytes](), 0, aiter(stream)
    async for part in rest:
        parts.append(part)
        size += len(part)
        if size > BODY_LIMIT:
            return parts, rest
    return parts, None


class _Again(httpx.SyncByteStream):
    """A body of which a part was read: from its first byte."""

    def __init__(self, parts: list[bytes], rest: Iterator[bytes] | None) -> None:
        self._parts = parts
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        yield from self._rest or ()


class _AsyncAgain(httpx.AsyncByteStream):
    """See ``_Again``."""

    def __init__(self, parts: list[bytes], rest: AsyncIterator[bytes] | None) -> None:
        self._parts = parts
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._rest is not None:
            async for part in self._rest:
                yield part


class _Sent(httpx.SyncByteStream):
    """A request's body, watched."""

    def __init__(self, stream: httpx.SyncByteStream, watching: Watching) -> None:
        self._stream = stream
        self._watching = watching

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._watching.request.add(part)
            yield part
        self._watching.request_done = True

    def close(self) -> None:
        """See ``httpx.SyncByteStream``."""
        self._stream.close()


class _AsyncSent(httpx.AsyncByteStream):
    """See ``_Sent``."""

    def __init__(self, stream: httpx.AsyncByteStream, watching: Watching) -> None:
        self._stream = stream
        self._watching = watching

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._watching.request.add(part)
            yield part
        self._watching.request_done = True

    async def aclose(self) -> None:
        """See ``httpx.AsyncByteStream``."""
        await self._stream.aclose()


# -- bodies that come back ---------------------------------------------------------------------------------------------


class _Received(httpx.SyncByteStream):
    """An answer's body, watched."""

    def __init__(self, stream: httpx.SyncByteStream, watching: Watching) -> None:
        self._stream = stream
        self._watching = watching

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._stream:
                self._watching.data(part)
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            self._watching.ended(error)
            raise
        self._watching.ended()

    def close(self) -> None:
        """See ``httpx.SyncByteStream``."""
        self._watching.left()
        self._stream.close()


class _AsyncReceived(httpx.AsyncByteStream):
    """See ``_Received``."""

    def __init__(self, stream: httpx.AsyncByteStream, watching: Watching) -> None:
        self._stream = stream
        self._watching = watching

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                self._watching.data(part)
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            self._watching.ended(error)
            raise
        self._watching.ended()

    async def aclose(self) -> None:
        """See ``httpx.AsyncByteStream``."""
        self._watching.left()
        await self._stream.aclose()


class _Told(httpx.SyncByteStream):
    """An answer's body whose call telemetry is told of: it is over when the body was read, or left."""

    def __init__(self, stream: httpx.SyncByteStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._stream)
        while (part := self._next(parts)) is not None:
            yield part
        self._watch.end()

    def _next(self, parts: Iterator[bytes]) -> bytes | None:
        with during(self._watch):
            return next(parts, None)

    def close(self) -> None:
        """See ``httpx.SyncByteStream``."""
        with current(self._watch):
            self._stream.close()
        self._watch.end()


class _AsyncTold(httpx.AsyncByteStream):
    """See ``_Told``."""

    def __init__(self, stream: httpx.AsyncByteStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._stream)
        while (part := await self._next(parts)) is not None:
            yield part
        self._watch.end()

    async def _next(self, parts: AsyncIterator[bytes]) -> bytes | None:
        with during(self._watch):
            return await anext(parts, None)

    async def aclose(self) -> None:
        """See ``httpx.AsyncByteStream``."""
        with current(self._watch):
            await self._stream.aclose()
        self._watch.end()


class _Parts(httpx.SyncByteStream):
    """An answer over the bus, as it comes."""

    def __init__(self, head: HttpResponse, parts: Parts, making: _Making) -> None:
        self._head = head
        self._parts = parts
        self._making = making

    def __iter__(self) -> Iterator[bytes]:
        if self._head.content:
            yield self._head.content
        while (part := self._next()) is not None:
            yield part

    def _next(self) -> bytes | None:
        try:
            found = self._parts.next()
        except Exception as error:
            raise self._making.failed(failure_of(error), error) from error
        return None if found is None else found[0].content

    def close(self) -> None:
        """See ``httpx.SyncByteStream``."""
        self._parts.close()


class _AsyncParts(httpx.AsyncByteStream):
    """See ``_Parts``."""

    def __init__(self, head: HttpResponse, parts: AsyncParts, making: _Making) -> None:
        self._head = head
        self._parts = parts
        self._making = making

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._head.content:
            yield self._head.content
        while (part := await self._next()) is not None:
            yield part

    async def _next(self) -> bytes | None:
        try:
            found = await self._parts.next()
        except Exception as error:
            raise self._making.failed(failure_of(error), error) from error
        return None if found is None else found[0].content

    async def aclose(self) -> None:
        """See ``httpx.AsyncByteStream``."""
        await self._parts.close()
