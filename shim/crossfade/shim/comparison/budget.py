"""How much one comparison may cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_CLOCK_EVERY: Final = 256  # nodes between two looks at the clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The bounds of one comparison; past them it stops. Validated when built: ``ConfigurationError``.

    Attributes:
        nodes: Pairs of values looked at. Default 100,000. Danger: large answers are never judged when too small.
        seconds: Time, looked at every 256 nodes. Default 0.5. Danger: comparing blocks its thread this long.
        clock: Monotonic seconds.
    """

    nodes: int = 100_000
    seconds: float = 0.5
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ConfigurationError(f"{self.nodes!r} is no number of nodes: use 1 or more", where="budget.nodes")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigurationError(f"{self.seconds!r} is no time: use seconds above 0", where="budget.seconds")


class ExhaustedError(Exception):
    """The budget is spent; never leaves the comparison."""


class Meter:
    """Spends one budget. What it allows is a prefix of what any larger budget allows, so decisions only grow."""

    def __init__(self, budget: Budget) -> None:
        self._spent = 0
        self._nodes = budget.nodes
        self._clock = budget.clock
        self._until = budget.clock() + budget.seconds

    def spend(self, nodes: int = 1) -> None:
        """Pay for one pair of values, or for what costs as much as ``nodes``. Raises ``ExhaustedError``."""
        before = self._spent
        self._spent += nodes
        is_due = self._spent // _CLOCK_EVERY != before // _CLOCK_EVERY
        if self._spent > self._nodes or (is_due and self._clock() > self._until):
            raise ExhaustedError

    def foresee(self, nodes: int) -> None:
        """Refuse work whose preparation alone would be too long: ``nodes`` more are not left."""
        if self._spent + nodes > self._nodes:
            raise ExhaustedError
