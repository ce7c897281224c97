"""A request becomes a call's arguments and a handler gets it back; a body that is text travels as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.errors import CrossfadeError, UnserialisableError
from crossfade.shim.http import (
    PART,
    HttpRequest,
    HttpResponse,
    StreamedResponse,
    add_http_handler,
    arguments,
    as_text,
    http_handler,
    open_answer,
    seal_answer,
)
from crossfade.shim.redaction import is_secret_name
from crossfade.shim.sealed import Sealer
from crossfade.shim.seam import registry

KINDS = ["text/plain", "application/json; charset=utf-8", "Application/Problem+JSON", "image/png", ""]


@given(st.binary(max_size=60), st.sampled_from(KINDS))
def test_a_body_is_text_or_bytes_and_never_both(body, kind):
    """Whichever it is, the same bytes come out."""
    headers = [("Content-Type", kind)]
    answer = HttpResponse.of(200, headers, body)
    assert answer.content == body
    assert not (answer.text and answer.body)
    given_arguments = arguments(HttpRequest(method="POST", target="/", headers=headers, body=body), is_secret_name)
    assert given_arguments.get("body") or given_arguments.get("text", "").encode() == body


def test_an_encoded_body_is_bytes_whatever_its_type_says():
    """Compressed JSON is not to be read as text."""
    assert as_text([("content-type", "application/json"), ("Content-Encoding", "gzip")], b"{}") is None


def test_text_that_is_not_utf8_is_bytes():
    """ISO 8859-1 text is kept as it was."""
    assert HttpResponse.of(200, [("Content-Type", "text/html; charset=iso-8859-1")], b"\xe9").body == b"\xe9"


async def test_a_piece_fits_in_a_message_and_none_is_lost():
    """A streamed body is cut where it is too long."""

    async def parts():
        yield b"a" * (2 * PART + 1)
        yield b"b"

    pieces = [item.body async for item in StreamedResponse(HttpResponse(200), parts()).items()]
    assert list(map(len, pieces)) == [0, PART, PART, 1, 1]
    assert b"".join(pieces) == b"a" * (2 * PART + 1) + b"b"


def test_a_target_without_a_query_has_none():
    """And a second question mark belongs to the query."""
    assert (HttpRequest(method="GET", target="/a").path, HttpRequest(method="GET", target="/a").query) == ("/a", "")
    assert HttpRequest(method="GET", target="/a?b?c").query == "b?c"


def test_evidence_tells_handlers_apart(monkeypatch):
    """Two handlers of routes are two identities, as what their author wrote: a function, or a class."""
    monkeypatch.setattr(registry, "_handlers", {})

    @http_handler("http.one")
    async def one(request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    class Answers:
        async def __call__(self, request: HttpRequest) -> HttpResponse:
            raise NotImplementedError

    add_http_handler("http.two", Answers())
    first, second = (registry.handler(name) for name in ("http.one", "http.two"))
    assert first.identity == f"{__name__}:test_evidence_tells_handlers_apart.<locals>.one"
    assert second.identity == f"{__name__}:test_evidence_tells_handlers_apart.<locals>.Answers"


_FIELDS = st.sampled_from(
    [("Set-Cookie", "a=tiger"), ("set-cookie", "b=2"), ("X-A", "1"), ("X-Api-Key", "k"), ("X-B", "2")]
)


@given(st.lists(_FIELDS, max_size=8))
def test_an_answer_is_stored_without_its_credentials_and_told_with_them(headers):
    """Every field comes back where it stood, by the same key and for the same call only."""
    sealer = Sealer({"one": b"k" * 32})
    answer = HttpResponse(200, headers, "text")
    stored = seal_answer(answer, sealer, context=b"call 1")
    assert not [name for name, _ in stored.headers if is_secret_name(name)]
    assert open_answer(stored, sealer, context=b"call 1") == answer
    if stored.sealed:
        for other, context in ((sealer, b"call 2"), (Sealer({"one": b"l" * 32}), b"call 1"), (None, b"call 1")):
            with pytest.raises(CrossfadeError):
                open_answer(stored, other, context=context)


def test_an_answer_with_credentials_is_not_stored_without_a_key():
    """The error names the field and the remedy, and not the value."""
    with pytest.raises(UnserialisableError, match=r"Set-Cookie is for its client alone.*CROSSFADE_SEAL_KEY") as caught:
        seal_answer(HttpResponse(200, [("Set-Cookie", "tiger")]), None, context=b"")
    assert "tiger" not in str(caught.value)
    plain = HttpResponse(200, [("X-A", "1")])
    assert seal_answer(plain, None, context=b"") is plain
