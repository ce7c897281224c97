"""Objects: claim checks come back whole, or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random

import pytest

from crossfade.shim.errors import ObjectMissingError
from crossfade.shim.ports import ObjectRef


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_000])
async def test_data_comes_back_whole(bus, make_bus, size):
    """What one client stored another reads, bit by bit, whether it is empty or three megabytes."""
    data = random.Random(size).randbytes(size)
    ref = await bus.put_object(data)
    assert ref == ObjectRef(uri=ref.uri, sha256=hashlib.sha256(data).hexdigest(), size=size)
    assert ref.uri
    assert await (await make_bus()).get_object(ref) == data


async def test_the_same_data_twice(bus):
    """Storing the same data again harms neither claim check."""
    one, two = await bus.put_object(b"same"), await bus.put_object(b"same")
    assert await bus.get_object(one) == await bus.get_object(two) == b"same"


async def test_many_at_once(bus):
    """Objects stored and read concurrently do not mix."""
    datas = [random.Random(n).randbytes(200_000) for n in range(10)]
    refs = await asyncio.gather(*(bus.put_object(data) for data in datas))
    assert await asyncio.gather(*(bus.get_object(ref) for ref in refs)) == datas


async def test_a_claim_check_for_nothing(bus):
    """Data that is not there is ObjectMissingError, never empty bytes."""
    ref = await bus.put_object(b"data")
    missing = dataclasses.replace(ref, uri=ref.uri[:-1] + ("0" if ref.uri[-1] != "0" else "1"))
    with pytest.raises(ObjectMissingError):
        await bus.get_object(missing)


async def test_a_claim_check_that_lies(bus):
    """Data whose sha256 is not the one in the claim check is not handed out."""
    ref = await bus.put_object(b"data")
    with pytest.raises(ObjectMissingError):
        await bus.get_object(dataclasses.replace(ref, sha256="0" * 64))


@pytest.mark.parametrize("uri", ["", "elsewhere://x", "file:///etc/passwd", "not a uri"])
async def test_a_claim_check_of_another_store(bus, uri):
    """A uri that is not this bus's own is missing data, and nothing else is opened for it."""
    with pytest.raises(ObjectMissingError):
        await bus.get_object(ObjectRef(uri=uri, sha256="0" * 64, size=1))
