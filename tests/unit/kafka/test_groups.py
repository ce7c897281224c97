"""Who was handed what: proposals in one order, and what is promised whatever the order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.kafka._groups import Groups

NAME = "cf.cmd|w"


class World:
    """A group of two members, and a clock."""

    def __init__(self, **options):
        self.groups, self.offset, self.time = Groups(), 0, 0
        self.say("join", "a", filters=["cf.>"], ack_wait=100, max_in_flight=2, max_deliver=3, start=0, **options)

    def say(self, act, member, **more):
        self.offset += 1
        operation = {"g": NAME, "m": member, "do": act, **more}
        return self.groups.apply(operation, b"", offset=self.offset, time=self.time)

    @property
    def group(self):
        return self.groups.all[NAME]


def test_the_first_proposal_wins():
    """Two members propose the same event; the second is told that it got nothing."""
    world = World()
    assert world.say("take", "a", events=[[5, 1]]) == [(5, 1)]
    assert world.say("take", "b", events=[[5, 1]]) == []


def test_new_events_are_bounded_and_redeliveries_are_not():
    """A third new event waits; what is due again is taken though the group is full."""
    world = World()
    assert world.say("take", "a", events=[[0, 1], [1, 1], [2, 1]]) == [(0, 1), (1, 1)]
    world.time = 100
    assert world.say("take", "b", events=[[0, 2], [2, 1]]) == [(0, 2)]


def test_an_old_attempt_says_nothing_any_more():
    """A word about an attempt that another has followed changes nothing."""
    world = World()
    world.say("take", "a", events=[[0, 1]])
    world.time = 100
    world.say("take", "b", events=[[0, 2]])
    assert [world.say(act, "a", at=0, attempt=1, delay=0) for act in ("ack", "retry", "extend")] == [False] * 3
    assert world.say("ack", "b", at=0, attempt=2) is True


def test_who_leaves_gives_back():
    """What a member held may be taken at once, as the next attempt; what others hold stays theirs."""
    world = World()
    world.say("take", "a", events=[[0, 1]])
    world.say("take", "b", events=[[1, 1]])
    world.say("leave", "a")
    assert world.say("take", "b", events=[[0, 2], [1, 2]]) == [(0, 2)]


def test_what_ran_out_is_for_the_reaper():
    """After the last attempt nobody may take it, and only the reaper's word ends it."""
    world = World()
    for attempt in (1, 2, 3):
        world.say("take", "a", events=[[0, attempt]])
        world.time += 100
    assert world.say("take", "b", events=[[0, 4]]) == []
    assert world.group.exhausted(world.time) == [(0, 3)]
    assert world.say("ack", "", at=0, attempt=3, reaped=True) is True
    assert world.group.exhausted(world.time) == []


def test_a_stranger_changes_nothing():
    """An operation of a later version, or of a group nobody made, is passed over."""
    world = World()
    before = list(world.groups.dump())
    assert world.say("dance", "a") is None
    assert world.groups.apply({}, b"", offset=99, time=0) is None
    assert world.groups.apply({"g": "other", "do": "take", "events": []}, b"", offset=99, time=0) is None
    assert list(world.groups.dump()) == before


acts = st.one_of(
    st.tuples(st.just("take"), st.sampled_from("ab"), st.integers(0, 6), st.integers(1, 4)),
    st.tuples(st.sampled_from(["ack", "extend", "retry"]), st.sampled_from("ab"), st.integers(0, 6), st.integers(1, 4)),
    st.tuples(st.just("leave"), st.sampled_from("ab"), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 150), st.just(0)),
)


@given(st.lists(acts, max_size=40), st.integers(0, 40))
def test_whatever_is_proposed(played, split):
    """No attempt is handed out twice, none after the event ended, new ones in order; a snapshot changes nothing."""
    world, handed, ended = World(), [], set()
    for number, (act, member, at, attempt) in enumerate(played):
        if number == split:
            dumped, world.groups = list(world.groups.dump()), Groups()
            world.groups.load(dumped)
        if act == "wait":
            world.time += at
        elif act == "take":
            taken = world.say("take", member, events=[[at, attempt]])
            assert not {offset for offset, _ in taken} & ended
            handed += taken
        elif world.say(act, member, at=at, attempt=attempt, delay=50) and act == "ack":
            ended.add(at)
    assert max(Counter(handed).values(), default=1) == 1
    firsts = [offset for offset, attempt in handed if attempt == 1]
    assert firsts == sorted(firsts)
