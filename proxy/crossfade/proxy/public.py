"""What of the control plane the world may reach through the data plane: streams and tasks, and nothing else.

Rules, on the raw path as it came, nothing decoded or merged

1. ``/_crossfade/stream`` and what is below ``/_crossfade/tasks/`` go to the control plane.
2. A path in which anybody might see a dot segment does not (rule 3 of ``matching.py``), nor does any other path below
   ``/_crossfade/``: 404, and no service behind the proxy sees it either.

The control plane checks again: its own application for these paths has no other routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .forwarding import PassThrough
from .framing import Refusal
from .matching import winds

if TYPE_CHECKING:
    from .exchange import Answering, Exchange
    from .pool import Pool

PREFIX: Final = b"/_crossfade/"
POOL: Final = "_crossfade"  # no upstream of a configuration may be called so

_STREAM: Final = b"/_crossfade/stream"
_TASKS: Final = b"/_crossfade/tasks/"
_ABSENT: Final = Refusal("not-public", 404, "There is nothing here but /_crossfade/stream and /_crossfade/tasks/{id}.")


class Public:
    """Who answers below ``/_crossfade/``; ``pool`` leads to the control plane."""

    def __init__(self, pool: Pool) -> None:
        self._control = PassThrough(pool, seam=POOL)
        self._absent = _Absent()

    def resolve(self, path: bytes) -> Answering:
        """Who answers a request for ``path``."""
        return self._control if is_public(path) else self._absent


def is_public(path: bytes) -> bool:
    """Whether the control plane may be asked for this raw path by anybody."""
    return path == _STREAM or (path.startswith(_TASKS) and len(path) > len(_TASKS) and not winds(path))


class _Absent:
    """Answers 404."""

    def begin(self, exchange: Exchange) -> None:
        """See ``Answering``."""
        exchange.seam = POOL
        exchange.refuse(_ABSENT)
