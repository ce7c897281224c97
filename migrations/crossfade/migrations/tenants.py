"""What failed of the new side by tenant: a regression of one is lost in everybody's average."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .statistics import fixed_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST: Final = 50
"""Tenants that are told apart, in the order in which they are seen; the rest count as one."""
OTHERS: Final = "(others)"

_CONFIDENCE: Final = 0.9


@dataclass(slots=True)
class Share:
    """Calls of one tenant of which something is known: compared, or over the bus. ``failed``: mismatch or error."""

    calls: int = 0
    failed: int = 0

    @property
    def proven(self) -> float:
        """At least so large a share failed: one of one is less than forty of a hundred."""
        return fixed_bounds(self.failed, self.calls - self.failed, confidence=_CONFIDENCE).low


@dataclass(slots=True)
class Tenants:
    """Counts by tenant, bounded."""

    shares: dict[str, Share] = field(default_factory=dict[str, Share])

    def add(self, tenant: str, *, failed: bool) -> None:
        """Count a call of ``tenant``."""
        name = tenant if tenant in self.shares or len(self.shares) < MOST else OTHERS
        share = self.shares.setdefault(name, Share())
        share.calls += 1
        share.failed += failed

    def worst(self) -> tuple[str, Share] | None:
        """Whose calls fail most, proven; ``None`` while nobody's do, or there are not two to tell apart."""
        failing = {name: share for name, share in self.shares.items() if share.failed}
        if len(self.shares) < 2 or not failing:
            return None
        name = max(failing, key=lambda name: failing[name].proven)
        return name, failing[name]

    def to_json(self) -> dict[str, Any]:
        """By tenant: calls, and how many failed."""
        return {name: [share.calls, share.failed] for name, share in sorted(self.shares.items())}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Tenants:
        """Read what ``to_json`` wrote; the order in which they were seen does not matter."""
        return cls({name: Share(*counts) for name, counts in stored.items()})
