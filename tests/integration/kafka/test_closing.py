"""A bus that is closed while somebody waits for an answer."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim.errors import BusUnavailableError


async def test_closing_ends_a_first_look(bus):
    """Who waits for all that was stored before is told that the bus is closed, not cancelled."""
    first = asyncio.ensure_future(bus.state("policy").get("a"))
    await asyncio.sleep(0)
    assert not bus._state_journal.log._starting.done()
    await bus.close()
    with pytest.raises(BusUnavailableError, match="closed"):
        await asyncio.wait_for(first, 5)


async def test_closing_ends_a_question_under_way(bus, subjects):
    """Who only asks is answered or told that the bus is closed, never that something may have happened."""
    state, fact = bus.state("policy"), subjects.fact("webhook.received")
    asking = (lambda: state.get("a"), state.entries, lambda: bus.last(fact), lambda: bus.extent(fact))
    for ask in asking:
        await ask()  # now everything is there that the first one makes
    waiting = [asyncio.ensure_future(ask()) for ask in asking]
    await asyncio.sleep(0)  # sent, and the answer not read yet
    await bus.close()
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert {type(each) for each in found if isinstance(each, BaseException)} <= {BusUnavailableError}, found
