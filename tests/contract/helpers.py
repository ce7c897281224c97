"""Short words for what the contract tests say again and again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from crossfade.shim.events import Event
from crossfade.shim.ports import ConsumeOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from crossfade.shim.ports import Deliveries, Delivery

SOON = 5.0  # seconds in which something that must happen has happened, on a busy machine
NEVER = 0.15  # seconds in which something that must not happen would have happened
ACK_WAIT = 0.8  # seconds: several words must fit in, on a busy machine and a slow bus

QUICK = ConsumeOptions(ack_wait=ACK_WAIT)
PATIENT = ConsumeOptions(ack_wait=30.0)


def event(n: int = 0, *, type: str = "tool.invoke", data: bytes | None = None, **extensions: str) -> Event:  # noqa: A002
    """An event that says which one it is."""
    payload = json.dumps({"n": n}).encode() if data is None else data
    return Event(type=type, source="urn:crossfade:test", extensions=extensions, data=payload)


def number(event: Event) -> int:
    """The inverse of ``event``."""
    return json.loads(event.data or b"null")["n"]


async def take(deliveries: Deliveries, n: int, *, timeout: float = SOON) -> list[Delivery]:
    """``n`` deliveries, or fewer when they do not come in time."""
    found = []
    while len(found) < n and (delivery := await deliveries.next(timeout=timeout)) is not None:
        found.append(delivery)
    return found


async def drain(deliveries: Deliveries, n: int = 0, *, quiet: float = NEVER) -> list[Delivery]:
    """Take and ack ``n`` deliveries, each as soon as it comes, then what ``quiet`` seconds bring."""
    found: list[Delivery] = []
    while (delivery := await deliveries.next(timeout=SOON if len(found) < n else quiet)) is not None:
        await delivery.ack()
        found.append(delivery)
    return found


async def share(members: Sequence[Deliveries], n: int) -> list[Delivery]:
    """What members get between them: ``n`` deliveries, however long they take, and what else is there."""
    found: list[Delivery] = []
    async with asyncio.timeout(2 * SOON):
        while True:
            new = [delivery for one in members if (delivery := await one.next(timeout=NEVER)) is not None]
            found += new
            if not new and len(found) >= n:
                return found


async def collect(items: AsyncIterator[Any], n: int | None = None, *, timeout: float = SOON) -> list[Any]:
    """The first ``n`` items, or all."""
    found = []
    async with asyncio.timeout(timeout):
        async for item in items:
            found.append(item)
            if len(found) == n:
                break
    return found


async def until(condition: Callable[[], Awaitable[Any]], *, timeout: float = SOON) -> Any:
    """The first true result of ``condition``, for what a port offers no event for."""
    async with asyncio.timeout(timeout):
        while not (result := await condition()):  # noqa: ASYNC110 - a port offers no event for it
            await asyncio.sleep(0.02)
        return result
