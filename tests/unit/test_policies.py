"""Live policies: changed by compare-and-set, readable or refused by name, and never a silent promotion."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.memory import MemoryBus
from crossfade.shim.errors import ConfigurationError, StageChangeRefusedError, UnknownSeamError, WrongRevisionError
from crossfade.shim.hooks import Counters
from crossfade.shim.policies import LivePolicy, Policies, check_effects, read_live
from crossfade.shim.policy import Policy
from crossfade.shim.ports import BusSettings
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
async def bus():
    bus = MemoryBus(BusSettings(prefix="cf"), Counters())
    await bus.open()
    yield bus
    await bus.close()


@pytest.fixture
def policies(bus):
    return Policies(bus, Subjects("cf"))


def seam(name="web.search", **policy):
    def search(q: str) -> str:
        return q

    return Seam(name, search, domain="tool", policy=Policy(**{"effects": "none", **policy}), secret=frozenset())


async def facts(bus):
    return [stored.event async for stored in bus.read("cfe.>")]


# -- reading ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=50) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_value_is_read_or_refused(value):
    """Whatever lies in the bucket, one named error."""
    try:
        assert isinstance(read_live("web.search", value, 1), LivePolicy)
    except ConfigurationError as error:
        assert "web.search" in str(error)  # noqa: PT017 - or no error


def test_nesting_without_end_is_refused():
    """Also what Python's own parser gives up on."""
    with pytest.raises(ConfigurationError):
        read_live("web.search", b'{"policy": ' + b"[" * 100_000, 1)


def test_live_settings_win_and_the_rest_stays():
    """Over code and file; the revision is the bucket's."""
    live = read_live("web.search", b'{"policy": {"stage": "observe"}}', 7)
    assert live.over(Policy(effects="none", timeout=3)) == Policy(
        stage=Stage.OBSERVE, effects="none", timeout=3, revision=7
    )


# -- changing --------------------------------------------------------------------------------------------------------


async def test_a_stage_is_set_and_told(bus, policies):
    """Who, why, from where to where; the revision grows."""
    await policies.announce(seam())
    first = await policies.set_stage("web.search", Stage.OBSERVE, actor="ann", reason="try it")
    second = await policies.set_stage("web.search", Stage.LEGACY, actor="bob", reason="enough")
    assert (first.was, first.now, second.was, second.now) == ("legacy", "observe", "observe", "legacy")
    assert second.revision > first.revision
    live = (await policies.live())["web.search"]
    assert (live.settings["stage"], live.actor, live.reason) == ("legacy", "bob", "enough")
    told = [json.loads(event.data) for event in await facts(bus) if event.type == "seam.stage.changed"]
    assert [(fact["from"], fact["to"], fact["actor"]) for fact in told] == [
        ("legacy", "observe", "ann"),
        ("observe", "legacy", "bob"),
    ]


async def test_an_undeclared_seam_is_refused_with_those_declared(policies):
    """A typing error sets nothing."""
    with pytest.raises(UnknownSeamError, match="none yet"):
        await policies.set_stage("web.serach", Stage.OBSERVE, actor="ann")
    await policies.announce(seam())
    with pytest.raises(UnknownSeamError, match=r"web\.search"):
        await policies.set_stage("web.serach", Stage.OBSERVE, actor="ann")
    assert await policies.live() == {}


async def test_the_stage_table_is_asked(policies):
    """Skipping needs force."""
    await policies.announce(seam())
    with pytest.raises(StageChangeRefusedError, match="force"):
        await policies.set_stage("web.search", Stage.BUS, actor="ann")
    assert (await policies.set_stage("web.search", Stage.BUS, actor="ann", force=True)).now == "bus"


async def test_a_lost_race_is_decided_anew(bus, policies):
    """Compare-and-set: the second look sees what the other one did."""
    await policies.announce(seam())
    await policies.set_stage("web.search", Stage.OBSERVE, actor="ann")
    bus.broker.fail_next("update", WrongRevisionError("web.search", actual=9))
    assert (await policies.set_stage("web.search", Stage.LEGACY, actor="bob")).now == "legacy"


async def test_many_changes_at_once_all_happen_or_are_refused(policies):
    """Nobody's change is overwritten unseen."""
    await policies.announce(seam())
    both = [Stage.OBSERVE, Stage.LEGACY] * 5
    done = await asyncio.gather(
        *(policies.set_stage("web.search", stage, actor=str(n)) for n, stage in enumerate(both)),
        return_exceptions=True,
    )
    changes = sorted((change for change in done if not isinstance(change, Exception)), key=lambda c: c.revision)
    assert all(isinstance(change, StageChangeRefusedError) for change in done if change not in changes)
    assert len({change.revision for change in changes}) == len(changes)
    assert all(earlier.now == later.was for earlier, later in itertools.pairwise(changes))


async def test_a_seam_is_announced_once(bus, policies):
    """A thousand processes that start do not write a thousand times."""
    await policies.announce(seam())
    before = await bus.state("seams").get("web.search")
    await policies.announce(seam())
    assert (await bus.state("seams").get("web.search")).revision == before.revision
    declared = (await policies.declared())["web.search"]
    assert (declared.domain, declared.effects, declared.stage) == ("tool", "none", "legacy")


@pytest.mark.parametrize("target", [Stage.CANARY, Stage.BUS, Stage.RETIRED])
def test_an_unsafe_seam_does_not_travel(target):
    """Nothing yet promises that it starts once."""
    with pytest.raises(StageChangeRefusedError, match="effects"):
        check_effects("web.search", target, "unsafe")
    for harmless in ("none", "idempotent"):
        check_effects("web.search", target, harmless)
    check_effects("web.search", Stage.OBSERVE, "unsafe")
