"""Nested calls are answered from the record, in order, and never guessed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import threading
import uuid
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - seams resolve their annotations
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from crossfade import shim
from unit.migrations.replay.conftest import REDACTOR, call

RAN: list[str] = []


@pytest.fixture(autouse=True)
def ran():
    RAN.clear()


def declare_search(effects="none"):
    @shim.tool("web.search", effects=effects)
    def search(query: str, limit: int = 3) -> list[str]:
        RAN.append(query)
        return ["live"]

    return search


def outer(value, **changes):
    return call("web.ask", {"q": "x"}, value, callid="outer", run="r", seconds=10.0, **changes)


def inner(query, value=None, *, at=1.0, **changes):
    return call("web.search", {"query": query}, value, at=at, callid=f"inner-{at}", run="r", cause="outer", **changes)


def ask(body, *, asynchronous=False):
    if asynchronous:

        @shim.tool("web.ask", effects="none")
        async def asking(q: str) -> list[str]:
            return await body(q)
    else:

        @shim.tool("web.ask", effects="none")
        def asking(q: str) -> list[str]:
            return body(q)


@pytest.mark.parametrize("effects", ["none", "idempotent", "unsafe"])
def test_a_nested_call_is_answered_from_the_record(replayed, effects):
    """Its body does not run, whatever it would do."""
    search = declare_search(effects)
    ask(search)

    [done] = replayed(outer(["then"]), inner("x", ["then"]), only=["web.ask"])

    assert (done.verdict.kind, RAN) == ("match", [])


def test_identical_calls_are_answered_in_order(replayed):
    """The first asks for what was answered first; what was left out or said of defaults makes no difference."""
    search = declare_search()
    ask(lambda q: [*search(q), *search(query=q, limit=3), *search(q, 3)])

    calls = [inner("x", [str(n)], at=n) for n in (1.0, 2.0, 3.0)]
    [done] = replayed(outer(["1.0", "2.0", "3.0"]), *calls, only=["web.ask"])

    assert done.verdict.kind == "match"


def test_concurrent_calls_are_answered_by_what_they_ask(replayed):
    """Whichever comes first: threads with the caller's context, and tasks."""
    search = declare_search()

    def body(_q):
        with ThreadPoolExecutor(2) as pool:
            found = [pool.submit(copy_context().run, search, name) for name in ("b", "a")]
            return [answer for future in found for answer in future.result()]

    ask(body)
    calls = [inner("a", ["A"], at=1.0), inner("b", ["B"], at=2.0)]

    [done] = replayed(outer(["B", "A"]), *calls, only=["web.ask"])

    assert done.verdict.kind == "match"


def test_coroutines_are_answered_too(replayed):
    """As is ``submit``, which would run the body in a thread of its own."""

    @shim.tool("web.search", effects="unsafe")
    async def search(query: str) -> list[str]:
        RAN.append(query)
        return []

    async def body(_q):
        first, second = await asyncio.gather(search("a"), search("b"))
        task = await search.asubmit("c")
        return [*first, *second, *await task.aresult(5)]

    ask(body, asynchronous=True)
    calls = [inner(name, [name.upper()], at=float(n)) for n, name in enumerate("cab", 1)]

    [done] = replayed(outer(["A", "B", "C"]), *calls, only=["web.ask"])

    assert (done.verdict.kind, RAN) == ("match", [])


def test_a_recorded_error_is_raised(replayed):
    """As its own class, so that the body takes the way it took."""
    search = declare_search()

    def body(q):
        try:
            return search(q)
        except LookupError as error:
            return [f"nothing: {error.args[0]}"]

    ask(body)
    [done] = replayed(outer(["nothing: gone"]), inner("x", error=LookupError("gone")), only=["web.ask"])

    assert done.verdict.kind == "match"


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        ([], "not in the record"),
        ([inner("y", ["other"])], "1 other calls"),
        ([inner("x", None, outcome=None, unfit="unfinished")], "unfinished"),
        ([inner("x", [REDACTOR.value({"password": "p"})["password"]])], "secret"),
        ([inner("x", {"no": "list"})], "none any more"),
    ],
)
def test_what_is_not_in_the_record_proves_nothing(replayed, recorded, why):
    """Even where the body swallows that it was refused; the nested body has not run."""
    search = declare_search()

    def body(q):
        with contextlib.suppress(Exception):
            return search(q)
        return ["then"]

    ask(body)
    [done] = replayed(outer(["then"]), *recorded, only=["web.ask"])

    assert (done.verdict.kind, done.verdict.reason, RAN) == ("skipped", "unrecorded", [])
    assert why in done.verdict.detail


def test_an_error_that_cannot_be_raised_as_itself_proves_nothing(replayed):
    """The body may catch it by its class; it is said how to let it."""

    class OwnError(Exception):
        pass

    search = declare_search()
    ask(search)
    [done] = replayed(outer(["then"]), inner("x", error=OwnError("no")), only=["web.ask"])

    assert done.verdict.reason == "unrecorded"
    assert "register_error" in done.verdict.detail


@pytest.mark.parametrize(("effects", "verdict"), [("none", "match"), ("idempotent", "skipped"), ("unsafe", "skipped")])
def test_only_a_harmless_call_may_run_for_real(replayed, effects, verdict):
    """And only when that was asked for."""
    search = declare_search(effects)
    ask(search)
    [done] = replayed(outer(["live"]), only=["web.ask"], live=True)

    assert (done.verdict.kind, bool(RAN)) == (verdict, verdict == "match")


def test_a_thread_that_forgot_its_call_gets_nothing_of_another(replayed):
    """Two calls under way: what such a thread asks for can be of either, so both prove nothing."""
    search, meet = declare_search(), threading.Barrier(2, timeout=5)

    def body(q):
        meet.wait()
        thread = threading.Thread(target=lambda: contextlib.suppress(Exception).__enter__() or _quietly(search, q))
        thread.start()
        thread.join()
        meet.wait()
        return ["then"]

    ask(body)
    calls = [call("web.ask", {"q": q}, ["then"], callid=q, run=q) for q in "ab"]
    found = [call("web.search", {"query": q}, ["then"], at=0.01, run=q, cause=q) for q in "ab"]

    done = replayed(*calls, *found, only=["web.ask"], concurrency=2)

    assert {each.verdict.reason for each in done} == {"unrecorded"}
    assert RAN == []


def _quietly(search, q):
    with contextlib.suppress(Exception):
        search(q)


def test_an_id_made_by_the_body_is_known_again(replayed):
    """What it asked for with an id of its own then is found for today's, and its answer speaks of today's."""

    @shim.tool("orders.note", effects="unsafe")
    def note(order: str) -> dict[str, str]:
        raise AssertionError

    @shim.tool("web.ask", effects="none")
    def order(q: str) -> dict[str, str]:
        mine = str(uuid.uuid4())
        answer = note(mine)
        return {"order": mine, "url": answer["url"], "same": str(answer["order"] == mine)}

    then = str(uuid.uuid4())
    nested = call("orders.note", {"order": then}, {"order": then, "url": f"/o/{then}"}, at=1.0, run="r", cause="outer")
    [done] = replayed(outer({"order": then, "url": f"/o/{then}", "same": "True"}), nested, only=["web.ask"])

    assert done.verdict.kind == "match"


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    ("recorded", "most", "said"),
    [
        ({"items": ("a", "b")}, 9, "match"),
        ({"items": ("a", "b"), "closed": True}, 2, "match"),
        ({"items": ("a", "b"), "closed": True}, 9, "then its caller took 2 items and no more"),
        ({"items": ("a",), "error": ValueError("late")}, 9, "match"),
        ({}, 9, "its items are not in the record"),
    ],
)
def test_a_nested_stream_is_answered_with_its_items(replayed, kind, recorded, most, said):
    """In order, then its error; what was not recorded, or not taken, is missed, and its body never asked."""
    if kind == "plain":

        @shim.tool("web.lines", effects="none")
        def lines(q: str) -> Iterator[str]:
            raise AssertionError
            yield q

        @shim.tool("web.ask", effects="none")
        def ask(q: str) -> list[str]:
            with contextlib.suppress(ValueError):
                return list(itertools.islice(lines(q), most))
            return ["failed"]
    else:

        @shim.tool("web.lines", effects="none")
        async def alines(q: str) -> AsyncIterator[str]:
            raise AssertionError
            yield q

        @shim.tool("web.ask", effects="none")
        async def aask(q: str) -> list[str]:
            found = []
            with contextlib.suppress(ValueError):
                async for item in alines(q):
                    found.append(item)
                    if len(found) == most:
                        break
                return found
            return ["failed"]

    nested = call("web.lines", {"q": "x"}, at=0.01, run="r", cause="outer", error=recorded.get("error"))
    items = {name: value for name, value in recorded.items() if name != "error"}
    nested = dataclasses.replace(nested, outcome=dataclasses.replace(nested.outcome, **items))
    [done] = replayed(outer(["failed"] if "error" in recorded else ["a", "b"]), nested, only=["web.ask"])

    if said == "match":
        assert done.verdict.kind == "match"
    else:
        assert (done.verdict.kind, done.verdict.reason) == ("skipped", "unrecorded")
        assert said in done.verdict.detail
