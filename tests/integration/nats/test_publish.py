"""Publishing: once per id whatever happens in between, and every answer told apart."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time

import nats
import pytest

from crossfade.adapters.nats import _publish as publishing
from crossfade.adapters.nats import open_bus
from crossfade.adapters.nats._streams import definitions
from crossfade.shim.errors import BusAmbiguousError, BusFullError, BusRefusedError, BusUnavailableError
from crossfade.shim.ports import BusSettings
from plugins.nats import api, until
from support.nats_server import NatsServer


async def test_a_timeout_leaves_the_outcome_open(own_bus, server, command, event):
    """A publish to a paused server is ambiguous; repeated when it goes on, the event is stored once."""
    sent = event()
    server.pause()
    with pytest.raises(BusAmbiguousError):
        await own_bus.publish(command, sent, timeout=0.5)
    server.resume()
    await own_bus.publish(command, sent)
    assert len([stored async for stored in own_bus.read(command)]) == 1


async def test_a_connection_lost_in_mid_publish_is_asked_again(own_bus, server, command, event):
    """When the connection breaks before the answer, the same id is sent again within the timeout: one clean answer."""
    sent = event()
    server.pause()
    waiting = asyncio.create_task(own_bus.publish(command, sent, timeout=10))
    await asyncio.sleep(0.1)
    server.restart(kill=True)
    await waiting
    assert own_bus.connected
    assert len([stored async for stored in own_bus.read(command)]) == 1


async def test_doubt_is_not_ended_by_a_server_that_is_away(own_bus, server, command, event):
    """Lost in mid publish and nobody to ask again: the outcome is unknown, never "nothing was sent"."""
    server.pause()
    waiting = asyncio.create_task(own_bus.publish(command, event(), timeout=1))
    await asyncio.sleep(0.1)
    server.kill()
    with pytest.raises(BusAmbiguousError):
        await waiting


async def test_while_nobody_leads_a_publish_is_repeated(own_bus, server, subjects, command, event):
    """No responders (a leader is elected, a stream comes back) is waited out within the timeout."""
    client = own_bus._connection.client()
    name = f"{subjects.prefix.upper()}_CMD"
    config = (await api(client, f"STREAM.INFO.{name}"))["config"]
    await api(client, f"STREAM.DELETE.{name}")
    waiting = asyncio.create_task(own_bus.publish(command, event(), timeout=5))
    await asyncio.sleep(0.4)
    assert not waiting.done()
    await api(client, f"STREAM.CREATE.{name}", config)
    assert (await waiting).position == "1"


async def test_a_stream_that_is_gone(own_bus, subjects, event):
    """A deleted stream is named as that when the timeout is over."""
    await api(own_bus._connection.client(), f"STREAM.DELETE.{subjects.prefix.upper()}_EVT")
    with pytest.raises(BusRefusedError, match="gone"):
        await own_bus.publish(subjects.fact("webhook.received"), event(), timeout=0.6)


async def fill(bus, subject, make, **options):
    """Publish until it is refused: how many were stored, and what was said."""
    count = 0
    try:
        while True:
            await bus.publish(subject, make(), **options)
            count += 1
    except BusFullError as error:
        return count, str(error)


async def test_verdicts_keep_no_decision_out(bus, subjects, bare, event):
    """However many calls are compared, their stream forgets the oldest, and a move of a stage is stored."""
    name = f"{subjects.prefix.upper()}_VER"
    config = (await api(bare, f"STREAM.INFO.{name}"))["config"]
    await api(bare, f"STREAM.UPDATE.{name}", {**config, "max_bytes": 20_000})
    for _ in range(40):
        await bus.publish(subjects.verdict("web.search"), event(data=b"x" * 1000))
    await bus.publish(subjects.fact("seam.stage.changed"), event())

    kept = [stored async for stored in bus.read(subjects.verdicts("web.search"))]
    assert 5 < len(kept) < 20
    assert [stored async for stored in bus.read(subjects.verdicts("web.other"))] == []


async def test_commands_leave_room_for_results(bus, opened, nats_server, subjects, bare, command, result, event):  # noqa: PLR0917 - fixtures
    """A small stream really filled: commands stop at 80 % with BusFullError, results go on to the end."""
    name = f"{subjects.prefix.upper()}_CMD"
    config = (await api(bare, f"STREAM.INFO.{name}"))["config"]
    await api(bare, f"STREAM.UPDATE.{name}", {**config, "max_bytes": 100_000})
    sender = await opened(nats_server.url)

    commands, said = await fill(sender, command, lambda: event(data=b"x" * 1000))
    state = (await api(bare, f"STREAM.INFO.{name}"))["state"]
    assert 60_000 < state["bytes"] <= 80_000
    assert "80%" in said
    results, said = await fill(sender, result, lambda: event(data=b"x" * 1000))
    assert results >= 5
    assert "limit" in said
    assert commands + results == (await api(bare, f"STREAM.INFO.{name}"))["state"]["messages"]


async def test_commands_go_on_when_there_is_room_again(bus, subjects, bare, command, event, monkeypatch):  # noqa: PLR0917 - fixtures
    """The gate opens by itself after the stream was purged or its limit raised."""
    monkeypatch.setattr(publishing, "_REFRESH", 0.05)
    name = f"{subjects.prefix.upper()}_CMD"
    config = (await api(bare, f"STREAM.INFO.{name}"))["config"]
    await api(bare, f"STREAM.UPDATE.{name}", {**config, "max_bytes": 5_000})
    await bus._gate.refresh()
    with pytest.raises(BusFullError):
        await bus.publish(command, event(data=b"x" * 5000))
    await api(bare, f"STREAM.UPDATE.{name}", config)

    async def admitted():
        try:
            return await bus.publish(command, event(data=b"x" * 5000))
        except BusFullError:
            return None

    await until(admitted)


async def test_an_expected_stream_that_is_another(bus, bare, subjects, event):
    """An operator moved a subject to another stream: publishing there is refused, not stored in the wrong place."""
    name = f"{subjects.prefix.upper()}_EVT"
    await api(bare, f"STREAM.DELETE.{name}")
    await api(bare, f"STREAM.CREATE.X{name}", {"name": f"X{name}", "subjects": [f"{subjects.prefix}e.>"]})
    with pytest.raises(BusRefusedError, match="10060"):
        await bus.publish(subjects.fact("webhook.received"), event(), timeout=1)


async def test_the_servers_storage_limit(tmp_path, opened, prefix, subjects, event):
    """A server whose storage is used up refuses with BusFullError (10023); what is stored can be read."""
    with NatsServer(tmp_path, max_file_store="4MB") as server:
        async with await nats.connect(server.url) as client:
            for stream in definitions(prefix, 1):  # without caps, which would be reserved
                await api(client, f"STREAM.CREATE.{stream.name}", {**stream.config, "max_bytes": -1})
        bus = await opened(server.url)
        fact = subjects.fact("webhook.received")
        stored, _ = await fill(bus, fact, lambda: event(data=b"x" * 64_000), timeout=2)
        assert 10 < stored < 100
        assert (await bus.last(fact)).event.data == b"x" * 64_000


async def test_a_server_too_small_for_the_streams(tmp_path, prefix, hooks):
    """Where the streams' caps cannot be reserved the start is refused with what is missing."""
    with NatsServer(tmp_path, max_file_store="100MB") as server:
        bus = open_bus(server.url, BusSettings(prefix=prefix), hooks)
        with pytest.raises(BusFullError, match="storage"):
            await bus.open()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes; call it to make it larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", *options, "tmpfs", place], check=False).returncode == 0

    if os.geteuid() != 0 or not shutil.which("mount") or not mount("size=12m"):
        pytest.skip("no small file system without root")
    yield place, lambda: mount("remount,size=64m")
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk(tmp_path, small_disk, opened, subjects, event):
    """On a disk that is really full nats-server 2.15 answers nothing: the outcome is open, never a false success.

    What is stored can be read meanwhile; with room again (and the server restarted) the same event is stored once.
    """
    place, enlarge = small_disk
    with NatsServer(tmp_path / "nats", store=place / "store") as server:
        bus = await opened(server.url)
        fact = subjects.fact("webhook.received")
        made = []

        def make():
            made.append(event(data=b"x" * 64_000))
            return made[-1]

        with pytest.raises(BusAmbiguousError):
            await fill(bus, fact, make, timeout=1)
        assert len(made) > 10
        assert (await bus.last(fact)).event.data == b"x" * 64_000
        assert enlarge()
        server.restart()
        await until(lambda: bus.connected)
        await bus.publish(fact, made[-1])
        assert len([found async for found in bus.read(fact)]) == len(made)


async def test_unavailable_is_said_at_once(own_bus, server, command, event):
    """A publish after the connection is known to be lost does not wait for its timeout."""
    server.stop()
    await until(lambda: not own_bus.connected)
    started = time.monotonic()
    with pytest.raises(BusUnavailableError, match="nothing was sent"):
        await own_bus.publish(command, event(), timeout=5)
    assert time.monotonic() - started < 2
