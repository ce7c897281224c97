"""Live policies: changed by compare-and-set, readable or refused by name, and never a silent promotion."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.memory import MemoryBus
from crossfade.shim.claims import GRACE
from crossfade.shim.errors import ConfigurationError, StageChangeRefusedError, UnknownSeamError, WrongRevisionError
from crossfade.shim.hooks import Counters
from crossfade.shim.instances import Instance
from crossfade.shim.policies import DRAIN, LivePolicy, Move, Policies, check_storage, next_live, read_live
from crossfade.shim.policy import Policy
from crossfade.shim.ports import BusInfo, BusSettings
from crossfade.shim.seam import Seam
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects

NOW = datetime(2026, 11, 22, tzinfo=UTC)
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


async def announce(policies, **options):
    declared = seam(**options)
    await policies.announce(declared, declared.policy)


async def facts(bus):
    return [stored.event async for stored in bus.read("cfe.>")]


# -- reading ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=50) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_value_is_read_or_refused(value):
    """Whatever lies in the bucket, one named error."""
    try:
        assert isinstance(read_live("web.search", value), LivePolicy)
    except ConfigurationError as error:
        assert "web.search" in str(error)  # noqa: PT017 - or no error


def test_nesting_without_end_is_refused():
    """Also what Python's own parser gives up on."""
    with pytest.raises(ConfigurationError):
        read_live("web.search", b'{"policy": ' + b"[" * 100_000)


def test_live_settings_win_and_the_rest_stays():
    """Over code and file; the revision is the policy's own."""
    live = read_live("web.search", b'{"policy": {"stage": "observe"}, "revision": 7}')
    assert live.over(Policy(effects="none", timeout=3), now=NOW) == Policy(
        stage=Stage.OBSERVE, effects="none", timeout=3, revision=7
    )


# -- changing --------------------------------------------------------------------------------------------------------


async def test_a_stage_is_set_and_told(bus, policies):
    """Who, why, from where to where; the revision grows."""
    await announce(policies)
    first = await policies.set_stage("web.search", Move(target=Stage.OBSERVE, actor="ann", reason="try it"))
    second = await policies.set_stage("web.search", Move(target=Stage.LEGACY, actor="bob", reason="enough"))
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
        await policies.set_stage("web.serach", Move(target=Stage.OBSERVE, actor="ann"))
    await announce(policies)
    with pytest.raises(UnknownSeamError, match=r"web\.search"):
        await policies.set_stage("web.serach", Move(target=Stage.OBSERVE, actor="ann"))
    assert await policies.live() == {}


async def test_the_stage_table_is_asked(policies):
    """Skipping needs force."""
    await announce(policies)
    with pytest.raises(StageChangeRefusedError, match="force"):
        await policies.set_stage("web.search", Move(target=Stage.BUS, actor="ann"))
    assert (await policies.set_stage("web.search", Move(target=Stage.BUS, actor="ann", force=True))).now == "bus"


async def test_a_lost_race_is_decided_anew(bus, policies):
    """Compare-and-set: the second look sees what the other one did."""
    await announce(policies)
    await policies.set_stage("web.search", Move(target=Stage.OBSERVE, actor="ann"))
    bus.broker.fail_next("update", WrongRevisionError("web.search", actual=9))
    assert (await policies.set_stage("web.search", Move(target=Stage.LEGACY, actor="bob"))).now == "legacy"


async def test_many_changes_at_once_all_happen_or_are_refused(policies):
    """Nobody's change is overwritten unseen."""
    await announce(policies)
    both = [Stage.OBSERVE, Stage.LEGACY] * 5
    done = await asyncio.gather(
        *(policies.set_stage("web.search", Move(target=stage, actor=str(n))) for n, stage in enumerate(both)),
        return_exceptions=True,
    )
    changes = sorted((change for change in done if not isinstance(change, Exception)), key=lambda c: c.revision)
    assert all(isinstance(change, StageChangeRefusedError) for change in done if change not in changes)
    assert len({change.revision for change in changes}) == len(changes)
    assert all(earlier.now == later.was for earlier, later in itertools.pairwise(changes))


async def test_a_seam_is_announced_once(bus, policies):
    """A thousand processes that start do not write a thousand times."""
    await announce(policies)
    before = await bus.state("seams").get("web.search")
    await announce(policies)
    assert (await bus.state("seams").get("web.search")).revision == before.revision
    declared = (await policies.declared())["web.search"]
    assert (declared.domain, declared.effects, declared.stage) == ("tool", "none", "legacy")


INFO = BusInfo(scheme="x", server="x", version="1", max_event_bytes=1, synced=None, replicas=1)


@pytest.mark.parametrize("target", [Stage.CANARY, Stage.BUS, Stage.RETIRED])
def test_an_unsafe_seam_travels_over_storage_that_keeps_claims_only(target):
    """Synced to disk, three replicas, or a risk that somebody accepted by name."""
    with pytest.raises(StageChangeRefusedError, match="power cut"):
        check_storage("web.search", Policy(stage=target), INFO)
    check_storage("web.search", Policy(stage=target), replace(INFO, synced=True))
    check_storage("web.search", Policy(stage=target), replace(INFO, replicas=3))
    check_storage("web.search", Policy(stage=target, unsafe_storage=True), INFO)
    check_storage("web.search", Policy(stage=Stage.SHADOW), INFO)
    check_storage("web.search", Policy(stage=target, effects="none"), INFO)


# -- going back ------------------------------------------------------------------------------------------------------


def back(mode, *, target=Stage.LEGACY, timeout=30.0):
    live = LivePolicy(seam="web.search", settings={"stage": "bus"}, revision=4, minrev=2)
    return next_live(
        live, Policy(stage=Stage.BUS, timeout=timeout), Move(target=target, actor="ann", mode=mode), now=NOW
    )


def test_an_aborting_rollback_refuses_everything_older():
    """Workers answer commands of earlier revisions "not executed"; nobody drains."""
    after = back("abort")
    assert (after.revision, after.minrev, after.drain_until) == (5, 5, None)


def test_a_draining_rollback_lets_runs_end_on_the_bus():
    """For a while; what was sent before stays valid."""
    after = back("drain")
    assert (after.minrev, after.drain_until) == (2, NOW + DRAIN)
    assert after.over(Policy(), now=NOW).draining
    assert not after.over(Policy(), now=NOW + DRAIN).draining


@pytest.mark.parametrize("mode", ["abort", "drain"])
def test_the_ledger_is_asked_until_the_last_command_has_ended(mode):
    """A retry with an outside key on the legacy path may meet a command that is still under way."""
    after = back(mode, timeout=60)
    assert after.over(Policy(), now=NOW).claiming
    last = (after.drain_until or NOW) + timedelta(seconds=60) + GRACE
    assert not after.over(Policy(), now=last).claiming


def test_going_forward_drains_and_refuses_nothing():
    """Only a way back does."""
    live = LivePolicy(seam="web.search", settings={"stage": "canary"}, revision=1)
    after = next_live(live, Policy(stage=Stage.CANARY), Move(target=Stage.BUS, actor="ann"), now=NOW)
    assert (after.minrev, after.drain_until, after.claim_until) == (0, None, None)


async def test_an_unreadable_policy_does_not_stop_a_rollback(bus, policies):
    """What a newer version may have written: everybody else is listed, and the next move mends it."""
    await announce(policies)
    await bus.state("policy").put("web.search", b'{"policy": {"stage": "observe", "colour": 5}, "revision": 3}')
    assert "cannot be read" in (await policies.live())["web.search"].reason
    change = await policies.set_stage("web.search", Move(target=Stage.LEGACY, actor="ann"))
    assert change.now == "legacy"
    assert (await policies.live())["web.search"].settings == {"stage": "legacy"}


async def test_who_does_not_follow_is_named(bus, policies):
    """A live process that has not applied the revision in time."""
    await announce(policies)
    lost = Instance(instance="lost", role="caller", seen=bus.now(), seams={"web.search": 0})
    await policies.instances.report(lost)
    change = await policies.set_stage("web.search", Move(target=Stage.OBSERVE, actor="ann"), wait=0.1)
    assert (change.following, list(change.lagging)) == (0, ["lost"])


async def test_who_is_gone_is_not_waited_for(bus, policies):
    """Nothing heard for ten seconds."""
    await announce(policies)
    gone = Instance(instance="gone", role="caller", seen=bus.now() - timedelta(seconds=11), seams={"web.search": 0})
    await policies.instances.report(gone)
    change = await policies.set_stage("web.search", Move(target=Stage.OBSERVE, actor="ann"), wait=5)
    assert (change.following, list(change.lagging)) == (0, [])


async def test_who_has_gone_silent_is_named_apart(bus, policies):
    """Cut off or killed, nobody can tell from here: not waited for, and not forgotten."""
    await announce(policies)
    cut_off = Instance(instance="cut", role="caller", seen=bus.now() - timedelta(minutes=5), seams={"web.search": 0})
    await policies.instances.report(cut_off)
    change = await policies.set_stage("web.search", Move(target=Stage.OBSERVE, actor="ann"), wait=5)
    assert (change.following, list(change.lagging), list(change.silent)) == (0, [], ["cut"])


# -- what keeps a seam back ------------------------------------------------------------------------------------------

MUTATES = "its body changes its arguments"


async def test_what_was_seen_at_observe_blocks_the_bus(policies):
    """A body that changes its arguments would do so on a copy."""
    declared = seam()
    await policies.announce(declared, declared.policy, [MUTATES])
    for stage in (Stage.OBSERVE, Stage.SHADOW):
        await policies.set_stage("web.search", Move(target=stage, actor="ann"))
    with pytest.raises(StageChangeRefusedError, match="changes its arguments"):
        await policies.set_stage("web.search", Move(target=Stage.CANARY, actor="ann"))


async def test_a_process_that_starts_clears_nothing(policies):
    """Neither the one that saw it, restarted, nor another that never met it."""
    declared = seam()
    await policies.announce(declared, declared.policy, [MUTATES])
    await policies.announce(declared, declared.policy)
    await policies.announce(declared, declared.policy, ["another"])
    assert (await policies.declared())["web.search"].blockers == ("another", MUTATES)


async def test_a_process_that_looked_before_clears_nothing_after(bus, policies, monkeypatch):
    """Read, then another process blocks, then write: compare-and-set looks again."""
    declared = seam()
    await policies.announce(declared, declared.policy)
    get = policies._seams.get

    async def blocked_meanwhile(key):
        found = await get(key)
        monkeypatch.setattr(policies._seams, "get", get)
        await policies.announce(declared, declared.policy, [MUTATES])
        return found

    monkeypatch.setattr(policies._seams, "get", blocked_meanwhile)
    await policies.announce(declared, replace(declared.policy, timeout=3))
    found = (await policies.declared())["web.search"]
    assert (found.blockers, found.policy.timeout) == ((MUTATES,), 3)


async def test_a_person_clears_it_with_a_reason(bus, policies):
    """The seam is free until somebody sees it again; who and why is kept."""
    declared = seam()
    await policies.announce(declared, declared.policy, [MUTATES])
    assert await policies.unblock("web.search", actor="ann", reason="mended in build 7") == [MUTATES]
    assert await policies.unblock("web.search", actor="ann", reason="again") == []
    await policies.set_stage("web.search", Move(target=Stage.BUS, actor="ann", force=True))
    told = [json.loads(event.data) for event in await facts(bus) if event.type == "seam.unblocked"]
    assert told == [{"seam": "web.search", "blockers": [MUTATES], "actor": "ann", "reason": "mended in build 7"}]
    await policies.announce(declared, declared.policy, [MUTATES])
    assert (await policies.declared())["web.search"].blockers == (MUTATES,)
    with pytest.raises(UnknownSeamError):
        await policies.unblock("web.serach", actor="ann", reason="")


# -- what a move must say --------------------------------------------------------------------------------------------


async def test_canary_needs_a_share(policies):
    """At 0 % nobody would take the bus while everybody reads "canary": said, set before, or refused."""
    await announce(policies)
    canary = Move(target=Stage.CANARY, actor="ann", force=True)
    with pytest.raises(StageChangeRefusedError, match="--percent"):
        await policies.set_stage("web.search", canary)
    await policies.set_stage("web.search", replace(canary, settings={"percent": 0}))
    with pytest.raises(StageChangeRefusedError, match="--percent"):
        await policies.set_stage("web.search", canary)
    await policies.set_stage("web.search", replace(canary, settings={"percent": 5}))
    await policies.set_stage("web.search", Move(target=Stage.SHADOW, actor="ann"))
    await policies.set_stage("web.search", canary)
    assert (await policies.live())["web.search"].settings["percent"] == 5


async def test_canary_may_have_its_share_from_code(policies):
    """The file's or the decorator's percentage is a word on it, too."""
    await announce(policies, percent=10)
    change = await policies.set_stage("web.search", Move(target=Stage.CANARY, actor="ann", force=True))
    assert change.now == "canary"


async def test_no_fallback_to_a_body_that_is_not_there(bus, policies):
    """A live process calls the seam by ``remote``: its signature is no body."""
    await announce(policies)
    remote = Instance(instance="far", role="caller", seen=bus.now(), seams={"web.search": 0}, remotes=["web.search"])
    await policies.instances.report(remote)
    back = Move(target=Stage.OBSERVE, actor="ann", settings={"fallback": "legacy"})
    with pytest.raises(StageChangeRefusedError, match="far"):
        await policies.set_stage("web.search", back)
    assert await policies.live() == {}
    await policies.set_stage("web.search", replace(back, settings={"fallback": "raise"}), wait=0)
