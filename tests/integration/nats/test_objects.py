"""Claim checks on a real server: with the age of commands, checked, and never half."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim.errors import BusError, ObjectMissingError
from plugins.nats import api


async def test_objects_live_a_little_longer_than_commands(bus, bare, prefix):
    """The bucket's age is that of commands and an hour, so no command outlives its data."""
    await bus.put_object(b"x")
    found = (await api(bare, f"STREAM.INFO.OBJ_{prefix}_objects"))["config"]
    commands = (await api(bare, f"STREAM.INFO.{prefix.upper()}_CMD"))["config"]
    assert found["max_age"] == commands["max_age"] + 3600 * 1_000_000_000
    assert found["storage"] == "file"


async def test_a_damaged_object(bus, bare, prefix):
    """Data whose chunk was replaced is missing, not wrong."""
    ref = await bus.put_object(b"x" * 1000)
    stream = f"OBJ_{prefix}_objects"
    subjects = (await api(bare, f"STREAM.INFO.{stream}", {"subjects_filter": f"$O.{prefix}_objects.C.>"}))["state"]
    (chunk,) = subjects["subjects"]
    await api(bare, f"STREAM.PURGE.{stream}", {"filter": chunk})
    await bare.jetstream().publish(chunk, b"y" * 1000)
    with pytest.raises(ObjectMissingError):
        await bus.get_object(ref)


async def test_the_server_dies_while_an_object_is_read(own_bus, server):
    """A read that is broken off is an error of the bus, never a missing or a half object."""
    ref = await own_bus.put_object(b"x" * 3_000_000)
    server.pause()
    waiting = asyncio.create_task(own_bus.get_object(ref))
    await asyncio.sleep(0.1)
    server.kill()
    with pytest.raises(BusError) as caught:
        await asyncio.wait_for(waiting, 30)
    assert not isinstance(caught.value, ObjectMissingError)
