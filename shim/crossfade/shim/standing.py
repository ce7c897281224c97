"""Where every seam stands: what was declared, the policy in force, who set it, and who follows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .instances import Instance
    from .policies import Declared, LivePolicy, Policies
    from .policy import Policy
    from .ports import Bus


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One seam. ``policy`` is in force; ``live`` is what the bus says of it, ``None`` when nobody has changed it.

    ``instances`` are the live processes that declare it; ``lagging`` names those that have not applied the policy yet.
    """

    declared: Declared
    policy: Policy
    live: LivePolicy | None
    instances: Sequence[Instance]
    lagging: Sequence[str]

    @property
    def seam(self) -> str:
        """Its name."""
        return self.declared.seam

    @property
    def workers(self) -> int:
        """How many processes serve it."""
        return sum(instance.role == "worker" for instance in self.instances)

    @property
    def broken(self) -> Sequence[str]:
        """The processes that do not ask the bus for it now, because it failed them."""
        return [each.instance for each in self.instances if self.seam in each.breakers]

    @property
    def legacy_hits(self) -> dict[str, int]:
        """Calls of live processes that the legacy body served although commands were the rule, by build."""
        counted: Counter[str] = Counter()
        for each in self.instances:
            counted[each.build] += each.legacy_hits.get(self.seam, 0)
        return dict(sorted(counted.items()))


async def standings(policies: Policies, bus: Bus) -> list[Standing]:
    """Every declared seam, by name. Raises ``BusError``."""
    declared = await policies.declared()
    live = await policies.live()
    instances = await policies.instances.live()
    now = bus.now()
    return [standing(seam, live.get(name), instances, now=now) for name, seam in sorted(declared.items())]


def standing(declared: Declared, live: LivePolicy | None, instances: Sequence[Instance], *, now: datetime) -> Standing:
    """Where one seam stands. Pure."""
    policy = live.over(declared.policy, now=now) if live else declared.policy
    having = [instance for instance in instances if declared.seam in instance.seams]
    lagging = [instance.instance for instance in having if instance.seams[declared.seam] < policy.revision]
    return Standing(declared=declared, policy=policy, live=live, instances=having, lagging=lagging)
