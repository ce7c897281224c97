"""What arrived is what was sent, or it is told apart: by type, by what ``==`` passes over, all the way in."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, PrivateAttr

from crossfade.shim.fidelity import is_same


class Level(IntEnum):
    LOW = 1


class Other(Enum):
    LOW = 1


@dataclass(eq=False)
class Thing:
    inside: Any
    hidden: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def heavy(self):
        return object()


@dataclass(slots=True)
class Slotted:
    inside: Any
    late: Any = field(init=False)


class Model(BaseModel):
    inside: Any = 1
    _private: Any = PrivateAttr(default=None)

    @cached_property
    def heavy(self):
        return object()


class Incomparable:
    def __eq__(self, other):
        raise ValueError("ambiguous")

    __hash__ = None


def having(value, **attributes):
    for name, held in attributes.items():
        setattr(value, name, held)
    return value


MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("arrived", "sent"),
    [
        (1, True),
        (1, 1.0),
        ("good", Level.LOW),
        (1, Level.LOW),
        (Other.LOW, Level.LOW),
        ([1], (1,)),
        ([1, [True]], [1, [1]]),
        ({1}, {True}),
        ({1}, {1, 2}),
        ({1, 2}, {1}),
        (frozenset({1}), {1}),
        ({1: "a"}, {True: "a"}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        (defaultdict(int), defaultdict(list)),
        (deque([1]), deque([1], maxlen=2)),
        ([1], [1, 2]),
        (float("nan"), 1.0),
        (Thing(1), Thing(True)),
        (Thing(1, hidden=[2]), Thing(1, hidden=(2,))),
        (Thing(1), having(Thing(1), more=2)),
        (Slotted(1), having(Slotted(1), late=2)),
        (Model(inside=1), Model(inside=True)),
        (Model(), having(Model(), _private=1)),
        (MOMENT, MOMENT.astimezone(timezone(timedelta(hours=2)))),
        (MOMENT, MOMENT.replace(tzinfo=None)),
        (MOMENT.astimezone(timezone(timedelta(hours=1))), MOMENT.astimezone(ZURICH)),
        (Incomparable(), Incomparable()),
        (object(), object()),
    ],
)
def test_what_differs_is_not_the_same(arrived, sent):
    """Though ``==`` may say it is, or cannot say."""
    assert not is_same(arrived, sent)


@pytest.mark.parametrize(
    ("arrived", "sent"),
    [
        (1.0, 1),
        (float("nan"), float("nan")),
        ({"a": [float("nan")]}, {"a": [float("nan")]}),
        ({1, 2}, {2, 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Thing([1]), Thing([1])),
        (Slotted(1), Slotted(1)),
        (Model(), Model(inside=1)),
        (MOMENT, MOMENT.astimezone(ZoneInfo("UTC"))),
        (time(1, tzinfo=UTC), time(1, tzinfo=timezone(timedelta(0)))),
    ],
)
def test_what_is_the_same(arrived, sent):
    """A class need not know how to compare itself; a whole number is a float to whoever asks for one."""
    assert is_same(arrived, sent)


def test_what_a_value_has_cached_does_not_matter():
    """It is computed again where it arrived."""
    for value, again in ((Thing(1), Thing(1)), (Model(inside=1), Model(inside=1))):
        assert value.heavy is not None
        assert is_same(again, value)


def test_which_fields_were_set_matters_to_who_asks():
    """However deep the model is."""
    arrived, sent = [{"a": Thing(Model(inside=1))}], [{"a": Thing(Model())}]
    assert is_same(arrived, sent)
    assert not is_same(arrived, sent, set_fields=True)
    assert is_same(sent, [{"a": Thing(Model())}], set_fields=True)
