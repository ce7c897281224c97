"""A publisher as applications are: it connects by itself, and remembers what was acknowledged to it.

Arguments: STORE JOURNAL NAME. Every acknowledged id is a line of JOURNAL, synced before the next publish.
"""

from __future__ import annotations

import asyncio
import os
import sys

from crossfade.adapters.embedded import open_bus
from crossfade.shim.errors import BusError
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings

SUBJECT = "cfe.-.-.file_created"


async def main(store: str, journal: str, name: str) -> None:
    bus = open_bus(f"embedded://{store}", BusSettings(), Counters())
    await _until_done(bus.open)
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while True:
        number += 1
        event = Event(id=f"{name}-{number}", source="urn:test", type="file.created", data=b"{}")
        await _until_done(lambda event=event: bus.publish(SUBJECT, event, timeout=1.0))
        os.write(file, f"{event.id}\n".encode())
        os.fsync(file)
        await asyncio.sleep(0.005)  # a stream of thousands, not of millions, is read back at the end


async def _until_done(act) -> None:
    """Repeat until the bus says yes; the event's id makes a repeated publish the same event."""
    while True:
        try:
            await act()
        except BusError:
            await asyncio.sleep(0.02)
        else:
            return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
