"""A folder with a small application in it, and an embedded broker that its processes and commands share."""

from __future__ import annotations

import asyncio
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from crossfade.adapters.embedded import stop
from crossfade.shim.buses import open_bus
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from support.ledgers import Ledgers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

SHOP = """
import os, pathlib, time
from crossfade import shim

@shim.tool("shop.charge", timeout=20)
def charge(who: str, cents: int = 1) -> str:
    pathlib.Path("charged").open("a").write(f"{who} {os.getpid()}\\n")
    if who == "slow":
        time.sleep(60)
    return f"{who} paid {cents}"

@shim.tool("shop.price", effects="none")
def price(item: str) -> int:
    return len(item)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The application's folder; its broker is ``embedded://.../bus`` and ends with the module."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(textwrap.dedent(SHOP))
    yield folder
    stop(folder / "bus")


@pytest.fixture
def installation(shop: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bus's URL, with a prefix of the test's own; commands and processes find both by themselves."""
    url = f"embedded://{shop}/bus?idle=60"
    monkeypatch.setenv("CROSSFADE_BUS", url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.chdir(shop)
    return url


@pytest.fixture
def on_bus(installation: str, prefix: str) -> Callable[[Callable[[Ledgers], Awaitable[Any]]], Any]:
    """Runs a coroutine function on the calls of ``shop.charge``, over a connection of its own."""

    async def run(work: Callable[[Ledgers], Awaitable[Any]]) -> Any:
        bus = open_bus(installation, BusSettings(prefix=prefix), Counters())
        await bus.open()
        try:
            return await work(Ledgers(bus, Subjects(prefix)))
        finally:
            await bus.close()

    return lambda work: asyncio.run(run(work))
