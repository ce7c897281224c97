"""Consuming on a real server: killed and paused members, deleted consumers, silent servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from crossfade.shim.ports import ConsumeOptions
from plugins.nats import api, until

MEMBER = Path(__file__).parents[2] / "support" / "nats_member.py"


@asynccontextmanager
async def member(server, prefix, pattern, *, ack_wait, max_deliver=5, mode="hold"):
    """A member of group ``workers`` in its own process, and its lines."""
    arguments = (server.url, prefix, "workers", pattern, ack_wait, max_deliver, mode)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MEMBER), *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await line(process) == "joined"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


async def line(process):
    return (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()


async def test_a_killed_member_loses_nothing(bus, nats_server, prefix, command, event):
    """kill -9 with an event in hand: it goes to another member after ack_wait, as the next attempt."""
    options = ConsumeOptions(ack_wait=1.0)
    async with member(nats_server, prefix, command, ack_wait=1.0) as process:
        await bus.publish(command, event())
        assert await line(process) == "got 1"
        process.kill()
        async with bus.consume("workers", [command], options) as deliveries:
            delivery = await deliveries.next(timeout=5)
            assert delivery.attempt == 2
            await delivery.ack()


async def test_a_group_killed_at_its_last_attempt_is_reaped(bus, nats_server, prefix, command, event, hooks):  # noqa: PLR0917 - fixtures
    """All killed, nobody pulls, no advisory was raised: reap finds the event, once, and keeps the rest."""
    async with member(nats_server, prefix, command, ack_wait=0.5, max_deliver=1) as process:
        await bus.publish(command, event())
        await bus.publish(command, event(data=b"2"))
        assert await line(process) == "got 1"
        process.kill()
    await until(bus.reap)
    assert await bus.reap() == 0
    (letter,) = [letter async for letter in bus.dead_letters()]
    assert (letter.reason, letter.attempts, letter.subject, letter.group) == ("max-deliver", 1, command, "workers")
    assert hooks.get("dead-lettered", reason="max-deliver") == 1
    async with bus.consume("workers", [command], ConsumeOptions(ack_wait=0.5, max_deliver=1)) as deliveries:
        delivery = await deliveries.next(timeout=5)
        assert (delivery.stored.event.data, delivery.attempt) == (b"2", 1), "reaping spends no attempt"
        await delivery.ack()


async def test_reaping_spends_no_attempts(bus, bare, prefix, command, event):
    """A hundred looks at a group with events out and waiting: none is handed out, none counts as an attempt."""
    for _ in range(3):
        await bus.publish(command, event())
    options = ConsumeOptions(ack_wait=0.3, max_deliver=3)
    async with bus.consume("workers", [command], options) as deliveries:
        await deliveries.next(timeout=5)
    for _ in range(3):
        assert await bus.reap() == 0
    async with bus.consume("workers", [command], options) as deliveries:
        deliveries.want(3)
        found = [await deliveries.next(timeout=5) for _ in range(3)]
        assert sorted(delivery.attempt for delivery in found) == [1, 1, 2]
        for delivery in found:
            await delivery.ack()


async def test_a_paused_member_does_not_believe_it_owns(bus, nats_server, prefix, command, event):
    """Delivered to a process that was stopped, read only after ack_wait: it is not handed out as fresh."""
    options = ConsumeOptions(ack_wait=1.0)
    async with member(nats_server, prefix, command, ack_wait=1.0, mode="ack") as process:
        await asyncio.sleep(0.3)  # its pull request is out
        process.send_signal(signal.SIGSTOP)
        await bus.publish(command, event())
        await asyncio.sleep(1.3)
        async with bus.consume("workers", [command], options) as deliveries:
            delivery = await deliveries.next(timeout=5)
            assert delivery.attempt == 2
            process.send_signal(signal.SIGCONT)
            assert (await line(process)).startswith("late"), "the stopped process took the event for its own"
            await delivery.ack()


async def test_a_consumer_deleted_underneath(bus, bare, prefix, command, event, hooks):  # noqa: PLR0917 - fixtures
    """The consumer is made again, after what was acknowledged when it was last seen; nothing new is missed."""
    stream = f"{prefix.upper()}_CMD"
    await bus.publish(command, event(data=b"before"))
    async with bus.consume("workers", [command]) as deliveries:
        await (await deliveries.next(timeout=5)).ack()
    async with bus.consume("workers", [command]) as deliveries:
        await api(bare, f"CONSUMER.DELETE.{stream}.workers")
        await bus.publish(command, event(data=b"after"))
        delivery = await deliveries.next(timeout=5)
        assert delivery.stored.event.data == b"after"
        await delivery.ack()
    assert hooks.get("retried", reason="consumer-recreated") == 1


@pytest.mark.parametrize("kill", [False, True])
async def test_a_waiting_member_survives_restarts(own_bus, server, command, event, kill):
    """Three restarts in a row, and what is published after each is handed out within two seconds."""
    async with own_bus.consume("workers", [command]) as deliveries:
        for n in range(3):
            server.restart(kill=kill)
            await until(lambda: own_bus.connected)
            await own_bus.publish(command, event(data=b"%d" % n))
            started = time.monotonic()
            delivery = await deliveries.next(timeout=5)
            assert delivery.stored.event.data == b"%d" % n
            assert time.monotonic() - started < 2
            await delivery.ack()


async def test_a_server_paused_under_a_waiting_member(own_bus, server, command, event, hooks):
    """Missed heartbeats start a new inbox; after the pause events flow again and none is doubled."""
    async with own_bus.consume("workers", [command]) as deliveries:
        server.pause()
        await until(lambda: hooks.get("retried", reason="pull-silent"))
        server.resume()
        for n in range(5):
            await own_bus.publish(command, event(data=b"%d" % n))
        for n in range(5):
            delivery = await deliveries.next(timeout=10)
            assert (delivery.stored.event.data, delivery.attempt) == (b"%d" % n, 1)
            await delivery.ack()


async def test_a_smaller_want_takes_effect(bus, command, event):
    """Fewer wanted than already asked for: what is asked for is taken back, the rest stays with the broker."""
    async with bus.consume("workers", [command], ConsumeOptions(ack_wait=30)) as deliveries:
        deliveries.want(50)
        await asyncio.sleep(0.1)
        deliveries.want(1)
        await asyncio.sleep(0.3)
        for _ in range(10):
            await bus.publish(command, event())
        first = await deliveries.next(timeout=5)
        assert await deliveries.next(timeout=0.3) is None
        await first.ack()
        second = await deliveries.next(timeout=5)
        assert second.attempt == 1
        await second.ack()


async def test_a_retry_of_the_last_attempt_names_its_reason(bus, command, event):
    """Giving up at max_deliver makes the dead letter at once; the broker would drop the event without a word."""
    await bus.publish(command, event())
    async with bus.consume("workers", [command], ConsumeOptions(max_deliver=1)) as deliveries:
        await (await deliveries.next(timeout=5)).retry(0, reason="busy")
    (letter,) = [letter async for letter in bus.dead_letters()]
    assert (letter.reason, letter.detail) == ("max-deliver", "busy")


async def test_headers_the_broker_acts_upon_do_not_act_twice(bus, bare, prefix, command):
    """A dead letter of a message with a rollup header keeps the header and purges nothing."""
    headers = {"Nats-Msg-Id": "one", "x-other": "kept", "ce-specversion": "9", "Nats-Rollup": "sub"}
    for group in ("first", "second"):
        await bare.jetstream().publish(f"{prefix}e.-.-.x", b"{}", headers={"ce-specversion": "9"})
        async with bus.consume(group, [f"{prefix}e.>"]) as deliveries:
            await deliveries.next(timeout=0.3)
    before = len([letter async for letter in bus.dead_letters()])
    await bus._graves.bury(
        group="g", reason="r", detail="", attempts=1, subject="s", headers=headers, data=b"", origin="1", stream="S"
    )
    letters = [letter async for letter in bus.dead_letters()]
    assert len(letters) == before + 1
    assert letters[-1].headers == headers


async def test_terminated_by_somebody_else(bus, bare, prefix, command, event):
    """An event another client terminates on our consumer is kept as a dead letter with its reason."""
    await bus.publish(command, event())
    async with bus.consume("workers", [command]):
        pass
    pull = await bare.jetstream().pull_subscribe_bind("workers", f"{prefix.upper()}_CMD")
    (message,) = await pull.fetch(1, timeout=5)
    await bare.request(message.reply, b"+TERM by hand", timeout=5)
    assert await until(bus.reap) == 1
    (letter,) = [letter async for letter in bus.dead_letters()]
    assert (letter.reason, letter.detail, letter.subject) == ("terminated", "by hand", command)


async def test_an_event_of_the_largest_size_can_be_rejected(bus, command, event):
    """The margin kept at publishing is enough for the record of a dead letter, long detail included."""
    limit = (await bus.info()).max_event_bytes
    await bus.publish(command, event(data=b"x" * (limit - 1000)))
    async with bus.consume("workers", [command]) as deliveries:
        await (await deliveries.next(timeout=5)).reject("poison", detail="Traceback " * 3000)
    (letter,) = [letter async for letter in bus.dead_letters()]
    assert len(letter.data) == limit - 1000
    assert letter.detail.startswith("Traceback")


BACKLOG = 6000


async def backlog(bus, command, event):
    for _ in range(BACKLOG // 200):
        await asyncio.gather(*(bus.publish(command, event(data=b"x" * 200)) for _ in range(200)))


async def ours(bus, command, group):
    async with bus.consume(group, [command], ConsumeOptions(max_in_flight=1000)) as deliveries:
        deliveries.want(64)
        started = time.monotonic()
        done = 0

        async def work():
            nonlocal done
            while done < BACKLOG:
                delivery = await deliveries.next(timeout=0.5)
                if delivery is None:
                    return
                await delivery.ack()
                done += 1

        await asyncio.gather(*(work() for _ in range(64)))
    assert done == BACKLOG
    return done / (time.monotonic() - started)


async def bare_loop(url, prefix, command, group):
    async with await nats.connect(url) as client:
        js = client.jetstream()
        pull = await js.pull_subscribe(command, durable=group, stream=f"{prefix.upper()}_CMD")
        started = time.monotonic()
        done = 0
        while done < BACKLOG:
            messages = await pull.fetch(64, timeout=1)
            await asyncio.gather(*(message.ack_sync(timeout=10) for message in messages))
            done += len(messages)
        return done / (time.monotonic() - started)


@pytest.mark.alone
async def test_throughput_beside_a_bare_loop(bus, nats_server, prefix, command, event):
    """Consume and confirmed ack, 64 in hand: at least 60 % of a bare nats-py pull loop with ack_sync, same run."""
    await backlog(bus, command, event)
    rounds = []
    for n in range(3):
        bare = await bare_loop(nats_server.url, prefix, command, f"bare{n}")
        mine = await ours(bus, command, f"ours{n}")
        rounds.append(mine / bare)
        print(f"round {n}: {mine:,.0f}/s against {bare:,.0f}/s of a bare loop = {mine / bare:.2f}")
    assert sorted(rounds)[1] >= (0.6 if not os.environ.get("CI") else 0.5)
