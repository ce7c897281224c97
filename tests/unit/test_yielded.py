"""What an observed stream keeps of its items: whole and as they were, or nothing and why."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - seams resolve their annotations
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from crossfade.shim import hooks, yielded
from crossfade.shim._observing import Observing
from crossfade.shim.observations import Observer
from crossfade.shim.policy import Policy
from crossfade.shim.redaction import Redactor
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects


@pytest.fixture
def counters(monkeypatch):
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


class Hit(BaseModel):
    url: str


class Watch:
    """Streams of a body as an observed seam makes them, and what was sent of each once it has ended."""

    def __init__(self):
        self.sent = []
        wire = SimpleNamespace(
            emitter=lambda _alike: lambda subject, _id, _more, data: self.sent.append((subject, data))
        )
        self.observer = Observer(wire, Subjects("t"), Redactor(key=b"k" * 16), instance="i")
        self.runtime = SimpleNamespace(instance="here", sealer=None, observer=self.observer, block=None)

    def of(self, body, *args, **policy):
        policy = Policy(**{"stage": Stage.SHADOW, "effects": "none", **policy})
        seam = Seam("test.stream", body, domain="tool", policy=policy)
        route = Observing(self.runtime, seam, policy)
        return (route.stream if seam.call_kind == "generator" else route.astream)(seam, body, args, {})

    def told(self):
        """The last observation's payload, and whether it is for shadow runs."""
        asyncio.run(self.observer.flush(5.0))
        subject, data = self.sent[-1]
        return json.loads(data), "shadow" in subject


@pytest.fixture
def watch(counters):
    return Watch()


def count(n: int) -> Iterator[int]:
    yield from range(n)


async def acount(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


async def taken(items, most=sys.maxsize):
    found = []
    async for item in items:
        found.append(item)
        if len(found) == most:
            break
    await items.aclose()
    return found


def test_items_are_told_in_order_with_when_they_came(watch):
    """Each offset is in milliseconds after the call began, and the stream stands in the value's place."""
    assert list(watch.of(count, 3)) == [0, 1, 2]
    told, shadow = watch.told()

    assert told["stream"].items() >= {"count": 3, "end": "finished", "items": [0, 1, 2]}.items()
    offsets = told["stream"]["offsets_ms"]
    assert offsets == sorted(offsets)
    assert 0 <= offsets[0] <= offsets[-1] <= told["duration_ms"]
    assert "value" not in told
    assert shadow


def test_those_of_an_async_generator_too(watch):
    """As those of a plain one."""
    assert asyncio.run(taken(watch.of(acount, 3))) == [0, 1, 2]
    told, shadow = watch.told()
    assert (told["stream"]["items"], told["stream"]["end"], shadow) == ([0, 1, 2], "finished", True)


def test_an_item_that_is_changed_later_is_recorded_as_it_was(watch):
    """By its consumer, or by the body, which yields the same list again."""

    def body() -> Iterator[list[int]]:
        kept = [1]
        yield kept
        kept.append(2)
        yield kept

    for item in watch.of(body):
        item.append(9)

    assert watch.told()[0]["stream"]["items"] == [[1], [1, 9, 2]]


def test_an_item_that_cannot_be_copied_is_encoded_before_its_consumer_has_it(watch):
    """An object with fields is as safe from its consumer as a plain list."""

    def body() -> Iterator[Hit]:
        yield Hit(url="/a")

    for hit in watch.of(body):
        hit.url = "/changed"
    assert watch.told()[0]["stream"]["items"] == [{"url": "/a"}]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_stream_that_was_closed_early_tells_what_was_taken(watch, kind):
    """It is no error, and what was taken can be compared."""
    if kind == "plain":
        items = watch.of(count, 5)
        assert [next(items), next(items)] == [0, 1]
        items.close()
    else:
        assert asyncio.run(taken(watch.of(acount, 5), most=2)) == [0, 1]
    told, shadow = watch.told()
    assert told["outcome"] == "value"
    assert told["stream"].items() >= {"count": 2, "end": "closed", "items": [0, 1]}.items()
    assert shadow


def test_a_consumer_that_is_cancelled_has_closed_it(watch):
    """Whatever its task awaited then: that is no error of the body's."""
    begun = asyncio.Event()

    async def body() -> AsyncIterator[int]:
        yield 1
        begun.set()
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(taken(watch.of(body)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    told, _ = watch.told()
    assert (told["outcome"], told["stream"]["end"], told["stream"]["items"]) == ("value", "closed", [1])


def test_an_error_is_the_same_object_and_told_behind_its_items(watch):
    """The consumer sees what the body raised, with the body's frame at the traceback's end."""
    error = ValueError("half way")

    def body() -> Iterator[int]:
        yield 1
        raise error

    items = watch.of(body)
    assert next(items) == 1
    with pytest.raises(ValueError, match="half way") as caught:
        next(items)
    told, shadow = watch.told()

    assert caught.value is error
    assert caught.traceback[-1].name == "body"
    assert (told["outcome"], told["error"]["type"]) == ("error", "ValueError")
    assert (told["stream"]["end"], told["stream"]["items"], shadow) == ("error", [1], True)


@pytest.mark.parametrize(("most", "limit"), [("MOST_ITEMS", 3), ("MOST_BYTES", 40)])
def test_of_a_stream_over_the_limit_nothing_is_kept(watch, counters, monkeypatch, most, limit):
    """Its consumer has every item; the record says how many there were, and that they are not there."""
    monkeypatch.setattr(yielded, most, limit)

    def body() -> Iterator[str]:
        yield from itertools.repeat("x" * 10, 4)

    assert list(watch.of(body)) == ["x" * 10] * 4
    told, shadow = watch.told()

    assert told["stream"] == {"count": 4, "end": "finished", "cut": "stream-limit"}
    assert not shadow
    assert counters.get("skipped", seam="test.stream", reason="stream-limit") == 1
    assert watch.observer.tally.to_json()["test.stream"]["calls"].popitem()[1] == [1, 0]


def test_an_item_without_a_json_form_ends_the_record_and_nothing_else(watch, counters):
    """It reaches its consumer, and what is counted is that it could not be recorded."""
    strange = object()

    def body() -> Iterator[object]:
        yield 1
        yield strange
        yield 2

    assert list(watch.of(body)) == [1, strange, 2]
    told, shadow = watch.told()
    assert (told["stream"]["cut"], "items" in told["stream"], shadow) == ("unserialisable", False, False)
    assert counters.get("skipped", seam="test.stream", reason="unserialisable") == 1


def test_an_item_of_another_type_than_is_said_ends_it_too(watch, counters):
    """That is found when the record is written, long after the item was taken."""

    def body() -> Iterator[int]:
        yield 1
        yield "two"

    assert list(watch.of(body)) == [1, "two"]
    told, shadow = watch.told()
    assert (told["stream"]["cut"], shadow) == ("unserialisable", False)
    assert counters.get("skipped", reason="unserialisable") == 1


def echo() -> Iterator[int]:
    got = 0
    while got is not None:
        try:
            got = yield got
        except KeyError:
            got = -1


async def aecho() -> AsyncIterator[int]:
    got = 0
    while got is not None:
        try:
            got = yield got
        except KeyError:
            got = -1


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("act", ["send", "throw"])
def test_a_stream_that_was_driven_is_not_compared(watch, counters, kind, act):
    """What was sent or thrown into it is in no record, so no other could be asked for the same."""

    async def adrive(items):
        first = await anext(items)
        second = await (items.asend(5) if act == "send" else items.athrow(KeyError()))
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        return [first, second]

    if kind == "plain":
        items = watch.of(echo)
        found = [next(items), items.send(5) if act == "send" else items.throw(KeyError())]
        assert list(items) == []
    else:
        found = asyncio.run(adrive(watch.of(aecho)))
    told, shadow = watch.told()

    assert found == [0, 5 if act == "send" else -1]
    assert (told["stream"]["cut"], shadow) == ("stream-driven", False)
    assert counters.get("skipped", reason="stream-driven") == 1


def test_a_call_that_is_sampled_out_keeps_no_items(watch):
    """Neither its arguments."""
    assert list(watch.of(count, 3, sample=0)) == [0, 1, 2]
    told, shadow = watch.told()
    assert "stream" not in told
    assert "arguments" not in told
    assert not shadow


def test_secrets_in_items_are_redacted(watch):
    """As in values."""

    def body() -> Iterator[dict[str, str]]:
        yield {"password": "hunter2"}

    list(watch.of(body))
    told, _ = watch.told()
    assert "hunter2" not in json.dumps(told)
    assert "$redacted" in told["stream"]["items"][0]["password"]
