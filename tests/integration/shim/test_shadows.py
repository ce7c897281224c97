"""What a shadow run makes of an observation: by the rules of now, and never a guess about secrets."""

from __future__ import annotations

import contextlib
import json

import pytest

from crossfade.shim import handler, hooks, tool
from crossfade.shim.redaction import Redactor
from integration.shim import kit


def verdicts(connection, n):
    """The first ``n`` comparisons, oldest first."""

    def found():
        events = kit.read(connection, "{p}v.>")
        return len(events) >= n and [json.loads(event.data) for event in events]

    return kit.until(found, what=f"no {n} verdicts")


def test_rules_set_live_hold_from_the_next_comparison_on(connect, work):
    """A worker that runs already judges by them; settings that are no rules change nothing."""

    @tool("web.timed", effects="none", stage="shadow")
    def timed() -> dict[str, int]:
        return {"hits": 3, "took_ms": 10}

    @handler("web.timed")
    def fast() -> dict[str, int]:
        return {"hits": 3, "took_ms": 1}

    connection = connect()
    work(connection, timed)
    timed()
    assert [found["verdict"] for found in verdicts(connection, 1)] == ["mismatch"]
    kit.set_live(connection, "web.timed", {"compare": {"$.took_ms": "ignore"}})
    kit.until(lambda: connection.runtime.policy("web.timed", timed.__crossfade_seam__.policy).compare)
    timed()
    assert [found["verdict"] for found in verdicts(connection, 2)] == ["mismatch", "ignored"]
    kit.set_live(connection, "web.timed", {"compare": {"$.took_ms": "shrug"}})
    kit.until(lambda: hooks.report.hooks.get("skipped", seam="web.timed", reason="policy"))
    timed()
    skipped = verdicts(connection, 3)[2]
    assert (skipped["verdict"], skipped["reason"]) == ("skipped", "policy")
    assert "shrug" in skipped["detail"]


def tokens(count):
    @tool("web.session", effects="none", stage="shadow")
    def session(*, fail: bool = False) -> dict[str, object]:
        if fail:
            raise ValueError("refused: password=hunter2")
        return {"token": "a-secret-of-somebody", "hits": 3}

    @handler("web.session")
    def new(*, fail: bool = False) -> dict[str, object]:
        if fail:
            raise ValueError("refused: password=hunter2")
        return {"token": "a-secret-of-somebody", "hits": count}

    return session


def observe_with(connection, redactor, call):
    """Call as a process with a key of its own would: its observations carry its marks."""
    observer = connection.runtime.observer
    own, observer._redactor = observer._redactor, redactor
    try:
        before = hooks.report.hooks.get("observed")
        call()
        kit.until(lambda: hooks.report.hooks.get("observed") > before)
    finally:
        observer._redactor = own


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_marks_of_two_keys_are_not_compared(connect, work, same, fail):
    """Equal secrets look different under two keys, in values and in texts: inconclusive, with what to do."""
    session = tokens(count=3)
    connection = connect()
    work(connection, session)

    def call():
        with contextlib.suppress(ValueError):
            session(fail=fail)

    observe_with(connection, connection.runtime.redactor if same else Redactor(b"another process"), call)
    [found] = verdicts(connection, 1)
    if same:
        assert found["verdict"] == "match"
    else:
        assert (found["verdict"], found["reason"]) == ("inconclusive", "redaction-key")
        assert "CROSSFADE_REDACT_KEY" in found["detail"]


def test_a_difference_beside_the_secrets_is_found_under_any_keys(connect, work):
    """What is no secret can be compared; the secrets are no part of what is reported."""
    session = tokens(count=2)
    connection = connect()
    work(connection, session)
    observe_with(connection, Redactor(b"another process"), session)
    [found] = verdicts(connection, 1)
    assert found["verdict"] == "mismatch"
    assert [difference["path"] for difference in found["differences"]] == ["$.hits"]
