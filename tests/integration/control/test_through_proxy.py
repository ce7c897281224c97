"""What the world reaches of the control plane through a ``crossfade proxy`` in front: streams and tasks."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from integration.control.kit import SOON, Plane
from integration.control.test_websocket import said
from support.commands import Process


async def legacy(reader, writer):
    """The service behind the proxy: says what it was asked for."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"legacy " + head.split()[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@asynccontextmanager
async def proxy(folder, *, control: int | None):
    """A proxy process; its port."""
    service = await asyncio.start_server(legacy, "127.0.0.1", 0)
    behind = f"127.0.0.1:{service.sockets[0].getsockname()[1]}"
    config = {"listen": "127.0.0.1:0", "upstreams": {"legacy": f"http://{behind}"}}
    config |= {"control": f"127.0.0.1:{control}"} if control else {}
    file = folder / "routes.yaml"
    file.write_text(json.dumps(config))
    try:
        with Process("proxy", "--config", file, "--json", folder=folder) as process:
            yield urlsplit((await asyncio.to_thread(process.ready))["url"]).port
    finally:
        service.close()


@pytest.fixture
async def outside(plane, tmp_path):
    """The plane as the world sees it."""
    async with proxy(tmp_path, control=plane.port) as port:
        yield Plane(plane.control, port, plane.operate, plane.view)


async def raw(port: int, target: str, *lines: str) -> bytes:
    """The answer to a target that no client would send as it stands."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: shop.example", "Connection: close", *lines, "", ""])
    writer.write(head.encode())
    async with asyncio.timeout(SOON):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_stream_passes_as_it_happens_and_resumes(plane, outside):
    """Each event arrives before the next is published, and a reader that left gets what it missed."""
    async with outside.stream() as events:
        for n in range(3):
            await plane.publish(n)
            assert await events.said(1) == [str(n)]
        place = events.last_id
    await plane.publish(3)
    async with outside.stream(resume=place) as events:
        assert await events.said(1) == ["3"]


async def test_a_websocket_passes_as_it_happens(plane, outside):
    """The handshake, frames, and a refusal for who shows no token; a page's own origin is the proxy's."""
    url = f"ws://127.0.0.1:{outside.port}/_crossfade/stream"
    async with connect(f"{url}?token={plane.token()}", origin=f"http://127.0.0.1:{outside.port}") as socket:
        await plane.publish("reading")
        assert await said(socket, 1) == ["reading"]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    assert refused.value.response.status_code == 403


async def test_a_task_is_asked_for_by_whoever_shows_a_token(plane, outside):
    """The control plane itself answers: 401 without a token, 404 for a task that is not this user's."""
    bearer = f"Authorization: Bearer {plane.token()}"
    assert (await raw(outside.port, "/_crossfade/tasks/01ab")).startswith(b"HTTP/1.1 401")
    answer = await raw(outside.port, "/_crossfade/tasks/01ab", bearer)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"not-public" not in answer


NOT_PUBLIC = [
    "/_crossfade/stream/../api",
    "/_crossfade/stream/../../api/v1/seams",
    "/_crossfade/tasks/../../api/v1/seams",
    "/_crossfade/tasks/%2e%2e/%2e%2e/api/v1/seams",
    "/_crossfade/tasks/..%2f..%2fapi/v1/seams",
    "/_crossfade/tasks/a/..;/api",
    "/_crossfade/api/v1/seams",
    "/_crossfade/healthz",
    "/_crossfade//stream",
    "/_crossfade/",
    "/_crossfade",
    "/_crossfade?token=x",
    "//_crossfade/stream",
    "/%5fcrossfade/stream",
    "/%255fcrossfade/stream",
    "/_crossfade%2fstream",
    "/_crossfade;x/stream",
    "/_CROSSFADE/stream",
    "/x/../_crossfade/stream",
    "/x/%2e%2e/%5fcrossfade/stream",
    "http://shop.example/_crossfade",
    "http://shop.example/_crossfade/stream/../api",
]


async def test_nothing_else_is_answered_by_either_side(plane, outside):
    """With an operator's credential in hand it is a 404 of the proxy's: no control plane, no service is asked."""
    for target in NOT_PUBLIC:
        answer = await raw(outside.port, target, f"Authorization: Bearer {plane.operate}")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404"), answer
        assert json.loads(body)["type"] == "urn:crossfade:problem:not-public"


SERVICES = ["/api/v1/seams", "/healthz", "/docs", "/_crossfades", "/_crossfade-docs/stream", "/x/_crossfade/stream"]


async def test_what_is_not_below_the_prefix_is_the_services(plane, outside):
    """The control API's own paths mean nothing here: the service behind the proxy answers."""
    for target in SERVICES:
        answer = await raw(outside.port, target, f"Authorization: Bearer {plane.operate}")
        assert answer.endswith(f"legacy {target}".encode())


async def test_without_a_control_plane_every_path_is_the_services(tmp_path):
    """A proxy that was told of none keeps nothing of the path space for itself."""
    async with proxy(tmp_path, control=None) as port:
        assert (await raw(port, "/_crossfade/stream/../api")).endswith(b"legacy /_crossfade/stream/../api")
