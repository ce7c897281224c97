"""What is kept of an observed answer: all of it, or a reason why not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from crossfade.proxy.capturing import Capturing
from crossfade.proxy.config import Capture
from crossfade.shim import hooks
from crossfade.shim.comparison import Outcome, Rules, http_outcome
from crossfade.shim.correlate import Correlation

EVENTS = b"event: n\ndata: one\n\nevent: n\ndata: two\n\n"


class Head(SimpleNamespace):
    """An answer's head."""

    def get(self, name):
        return dict(self.headers).get(name)


@pytest.fixture
def counters(monkeypatch):
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


def capture(*pieces, response=1000, kind=b"text/event-stream", outcome="whole", whole=True):
    """What is told of an answer in ``pieces``, as keyword arguments of ``Observing.saw``; ``None``: nothing."""
    told = []
    observing = SimpleNamespace(begin=lambda: (1, True), saw=lambda _n, **seen: told.append(seen))
    exchange = SimpleNamespace(seam="http.feed", outcome=outcome, failure="")
    capturing = Capturing(
        observing,
        exchange,
        capture=Capture(response=response),
        correlation=Correlation(run="r"),
        authority=b"a",
        started=0.0,
    )
    capturing.response_head(Head(status=200, headers=[(b"content-type", kind)], connection=()))
    for piece in pieces:
        capturing.response_data(piece)
    capturing.finished(whole=whole)
    return told[0] if told else None


async def test_a_stream_of_events_is_kept_as_any_answer(counters):
    """However it came in pieces, its events can be told apart and compared."""
    seen = capture(EVENTS[:5], EVENTS[5:25], EVENTS[25:])
    answer = seen["value"].make()
    value = {"status": answer.status, "headers": [list(pair) for pair in answer.headers], "text": answer.text}
    document = http_outcome(Outcome(kind="value", value=value), Rules()).value

    assert document["body"] == [{"event": "n", "data": "one"}, {"event": "n", "data": "two"}]
    assert counters.get("skipped") == 0


@pytest.mark.parametrize("kind", [b"text/event-stream", b"text/plain"])
async def test_an_answer_over_the_limit_is_counted(counters, kind):
    """Half of it proves nothing; the call is told of without it."""
    seen = capture(b"x" * 600, b"x" * 600, kind=kind)

    assert seen["value"] is None
    assert seen["error"] is None
    assert counters.get("skipped", seam="http.feed", reason="capture-limit") == 1


async def test_of_a_stream_that_its_client_left_nothing_is_told(counters):
    """How it would have gone on nobody knows; that is counted."""
    assert capture(EVENTS, outcome="left") is None
    assert counters.get("skipped", seam="http.feed", reason="client-left") == 1


async def test_a_stream_that_broke_off_is_an_error(counters):
    """Never a shorter answer that a candidate is measured by."""
    seen = capture(EVENTS[:20], whole=False)
    assert seen["value"] is None
    assert seen["error"].record().message == "cut"
    assert counters.get("skipped") == 0
