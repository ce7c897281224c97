"""A foreign client of a NATS server: what it may do, our own adapter must cope with."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nats.aio.client import Client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, allow_reconnect=False, connect_timeout=5)
    try:
        yield client
    finally:
        await client.close()


async def ask(client: Client, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    answer = json.loads((await client.request(f"$JS.API.{subject}", json.dumps(body or {}).encode(), timeout=5)).data)
    assert "error" not in answer, answer
    return answer


async def store(url: str, subject: str, headers: Mapping[str, str], data: bytes) -> None:
    async with connected(url) as client:
        await client.jetstream().publish(subject, data, headers=dict(headers) or None)


async def limit(url: str, family: str, max_bytes: int) -> None:
    async with connected(url) as client:
        (name,) = (await ask(client, "STREAM.NAMES", {"subject": f"{family}.>"}))["streams"]
        config = (await ask(client, f"STREAM.INFO.{name}"))["config"]
        await ask(client, f"STREAM.UPDATE.{name}", {**config, "max_bytes": max_bytes})


async def clean(url: str, prefix: str) -> None:
    async with connected(url) as client:
        names = (await ask(client, "STREAM.NAMES"))["streams"] or []
        for name in names:
            if prefix in name.lower().split("_"):
                await ask(client, f"STREAM.DELETE.{name}")
