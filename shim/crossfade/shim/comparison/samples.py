"""A few samples of each kind of mismatch, however many there are: what a person opens, and a checkpoint holds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import MalformedEventError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_SAMPLES: Final = 5
_MOST_SIGNATURES: Final = 100


@dataclass(slots=True)
class _Kind:
    """The mismatches of one signature: how many, and the newest."""

    count: int
    newest: deque[Mapping[str, Any]]


@dataclass(slots=True)
class _Seam:
    """The mismatches of one seam; ``others`` counts those whose signature had to go."""

    kinds: dict[str, _Kind] = field(default_factory=dict[str, _Kind])
    others: int = 0


class Samples:
    """Keeps the ``newest`` samples of each of a seam's ``signatures``, and counts the rest.

    Where there are more signatures, the one not met for longest goes, so that a new kind is always seen. Samples are
    JSON objects and not looked into: bound them before (a ``Verdict`` is).
    """

    def __init__(self, *, newest: int = _MOST_SAMPLES, signatures: int = _MOST_SIGNATURES) -> None:
        if newest < 1 or signatures < 1:
            raise ValueError("keep one sample of one signature at least")
        self._newest = newest
        self._signatures = signatures
        self._seams: dict[str, _Seam] = {}

    def add(self, seam: str, signature: str, sample: Mapping[str, Any]) -> None:
        """Count a mismatch and keep its sample."""
        held = self._seams.setdefault(seam, _Seam())
        kind = held.kinds.pop(signature, None) or _Kind(0, deque(maxlen=self._newest))
        kind.count += 1
        kind.newest.append(sample)
        held.kinds[signature] = kind  # last: met just now
        self._trim(held)

    def counts(self, seam: str) -> dict[str, int]:
        """How many mismatches each signature has that is kept, the one met last at the end."""
        return {signature: kind.count for signature, kind in self._of(seam).kinds.items()}

    def others(self, seam: str) -> int:
        """How many mismatches had a signature that is kept no more."""
        return self._of(seam).others

    def newest(self, seam: str, signature: str) -> list[Mapping[str, Any]]:
        """The samples of a signature, the newest last."""
        kind = self._of(seam).kinds.get(signature)
        return list(kind.newest) if kind else []

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, orders included."""
        return {
            seam: {
                "others": held.others,
                "signatures": [
                    {"signature": signature, "count": kind.count, "samples": list(kind.newest)}
                    for signature, kind in held.kinds.items()
                ],
            }
            for seam, held in self._seams.items()
        }

    @classmethod
    def from_json(cls, data: object, *, newest: int = _MOST_SAMPLES, signatures: int = _MOST_SIGNATURES) -> Samples:
        """Read a checkpoint, trimmed to these bounds. Raises ``MalformedEventError`` (reason ``payload``)."""
        samples = cls(newest=newest, signatures=signatures)
        try:
            for seam, held in cast("dict[str, Any]", data).items():
                kinds = {
                    str(kind["signature"]): _Kind(int(kind["count"]), deque(kind["samples"], maxlen=newest))
                    for kind in held["signatures"]
                }
                samples._seams[seam] = _Seam(kinds, int(held["others"]))
                samples._trim(samples._seams[seam])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedEventError(f"these are no samples: {error!r}", reason="payload") from error
        return samples

    def _of(self, seam: str) -> _Seam:
        return self._seams.get(seam) or _Seam()

    def _trim(self, held: _Seam) -> None:
        while len(held.kinds) > self._signatures:
            held.others += held.kinds.pop(next(iter(held.kinds))).count
