"""Streams at shadow: what the handler yields is compared, item by item, with what legacy's callers took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - seams resolve their annotations

import pytest

from crossfade.shim import comparator, handler, hooks, tool, yielded
from crossfade.shim.http import HttpResponse, StreamedResponse, http_handler
from crossfade.shim.seam import registry
from integration.shim import kit
from integration.shim.test_shadows import record, serve, verdicts


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """What a test declares beside seams is forgotten after it."""
    monkeypatch.setattr(registry, "_handlers", {})
    monkeypatch.setattr(registry, "_comparators", {})


def lines(new, *, name="web.lines", **policy):
    """A seam that yields lines, and a handler that yields ``new``'s."""

    @tool(name, effects="none", stage="shadow", **policy)
    def legacy(n: int) -> Iterator[dict[str, object]]:
        for at in range(n):
            yield {"line": f"line {at}", "at": at}

    @handler(name)
    def other(n: int) -> Iterator[dict[str, object]]:
        yield from new(n)

    return legacy


def places(found):
    return [f"{each['kind']} {each['path']}" for each in found.get("differences", [])]


def same(n):
    return [{"line": f"line {at}", "at": at} for at in range(n)]


def without_the_third(n):
    return [item for item in same(n) if item["at"] != 2]


def with_two_swapped(n):
    found = same(n)
    found[1], found[2] = found[2], found[1]
    return found


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (same, ("match", [], None)),
        (without_the_third, ("mismatch", ["missing $[2]"], None)),
        (
            with_two_swapped,
            (
                "mismatch",
                ["changed $[1].at", "changed $[1].line", "changed $[2].at", "changed $[2].line"],
                "the same items from $[1] on, in another order",
            ),
        ),
    ],
)
def test_a_handler_that_drops_or_reorders_items_is_found(connect, work, nats_server, new, said):
    """The verdict names the items, and its caller had all of them, once."""
    legacy = lines(new)
    connection = connect(nats_server.url)
    serve(work, connection, legacy)
    assert list(legacy(5)) == same(5)
    [found] = verdicts(connection, 1)
    assert (found["verdict"], places(found), found.get("detail")) == said
    if found["verdict"] == "mismatch":
        assert found["answer"] == {"outcome": "value", "stream": {"items": new(5)}}


def test_an_async_generator_is_compared_and_rules_reach_its_items(connect, work):
    """By ``$[*]``; and where a text was cut says nothing when it is joined."""

    @tool("web.tokens", effects="none", stage="shadow")
    async def tokens(text: str) -> AsyncIterator[str]:
        for word in text.split(" "):
            yield word + " "

    @handler("web.tokens")
    async def other(text: str) -> AsyncIterator[str]:
        for letter in f"{text} ":
            yield letter

    async def ask():
        return [item async for item in tokens("to be")]

    connection = connect(web__tokens={"compare": {"$": {"matcher": "exact", "normalise": "join"}}})
    serve(work, connection, tokens)
    assert asyncio.run(ask()) == ["to ", "be "]
    kit.until(lambda: verdicts(connection, 1)[0]["verdict"] == "match")


def test_a_stream_without_an_end_is_compared_by_what_its_caller_took(connect, work):
    """The handler is closed after as many items, so neither has to end."""
    closed = []

    def endless(n):
        try:
            for at in range(10**9):
                yield {"line": f"line {at}", "at": at}
        finally:
            closed.append(n)

    legacy = lines(endless, timeout=20)
    connection = connect()
    serve(work, connection, legacy)
    items = legacy(10**9)
    assert [next(items)["at"] for _ in range(3)] == [0, 1, 2]
    items.close()
    assert verdicts(connection, 1)[0]["verdict"] == "match"
    assert closed == [10**9]


def test_a_handler_that_ends_otherwise_is_found(connect, work):
    """Equal items, and then an error that legacy had not."""

    def failing(n):
        yield from same(n)
        raise ValueError("late")

    legacy = lines(failing)
    connection = connect()
    serve(work, connection, legacy)
    assert len(list(legacy(2))) == 2
    [found] = verdicts(connection, 1)
    assert (found["verdict"], places(found)) == ("mismatch", ["outcome $"])


def test_a_handler_that_yields_without_end_is_bounded(connect, work):
    """It is closed at the limit, and what it would have said is unknown, not a mismatch."""

    def endless(_n):
        while True:
            yield {"line": "x" * 4096, "at": 0}

    legacy = lines(endless)
    connection = connect()
    serve(work, connection, legacy)
    assert len(list(legacy(2))) == 2
    [found] = verdicts(connection, 1)
    assert (found["verdict"], found["reason"]) == ("inconclusive", "stream-limit")


def test_a_stream_over_the_limit_is_not_sent_to_be_compared(connect, work, monkeypatch):
    """It is counted by its reason, and the next one is compared as ever."""
    monkeypatch.setattr(yielded, "MOST_ITEMS", 3)
    legacy = lines(same)
    connection = connect()
    serve(work, connection, legacy)
    assert len(list(legacy(5))) == 5
    kit.until(lambda: hooks.report.hooks.get("skipped", seam="web.lines", reason="stream-limit") == 1)
    assert len(list(legacy(2))) == 2
    assert [found["verdict"] for found in verdicts(connection, 1)] == ["match"]


def test_a_comparator_is_asked_about_the_list_of_items(connect, work):
    """It has the last word on two streams that ended well, as on two values."""
    legacy = lines(with_two_swapped)

    @comparator("web.lines")
    def same_lines(old, new):
        return sorted(item["at"] for item in old.value) == sorted(item["at"] for item in new.value)

    connection = connect()
    serve(work, connection, legacy)
    list(legacy(5))
    [found] = verdicts(connection, 1)
    assert (found["verdict"], found["rule"]) == ("match", "comparator")


def test_an_observation_without_items_is_skipped_by_name(connect, work):
    """A process of an older version sends none; of an error that ended its stream nobody can say what came before."""
    legacy = lines(same)
    connection = connect()
    serve(work, connection, legacy)
    error = {"type": "ValueError", "message": "no"}
    record(connection, "web.lines", 1, None, arguments={"n": 2}, outcome="error", error=error)
    [found] = verdicts(connection, 1)
    assert (found["verdict"], found["reason"]) == ("skipped", "no-items")


@pytest.mark.parametrize("second", ["two", "three"])
def test_an_answer_in_pieces_is_compared_as_a_whole(connect, work, second):
    """However the handler cut it: events by events, each at its place."""

    @http_handler("http.feed")
    async def feed(_request):
        async def parts():
            for part in ("event: n\ndata: o", f"ne\n\nevent: n\ndata: {second}\n\n"):
                yield part.encode()

        return StreamedResponse(HttpResponse(200, [("Content-Type", "text/event-stream")]), parts())

    connection = connect(http__feed={"effects": "none"})
    serve(work, connection, only=["http.feed"])
    text = "event: n\ndata: one\n\nevent: n\ndata: two\n\n"
    record(
        connection,
        "http.feed",
        1,
        {"status": 200, "headers": [["content-type", "text/event-stream"]], "text": text, "body": ""},
    )
    [found] = verdicts(connection, 1)
    if second == "two":
        assert found["verdict"] == "match"
    else:
        assert (found["verdict"], places(found)) == ("mismatch", ["changed $.body[1].data"])
