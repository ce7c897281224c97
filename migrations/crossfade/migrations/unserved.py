"""Counts the instances of workflows that wait for an engine of their version, so that an alarm can be set on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError
from crossfade.shim.hooks import report
from crossfade.workflows.serving import serving
from crossfade.workflows.store import Store

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus

EVERY: Final = 60.0
"""Seconds between looks: each reads every live instance, five kilobytes a piece."""


async def watch(bus: Bus, *, every: float = EVERY) -> None:
    """Count each that waits as ``unserved``, at every look, until cancelled."""
    while True:
        try:
            await count(bus)
        except BusError as error:
            report.count("retried", seam="workflows", reason=f"unserved-{type(error).__name__}")
        await asyncio.sleep(every)


async def count(bus: Bus) -> None:
    """Count them once, by workflow and version. Raises ``BusError``."""
    served = await serving(bus)
    waiting: Counter[tuple[str, int]] = Counter()
    for instance in await Store(bus).readable():
        if served.lacks(instance):
            waiting[instance.workflow, instance.version] += 1
    for (name, version), n in waiting.items():
        report.count("unserved", seam=name, reason=f"version-{version}", n=n)
