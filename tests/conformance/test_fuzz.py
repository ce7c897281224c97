"""Bytes that nobody thought of: what a proxy forwards is what a strict reader of the same bytes allows."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from support.nasty_upstream import OK, says
from support.proxied import proxied
from support.raw_client import request
from support.smuggling import CORPUS, allowed, make, make_answer, pieces
from support.strict_http import Malformed, Response, Wire, read_body, read_response_head

STEADY = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
RANDOMS = st.randoms(use_true_random=False)
LONG = 300  # seconds each for requests and answers, behind `-m slow`
KNOWN = sorted(CORPUS.glob("*.http"))


@pytest.fixture(scope="module")
def quick():
    """Ours with limits so short that a stream without an end costs little."""
    with (
        proxied("ours") as first,
        first.another(header_timeout=0.1, body_timeout=0.1, keepalive_timeout=0.2) as running,
    ):
        yield running


def judge_requests(proxy, stream, parts):
    """No crash, no hang, nothing malformed at the upstream, and no complete request but those the client completed."""
    proxy.reset()
    upstream = proxy.upstream
    upstream.script = lambda peer: (peer.body(), peer.send(OK))
    with proxy.connect() as client:
        client.send(*parts)
        client.half_close() if not client.ended else None
        answers = client.rest()
    passed = [(one.method.encode(), one.body) for one in _seen(proxy) if one.complete]
    problems = [one.problem for one in upstream.requests if one.problem]

    assert not problems, f"the upstream got {problems}"
    rest = iter(allowed(stream))
    assert all(one in rest for one in passed), f"upstream got {passed}, the client sent {allowed(stream)}"
    assert answers == b"" or answers.startswith(b"HTTP/1.1 "), answers
    assert proxy.front.alive(), proxy.front.log.read_text()
    assert b"Traceback" not in proxy.front.log.read_bytes(), proxy.front.log.read_text()


def _seen(proxy):
    """What the upstream has seen; on a busy machine an honest request, too, may be slower than these short limits."""
    for _ in range(4):
        with contextlib.suppress(AssertionError):
            return proxy.seen()
    return proxy.seen()


def judge_answer(proxy, stream):
    """A complete answer at the client is the one a strict reader finds in what the upstream sent."""
    proxy.reset()
    upstream = proxy.upstream
    upstream.script = says(stream, then="close")
    with proxy.connect() as client:
        response = client.send(request("GET", "/", "Connection: close")).answer()
        more = client.rest()
    expected = strict_answer(stream)

    assert not response.problem, f"the client got {response.problem}"
    assert not more, f"{len(more)} bytes after the answer"
    if response.complete and response.status not in {502, 504}:
        got = (response.status, response.body)
        assert expected.complete, f"client got {got}, the upstream's answer is in doubt: {expected.problem}"
        assert got == (expected.status, expected.body)
    assert proxy.front.alive(), proxy.front.log.read_text()
    assert b"Traceback" not in proxy.front.log.read_bytes(), proxy.front.log.read_text()


def strict_answer(stream):
    rest = [stream]
    wire = Wire(lambda: rest.pop() if rest else b"")
    response = Response()
    try:
        read_response_head(wire, response, "GET")
        read_body(wire, response)
    except Exception as error:
        response.problem = str(error) or "cut short"
    return response


def _fuzz_requests(proxy, configuration):
    @configuration
    @given(RANDOMS)
    def run(random_):
        stream = make(random_)
        parts = pieces(random_, stream)
        note(f"{parts!r}")
        judge_requests(proxy, stream, parts)

    return run


def _fuzz_answers(proxy, configuration):
    @configuration
    @given(RANDOMS)
    def run(random_):
        stream = make_answer(random_)
        note(f"{stream!r}")
        judge_answer(proxy, stream)

    return run


def test_requests_are_read_as_a_strict_reader_reads_them(ours, quick):
    """Thousands of damaged request streams, the same in every run: nothing reaches the upstream that is in doubt."""
    _fuzz_requests(quick, STEADY)()


def test_answers_are_read_as_a_strict_reader_reads_them(ours, quick):
    """Thousands of damaged answers, the same in every run: none that is in doubt looks whole to the client."""
    _fuzz_answers(quick, STEADY)()


@pytest.mark.slow
@pytest.mark.timeout(LONG + 120)
@pytest.mark.parametrize("fuzz", [_fuzz_requests, _fuzz_answers], ids=["requests", "answers"])
def test_five_minutes_of_either_find_nothing(ours, quick, fuzz, note):
    """New streams for five minutes each way: no crash, no hang, no disagreement."""
    end = time.monotonic() + LONG
    # Rounds so short that the last one, begun in time, ends in time on a busy machine, too.
    configuration = settings(STEADY, derandomize=False, max_examples=200)
    for round_ in itertools.count():
        if time.monotonic() > end:
            break
        fuzz(quick, lambda run, round_=round_: seed(round_)(configuration(run)))()
    note(f"conformance: {fuzz.__name__[1:]}: {round_} rounds of up to 200 new streams")


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_the_corpus_is_read_as_a_strict_reader_reads_it(ours, quick, path):
    """What is a way to smuggle elsewhere is read as a strict reader reads it, whole and byte by byte."""
    stream = path.read_bytes()

    judge_requests(quick, stream, [stream])
    judge_requests(quick, stream, [stream[at : at + 1] for at in range(len(stream))])


def test_the_judge_sees_a_disagreement():
    """The strict reader takes none of the corpus's streams that are named for being refused."""
    for path in KNOWN:
        whole = allowed(path.read_bytes())
        assert bool(whole) == path.stem.startswith("legal"), f"{path.stem}: {whole}"


def test_malformed_is_no_crash_of_the_judge():
    """The judge's own reader ends every damaged answer with a verdict."""
    assert strict_answer(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").problem == str(Malformed("Content-Length"))
