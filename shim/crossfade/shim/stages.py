"""The stages of a seam, as one table.

Rule 1: everything that says what a stage does, and which moves are allowed, lives in this file; routing, the
command line, the docs and the tests read it.
Rule 2: forward goes one stage at a time, unless forced by a person; back goes to any earlier stage at once.
Rule 3: ``retired`` is one-way, because the legacy code may be gone; leaving it takes force.
Rule 4: an unknown stage is never a promotion: it is refused when set and ignored when read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from .errors import StageChangeRefusedError, UnknownStageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stage(StrEnum):
    """Where a seam stands, in order."""

    LEGACY = "legacy"
    OBSERVE = "observe"
    SHADOW = "shadow"
    CANARY = "canary"
    BUS = "bus"
    RETIRED = "retired"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRow:
    """What one stage means.

    ``answers``: who answers the caller. ``observes``: legacy calls leave an observation. ``commands``: calls
    may travel as commands.
    """

    answers: Literal["legacy", "split", "bus"]
    observes: bool
    commands: bool
    on_the_bus: str
    way_back: str


TABLE: Final[Mapping[Stage, StageRow]] = MappingProxyType(
    {
        Stage.LEGACY: StageRow(
            answers="legacy",
            observes=False,
            commands=False,
            on_the_bus="nothing; about one branch of overhead",
            way_back="-",
        ),
        Stage.OBSERVE: StageRow(
            answers="legacy",
            observes=True,
            commands=False,
            on_the_bus="observations, fail-open, bounded",
            way_back="instant",
        ),
        Stage.SHADOW: StageRow(
            answers="legacy",
            observes=True,
            commands=False,
            on_the_bus="observations flagged for comparison (sampled)",
            way_back="instant",
        ),
        Stage.CANARY: StageRow(
            answers="split",
            observes=True,
            commands=True,
            on_the_bus="commands and observations",
            way_back="instant; runs in flight finish where they began",
        ),
        Stage.BUS: StageRow(
            answers="bus",
            observes=False,
            commands=True,
            on_the_bus="commands",
            way_back="instant while the legacy code exists",
        ),
        Stage.RETIRED: StageRow(
            answers="bus",
            observes=False,
            commands=True,
            on_the_bus="commands; a legacy hit is an error event",
            way_back="one-way",
        ),
    }
)

ORDER: Final = tuple(Stage)


def parse_stage(text: str) -> Stage:
    """The stage called ``text``; ``UnknownStageError`` naming all of them otherwise."""
    try:
        return Stage(text)
    except ValueError:
        raise UnknownStageError(f"{text!r} is no stage: use one of {', '.join(ORDER)}") from None


def check_move(current: Stage, target: Stage, *, force: bool = False) -> None:
    """Raise ``StageChangeRefusedError``, saying what to do instead, when the table forbids this move."""
    if force or target == current:
        return
    if current is Stage.RETIRED:
        raise StageChangeRefusedError("retired is one-way: --force, if the legacy code still exists")
    here, there = ORDER.index(current), ORDER.index(target)
    if there > here + 1:
        raise StageChangeRefusedError(
            f"{current} to {target} skips {', '.join(ORDER[here + 1 : there])}: "
            f"go to {ORDER[here + 1]} first, or say --force"
        )
