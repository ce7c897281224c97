"""Text for people: aligned columns, times and spans, and nothing from the bus that a terminal would obey."""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len

from crossfade.migrations.progress import CONTROLLER
from crossfade.shim.claimcheck import load_data
from crossfade.shim.errors import ConfigurationError, CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Bus
    from crossfade.shim.redaction import Redactor


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = 100 * 365 * 86400.0  # seconds; a date so long ago can still be computed, and nothing is older


def safe(value: object, *, keep: str = "") -> str:
    """Text from the bus for a terminal: paths relative to here, controls (but those in ``keep``) shown, not obeyed."""
    text = str(value).replace(f"{Path.cwd()}{os.sep}", "")
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Aligned, never cut or folded: half a path is of no use, and a terminal wraps a long line by itself."""
    widths = [max(cell_len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def clock(time: datetime) -> str:
    """Day and time of day where the reader is, to the millisecond."""
    return f"{time.astimezone():%m-%d %H:%M:%S.%f}"[:-3]


def span(time: timedelta) -> str:
    """A length of time in one unit: ``12 ms``, ``3.4 s``, ``5 min``, ``2 h``, ``3 days``."""
    seconds = abs(time.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, unit in ((10, 1, "s"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if limit == 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def read_span(text: str, *, where: str) -> timedelta:
    """What a person typed as a length of time, like ``30s``, ``10m``, ``2h`` or ``1d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise ConfigurationError(f"{text!r} is no length of time: use one like 30s, 10m, 2h or 1d", where=where)
    return timedelta(seconds=min(float(found[1]) * _UNITS[found[2]], _LONGEST))


def plural(n: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


async def shown_data(bus: Bus, event: Event, redactor: Redactor) -> Any:
    """An event's payload without secrets, from the object store when it lies there; why not, where it cannot be had."""
    try:
        data = await load_data(bus, event)
        return redactor.value(json.loads(data)) if data else None
    except CrossfadeError as error:
        return f"<gone: {error}>"
    except (ValueError, RecursionError):
        return f"<{len(event.data or b'')} bytes that are no JSON>"


def actor() -> str:
    """Who types, for what is recorded."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
    return f"{name} (a person)" if name == CONTROLLER else name
