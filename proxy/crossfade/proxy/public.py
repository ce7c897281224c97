"""What of the control plane the world may reach through the data plane: streams and tasks, and nothing else.

Rules

1. ``/_crossfade/stream`` and what is below ``/_crossfade/tasks/``, in the raw path as it came, nothing decoded or
   merged, go to the control plane, unless anybody might see a dot segment in it (rule 3 of ``matching.py``).
2. Any other path that anybody might read as ``/_crossfade`` or below it, decoding it twice, ignoring case, merging
   slashes, cutting at ``;`` or resolving dot segments, is a 404: no service behind the proxy sees it either.

The control plane checks again: its own application for these paths has no other routes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from crossfade.shim.matching import winds

from .forwarding import PassThrough
from .framing import Refusal

if TYPE_CHECKING:
    from .exchange import Answering, Exchange
    from .pool import Pool

POOL: Final = "_crossfade"  # no upstream of a configuration may be called so

_STREAM: Final = b"/_crossfade/stream"
_TASKS: Final = b"/_crossfade/tasks/"
# What a path must have to be read as ours at all; one search for each request of a proxy that has a control plane.
_SUSPICIOUS: Final = re.compile(rb"%|_crossfade", re.IGNORECASE).search
_NAME: Final = rb"[/\\]_crossfade(?![a-z0-9_-])"
_FIRST: Final = re.compile(rb"(?:[/\\](?:;[^/\\]*)?)*" + _NAME, re.IGNORECASE).match  # after segments that are empty
_ANY: Final = re.compile(_NAME, re.IGNORECASE).search
_ABSENT: Final = Refusal("not-public", 404, "There is nothing here but /_crossfade/stream and /_crossfade/tasks/{id}.")


class Public:
    """Who answers at and below ``/_crossfade``; ``pool`` leads to the control plane."""

    def __init__(self, pool: Pool) -> None:
        self._control = PassThrough(pool, seam=POOL, path="local")
        self._absent = _Absent()

    def resolve(self, path: bytes) -> Answering | None:
        """Who answers a request for ``path``; ``None``: it is no path of ours."""
        if not _SUSPICIOUS(path):
            return None
        if is_public(path):
            return self._control
        return self._absent if is_ours(path) else None


def is_public(path: bytes) -> bool:
    """Whether the control plane may be asked for this raw path by anybody."""
    return path == _STREAM or (path.startswith(_TASKS) and len(path) > len(_TASKS) and not winds(path))


def is_ours(path: bytes) -> bool:
    """Whether anybody might read this raw path as ``/_crossfade`` or something below it."""
    once = unquote_to_bytes(path)
    return any(_leads_to_us(read) for read in (path, once, unquote_to_bytes(once)))


def _leads_to_us(path: bytes) -> bool:
    """Whether its first segment is our name, or any is where dot segments make it hard to say which comes first."""
    return (_ANY if winds(path) else _FIRST)(path) is not None


class _Absent:
    """Answers 404."""

    def begin(self, exchange: Exchange) -> None:
        """See ``Answering``."""
        exchange.seam = POOL
        exchange.refuse(_ABSENT)
