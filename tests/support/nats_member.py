"""A member of a consumer group in a process of its own, to be killed or paused.

Arguments: URL PREFIX GROUP FILTER ACK_WAIT MAX_DELIVER MODE.

Prints ``joined``, then per delivery ``got ATTEMPT``; in mode ``ack`` it also acknowledges and prints ``acked`` or
``late``, in mode ``hold`` it keeps what it got and says no word.
"""

from __future__ import annotations

import asyncio
import sys

from crossfade.adapters.nats import open_bus
from crossfade.shim.errors import BusAmbiguousError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings, ConsumeOptions


async def main() -> None:
    """Join and work until killed."""
    url, prefix, group, pattern, ack_wait, max_deliver, mode = sys.argv[1:]
    hooks = Counters()
    bus = open_bus(url, BusSettings(prefix=prefix), hooks)
    await bus.open()
    options = ConsumeOptions(ack_wait=float(ack_wait), max_deliver=int(max_deliver))
    async with bus.consume(group, [pattern], options) as deliveries:
        print("joined", flush=True)
        while True:
            delivery = await deliveries.next(timeout=0.2)
            if late := hooks.get("late", reason="buffered"):
                print("late", late, flush=True)
            if delivery is None:
                continue
            print("got", delivery.attempt, flush=True)
            if mode == "ack":
                try:
                    await delivery.ack()
                    print("acked", flush=True)
                except BusAmbiguousError:
                    print("late 1", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
