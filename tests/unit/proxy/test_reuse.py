"""Nothing that may have had an effect is sent twice, and no connection with a doubt is used twice."""

from __future__ import annotations

from itertools import product

import pytest

from crossfade.proxy.framing import CHUNKED, UNTIL_CLOSE
from crossfade.proxy.headers import made_response
from crossfade.proxy.reuse import IDEMPOTENT, may_resend, may_reuse


def test_a_request_is_sent_again_only_when_nothing_can_have_happened_twice():
    """All 80 cases: unwritten and whole, or an idempotent one on a reused connection that said nothing."""
    for method, reused, written, read, replayable in product(
        [b"GET", b"PUT", b"POST", b"PATCH", b"get"], *[[False, True]] * 4
    ):
        safe = replayable and not read and (not written or (reused and method in {b"GET", b"PUT"}))

        assert may_resend(method=method, reused=reused, written=written, read=read, replayable=replayable) is safe
    assert b"POST" not in IDEMPOTENT


@pytest.mark.parametrize(("fact", "value"), [("request_sent", False), ("left_over", True), ("logs_in", True)])
def test_one_doubt_is_enough_to_close_a_connection(fact, value):
    """An unfinished request, bytes too many, a login."""
    head = made_response(200, b"OK", [])
    head.framing = CHUNKED
    facts = {"request_sent": True, "left_over": False, "logs_in": False}

    assert may_reuse(head=head, **facts)
    assert not may_reuse(head=head, **facts | {fact: value})
    head.framing = UNTIL_CLOSE
    assert not may_reuse(head=head, **facts)
