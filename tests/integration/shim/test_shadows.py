"""What a shadow run makes of an observation: by the rules of now, and never a guess about secrets."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import timedelta

import pytest

from crossfade.shim import comparator, handler, hooks, shadowing, tool
from crossfade.shim.events import Event
from crossfade.shim.http import HttpRequest, HttpResponse, http_handler
from crossfade.shim.redaction import Redactor
from crossfade.shim.seam import registry
from integration.shim import kit


def verdicts(connection, n):
    """The first ``n`` comparisons, oldest first."""

    def found():
        events = kit.read(connection, "{p}v.>")
        return len(events) >= n and [json.loads(event.data) for event in events]

    return kit.until(found, what=f"no {n} verdicts")


def serve(work, connection, *functions, **options):
    """Start a worker and wait until it hears of shadow calls: it compares none from before."""
    worker = work(connection, *functions, **options)
    kit.until(lambda: worker.ready)


def test_rules_set_live_hold_from_the_next_comparison_on(connect, work):
    """A worker that runs already judges by them; settings that are no rules change nothing."""

    @tool("web.timed", effects="none", stage="shadow")
    def timed() -> dict[str, int]:
        return {"hits": 3, "took_ms": 10}

    @handler("web.timed")
    def fast() -> dict[str, int]:
        return {"hits": 3, "took_ms": 1}

    connection = connect()
    serve(work, connection, timed)
    timed()
    (differs,) = verdicts(connection, 1)
    assert differs["answer"] == {"outcome": "value", "value": {"hits": 3, "took_ms": 1}}
    kit.set_live(connection, "web.timed", {"compare": {"$.took_ms": "ignore"}})
    kit.until(lambda: connection.runtime.policy("web.timed", timed.__crossfade_seam__.policy).compare)
    timed()
    assert [found["verdict"] for found in verdicts(connection, 2)] == ["mismatch", "ignored"]
    assert "answer" not in verdicts(connection, 2)[1]
    kit.set_live(connection, "web.timed", {"compare": {"$.took_ms": "shrug"}})
    kit.until(lambda: hooks.report.hooks.get("skipped", seam="web.timed", reason="policy"))
    timed()
    skipped = verdicts(connection, 3)[2]
    assert (skipped["verdict"], skipped["reason"]) == ("skipped", "policy")
    assert "shrug" in skipped["detail"]


def test_a_run_that_takes_longer_than_a_delivery_waits_is_judged(connect, work, monkeypatch, nats_server):
    """An agent's minutes: nobody else gets the call meanwhile, to call it stale and be believed."""
    monkeypatch.setattr(shadowing, "_ACK_WAIT", 1.0)
    monkeypatch.setattr(shadowing, "MAX_AGE", timedelta(seconds=0.9))

    @tool("web.slow", effects="none", stage="shadow", timeout=30)
    def slow() -> int:
        return 1

    @handler("web.slow")
    def slower() -> int:
        time.sleep(3)
        return 1

    connection = connect(nats_server.url)
    serve(work, connection, slow)
    serve(work, connection, slow)
    slow()
    assert [found["verdict"] for found in verdicts(connection, 1)] == ["match"]
    kit.until(lambda: hooks.report.hooks.get("compared", seam="web.slow"))
    assert hooks.report.hooks.get("compared", seam="web.slow") == 1


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
    serve(work, connection, session)

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
    serve(work, connection, session)
    observe_with(connection, Redactor(b"another process"), session)
    [found] = verdicts(connection, 1)
    assert found["verdict"] == "mismatch"
    assert [difference["path"] for difference in found["differences"]] == ["$.hits"]


# -- who judges --------------------------------------------------------------------------------------------------------


@pytest.fixture
def declared(monkeypatch):
    """What a test declares beside seams is forgotten after it."""
    monkeypatch.setattr(registry, "_handlers", {})
    monkeypatch.setattr(registry, "_comparators", {})


@pytest.mark.usefixtures("declared")
def test_a_comparator_has_the_last_word(connect, work):
    """It sees both outcomes with their durations, after the rules, and what it accepts is a match by its word."""
    seen = []

    @tool("web.ranked", effects="none", stage="shadow")
    def ranked(n: int) -> list[int]:
        return [n, n + 1]

    @handler("web.ranked")
    def other(n: int) -> list[int]:
        return [n + 1, n]

    @comparator("web.ranked")
    def first_two_agree(old, new):
        seen.append((old.duration, new.duration))
        return old.value[0] != 2 and sorted(old.value) == sorted(new.value)

    connection = connect()
    serve(work, connection, ranked)
    ranked(1)
    accepted, refused = verdicts(connection, 1), (ranked(2), verdicts(connection, 2))[1]
    assert (accepted[0]["verdict"], accepted[0]["rule"]) == ("match", "comparator")
    assert (refused[1]["verdict"], refused[1]["rule"]) == ("mismatch", "comparator")
    assert all(duration is not None for pair in seen for duration in pair)


@pytest.mark.usefixtures("declared")
def test_an_answer_of_a_route_is_compared_as_what_it_says(connect, work):
    """Members in another order, a server's date and a text of another length are no difference; a hit is."""

    @http_handler("http.found")
    async def found(request: HttpRequest) -> HttpResponse:
        headers = [("Content-Type", "application/json;charset=UTF-8"), ("Date", "Tue")]
        return HttpResponse(200, headers, '{"hits": [2, 1], "took": 9, "of": 1.0}')

    connection = connect(http__found={"compare": {"$.body.took": "ignore", "$.body.hits": "unordered"}})
    serve(work, connection, only=["http.found"])
    fields = [["content-type", "application/json; charset=utf-8"], ["Date", "Mon"]]
    for n, text in enumerate(['{"of":1,"hits":[1,2],"took":1}', '{"of":1,"hits":[1,3],"took":1}']):
        record(connection, "http.found", n, {"status": 200, "headers": fields, "text": text, "body": ""})
    first, second = verdicts(connection, 2)
    assert (first["verdict"], first["rule"]) == ("ignored", "$.body.took")
    assert sorted((d["path"], d["kind"]) for d in second["differences"]) == [
        ("$.body.hits[0]", "extra"),
        ("$.body.hits[1]", "missing"),
    ]


def record(connection, name, n, answer, **changes):
    """Publish what a proxy leaves behind of a sampled request at shadow."""
    runtime = connection.runtime
    payload = {
        "arguments": {"method": "GET", "target": f"/{n}", "headers": []},
        "outcome": "value",
        "value": answer,
        "duration_ms": 1.0,
        "redaction": runtime.redactor.fingerprint,
        **changes,
    }
    event = Event(
        type="http.observed",
        source="urn:crossfade:proxy",
        id=f"{name}-{n}",
        subject=name,
        extensions={"seam": name, "callid": f"call{n}"},
        data=json.dumps(payload).encode(),
    )
    kit.on_loop(connection, runtime.bus.publish(runtime.subjects.observation(name, shadow=True), event))


def test_rules_that_need_what_is_not_installed_judge_nothing(connect, work):
    """Its calls are skipped with what to install, callers keep their policy, and nothing reaches dead letters."""

    @tool("web.told", effects="none", stage="shadow")
    def told() -> str:
        return "a"

    connection = connect(web__told={"compare": {"$": {"matcher": "semantic", "by": "nobody-has-it"}}})
    serve(work, connection, told)
    assert told() == "a"
    [skipped] = verdicts(connection, 1)
    assert (skipped["verdict"], skipped["reason"]) == ("skipped", "policy")
    assert "no comparator 'nobody-has-it'" in skipped["detail"]
    assert kit.dead_letters(connection) == []
