"""The bus behind ``embedded://``: the NATS bus, on a server that finds itself."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from crossfade.adapters._embedded import processes
from crossfade.adapters.embedded import open_bus, status
from crossfade.shim.errors import BusUnavailableError, ConfigurationError
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from integration.embedded.observed import paused, servers_on

SUBJECT = "cfe.-.-.file_created"


async def test_a_bus_starts_its_server_and_says_that_it_is_synced(store):
    """Opening an empty directory gives a working bus."""
    bus = open_bus(f"embedded://{store}?idle=30", BusSettings(), Counters())
    assert not servers_on(store), "nothing is started before it is opened"
    await bus.open()
    try:
        info = await bus.info()
        assert (info.scheme, info.synced, info.version) == ("embedded", True, "2.15.1")
        assert status(store).idle == 30
    finally:
        await bus.close()


async def test_a_connected_bus_starts_a_killed_server_again(store):
    """SIGKILL of the server with nobody else around: the bus brings it back and what it acknowledged is there."""
    bus = open_bus(f"embedded://{store}", BusSettings(), Counters())
    await bus.open()
    back = asyncio.Event()

    async def note_reconnect() -> None:
        back.set()

    bus.on_reconnect(note_reconnect)
    try:
        first = await bus.publish(SUBJECT, _event("1"))
        killed = processes.server_pid(store)
        os.kill(killed, signal.SIGKILL)
        await asyncio.wait_for(back.wait(), 20)
        second = await bus.publish(SUBJECT, _event("2"))
        assert first.position != second.position
        assert [stored.event.id async for stored in bus.read("cfe.>")] == ["1", "2"]
        assert len(servers_on(store)) == 1
        assert servers_on(store) != [killed]
    finally:
        await bus.close()


async def test_a_paused_server_is_reported_as_such_on_opening(store):
    """Within ``connect_timeout`` the caller learns which process does not answer, not just that time ran out."""
    bus = open_bus(f"embedded://{store}", BusSettings(), Counters())
    await bus.open()
    await bus.close()
    again = open_bus(f"embedded://{store}", BusSettings(connect_timeout=2), Counters())
    with paused(processes.server_pid(store)), pytest.raises(BusUnavailableError, match="is not being replaced"):
        await again.open()
    await again.open()
    await again.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("embedded://", "names no directory"),
        ("embedded:/x", "names no directory"),
        ("embedded://?idle=1", "names no directory"),
        ("embedded://x?idl=1", "unknown option 'idl'"),
        ("embedded://x?idle=soon", "option 'idle' is 'soon'"),
        ("embedded://x?idle=-1", "option 'idle' is '-1'"),
        ("embedded://x?idle=nan", "option 'idle' is 'nan'"),
        ("embedded://x%00y", "cannot be the directory of a store"),
        ("embedded://x%0Ay", "use printable characters"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url, said):
    """Before anything runs, with the option or the part that is wrong."""
    with pytest.raises(ConfigurationError, match=said):
        open_bus(url, BusSettings(), Counters())


def test_a_relative_url_counts_from_the_directory_of_its_opening(store, monkeypatch):
    """Changing directory afterwards does not move the store."""
    monkeypatch.chdir(store.parent)
    bus = open_bus("embedded://bus", BusSettings(), Counters())
    monkeypatch.chdir("/")

    async def once() -> None:
        await bus.open()
        await bus.close()

    asyncio.run(once())
    assert len(servers_on(store)) == 1


def _event(name: str) -> Event:
    return Event(id=name, source="urn:test", type="file.created", data=b"{}")
