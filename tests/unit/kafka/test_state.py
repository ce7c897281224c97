"""State on a journal: of the writes on one condition the first wins, and a snapshot is the state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.kafka._state import Buckets


def write(buckets, offset, act="set", *, time=0, **more):
    operation = {"b": "policy", "k": "a", "do": act, **more}
    return buckets.apply(operation, str(offset).encode(), offset=offset, time=time)


def test_the_first_compare_and_set_wins():
    """Two updates from one revision: the second is told which one it is at now."""
    buckets = Buckets()
    assert write(buckets, 1, at=None) == (True, 1)
    assert write(buckets, 2, at=1) == (True, 2)
    assert write(buckets, 3, at=1) == (False, 2)
    assert write(buckets, 4, at=None) == (False, 2)


def test_an_expired_key_is_absent():
    """By the time in the records: it may be created, and not be updated; a write without a ttl ends the ttl."""
    buckets = Buckets()
    write(buckets, 1, at=None, ttl=1000)
    assert write(buckets, 2, at=1, time=1000) == (False, None)
    assert write(buckets, 3, at=None, time=1000) == (True, 3)
    assert buckets.all["policy"]["a"].expires is None


def test_a_stranger_changes_nothing():
    """What is no write of ours is passed over."""
    buckets = Buckets()
    assert buckets.apply({}, b"", offset=1, time=0) is None
    assert buckets.all == {}


writes = st.tuples(
    st.sampled_from(["set", "delete"]), st.sampled_from("ab"), st.sampled_from([None, "any", 1, 2, 3, 4]), st.booleans()
)


@given(st.lists(writes, max_size=20), st.integers(0, 20))
def test_a_snapshot_is_the_state(played, split):
    """Who loads a snapshot in the middle judges every later write as who saw all of them."""
    one, other = Buckets(), Buckets()
    for offset, (act, key, at, expires) in enumerate(played):
        if offset == split:
            other.load(list(one.dump()))
        more = {**({} if at == "any" else {"at": at}), **({"ttl": 3} if expires else {})}
        operation = {"b": "policy", "k": key, "do": act, **more}
        result = one.apply(operation, b"", offset=offset, time=offset)
        if offset >= split:
            assert other.apply(operation, b"", offset=offset, time=offset) == result
