"""The connection: bounded when made, noticed when lost, built anew whatever ended it."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from crossfade.adapters.nats import Endpoint, NatsBus, open_bus
from crossfade.adapters.nats import _connection as connections
from crossfade.shim.errors import BusAmbiguousError, BusRefusedError, BusUnavailableError, EventTooLargeError
from crossfade.shim.events import Event
from crossfade.shim.ports import BusSettings
from plugins.nats import until
from support.nats_server import NatsServer, free_port


async def test_nothing_listens(hooks):
    """open on a port nobody listens on fails at once, though the bus later reconnects for ever."""
    bus = open_bus(f"nats://127.0.0.1:{free_port()}", BusSettings(connect_timeout=3), hooks)
    started = time.monotonic()
    with pytest.raises(BusUnavailableError, match="cannot be reached"):
        await bus.open()
    assert time.monotonic() - started < 1
    await bus.close()


async def test_a_listener_that_never_greets(hooks):
    """open on a port that accepts and says nothing fails within connect_timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bus = open_bus(f"nats://127.0.0.1:{silent.getsockname()[1]}", BusSettings(connect_timeout=1), hooks)
        started = time.monotonic()
        with pytest.raises(BusUnavailableError):
            await bus.open()
        assert time.monotonic() - started < 2
        await bus.close()


async def test_a_paused_server(server, hooks):
    """open on a server that is stopped in its tracks fails within connect_timeout, and works once it goes on."""
    bus = open_bus(server.url, BusSettings(connect_timeout=1), hooks)
    server.pause()
    with pytest.raises(BusUnavailableError):
        await bus.open()
    server.resume()
    await bus.open()
    assert bus.connected
    await bus.close()


async def test_wrong_credentials(tmp_path, hooks):
    """A refused password is named as that, with what to do, and not retried in silence."""
    with NatsServer(tmp_path, config='authorization { user: "u", password: "right" }') as server:
        bus = open_bus(f"nats://u:wrong@127.0.0.1:{server.port}", BusSettings(), hooks)
        with pytest.raises(BusRefusedError, match="credentials"):
            await bus.open()
        await bus.close()


async def test_a_token(tmp_path, opened):
    """A token in the URL is what the server is told."""
    with NatsServer(tmp_path, config='authorization { token: "s3cret" }') as server:
        assert (await opened(f"nats://s3cret@127.0.0.1:{server.port}")).connected


async def test_credentials_that_go_wrong_later(tmp_path, opened, command, event):
    """After the server's password changed, a publish says that we are refused, not that the server is away."""
    server = NatsServer(tmp_path, config='authorization { user: "u", password: "one" }')
    with server:
        bus = await opened(f"nats://u:one@127.0.0.1:{server.port}")
        server.config = server.config.replace("one", "two")
        server.restart()

        async with asyncio.timeout(10):
            while True:
                with pytest.raises((BusRefusedError, BusUnavailableError, BusAmbiguousError)) as caught:
                    await bus.publish(command, event(), timeout=0.2)
                if isinstance(caught.value, BusRefusedError):
                    break
                await asyncio.sleep(0.05)
        assert "credentials" in str(caught.value)
        server.config = server.config.replace("two", "one")
        server.restart()
        await until(lambda: bus.connected)
        await bus.publish(command, event())


async def test_a_missing_permission(tmp_path, opened, subjects, event):
    """A publish the server forbids is refused by name at once, not after its timeout."""
    denied = f"{subjects.prefix}e.>"
    config = (
        f'authorization {{ users: [ {{ user: u, password: p, permissions: {{ publish: {{ deny: "{denied}" }} }} }} ] }}'
    )
    with NatsServer(tmp_path, config=config) as server:
        bus = await opened(f"nats://u:p@127.0.0.1:{server.port}")
        started = time.monotonic()
        with pytest.raises(BusRefusedError, match="permission"):
            await bus.publish(subjects.fact("webhook.received"), event(), timeout=4)
        assert time.monotonic() - started < 1


async def test_publishing_while_disconnected(own_bus, server, command, event):
    """While the server is away nothing is buffered to be sent later: every word fails at once."""
    server.stop()
    await until(lambda: not own_bus.connected)
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(BusUnavailableError):
            await own_bus.publish(command, event())
        with pytest.raises(BusUnavailableError):
            own_bus.emit(command, event())
    assert time.monotonic() - started < 2
    server.start()
    await until(lambda: own_bus.connected)
    assert await own_bus.last(command) is None


@pytest.mark.parametrize("kill", [False, True])
async def test_a_restart_is_over_soon(own_bus, server, command, event, kill):
    """After SIGTERM or SIGKILL and a start the bus publishes again within two seconds of the server's greeting."""
    server.restart(kill=kill)
    started = time.monotonic()
    await until(lambda: own_bus.connected)
    await own_bus.publish(command, event())
    assert time.monotonic() - started < 2


async def test_the_client_is_built_anew_after_it_closed(own_bus, command, event):
    """A client that has closed for good, for whatever reason, is replaced."""
    await own_bus._connection.client().close()
    await until(lambda: own_bus.connected)
    await own_bus.publish(command, event())


async def test_a_client_that_closes_without_a_word(own_bus, server, command, event):
    """It is seen within moments, not by the pings it misses, and who waits for an answer is told."""
    own_bus._connection.client()._closed_cb = None
    server.restart()
    await until(lambda: not own_bus.connected)
    started = time.monotonic()
    await until(lambda: own_bus.connected)
    assert time.monotonic() - started < 3
    await own_bus.publish(command, event())


async def test_an_oversize_message_that_gets_through_costs_one_reconnect(own_bus, hooks, command, event):
    """What the size check is for: the server cuts the connection, and the bus comes back by itself."""
    client = own_bus._connection.client()
    await client.publish(command, b"x" * (client.max_payload - 10), headers={"a": "b" * 100})
    await until(lambda: hooks.get("reconnected") == 1)
    await own_bus.publish(command, event())


async def test_a_reply_over_the_limit(own_bus, subjects, event):
    """A reply is measured with its headers before it is sent, as a publish and an emit are."""
    limit = (await own_bus.info()).max_event_bytes
    large = event(data=b"x" * (limit - 100))
    for send in (own_bus.reply, own_bus.emit):
        with pytest.raises(EventTooLargeError):
            send(subjects.reply("somebody") if send == own_bus.reply else subjects.observation("a"), large)
    assert own_bus.connected


async def test_a_silent_server_is_noticed(monkeypatch, opened, server, command, event):
    """A connection whose other end says nothing any more is given up, and the next one works."""
    monkeypatch.setattr(connections, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(connections, "_PROBE_TIMEOUT", 0.2)
    own_bus = await opened(server.url)
    server.pause()
    await until(lambda: not own_bus.connected, seconds=15)
    server.resume()
    await until(lambda: own_bus.connected)
    await own_bus.publish(command, event())


async def emit_for_ever(bus, subject, sent):
    while True:
        started = time.monotonic()
        bus.emit(subject, sent)
        assert time.monotonic() - started < 1
        await asyncio.sleep(0)


async def test_a_stuck_socket_does_not_hold_up_closing(own_bus, server, subjects, event):
    """With megabytes waiting for a paused server, close ends within seconds."""
    server.pause()
    large = event(data=b"x" * 500_000)
    with pytest.raises(BusUnavailableError, match="buffer"):
        await emit_for_ever(own_bus, subjects.observation("a"), large)
    started = time.monotonic()
    await own_bus.close()
    assert time.monotonic() - started < 3


async def test_emitting_to_a_paused_server_is_bounded(own_bus, server, subjects, event):
    """emit never waits and never grows without bound: when the buffer is full it says so."""
    server.pause()
    large = event(data=b"x" * 100_000)
    taken = own_bus._connection.client().stats["out_bytes"]
    with pytest.raises(BusUnavailableError):
        await emit_for_ever(own_bus, subjects.observation("a"), large)
    assert own_bus._connection.client().stats["out_bytes"] - taken < 64 * 1024 * 1024
    server.resume()


async def test_a_late_pong_does_not_end_the_reading(own_bus, server, command, event):
    """nats-py 2.16 stops reading when a pong comes for a ping that was given up; our client does not."""
    client = own_bus._connection.client()
    server.pause()
    with pytest.raises(Exception, match="timeout"):
        await client.flush(timeout=0.2)
    server.resume()
    await client.flush()
    assert own_bus._connection.client() is client
    await own_bus.publish(command, event())


async def test_a_server_that_moved(tmp_path, hooks, prefix):
    """locate is asked again while disconnected: a server that returns elsewhere, with another token, is found."""
    config = 'authorization {{ token: "{}" }}'
    old = NatsServer(tmp_path / "old", store=tmp_path / "store", config=config.format("one")).start()
    there = Endpoint(servers=(f"127.0.0.1:{old.port}",), token="one")

    async def locate():
        return there

    bus = NatsBus(locate, BusSettings(prefix=prefix), hooks)
    await bus.open()
    sent = Event(type="t", source="s")
    await bus.publish(f"{prefix}e.-.-.t", sent)
    old.kill()
    with NatsServer(tmp_path / "new", store=tmp_path / "store", config=config.format("two")) as new:
        there = Endpoint(servers=(f"127.0.0.1:{new.port}",), token="two")
        await until(lambda: bus.connected)
        assert (await bus.publish(f"{prefix}e.-.-.t", sent)).duplicate
        await bus.close()


async def test_one_dead_server_of_two(server, opened):
    """A server of the list that is down costs no connection."""
    bus = await opened(f"nats://127.0.0.1:{free_port()},127.0.0.1:{server.port}")
    assert bus.connected


async def test_tls_that_is_asked_for_and_not_offered_is_refused_before_a_password_is_sent(tmp_path, hooks):
    """A server without TLS never hears the password of a tls:// URL, not even once."""
    with NatsServer(tmp_path, config="authorization { user: a, password: b }\n") as server:
        host = server.url.rpartition("/")[2]
        bus = open_bus(f"tls://a:b@{host}", BusSettings(prefix="cf"), hooks)
        with pytest.raises(BusRefusedError, match="does not offer TLS"):
            await bus.open()
        await bus.close()
        plain = open_bus(f"nats://a:b@{host}", BusSettings(prefix="cf"), hooks)
        await plain.open()
        await plain.close()
