"""A requests session's requests as seams, where the code that makes them cannot be decorated.

    session.mount("https://api.example.com", SeamAdapter([route("http.reports", "POST /v1/reports")]))

Redirects, cookies, authentication and ``raise_for_status`` are the session's own, above the adapter.
"""

from __future__ import annotations

import io
from email.message import Message
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from crossfade.shim.errors import MissingExtraError
from crossfade.shim.fields import answer_fields, reason_of
from crossfade.shim.http import BODY_LIMIT, HttpResponse
from crossfade.shim.watched import current, watch_call

from ._http import Asked, HttpRoute, Routes, Watching, answer, begin, during, failure_of, route

try:
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
    from urllib3 import HTTPResponse
    from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError
except ImportError as error:
    raise MissingExtraError("requests", needed_for="crossfade.adapters.requests") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from requests import PreparedRequest, Response

    from crossfade.shim.watching import Watch

    from ._http import Begun, Failure, Parts

__all__ = ["HttpRoute", "SeamAdapter", "route"]

_ERRORS: Final = {
    "unsent": requests.ConnectionError,
    "late": requests.ReadTimeout,
    "broken": requests.exceptions.ChunkedEncodingError,
}
_CODED: Final = frozenset({"content-encoding", "content-length"})
_PART: Final = 64 * 1024


class SeamAdapter(HTTPAdapter):
    """Answers the requests that ``routes`` take as their seams' stages say; all others pass through, untouched.

    ``inner`` is who asks the service; by default this is a ``requests.adapters.HTTPAdapter`` itself, made with
    ``options``.

    When the bus answers nothing and asking the service instead is not legal, it raises what a session knows:
    ``requests.ConnectionError`` when nothing ran, ``requests.ReadTimeout`` when no answer came in time and
    ``requests.exceptions.ChunkedEncodingError`` for anything else, after both of which it may have run; the cause is
    crossfade's own error.
    """

    def __init__(self, routes: Iterable[HttpRoute], inner: BaseAdapter | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._routes = Routes(routes)
        self._inner = inner

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """See ``requests.adapters.HTTPAdapter``."""
        send = self._inner.send if self._inner is not None else super().send
        asked = _asked(request, options.get("timeout"))
        found = self._routes.find(asked)
        if found is None:
            return send(request, *args, **options)

        def ask(told: PreparedRequest) -> Response:
            response = send(told, *args, **options)
            response.request = request
            response.connection = self  # an answer to a login goes the same way
            return response

        watch = watch_call(found.seam)
        if watch is None:
            return self._answered(request, begin(found, asked), ask)
        with during(watch):
            response = self._answered(request, begin(found, asked), ask)
        response.raw = _Told(response.raw, watch)
        return response

    def _answered(self, request: PreparedRequest, begun: Begun, ask: Callable[[PreparedRequest], Response]) -> Response:
        bus = begun.way.bus
        if bus is not None and bus.runtime.thread.is_current():
            begun = begun.skip("own-loop")
        site = _Site(self, ask, request, begun)
        if begun.way.kind == "legacy":
            return site.legacy()
        parts, rest = _ahead(request.body)
        site.body = b"".join(parts) if rest is None else _again(parts, rest)
        command = begun.command(b"".join(parts)) if rest is None else None
        if command is None:
            if rest is not None:
                site.begun = begun.skip("too-large")
            begun.hit()
            return site.legacy()
        return answer(begun, command, site)

    def close(self) -> None:
        """Close the inner adapter, too."""
        super().close()
        if self._inner is not None:
            self._inner.close()


def _asked(request: PreparedRequest, timeout: Any) -> Asked:
    read: object = cast("tuple[object, ...]", timeout)[-1] if isinstance(timeout, tuple) else timeout
    read = getattr(read, "read_timeout", read)
    fields = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
    host = next((value for name, value in fields if name.lower() == b"host"), None)
    return Asked(
        method=_bytes(request.method or ""),
        host=host or urlsplit(request.url or "").netloc.rpartition("@")[2].encode("latin-1"),
        target=request.path_url.encode("latin-1"),
        # What is recorded and compared is what the program sees, which is decoded.
        headers=[field for field in fields if field[0].lower() != b"accept-encoding"],
        patience=read if isinstance(read, int | float) else None,
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


class _Site:
    """See ``Site``."""

    def __init__(
        self,
        adapter: SeamAdapter,
        ask: Callable[[PreparedRequest], Response],
        request: PreparedRequest,
        begun: Begun,
    ) -> None:
        self._adapter = adapter
        self._ask = ask
        self._request = request
        self.begun = begun
        self.body: Any = request.body

    def legacy(self) -> Response:
        """See ``Site``."""
        begun = self.begun
        watching = Watching(begun, begun.way.observing) if begun.way.observing is not None else None
        if watching is None and not begun.added and self.body is self._request.body:
            return self._ask(self._request)
        told = self._request.copy()
        told.headers.update({name.decode(): value.decode("latin-1") for name, value in begun.added})
        told.body = self.body if watching is None else _sent(self.body, watching)
        try:
            response = self._ask(told)
        except BaseException as error:
            if isinstance(error, requests.RequestException) and error.request is told:
                error.request = self._request
            if watching is not None:
                watching.ended(error)
            raise
        if watching is not None:
            watching.request_done = watching.request_done or not _is_streamed(self.body)
            watching.head(response.status_code, _fields(response), without=_CODED)
            response.raw = _Received(response.raw, watching)
        return response

    def read(self, response: Response) -> HttpResponse:
        """See ``Site``."""
        body = response.content
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _fields(response)]
        return HttpResponse.of(response.status_code, [pair for pair in pairs if pair[0].lower() not in _CODED], body)

    def made(self, answer: HttpResponse) -> Response:
        """See ``Site``."""
        return self._response(answer, io.BytesIO(answer.content), HTTPResponse)

    def streamed(self, head: HttpResponse, parts: Parts) -> Response:
        """See ``Site``."""
        return self._response(head, _Parts(head, parts), _Streamed)

    def failed(self, kind: Failure, error: Exception) -> requests.RequestException:
        """See ``Site``."""
        return _ERRORS[kind](str(error) or "no answer in time", request=self._request)

    def is_unsent(self, error: Exception) -> bool:
        """See ``Site``."""
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)

    def _response(self, head: HttpResponse, body: Any, kind: type[HTTPResponse]) -> Response:
        method = self._request.method or "GET"
        fields = answer_fields(head, method.encode())
        if isinstance(body, _Parts):  # of a body that is still to come nobody knows the length
            fields = [field for field in fields if field[0].lower() != b"content-length"]
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        raw = kind(
            body,
            headers=cast("Any", pairs),
            status=head.status,
            version=11,
            reason=reason_of(head.status).decode(),
            preload_content=False,
            decode_content=False,
            original_response=cast("Any", _Original(pairs)),
            request_method=method,
        )
        return self._adapter.build_response(self._request, raw)


def _fields(response: Response) -> list[tuple[bytes, bytes]]:
    """All fields of an answer, each line of one name by itself."""
    lines = getattr(response.raw, "headers", None)
    pairs: Iterable[tuple[str, str]] = (lines if lines is not None else response.headers).items()
    return [(_bytes(name), _bytes(value)) for name, value in pairs]


class _Original:
    """What a session's cookies are read from."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.msg = Message()
        for name, value in pairs:
            self.msg[name] = value

    def isclosed(self) -> bool:
        """There is no connection to give back."""
        return True

    def close(self) -> None:
        """See ``isclosed``."""


# -- bodies that go to the service -------------------------------------------------------------------------------------


def _is_streamed(body: Any) -> bool:
    return body is not None and not isinstance(body, str | bytes)


def _steps(body: Any) -> Iterator[bytes]:
    """The parts of a body, as the inner adapter would take them."""
    if body is None:
        return iter(())
    if not _is_streamed(body):
        return iter((body.encode() if isinstance(body, str) else body,))
    steps = iter(lambda: body.read(_PART), body.read(0)) if hasattr(body, "read") else iter(body)
    return (part.encode() if isinstance(part, str) else bytes(part) for part in steps)


def _ahead(body: Any) -> tuple[list[bytes], Iterator[bytes] | None]:
    """A request's body, and what is left of one that is too large for the bus."""
    parts, size, rest = list[bytes](), 0, _steps(body)
    for part in rest:
        parts.append(part)
        size += len(part)
        if size > BODY_LIMIT:
            return parts, rest
    return parts, None


def _again(parts: list[bytes], rest: Iterator[bytes]) -> Generator[bytes]:
    yield from parts
    yield from rest


def _sent(body: Any, watching: Watching) -> Any:
    """``body``, watched; one that is there already is kept at once."""
    if not _is_streamed(body):
        for part in _steps(body):
            watching.request.add(part)
        return body

    def watched() -> Generator[bytes]:
        for part in _steps(body):
            watching.request.add(part)
            yield part
        watching.request_done = True

    return watched()


# -- bodies that come back ---------------------------------------------------------------------------------------------


class _Received:
    """A service's answer, its body watched as the program reads it; all else is the answer's own."""

    def __init__(self, raw: Any, watching: Watching) -> None:
        self._raw = raw
        self._watching = watching

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._raw)

    def stream(self, *args: Any, **options: Any) -> Generator[bytes]:
        """See ``urllib3.HTTPResponse``."""
        try:
            for part in self._raw.stream(*args, **options):
                self._watching.data(part)
                yield part
        except GeneratorExit:
            self._watching.left()
            raise
        except BaseException as error:
            self._watching.ended(error)
            raise
        self._watching.ended()

    def read(self, amt: int | None = None, *args: Any, **options: Any) -> bytes:
        """See ``urllib3.HTTPResponse``."""
        try:
            part: bytes = self._raw.read(amt, *args, **options)
        except BaseException as error:
            self._watching.ended(error)
            raise
        self._watching.data(part)
        if amt is None or (amt and not part):
            self._watching.ended()
        return part

    def close(self) -> None:
        """See ``urllib3.HTTPResponse``."""
        self._watching.left()
        self._raw.close()

    def release_conn(self) -> None:
        """See ``urllib3.HTTPResponse``."""
        self._raw.release_conn()


class _Told:
    """An answer whose call telemetry is told of: it is over when its body was read, or left; all else is its own."""

    def __init__(self, raw: Any, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._raw)

    def stream(self, *args: Any, **options: Any) -> Generator[bytes]:
        """See ``urllib3.HTTPResponse``."""
        parts: Iterator[bytes] = self._raw.stream(*args, **options)
        try:
            while (part := self._next(parts)) is not None:
                yield part
        finally:
            self._watch.end()

    def _next(self, parts: Iterator[bytes]) -> bytes | None:
        with during(self._watch):
            return next(parts, None)

    def read(self, amt: int | None = None, *args: Any, **options: Any) -> bytes:
        """See ``urllib3.HTTPResponse``."""
        with during(self._watch):
            part: bytes = self._raw.read(amt, *args, **options)
        if amt is None or (amt and not part):
            self._watch.end()
        return part

    def close(self) -> None:
        """See ``urllib3.HTTPResponse``."""
        with current(self._watch):
            self._raw.close()
        self._watch.end()


class _Parts(io.RawIOBase):
    """A body over the bus, as it comes."""

    def __init__(self, head: HttpResponse, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._waiting = head.content
        self._done = False

    def readable(self) -> bool:
        """See ``io.RawIOBase``."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See ``io.RawIOBase``."""
        data = self.some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def some(self, most: int) -> bytes:
        """What is there, up to ``most`` bytes, or the next to come; empty at the end."""
        while not self._waiting and not self._done:
            try:
                found = self._parts.next()
            except Exception as error:
                self._done = True
                text = str(error) or "no answer in time"
                if failure_of(error) == "late":
                    raise ReadTimeoutError(cast("Any", None), "", text) from error
                raise ProtocolError(text) from error
            self._done = found is None
            self._waiting = found[0].content if found else b""
        data, self._waiting = self._waiting[:most], self._waiting[most:]
        return data

    def close(self) -> None:
        """Give up what has not come."""
        if not self.closed:
            self._parts.close()
        super().close()


class _Streamed(HTTPResponse):
    """An answer whose parts reach the program as they come, as those of a chunked one do."""

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Generator[bytes]:  # noqa: FBT001 - urllib3's
        """See ``urllib3.HTTPResponse``."""
        body = self._fp
        if self.headers.get("content-encoding") or not isinstance(body, _Parts):
            yield from super().stream(amt, decode_content)
            return
        with self._error_catcher():
            while data := body.some(amt or _PART):
                yield data
        body.close()
