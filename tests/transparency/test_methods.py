"""Methods: what they are bound to never crosses, and whatever way they are called, the record is of the arguments."""

# ruff: noqa: PLW0108 - the class does not exist yet where the lambdas stand

from __future__ import annotations

import json

import pytest

from crossfade.shim import SeamDefinitionError, tool
from crossfade.shim.seam import registry
from crossfade.shim.services import services
from integration.shim import kit
from transparency import kinds


@pytest.fixture
def shop(monkeypatch):
    """A class declared for one test."""
    monkeypatch.setattr(registry, "_seams", {})

    class Shop:
        @tool("shop.open", effects="none", fallback="raise", timeout=10, bind=lambda: Shop())
        def open(self, day: str) -> str:
            return f"{type(self).__name__} {day}"

        @classmethod
        @tool("shop.branch", effects="none", fallback="raise", timeout=10)
        def branch(cls, city: str) -> str:
            return f"{cls.__name__} {city}"

        @property
        @tool("shop.size", effects="none", fallback="raise", timeout=10, bind=lambda: Shop())
        def size(self) -> int:
            return 3

    return Shop


NAMES = ("shop.open", "shop.branch", "shop.size")


def at(on_bus, stage):
    """``on_bus`` without its forgetting the seams that the class has just declared."""
    seams = dict(registry._seams)

    def start():
        registry._seams.update(seams)
        return on_bus(stage=stage, names=NAMES)

    return start


@pytest.mark.parametrize("stage", ["observe", "shadow"])
def test_however_it_is_called_its_arguments_are_observed(on_bus, shop, stage):
    """Bound, through the class, by a property, and as a classmethod of Python 3.13 calls what stands inside it."""
    connection = at(on_bus, stage)()
    shop().open("Monday")
    shop.open(shop(), "Tuesday")
    shop.branch("Bern")
    shop.__dict__["branch"].__func__(shop, "Thun")
    assert shop().size == 3
    seen = [json.loads(event.data) for event in kit.observed(connection, 5)]
    assert [one["arguments"] for one in seen] == [
        {"day": "Monday"},
        {"day": "Tuesday"},
        {"city": "Bern"},
        {"city": "Thun"},
        {},
    ]


def test_a_call_on_a_subclass_is_neither_compared_nor_sent(on_bus, shop, counts):
    """A worker knows the class in which a classmethod was written, and would answer for that one."""

    class Heir(shop): ...

    connection = at(on_bus, "shadow")()
    assert Heir.branch("Bern") == "Heir Bern"
    assert shop.branch("Bern") == "Shop Bern"
    kit.observed(connection, 2)
    assert [event.get("seam") for event in kit.read(connection, "{p}o.*.*.shadow")] == ["shop.branch"]
    assert counts.get("skipped", seam="shop.branch", reason="heir") == 1


def test_a_method_nothing_can_be_bound_to_leaves_the_others_served(monkeypatch, counts):
    """It is counted and left out; named alone it is refused, saying what to do."""
    seams = [kinds.plain.__crossfade_seam__, kinds.Abstract.__dict__["method"].__crossfade_seam__]
    monkeypatch.setattr(registry, "_seams", {seam.name: seam for seam in seams})
    monkeypatch.setattr(registry, "_handlers", {})
    assert [service.name for service in services(registry)] == ["kinds.plain"]
    assert counts.get("skipped", seam="kinds.abstract", reason="method") == 1
    with pytest.raises(SeamDefinitionError, match="bind="):
        services(registry, {"kinds.abstract"})
