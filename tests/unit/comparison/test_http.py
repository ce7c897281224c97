from __future__ import annotations

import base64
import gzip
import json
import time
import zlib

import pytest

from crossfade.shim.comparison import Outcome, Rules, compare, http_outcome
from crossfade.shim.comparison.http import document
from crossfade.shim.http import HttpResponse
from crossfade.shim.outcomes import ErrorRecord
from crossfade.shim.payloads import SignatureCodec

NO_RULES = Rules()
SOME = {"$redacted": "a" * 32}


def answers() -> HttpResponse: ...


def recorded(body, kind="application/json", *, status=200, headers=()):
    """An answer as an observation holds it."""
    fields = [("Content-Type", kind), *headers] if kind else list(headers)
    response = HttpResponse.of(status, fields, body if isinstance(body, bytes) else body.encode())
    return json.loads(SignatureCodec(answers).encode_result(response))["value"]


def judge(old, new, said=None):
    rules = Rules.parse(said or {})
    return compare(*(http_outcome(Outcome(kind="value", value=value), rules) for value in (old, new)), rules)


def found(old, new, said=None):
    return [f"{d.kind} {d.path}" for d in judge(old, new, said).differences]


# -- status and headers ------------------------------------------------------------------------------------------------


def test_the_status_counts():
    """A 404 for a 200 is a difference whatever the bodies say."""
    assert found(recorded("{}"), recorded("{}", status=404)) == ["changed $.status"]


def test_chosen_headers_count_and_others_do_not():
    """Media type and target of a redirect, in any case; nothing that says more of the server than of the answer."""
    old = recorded("", headers=[("Location", "/a"), ("Date", "x"), ("Server", "old"), ("X-Cost", "1")])
    new = recorded("", headers=[("location", "/b"), ("DATE", "y"), ("X-Cost", "2")])

    assert found(old, new) == ["changed $.headers.location"]


def test_a_rule_that_names_a_header_chooses_it():
    """By its lower-case name; ``*`` chooses all but those that differ by nature."""
    old = recorded("", headers=[("X-Cost", "1"), ("X-Run", "7"), ("Date", "Mon")])
    new = recorded("", headers=[("X-Cost", "2"), ("X-Run", "8"), ("Date", "Tue")])

    assert found(old, new, {"$.headers.x-cost": "exact"}) == ["changed $.headers.x-cost"]
    assert found(old, new, {"$.headers.*": "exact"}) == ["changed $.headers.x-cost", "changed $.headers.x-run"]
    assert judge(old, new, {"$.headers.*": "exact", "$.headers.x-run": "ignore", "$.headers.x-cost": "type"}).rule == (
        "$.headers.x-run"
    )
    assert found(old, new, {"$.headers.date": "exact"}) == ["changed $.headers.date"]
    assert judge(old, new, {"$..x-cost": "exact"}).kind == "match"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("application/json; charset=utf-8", "Application/JSON;charset=UTF-8"),
        ("multipart/form-data; boundary=a", 'multipart/form-data; boundary="b"'),
        ("text/html;  b=2; a=1", "text/html; a=1; b=2"),
    ],
)
def test_a_media_type_is_compared_as_what_it_means(old, new):
    """Case, white space, the order of parameters and a random boundary do not matter; another charset does."""
    assert judge(recorded("", old), recorded("", new)).kind == "match"
    assert found(recorded("", old), recorded("", f"{new}; charset=latin-1")) == ["changed $.headers.content-type"]


def test_fields_of_one_name_are_one_list():
    """RFC 9110 5.3: two fields, or one with a comma, say the same; a redacted one stays what it is."""
    said = {"$.headers.x-a": "exact"}
    two = recorded("", headers=[("X-A", "1"), ("x-a", "2")])

    assert judge(two, recorded("", headers=[("X-A", "1, 2")]), said).kind == "match"
    two["headers"][-1][1] = SOME
    assert document(two, Rules.parse(said))["headers"]["x-a"] == ["1", SOME]


# -- bodies ------------------------------------------------------------------------------------------------------------


def form(boundary, *parts):
    lines = [f"--{boundary}\r\n{head}\r\n\r\n{body}\r\n" for head, body in parts]
    return "".join(lines) + f"--{boundary}--\r\n"


PART = 'Content-Disposition: form-data; name="{}"'
FILE = f'{PART.format("f")}; filename="a \\"b\\".json"\r\ncontent-type: application/json'
HASH = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("kind", "body", "read"),
    [
        ("application/json", '{"a": [1]}', {"a": [1]}),
        ("application/problem+json; charset=utf-8", '"x"', "x"),
        ("application/json", "{broken", "{broken"),
        ("application/json", "[" * 50_000, "[" * 50_000),
        ("text/plain", "hi", "hi"),
        ("image/svg+xml", "<svg/>", "<svg/>"),
        (
            "text/plain",
            b"\xff",
            {"bytes": 1, "sha256": "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"},
        ),
        ("application/pdf", "abc", {"bytes": 3, "sha256": HASH}),
        ("", "abc", {"bytes": 3, "sha256": HASH}),
        ("application/json", "", ""),
        ("text/plain", "", None),
        ("application/x-www-form-urlencoded", "b=2&a=1&b=3&c=", {"a": ["1"], "b": ["2", "3"], "c": [""]}),
        ("application/x-www-form-urlencoded", "a=1&" * 20_000, "a=1&" * 20_000),
        (
            "text/event-stream",
            "event: x\ndata: 1\ndata: 2\n\n: hi\nid: 7\n",
            [{"event": "x", "data": "1\n2"}, {"data": "", "id": "7"}],
        ),
        (
            "multipart/form-data; boundary=XY",
            form("XY", (PART.format("a"), "1"), (FILE, '{"n": 1}'), (PART.format("a"), "2")),
            {
                "a": [{"content-type": "text/plain", "body": "1"}, {"content-type": "text/plain", "body": "2"}],
                "f": [{"filename": 'a "b".json', "content-type": "application/json", "body": {"n": 1}}],
            },
        ),
        (
            "multipart/mixed; boundary=XY",
            form("XY", ("Content-Type: multipart/mixed; boundary=Z", "abc")),
            {"": [{"content-type": "multipart/mixed", "body": {"bytes": 3, "sha256": HASH}}]},
        ),
        ("multipart/form-data", "abc", {"bytes": 3, "sha256": HASH}),
        ("multipart/form-data; boundary=XY", "abc", {"bytes": 3, "sha256": HASH}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_is_read_by_its_media_type(kind, body, read):
    """And what is not as its type says is compared as text, or by its hash: never as nothing."""
    assert document(recorded(body, kind), NO_RULES)["body"] == read


@pytest.mark.parametrize(
    ("old", "new"),
    [("null", ""), ('{"a":1e400}', '{"a":2e400}'), ('{"a":1,"a":2}', '{"a":2}'), ('{"a":2}', '{"a":2,"a":2}')],
)
def test_json_that_readers_would_read_otherwise_is_not_the_same(old, new):
    """Nothing is not null, infinity is no number, and of a name that stands twice some take the first."""
    documents = [
        document({"status": 200, "headers": [["content-type", "application/json"]], "text": text}, Rules())
        for text in (old, new)
    ]
    assert compare(*(Outcome(kind="value", value=each) for each in documents)).kind == "mismatch"


def test_rules_reach_into_a_body():
    """Paths go on below ``$.body``."""
    old, new = recorded('{"hits": [{"id": 1, "at": 1}]}'), recorded('{"hits": [{"id": 2, "at": 2}]}')

    assert found(old, new, {"$.body..at": "ignore"}) == ["changed $.body.hits[0].id"]


def test_the_order_of_names_in_a_form_says_nothing():
    """That of one name's values does, as for parts; a boundary is random."""
    kind = "application/x-www-form-urlencoded"
    assert judge(recorded("a=1&b=2", kind), recorded("b=2&a=1", kind)).kind == "match"
    assert found(recorded("a=1&a=2", kind), recorded("a=2&a=1", kind)) == ["changed $.body.a[0]", "changed $.body.a[1]"]

    one, two = (PART.format("a"), "1"), (PART.format("b"), "2")
    old, new = (
        recorded(form(b, *p), f"multipart/form-data; boundary={b}") for b, p in (("X", (one, two)), ("YY", (two, one)))
    )
    assert judge(old, new).kind == "match"


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", gzip.compress), ("GZIP", lambda data: gzip.compress(data, mtime=1)), ("deflate", zlib.compress)],
)
def test_a_compressed_body_is_what_it_was(coding, packed):
    """How hard and when a server compressed says nothing."""
    plain = recorded('{"a": 1}')

    assert judge(plain, recorded(packed(b'{"a": 1.0}'), headers=[("Content-Encoding", coding)])).kind == "match"
    assert found(plain, recorded(packed(b'{"a": 2}'), headers=[("Content-Encoding", coding)])) == ["changed $.body.a"]


@pytest.mark.parametrize(
    ("coding", "data"),
    [("br", b"abc"), ("gzip", b"abc"), ("gzip", gzip.compress(b"abc")[:-4]), ("gzip", gzip.compress(bytes(9_000_000)))],
    ids=["unknown", "broken", "cut", "bomb"],
)
def test_what_cannot_be_unpacked_is_compared_as_it_is(coding, data):
    """By its hash, within bounds."""
    body = document(recorded(data, headers=[("Content-Encoding", coding)]), NO_RULES)["body"]

    assert body["bytes"] == len(data)


def test_a_redacted_body_or_answer_is_not_read():
    """What is hidden as a whole stays so, and is undecided against anything clear."""
    old, new = recorded("{}") | {"text": SOME}, recorded("{}")

    assert judge(old, new).reason == "redacted"
    assert judge(SOME, new).reason == "redacted"
    assert judge(SOME, SOME).kind == "match"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200},
        {"status": 200, "headers": {"a": 1}, "body": 5},
        {"status": 1, "headers": [1, ["a"], [2, 3]], "body": "!"},
    ],
)
def test_a_record_that_is_none_of_ours_raises_nothing(answer):
    """It is compared as far as it goes."""
    assert judge(answer, dict(answer)).kind == "match"


def test_other_outcomes_are_left_alone():
    """An error, a value that is no answer."""
    error = Outcome(kind="error", error=ErrorRecord(type="E", message="x"))

    assert http_outcome(error, NO_RULES) is error
    assert http_outcome(Outcome(kind="value", value=[1]), NO_RULES).value == [1]
    assert http_outcome(Outcome(kind="value", value={"a": 1}), NO_RULES).value == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        '--X\r\nContent-Disposition: form-data; name="' + '"\\' * 100_000 + "\r\n\r\n\r\n--X--",
        "--X\r\n" * 100_000,
        "--X\r\nContent-Type: multipart/mixed; boundary=X\r\n\r\n" * 10_000 + "\r\n--X--",
        "--X\r\nContent-Disposition: form-data" + ';a="' * 50_000 + "\r\n\r\n\r\n--X--",
        "--X\r\n" + "a:\r\n" * 50_000 + "\r\n--X--",
    ],
    ids=["quotes", "parts", "nested", "parameters", "fields"],
)
def test_hostile_parts_take_no_time(body):
    """A body made to be slow is read in one pass."""
    began = time.process_time()
    document(recorded(body, "multipart/form-data; boundary=X"), NO_RULES)

    assert time.process_time() - began < 3


def test_base64_is_the_records_own():
    """The codec writes the alphabet of URLs, which is read back."""
    assert recorded(b"\xfb\xff", "image/png")["body"] == base64.urlsafe_b64encode(b"\xfb\xff").decode()
    assert document(recorded(b"\xfb\xff", "image/png"), NO_RULES)["body"]["bytes"] == 2
