"""Requests and answers travel as they were, and what comes back over the bus cannot write more than it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy import headers, http_calls
from crossfade.proxy.heads import parse_request, parse_response
from crossfade.proxy.limits import Limits
from crossfade.shim.fields import answer_fields, raw, reason_of
from crossfade.shim.http import HttpRequest, HttpResponse, arguments
from crossfade.shim.redaction import is_secret_name

LIMITS = Limits()
STRANGER = headers.Peer("192.0.2.1", scheme=b"http", hop=headers.Hop(name=b"crossfade-test"))
names = st.sampled_from(["X-A", "x-b", "Set-Cookie", "ETag", "Link"])
values = st.text([chr(code) for code in [9, *range(0x20, 0x7F), *range(0x80, 0x100)]], max_size=20).map(
    lambda text: text.strip(" \t")
)
fields = st.lists(st.tuples(names, values), max_size=6)
hostile = st.sampled_from(["\r\n", "\n", "\r", "\0", "\x0b", "\x7f", "\u0100", "a\r\nSet-Cookie: x=1", "\u2028"])


@given(fields, st.binary(max_size=40), st.sampled_from(["text/plain", "application/octet-stream"]))
def test_an_answer_comes_back_as_it_was(given_fields, body, kind):
    """Order, number and every byte of its fields, obs-text too, and its body whether that is text or not."""
    lines = [f"Content-Type: {kind}", *(f"{name}: {value}" for name, value in given_fields)]
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1")
    parsed = parse_response(head, b"GET", limits=LIMITS)
    answer = http_calls.response_of(parsed, body)
    assert answer_fields(answer, b"GET") == parsed.headers
    assert answer.content == body


@given(fields, st.binary(max_size=40))
def test_a_request_goes_on_as_it_came(given_fields, body):
    """The handler's own request has the fields in order, then what this hop added, and the same body."""
    lines = [f"{name}: {value}" for name, value in given_fields]
    head = "\r\n".join(
        ["POST /a%20b?q=%00 HTTP/1.1", "Host: a.example", *lines, f"Content-Length: {len(body)}", "", ""]
    )
    came = parse_request(head.encode("latin-1"), limits=LIMITS)
    request = http_calls.request_of(came, body, peer=STRANGER, authority=b"legacy:1")
    goes = parse_request(http_calls.request_head(request), limits=LIMITS)
    assert (goes.method, goes.target, goes.host) == (came.method, came.target, came.host)
    assert [field for field in goes.headers if field[0].decode() in {"X-A", "x-b", "Set-Cookie", "ETag", "Link"}] == [
        (name.encode(), value.encode("latin-1")) for name, value in given_fields
    ]
    assert request.body == body
    assert goes.framing.length == len(body)


@given(fields, st.binary(max_size=40), st.sampled_from(["Authorization", "Cookie", "X-Api-Key"]), values)
def test_credentials_go_beside_the_others_and_none_is_lost(given_fields, body, secret, value):
    """What is called like a credential is not among the clear fields; together they are all of them."""
    request = HttpRequest(method="GET", target="/", headers=[*given_fields, (secret, value)], body=body)
    given_arguments = arguments(request, is_secret_name)
    assert not any(is_secret_name(name) for name, _ in given_arguments["headers"])
    assert sorted(given_arguments["headers"] + given_arguments["credentials"]) == sorted(request.headers)


@given(hostile, st.sampled_from(["method", "target", "authority"]))
def test_a_request_line_from_the_bus_cannot_hold_a_second_one(text, part):
    """Whoever writes to the bus cannot split a request to the service."""
    request = replace(HttpRequest(method="GET", target="/", authority="a"), **{part: f"x{text}y"})
    with pytest.raises(ValueError, match=r"."):
        http_calls.request_head(request)


@pytest.mark.parametrize("make", [raw, lambda pairs: answer_fields(HttpResponse(200, pairs), b"GET")])
@given(hostile, st.booleans())
def test_a_field_from_the_bus_cannot_hold_a_second_one(make, text, in_name):
    """Neither its name nor its value."""
    with pytest.raises(ValueError, match=r"."):
        make([(f"X{text}", "1") if in_name else ("X", f"1{text}2")])


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\tb", "(a)", "ä"])
def test_a_name_that_is_no_token_is_refused(name):
    """It would be read as something else, or as nothing."""
    with pytest.raises(ValueError, match="no header field"):
        raw([(name, "1")])


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 103, 199, 1000])
def test_a_status_that_is_no_answers_is_refused(status):
    """A 1xx is no answer: its client would take the body for the next one."""
    with pytest.raises(ValueError, match="no status"):
        reason_of(status)


@pytest.mark.parametrize("status", [200, 299, 404, 599, 799])
def test_a_status_nobody_has_named_is_an_answer(status):
    """A service may make up its own."""
    assert isinstance(reason_of(status), bytes)


@pytest.mark.parametrize(
    ("status", "method", "headers", "kind", "length"),
    [
        (200, b"HEAD", [], "none", []),
        (200, b"HEAD", [("Content-Length", "500")], "none", [b"500"]),
        (200, b"HEAD", [("Content-Length", "x")], "none", []),
        (200, b"HEAD", [("Content-Length", "1"), ("Content-Length", "2")], "none", []),
        (304, b"GET", [("Content-Length", "500")], "none", [b"500"]),
        (204, b"GET", [], "none", []),
        (200, b"GET", [], "length", [b"0"]),
        (200, b"GET", [("Content-Length", "7"), ("content-length", "0")], "length", [b"0"]),
    ],
)
def test_a_length_is_the_services_or_the_bodys_or_not_told(status, method, headers, kind, length):
    """A HEAD is never said to have no body because none came; a wrong or double length goes."""
    answer = HttpResponse(status, headers)
    told = [value for name, value in answer_fields(answer, method) if name.lower() == b"content-length"]
    assert (http_calls.framing_of(answer, method).kind, told) == (kind, length)


def test_what_connection_lists_ends_at_its_hop():
    """A response's own hop-by-hop field does not come over the bus."""
    head = parse_response(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
        b"GET",
        limits=LIMITS,
    )
    assert [name for name, _ in http_calls.response_of(head, b"").headers] == ["X-End", "Content-Length"]
