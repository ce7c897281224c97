"""Who does what on a broker of one's own: the roles of an installation, for the permissions of its users.

Each role has what its processes were seen to need, and nothing for the case of need. A process that is two things at
once takes the user of the stronger one. Only the controller makes streams and buckets, so it comes first
(``crossfade bus prepare``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crossfade.adapters.nats.permissions import Role
from crossfade.adapters.triggers.intake import BUCKET as TRIGGERS
from crossfade.migrations.applied import BUCKET as MIGRATIONS
from crossfade.migrations.gathering import BUCKET as EVIDENCE
from crossfade.migrations.histories import BUCKET as HITS
from crossfade.migrations.lease import BUCKET as LEASES
from crossfade.migrations.replays import BUCKET as REPLAYS
from crossfade.proxy.control.revocations import BUCKET as REVOKED
from crossfade.shim.answers import BUCKET as ANSWERS
from crossfade.shim.coverage import BUCKET as COVERAGE
from crossfade.shim.instances import BUCKET as INSTANCES
from crossfade.shim.policies import POLICIES, SEAMS
from crossfade.shim.redriving import BUCKET as REDRIVEN
from crossfade.workflows import naming
from crossfade.workflows.store import EARLY, ENDED, LIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.shim.subjects import Subjects

_REPORTED: Final = (SEAMS, INSTANCES, COVERAGE, ANSWERS)  # what every connected process writes
_DECIDED: Final = (POLICIES, EVIDENCE, HITS, LEASES, MIGRATIONS, REDRIVEN, REPLAYS, REVOKED)
_WORKFLOWS: Final = (LIVE, ENDED, EARLY)
BUCKETS: Final = (*_DECIDED, *_REPORTED, *_WORKFLOWS, TRIGGERS)
"""Every state bucket, but for those of file triggers, which are named after them."""

_READ: Final = ("", "log", "o", "v", "ui", "e", "dlq")


def file_buckets(triggers: Sequence[str]) -> list[str]:
    """The buckets of the file triggers of these names."""
    return [f"files_{name}" for name in triggers]


def roles(subjects: Subjects, *, files: Sequence[str] = ()) -> dict[str, Role]:
    """Every role of an installation, by name; ``files`` names its file triggers."""
    buckets = (*BUCKETS, *file_buckets(files))
    calls = [subjects.call_filter(kind) for kind in ("invoke", "own", "result")]
    facts, shown, dead = f"{subjects.prefix}e.*.*.*", f"{subjects.prefix}ui.>", f"{subjects.prefix}dlq.>"
    answers = naming.any_of(naming.answers(subjects), subjects)
    moves = [naming.any_of(subjects.fact(kind), subjects) for kind in ("seam.stage.changed", "seam.unblocked")]
    caller = Role(
        name="caller",
        purpose="Applications at every stage, and `crossfade proxy`",
        publishes=[*calls, subjects.observations(), shown, facts, subjects.reply("cancel")],
        withheld=[*moves, answers],
        hears=[subjects.replies],
        looks=[""],
        reads=["ui"],
        sees=[POLICIES, *_WORKFLOWS],  # who answers an approval looks it up
        keeps=_REPORTED,
        gets=True,
        puts=True,
    )
    worker = replace(
        caller,
        name="worker",
        purpose="`crossfade worker`",
        publishes=[*caller.publishes, subjects.replies, subjects.verdicts(), dead],
        takes=["", "o"],
        reaps=True,
    )
    engine = replace(
        caller,
        name="engine",
        purpose="`crossfade workflow run`",
        publishes=[*caller.publishes, dead],
        takes=["", "e"],
        keeps=[*caller.keeps, *_WORKFLOWS],
    )
    trigger = replace(
        caller,
        name="trigger",
        purpose="`crossfade trigger`",
        publishes=[*caller.publishes, dead],
        takes=["e"],
        keeps=[*caller.keeps, TRIGGERS, *file_buckets(files)],
    )
    controller = Role(
        name="controller",
        purpose="`crossfade control` and an operator's commands; makes the streams and buckets",
        publishes=[*calls, subjects.verdicts(), shown, facts, dead, subjects.reply("cancel")],
        reads=_READ,
        keeps=[*_DECIDED, *_REPORTED],
        sees=[*_WORKFLOWS, TRIGGERS, *file_buckets(files)],
        gets=True,
        puts=True,
        prepares=True,
    )
    viewer = Role(
        name="viewer",
        purpose="Who only looks: `crossfade traces`, `events tail`, `stage list`, `migrate status`, `doctor`",
        reads=_READ,
        sees=buckets,
        gets=True,
    )
    return {role.name: role for role in (caller, worker, engine, trigger, controller, viewer)}
