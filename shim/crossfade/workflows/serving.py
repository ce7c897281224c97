"""Which versions of which workflows the live engines have, and so which instances wait for one that none has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.instances import Instances

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from crossfade.shim.instances import Instance as Process
    from crossfade.shim.ports import Bus

    from .instance import Instance

ROLE: Final = "workflows"
"""What the process of ``crossfade workflow run`` reports itself as; a worker may run workflows, too."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What engines serve: versions by workflow. ``unsure``: one of them is too old to have said what it serves."""

    versions: Mapping[str, Collection[int]]
    unsure: bool = False

    def lacks(self, instance: Instance) -> bool:
        """Whether ``instance`` goes on only when somebody runs its version."""
        has = self.versions.get(instance.workflow, ())
        return not (instance.ended or self.unsure or instance.version in has)


def is_engine(process: Process) -> bool:
    """Whether it runs workflows; one that is too old to say which has the role all the same."""
    return process.role == ROLE or bool(process.workflows)


async def serving(bus: Bus) -> Serving:
    """What the processes that have reported within ten seconds serve. Raises ``BusError``."""
    engines = [found for found in await Instances(bus).live() if is_engine(found)]
    versions: dict[str, set[int]] = {}
    for engine in engines:
        for name, served in engine.workflows.items():
            versions.setdefault(name, set()).update(served)
    return Serving(versions, unsure=any(not engine.workflows for engine in engines))
