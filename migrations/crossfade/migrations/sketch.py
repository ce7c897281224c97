"""How long calls took, kept small: counts in buckets that grow by two percent, so that every quantile is within one.

Two sketches add up to that of both populations, so minutes add up to an hour and instances to a fleet. Source: C.
Masson, J. Rim, H. Lee, DDSketch (2019).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, log
from typing import TYPE_CHECKING, Final

from .statistics import Bounds, is_proven_above

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCURACY: Final = 0.01
"""How far a quantile is from the true one at most, as a share of it."""

_GROWTH: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GROWTH: Final = log(_GROWTH)
_SHORTEST: Final = 1e-6  # seconds; with the longest, 1,260 buckets at most
_LONGEST: Final = 86_400.0


@dataclass(slots=True)
class Sketch:
    """Durations in seconds, from a microsecond to a day; what lies outside counts as the nearest of these."""

    buckets: Counter[int] = field(default_factory=Counter[int])
    count: int = 0

    def add(self, seconds: float) -> None:
        """One more call."""
        self.buckets[ceil(log(min(max(seconds, _SHORTEST), _LONGEST)) / _LOG_GROWTH)] += 1
        self.count += 1

    def merge(self, other: Sketch) -> None:
        """Add what ``other`` holds."""
        self.buckets.update(other.buckets)
        self.count += other.count

    def quantile(self, share: float) -> float | None:
        """The time within which ``share`` (0 to 1) of the calls ended; ``None`` without any."""
        rank, seen = max(1, ceil(share * self.count)), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return _middle(bucket)
        return None

    def bounds(self, share: float, *, confidence: float) -> Bounds:
        """Between which seconds the true quantile is, whenever asked, each side with ``confidence``.

        From 0 to infinity where the calls are too few to say. A time is below the quantile when more calls than
        ``1 - share`` are proven to take longer, and above it when more than ``share`` are proven to be faster.
        """
        low, high, faster = 0.0, float("inf"), 0
        for bucket in sorted(self.buckets):
            slower = self.count - faster
            if is_proven_above(slower, faster, share=1 - share, confidence=confidence):
                low = _middle(bucket) * (1 - ACCURACY)
            faster += self.buckets[bucket]
            if is_proven_above(faster, self.count - faster, share=share, confidence=confidence):
                high = _middle(bucket) * (1 + ACCURACY)
                break
        return Bounds(low, high)

    def to_json(self) -> dict[str, int]:
        """Its counts by bucket."""
        return {str(bucket): count for bucket, count in sorted(self.buckets.items())}

    @classmethod
    def from_json(cls, stored: Mapping[str, int]) -> Sketch:
        """Read what ``to_json`` wrote. Raises ``ValueError`` for anything else."""
        buckets = Counter({int(bucket): int(count) for bucket, count in stored.items()})
        if any(count < 0 for count in buckets.values()):
            raise ValueError("a sketch holds no negative counts")
        return cls(buckets, buckets.total())


def _middle(bucket: int) -> float:
    return 2 * _GROWTH**bucket / (_GROWTH + 1)
