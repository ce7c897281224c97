"""A real NATS server for the whole run, and names that keep tests apart on it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from support.nats_server import NatsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server on loopback; tests must not stop it (start a ``NatsServer`` of your own for that)."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """An installation of its own on the shared server."""
    return f"t{next(_numbers)}"


async def api(client: Any, subject: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the JetStream API behind the adapter's back."""
    data = b"" if body is None else json.dumps(body).encode()
    answer = json.loads((await client.request(f"$JS.API.{subject}", data, timeout=5)).data)
    assert "error" not in answer, answer["error"]
    return answer


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true result of ``condition`` (awaited when it can be), for what nobody offers an event for."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(0.01)
