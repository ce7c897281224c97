"""A user's page hears of its user's events: all of them, once, in order, and of nobody else's."""

from __future__ import annotations

import asyncio
import json
import random
import socket

import httpx
import pytest

from crossfade.proxy.control.ring import Ring
from crossfade.proxy.control.stream import StreamLimits
from integration.control.kit import SOON
from plugins.nats import api, until
from support.nats_server import NatsServer

QUICK = StreamLimits(heartbeat=0.3, send_timeout=1.0)


async def test_an_event_arrives_as_it_happens_without_what_is_not_on_the_list(plane):
    """A CloudEvent with the listed fields; where it ran and what the payload holds besides stay behind."""
    async with plane.stream() as page:
        assert (await page.next())[0] == "crossfade.ready"
        await plane.publish("reading", fraction=0.5, arguments={"prompt": "x"}, password="hunter2")
        kind, event = await page.next()

    assert (kind, event["type"], event["callid"]) == ("tool.progress", "tool.progress", "c1")
    assert event["data"] == {"message": "reading", "fraction": 0.5}
    assert set(event) == {"specversion", "id", "source", "type", "time", "correlationid", "callid", "data"}
    assert "worker_1234" not in json.dumps(event)
    assert page.response.headers["content-type"].startswith("text/event-stream")
    assert page.response.headers["x-accel-buffering"] == "no"
    assert page.retry == 1000


async def test_a_type_that_is_not_on_the_list_reaches_nobody(plane, counts):
    """A command that somebody published where the UI reads is counted and not shown."""
    async with plane.stream() as page:
        await page.next()
        await plane.publish("secret", kind="tool.invoke")
        await plane.publish("shown")
        assert await page.said(1) == ["shown"]
    assert counts.get("not-shown", reason="type") == 1


@pytest.mark.parametrize("user", ["bob", "*", ">", "alice.x", "", "a\u00e9"])
async def test_nobody_hears_of_anothers_events(plane, user):
    """Live, by resuming from the beginning, and with names that look like wildcards: not one byte."""
    token = plane.token(user or "-", tenant="acme")
    first = await plane.publish("before")
    async with plane.stream(token) as page, plane.stream() as owner:
        await owner.next()
        await page.next()
        await plane.publish("live")
        while await owner.said(1) != ["live"]:
            pass  # "before" was on its way still
        await page.beat()  # whatever was sent before this is here
    epoch = page.last_id.partition("-")[0]
    async with plane.stream(token, resume=f"{epoch}-0") as page:
        assert (await page.next())[0] == "crossfade.ready"
        await page.beat()
    assert first.position
    with pytest.raises(TimeoutError):
        async with plane.stream(token, resume=page.last_id) as again, asyncio.timeout(0.5):
            await again.said(1)


async def test_another_tenants_user_of_the_same_name_is_another(plane):
    """Tenant and user together say whose stream it is."""
    async with plane.stream(plane.token("alice", "other")) as page, plane.stream() as owner:
        await page.next()
        await plane.publish("live")
        await owner.said(1)
        await page.beat()
        await plane.publish("theirs", tenant="other")
        assert await page.said(1) == ["theirs"]


async def test_what_was_missed_comes_first_and_once(plane):
    """From the ring, right after the last id that arrived."""
    async with plane.stream() as page:
        for n in range(3):
            await plane.publish(n)
        assert await page.said(3) == ["0", "1", "2"]
    for n in range(3, 6):
        await plane.publish(n)
    async with plane.stream(resume=page.last_id) as page:
        await plane.publish(6)
        assert await page.said(4) == ["3", "4", "5", "6"]


async def test_a_page_that_heard_nothing_yet_misses_nothing(plane):
    """The first word and every sign of life are places to come back to."""
    async with plane.stream() as page:
        await page.next()
        ready = page.last_id
        await plane.publish("another's", user="bob")
        await until(lambda: plane.control.hub.ring.last == 1)
        await page.beat()
        await page.beat()
        assert page.last_id != ready, "a quiet user's place grows old"
    for n in range(2):
        await plane.publish(n)
    for resume in (ready, page.last_id):
        async with plane.stream(resume=resume) as again:
            assert await again.said(2) == ["0", "1"]


async def test_what_the_ring_forgot_is_read_from_the_bus(serving, nats_server, counts):
    """Longer away than memory lasts: the same events, in order, once."""
    async with serving(nats_server.url, limits=QUICK, ring=Ring(events=5)) as plane:
        async with plane.stream() as page:
            await plane.publish(0)
            await page.said(1)
        for n in range(1, 40):
            await plane.publish(n)
        async with plane.stream(resume=page.last_id) as page:
            await plane.publish(40)
            assert await page.said(40) == [str(n) for n in range(1, 41)]
    assert counts.get("caught-up") == 1


async def test_another_control_process_goes_on_where_one_ended(serving, nats_server, counts):
    """A resume id means the same in every process; a new one has the last minute in memory."""
    async with serving(nats_server.url, limits=QUICK) as one:
        async with one.stream() as page:
            await one.publish(0)
            await page.said(1)
        await one.publish(1)
    async with serving(nats_server.url, limits=QUICK) as other, other.stream(resume=page.last_id) as page:
        await other.publish(2)
        assert await page.said(2) == ["1", "2"]
    assert counts.get("caught-up") == 0


@pytest.mark.parametrize("events", [4, 20_000])
async def test_nothing_is_lost_or_doubled_however_often_a_page_comes_back(serving, nats_server, events):
    """With events all the while, cut at random places, from memory and from the bus: every one, once, in order."""
    dice = random.Random(events)
    total = 300
    async with serving(nats_server.url, limits=QUICK, ring=Ring(events=events)) as plane:

        async def work():
            for n in range(total):
                await plane.publish(n)
                await asyncio.sleep(dice.random() * 0.004)

        heard: list[str] = []
        async with plane.stream() as page:
            await page.next()
            place = page.last_id
        working = asyncio.create_task(work())
        while len(heard) < total:
            async with plane.stream(resume=place) as page:
                heard += await page.said(min(dice.randrange(1, 40), total - len(heard)))
                place = page.last_id
        await working

    assert heard == [str(n) for n in range(total)]


@pytest.mark.parametrize("resume", ["other-12", "nonsense", "20261122T000000Z-", "-", "?" * 300])
async def test_a_place_in_another_store_is_said_to_be(plane, resume):
    """Never silently taken for one of ours."""
    async with plane.stream(resume=resume) as page:
        assert await page.next() == ("crossfade.reset", {"reason": "epoch"})
        await plane.publish("after")
        assert await page.said(1) == ["after"]


@pytest.mark.parametrize("place", ["999999", "-1", "x", "1.5"])
async def test_a_place_that_is_none_is_said_to_be(plane, place):
    """Right epoch, no such position: a reset, then live."""
    async with plane.stream() as page:
        await page.next()
    epoch = page.last_id.partition("-")[0]
    async with plane.stream(resume=f"{epoch}-{place}") as page:
        data, before = await page.until("crossfade.reset")
        assert (data, before) == ({"reason": "gone"}, [])
        await plane.publish("after")
        assert await page.said(1) == ["after"]


async def test_what_the_bus_has_forgotten_is_said_to_be_gone(serving, nats_server, prefix):
    """A gap that cannot be read is announced; from then on the tail is live."""
    async with serving(nats_server.url, limits=QUICK, ring=Ring(events=2)) as plane:
        async with plane.stream() as page:
            await plane.publish(0)
            await page.said(1)
        for n in range(1, 10):
            await plane.publish(n)
        await purge(nats_server.url, prefix, keep=3)
        async with plane.stream(resume=page.last_id) as page:
            assert await page.until("crossfade.reset") == ({"reason": "gone"}, [])
            await plane.publish("after")
            assert await page.said(1) == ["after"]


async def test_a_stream_made_anew_resets_who_listens_and_who_comes_back(serving, tmp_path, prefix):
    """After the store is lost positions begin again: everybody is told, nobody resumes by accident."""
    with NatsServer(tmp_path / "nats") as server:
        async with serving(server.url, limits=QUICK) as plane, plane.stream() as page:
            for n in range(3):
                await plane.publish(n)
            await page.said(3)
            old = page.last_id
            await recreate(server.url, prefix)
            await asyncio.to_thread(server.restart)
            data, _ = await page.until("crossfade.reset")
            assert data == {"reason": "restored"}
            async with plane.stream(resume=old) as other:
                assert (await other.next()) == ("crossfade.reset", {"reason": "epoch"})
            await until(lambda: plane.control.bus.connected)
            await plane.publish("after")
            assert await page.said(1) == ["after"]


async def test_a_brokers_restart_loses_nothing(serving, tmp_path):
    """The stream stays open, signs of life go on, and what came meanwhile is there."""
    with NatsServer(tmp_path / "nats") as server:
        async with serving(server.url, limits=QUICK) as plane, plane.stream() as page:
            await plane.publish(0)
            await page.said(1)
            await asyncio.to_thread(server.stop)
            await page.beat()
            await page.beat()
            await asyncio.to_thread(server.start)
            await until(lambda: plane.control.bus.connected)
            await plane.publish(1)
            assert await page.said(1) == ["1"]


async def test_an_expired_token_ends_its_stream_in_time(plane):
    """At its end, not at the next sign of life; and it opens no other."""
    token = plane.token(ttl=3)
    async with plane.stream(token) as page:
        assert (await page.until("crossfade.end"))[0] == {"reason": "expired"}
        with pytest.raises(EOFError):
            await page.next()
    assert (await plane.ask("GET", "/_crossfade/stream", token)).status_code == 401


async def test_a_revoked_token_ends_its_stream_everywhere(serving, nats_server):
    """Within moments, in every control process; other tokens of the same user live on."""
    async with serving(nats_server.url, limits=QUICK) as one, serving(nats_server.url, limits=QUICK) as other:
        token, kept = one.token(), one.token()
        async with other.stream(token) as page, other.stream(kept) as stays:
            await page.next()
            identity = one.control.keyring.read(token).id
            assert (await one.ask("DELETE", f"/api/v1/tokens/{identity}", one.operate)).status_code == 204
            assert (await page.until("crossfade.end"))[0] == {"reason": "revoked"}
            await one.publish("on")
            assert await stays.said(1) == ["on"]
        assert (await other.ask("GET", "/_crossfade/stream", token)).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "stream1.a.b.c", "stream1.{key}.e30.AAAA", "session"])
async def test_a_token_that_is_none_opens_nothing(plane, token):
    """401, with the way to ask in the answer."""
    if token == "session":
        token = plane.control.gatekeeper.open_session(plane.control.gatekeeper._credentials.find(plane.operate))[0]
    answer = await plane.ask("GET", "/_crossfade/stream", params={"token": token})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_credential_of_the_api_opens_no_stream(plane):
    """An operator is no user."""
    assert (await plane.ask("GET", "/_crossfade/stream", plane.operate)).status_code == 401


async def test_a_slow_page_is_cut_off_and_harms_nobody(serving, nats_server, counts):
    """It reads nothing: nothing piles up for it, others hear at once, and it comes back to all it missed."""
    limits = StreamLimits(heartbeat=0.3, send_timeout=0.5)
    async with serving(nats_server.url, limits=limits) as plane:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", plane.port))
        stuck.sendall(f"GET /_crossfade/stream?token={plane.token()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with plane.stream() as page:
            await page.next()
            await until(lambda: plane.control.hub.total == 2)
            for n in range(60):
                await plane.publish(n, data="x" * 20_000)
                assert await page.said(1) == [str(n)]
            await until(lambda: plane.control.hub.total == 1)
        stuck.close()
    assert counts.get("stream-ended", reason="slow") == 1


async def test_one_user_cannot_take_every_stream(serving, nats_server):
    """429 for one too many of a user, 503 for one too many of all; who is let in is heard."""
    limits = StreamLimits(per_user=2, streams=3)
    async with serving(nats_server.url, limits=limits) as plane, plane.stream() as page, plane.stream():
        await page.next()
        answer = await plane.ask("GET", "/_crossfade/stream", plane.token())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        async with plane.stream(plane.token("bob")):
            assert (await plane.ask("GET", "/_crossfade/stream", plane.token("carol"))).status_code == 503
        await until(lambda: plane.control.hub.total == 2)
        async with plane.stream(plane.token("carol")):
            await plane.publish("on")
            assert await page.said(1) == ["on"]


async def test_a_page_that_leaves_is_forgotten(plane):
    """Nothing is kept of it."""
    async with plane.stream() as page:
        await page.next()
    await until(lambda: plane.control.hub.total == 0)


async def test_stopping_says_so(serving, nats_server):
    """Pages are told, so they come back elsewhere with their place."""
    async with serving(nats_server.url) as plane, httpx.AsyncClient(timeout=SOON) as client:
        url = f"{plane.url}/_crossfade/stream?token={plane.token()}"
        async with client.stream("GET", url) as response:
            plane.control.hub.close("stopping")
            assert '{"reason":"stopping"}' in (await response.aread()).decode()


async def test_another_origin_reads_only_when_it_is_allowed(serving, nats_server):
    """The header a browser asks for is there for the origins that were named, on refusals as well."""
    origin = "https://app.example"
    async with serving(nats_server.url, origins=frozenset({origin})) as plane:
        for given, allowed in ((origin, origin), ("https://evil.example", None)):
            url = f"{plane.url}/_crossfade/stream?token={plane.token()}"
            async with plane.client.stream("GET", url, headers={"Origin": given}) as answer:
                assert answer.headers.get("access-control-allow-origin") == allowed
            refused = await plane.ask("GET", "/_crossfade/stream", headers={"Origin": given})
            assert refused.headers.get("access-control-allow-origin") == allowed


async def test_a_catch_up_without_a_broker_ends_the_stream_instead_of_lying(serving, tmp_path):
    """No reset, no silence: the page is sent away with its place, and gets everything once the broker is back."""
    with NatsServer(tmp_path / "nats") as server:
        async with serving(server.url, limits=QUICK, ring=Ring(events=2)) as plane:
            async with plane.stream() as page:
                await plane.publish(0)
                await page.said(1)
            for n in range(1, 8):
                await plane.publish(n)
            await until(lambda: plane.control.hub.ring.last == 8)
            await asyncio.to_thread(server.stop)
            async with plane.stream(resume=page.last_id) as cut:
                assert await cut.until("crossfade.end") == ({"reason": "no-bus"}, [])
            await asyncio.to_thread(server.start)
            await until(lambda: plane.control.bus.connected)
            async with plane.stream(resume=page.last_id) as page:
                assert await page.said(7) == [str(n) for n in range(1, 8)]


async def purge(url, prefix, *, keep):
    """Let the UI stream forget all but its newest events, as its age and size limits do."""
    async with raw(url) as client:
        await api(client, f"STREAM.PURGE.{prefix.upper()}_UI", {"keep": keep})


async def recreate(url, prefix):
    """Lose the UI stream, and make it again as it was."""
    async with raw(url) as client:
        name = f"{prefix.upper()}_UI"
        config = (await api(client, f"STREAM.INFO.{name}"))["config"]
        await api(client, f"STREAM.DELETE.{name}")
        await api(client, f"STREAM.CREATE.{name}", config)


class raw:  # noqa: N801 - reads as a word
    def __init__(self, url):
        self._url = url

    async def __aenter__(self):
        import nats

        self._client = await nats.connect(self._url)
        return self._client

    async def __aexit__(self, *_):
        await self._client.close()
