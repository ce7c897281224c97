"""The same stream over a WebSocket."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from integration.control.kit import SOON
from plugins.nats import until


def url(plane, token=None, **query):
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"ws://127.0.0.1:{plane.port}/_crossfade/stream?token={token or plane.token()}{more}"


async def hear(socket):
    async with asyncio.timeout(SOON):
        return json.loads(await socket.recv())


async def forever(socket):
    while True:
        await hear(socket)


async def said(socket, n):
    found = []
    while len(found) < n:
        frame = await hear(socket)
        if frame["event"] == "tool.progress":
            found.append(frame["data"]["data"]["message"])
    return found


async def test_a_frame_is_an_id_an_event_and_its_data(plane):
    """What SSE has in three fields."""
    async with connect(url(plane)) as socket:
        assert (await hear(socket))["event"] == "crossfade.ready"
        await plane.publish("reading")
        frame = await hear(socket)
    assert set(frame) == {"id", "event", "data"}
    assert (frame["event"], frame["data"]["data"]) == ("tool.progress", {"message": "reading"})


async def test_no_log_line_holds_a_token(plane, caplog):
    """A WebSocket's URL does, and a server's own log has URLs: whoever reads logs would read that user's events."""
    token = plane.token()
    with caplog.at_level("INFO"):
        async with connect(url(plane, token)) as socket:
            await hear(socket)
        with pytest.raises(InvalidStatus):
            await connect(url(plane, f"{token}x"))
    assert [record.getMessage() for record in caplog.records if token in record.getMessage()] == []


async def test_a_message_or_the_query_says_where_to_go_on(plane):
    """What was missed comes first, once, and then what happens; a browser may also ask when it is connected."""
    async with connect(url(plane)) as socket:
        await plane.publish(0)
        assert await said(socket, 1) == ["0"]
        place = (await hear(socket))["id"]
    await plane.publish(1)
    async with connect(url(plane, after=place)) as socket:
        await plane.publish(2)
        assert await said(socket, 2) == ["1", "2"]
    async with connect(url(plane)) as socket:
        await hear(socket)
        await socket.send(json.dumps({"op": "resume", "after": place}))
        assert await said(socket, 2) == ["1", "2"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"op": "resume"}', '{"op": "shout", "after": "x"}', "null", "\x00"])
async def test_a_message_that_means_nothing_is_counted_and_harms_nothing(plane, counts, text):
    """The stream goes on."""
    async with connect(url(plane)) as socket:
        await socket.send(text)
        await until(lambda: counts.get("skipped", reason="websocket-message") == 1)
        await plane.publish("on")
        assert await said(socket, 1) == ["on"]


async def test_a_revoked_token_closes_with_a_code_that_says_so(plane):
    """4401: come back with another token."""
    token = plane.token()
    async with connect(url(plane, token)) as socket:
        await hear(socket)
        identity = plane.control.keyring.read(token).id
        await plane.ask("DELETE", f"/api/v1/tokens/{identity}", plane.operate)
        with pytest.raises(ConnectionClosed) as closed:
            await forever(socket)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "revoked")


async def test_an_expired_token_ends_it(plane):
    """At its end, while nothing happens; 4401, too."""
    async with connect(url(plane, plane.token(ttl=1))) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await forever(socket)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "expired")


async def test_signs_of_life_carry_a_place(plane):
    """A page that hears nothing else can come back to it."""
    async with connect(url(plane)) as socket:
        await hear(socket)
        frame = await hear(socket)
    assert frame["event"] == "crossfade.heartbeat"
    assert "-" in frame["id"]


@pytest.mark.parametrize(
    ("token", "origin"), [("nonsense", None), (None, "https://evil.example"), (None, "http://127.0.0.1:1")]
)
async def test_who_may_not_is_refused_before_the_handshake(plane, token, origin):
    """No token of ours, or another site's page with one that it has found."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url(plane, token), origin=origin):
            pass
    assert refused.value.response.status_code == 403


async def test_a_page_of_the_same_host_may(plane):
    """Its own origin is no other site."""
    async with connect(url(plane), origin=f"http://127.0.0.1:{plane.port}") as socket:
        assert (await hear(socket))["event"] == "crossfade.ready"


async def test_only_the_stream_is_a_websocket(plane):
    """Anything else is refused, inside and outside."""
    for path in ("/_crossfade/tasks/x", "/_crossfade/", "/api/v1/seams", "/nothing"):
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://127.0.0.1:{plane.port}{path}?token={plane.token()}"):
                pass


async def test_a_page_that_leaves_is_forgotten(plane):
    """Nothing is kept of it."""
    async with connect(url(plane)) as socket:
        await hear(socket)
    await until(lambda: plane.control.hub.total == 0)
