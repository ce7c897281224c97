"""Which path a call takes: sticky, salted, a ramp that only adds, and a run that stays where it began."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.correlate import Correlation
from crossfade.shim.policy import Policy
from crossfade.shim.routing import BUCKETS, Pins, bucket, choose, in_share, sticky_key
from crossfade.shim.stages import Stage

keys = st.text(min_size=1, max_size=40)
shares = st.integers(0, BUCKETS).map(lambda n: n / 100)


@given(keys, shares, shares)
def test_a_ramp_only_ever_adds_keys(key, one, other):
    """Whoever is in at a smaller share is in at a larger one."""
    smaller, larger = sorted((one, other))
    assert not in_share("web.search", key, smaller) or in_share("web.search", key, larger)


@given(keys)
def test_nobody_at_zero_and_everybody_at_a_hundred(key):
    """Both ends are exact."""
    assert not in_share("web.search", key, 0)
    assert in_share("web.search", key, 100)


def test_a_key_keeps_its_bucket_for_ever():
    """In every process and version: these are pinned."""
    assert [bucket("web.search", key) for key in ("alice", "bob", "é")] == [4613, 4505, 6555]


def test_the_share_is_the_share():
    """10 % of 20,000 keys, within what chance allows (5 sigma: 212)."""
    chosen = sum(in_share("web.search", f"user-{n}", 10) for n in range(20_000))
    assert abs(chosen - 2000) < 212


def test_not_the_same_users_try_everything_first():
    """The seam salts the hash: of those in at one seam, one in ten is in at another."""
    both = Counter((in_share("web.search", f"u{n}", 10), in_share("mail.send", f"u{n}", 10)) for n in range(20_000))
    assert 120 < both[True, True] < 280


def test_the_key_is_the_user_then_the_session_then_the_run():
    """And without any of them there is none."""
    assert sticky_key(Correlation(run="r", user="u", session="s")) == "u"
    assert sticky_key(Correlation(run="r", session="s")) == "s"
    assert sticky_key(Correlation(run="r")) == "r"
    assert sticky_key(None) is None


def test_no_key_stays_legacy_at_any_share():
    """Chance must not decide where nobody can be kept."""
    assert choose("web.search", Policy(stage=Stage.CANARY, percent=100), None) == "legacy"


@given(st.sampled_from(list(Stage)), shares, st.none() | keys, st.sampled_from([None, "legacy", "bus"]))
def test_only_a_split_stage_or_a_drain_asks_for_the_pin(stage, percent, user, pinned):
    """At legacy, observe and shadow a pin cannot bring anybody to the bus, at bus and retired none keeps them off."""
    correlation = Correlation(run="r", user=user) if user else None
    path = choose("web.search", Policy(stage=stage, percent=percent), correlation, pinned=pinned)
    if stage in (Stage.BUS, Stage.RETIRED):
        assert path == "bus"
    elif stage is Stage.CANARY:
        assert path == (pinned or path)
    else:
        assert path == "legacy"


def test_a_drain_honours_those_who_began_on_the_bus_and_nobody_else():
    """Rolled back: a run that took the bus ends there, a new one is legacy."""
    policy = Policy(stage=Stage.LEGACY, draining=True)
    assert choose("web.search", policy, Correlation(run="r"), pinned="bus") == "bus"
    assert choose("web.search", policy, Correlation(run="r")) == "legacy"


def test_a_runs_first_path_is_kept():
    """A second pin changes nothing; an abort breaks those of its seam only."""
    pins = Pins()
    pins.pin("r", "web.search", "bus")
    pins.pin("r", "web.search", "legacy")
    pins.pin("r", "mail.send", "bus")
    pins.forget("web.search")
    assert (pins.get("r", "web.search"), pins.get("r", "mail.send")) == (None, "bus")


@given(st.dictionaries(st.sampled_from(["a.b", "c", "d_e"]), st.sampled_from(["bus", "legacy"])))
def test_pins_cross_processes_in_a_command(seams):
    """What one process wrote another adopts; what it has itself wins."""
    here, there = Pins(), Pins()
    for seam, path in seams.items():
        here.pin("r", seam, path)
    there.adopt("r", here.to_text("r"))
    assert {seam: there.get("r", seam) for seam in seams} == seams


@pytest.mark.parametrize("text", ["", "=bus", "a.b", "a.b=", "a.b=moon", ",,,", "=" * 10_000])
def test_nonsense_pins_nothing(text):
    """Bytes from the wire."""
    pins = Pins()
    pins.adopt("r", text)
    assert pins.get("r", "a.b") is None


def test_pins_are_bounded():
    """The oldest run is forgotten first."""
    pins = Pins(limit=2)
    for run in ("one", "two", "three"):
        pins.pin(run, "a.b", "bus")
    assert [pins.get(run, "a.b") for run in ("one", "two", "three")] == [None, "bus", "bus"]
