"""Words for tests of the control plane: who asks, what is published, what a browser hears."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx

from crossfade.shim.events import Event

if TYPE_CHECKING:
    from crossfade.proxy.control.app import Control

SOON = 10.0  # seconds in which something that must happen has happened, on a busy machine


@dataclass
class Plane:
    """A served control plane."""

    control: Control
    port: int
    operate: str
    view: str
    client: Any = field(default=None)

    @property
    def url(self) -> str:
        return self.control.settings.url(self.port)

    def token(self, user: str = "alice", tenant: str = "acme", *, ttl: float = 600) -> str:
        return self.control.keyring.mint(user=user, tenant=tenant, ttl=timedelta(seconds=ttl))

    async def ask(self, method: str, path: str, secret: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.client.cookies.clear()  # every request stands for itself
        return await self.client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    async def publish(self, n: Any, *, user: str = "alice", tenant: str = "acme", run: str = "r1", **more: Any) -> Any:
        """One step of progress, durable on return."""
        kind = more.pop("kind", "tool.progress")
        event = Event(
            type=kind,
            source="urn:crossfade:worker_1234",
            extensions={"userid": user, "tenantid": tenant, "correlationid": run, "callid": more.pop("call", "c1")},
            data=json.dumps({"message": str(n), **more}).encode(),
        )
        subject = self.control.subjects.ui(kind, run=run, tenant=tenant, user=user)
        return await self.control.bus.publish(subject, event)

    @asynccontextmanager
    async def stream(self, token: str | None = None, *, resume: str | None = None, path: str = "/_crossfade/stream"):
        """An open SSE stream; the answer must be 200."""
        headers = {"Last-Event-ID": resume} if resume else {}
        query = {"token": token or self.token()}
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=SOON) as client,
            client.stream("GET", path, params=query, headers=headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            yield Events(response)


class Events:
    """Reads server-sent events as a browser does: an id without data moves the resume point and shows nothing."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.response = response
        self.last_id = ""
        self.retry: int | None = None

    async def next(self) -> tuple[str, Any]:
        """Type and data of the next event. Raises ``EOFError`` at the stream's end."""
        kind, data = "message", []
        async with asyncio.timeout(SOON):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if not line and data:
                    return kind, json.loads("\n".join(data))
                if not line:
                    kind = "message"
                elif name == "id":
                    self.last_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif name == "retry":
                    self.retry = int(value)
        raise EOFError

    async def beat(self) -> None:
        """The next sign of life: a comment."""
        async with asyncio.timeout(SOON):
            async for line in self._lines:
                if line.startswith(":"):
                    id_line = await anext(self._lines)
                    self.last_id = id_line.removeprefix("id: ")
                    return
        raise EOFError

    async def said(self, n: int) -> list[str]:
        """The messages of the next ``n`` steps of progress; any other event but the first word fails."""
        found: list[str] = []
        while len(found) < n:
            kind, data = await self.next()
            if kind != "crossfade.ready":
                assert kind == "tool.progress", (kind, data, found)
                found.append(data["data"]["message"])
        return found

    async def until(self, wanted: str) -> tuple[Any, list[str]]:
        """The data of the next event of a type, and the messages before it."""
        before: list[str] = []
        while True:
            kind, data = await self.next()
            if kind == wanted:
                return data, before
            if kind == "tool.progress":
                before.append(data["data"]["message"])
