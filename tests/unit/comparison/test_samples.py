from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.comparison import Samples
from crossfade.shim.errors import MalformedEventError


def filled(mismatches, **bounds):
    samples = Samples(**bounds)
    for n, (seam, signature) in enumerate(mismatches):
        samples.add(seam, signature, {"n": n})
    return samples


def test_the_newest_samples_of_a_signature_are_kept():
    """Five unless said otherwise, the newest last; all are counted, each seam for itself."""
    samples = filled([("web.search", "a")] * 7 + [("web.fetch", "a")])

    assert [sample["n"] for sample in samples.newest("web.search", "a")] == [2, 3, 4, 5, 6]
    assert samples.counts("web.search") == {"a": 7}
    assert samples.counts("web.fetch") == {"a": 1}
    assert [sample["n"] for sample in filled([("s", "a")] * 3, newest=1).newest("s", "a")] == [2]


def test_the_signature_not_met_for_longest_goes():
    """A new kind of mismatch is always seen; what went is a number."""
    samples = filled([("s", "a"), ("s", "b"), ("s", "b"), ("s", "a"), ("s", "c")], signatures=2)

    assert samples.counts("s") == {"a": 2, "c": 1}
    assert samples.others("s") == 2
    assert samples.newest("s", "b") == []


def test_a_seam_nobody_has_met_has_none():
    """Asking changes nothing."""
    samples = Samples()

    assert (samples.counts("x"), samples.others("x"), samples.newest("x", "a")) == ({}, 0, [])
    assert samples.to_json() == {}


names = st.sampled_from(["s", "t"]), st.sampled_from(["a", "b", "c", "d"])


@given(st.lists(st.tuples(*names), max_size=30), st.lists(st.tuples(*names), max_size=10))
def test_a_checkpoint_goes_on_as_if_nothing_had_been(before, after):
    """Nothing is counted twice or forgotten by a restart, and nothing grows beyond its bounds."""
    bounds = {"newest": 2, "signatures": 3}
    straight = filled([*before, *after], **bounds)
    resumed = Samples.from_json(json.loads(json.dumps(filled(before, **bounds).to_json())), **bounds)
    for n, (seam, signature) in enumerate(after, start=len(before)):
        resumed.add(seam, signature, {"n": n})

    assert json.dumps(resumed.to_json()) == json.dumps(straight.to_json())
    for seam in "st":
        counts = straight.counts(seam)
        assert sum(counts.values()) + straight.others(seam) == sum(each[0] == seam for each in [*before, *after])
        assert len(counts) <= 3
        assert all(1 <= len(straight.newest(seam, signature)) <= 2 for signature in counts)


def test_smaller_bounds_hold_from_the_next_checkpoint_on():
    """What is too much then is counted, the newest stay."""
    read = Samples.from_json(filled([("s", "a")] * 3 + [("s", "b")] * 3).to_json(), newest=1, signatures=1)

    assert (read.counts("s"), read.others("s"), read.newest("s", "b")) == ({"b": 3}, 3, [{"n": 5}])


@pytest.mark.parametrize("data", [None, [], {"s": 1}, {"s": {}}, {"s": {"others": 0, "signatures": [{}]}}])
def test_what_is_no_checkpoint_is_refused(data):
    """A named error, not a guess."""
    with pytest.raises(MalformedEventError) as caught:
        Samples.from_json(data)

    assert caught.value.reason == "payload"


@pytest.mark.parametrize("bounds", [{"newest": 0}, {"signatures": 0}])
def test_bounds_that_keep_nothing_are_refused(bounds):
    """Whoever asks for it means something else."""
    with pytest.raises(ValueError, match="keep one sample"):
        Samples(**bounds)
