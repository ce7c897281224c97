"""Results are their own replies: who waits hears them from the commands' topic, once, and in the order of replies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from crossfade.shim.errors import WrongPositionError
from crossfade.shim.events import Event


class World:
    """A caller that listens, a worker, and the subjects of one call between them."""

    def __init__(self, caller, worker, subjects):
        self.caller, self.worker = caller, worker
        self._commands = subjects.commands("tool", "a")
        self.command, self.own, self.result = (
            subjects.call(kind, domain="tool", seam="a", run="r", callid="c1") for kind in ("invoke", "own", "result")
        )
        self.replies = asyncio.Queue()

    async def listen(self):
        self.address = await self.caller.listen("caller", self.replies.put_nowait)
        return self

    async def heard(self):
        return await asyncio.wait_for(self.replies.get(), 10)

    @asynccontextmanager
    async def handed_out(self):
        """The command in the hands of the worker."""
        attributes = {"callid": "c1", "replyto": self.address}
        event = Event(type="tool.invoke", source="urn:t", data=b"1", extensions=attributes)
        await self.caller.publish(self.command, event)
        async with self.worker.consume("w", [self._commands]) as deliveries:
            delivery = await deliveries.next(timeout=10)
            yield delivery
            await delivery.ack()


@pytest.fixture
async def world(bus, opened, kafka_broker, subjects):
    return await World(bus, await opened(kafka_broker.url), subjects).listen()


def event(kind, data):
    return Event(type=f"tool.{kind}", source="urn:w", data=data, extensions={"callid": "c1"})


async def test_a_result_is_heard_without_a_reply(world):
    """The caller has it once, as it was stored, and nothing was added to the replies' topic."""
    result, marker = event("result", b"5"), event("progress", b"marker")
    async with world.handed_out():
        await world.worker.publish(world.result, result)
        world.worker.reply(world.address, result)
        assert await world.heard() == result
    world.worker.reply(world.address, marker)
    assert await world.heard() == marker, "the result came twice"
    assert await world.caller._replies._log.partition.offset(-1) == 1


async def test_a_result_does_not_overtake_what_was_said_before(world, monkeypatch):
    """Items of a stream, then its result: in the order in which they were sent, though replies are read late."""
    said = [event("progress", b"1"), event("progress", b"2"), event("result", b"5")]
    late, replies = [], world.caller._replies
    async with world.handed_out():
        with monkeypatch.context() as patch:
            patch.setattr(replies, "apply", late.append)
            for each in said[:2]:
                world.worker.reply(world.address, each)
            await world.worker.publish(world.result, said[2])
            world.worker.reply(world.address, said[2])
            await world.caller.last(world.result)  # the caller's process has read it
            await replies._log.synced()
        for record in late:
            replies.apply(record)
        assert [await world.heard() for _ in said] == said
    assert world.replies.empty()


async def test_a_result_stored_before_is_replied_again(world):
    """A worker that finds a call answered already sends the answer: the first reply may have been lost."""
    result = event("result", b"5")
    await world.caller.publish(world.result, result)
    async with world.handed_out():
        assert (await world.worker.publish(world.result, result)).duplicate
        world.worker.reply(world.address, result)
        assert await world.heard() == result


async def test_a_result_that_does_not_count_is_no_answer(world):
    """A result whose claim is another's is refused, and the caller does not hear it, though it lies in the topic."""
    publishing, result = world.worker._publishing, event("result", b"5")
    everything = f"{world.own.rpartition('.')[0]}.>"
    async with world.handed_out() as delivery:
        place = delivery.stored.position
        claim = await world.caller.append(world.own, event("own", b"{}"), last=everything, at=place)
        headers, value = publishing.encode(world.result, event("result", b"late"))
        headers += [("cf_last", world.own.encode()), ("cf_at", b"0"), ("cf_unique", b"1")]
        log = publishing._logs.of_subject(world.result)
        await publishing._placed(log, world.result, value, headers, 5)  # past its own judgement
        with pytest.raises(WrongPositionError):
            await world.worker.append(world.result, event("result", b"late"), last=world.own, at=place, unique=True)
        await world.worker.append(world.result, result, last=world.own, at=claim, unique=True)
        assert await world.heard() == result
    assert world.replies.empty()
