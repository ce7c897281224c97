"""What differs by nature is told from what the new side does, by pairs and bounds, never from a handful of calls."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.migrations.noise import MARGIN, fold_path, study
from crossfade.migrations.suggestions import suggest
from crossfade.shim.errors import ConfigurationError, MalformedEventError

small = st.integers(0, 60)


def compared(callid, *paths, source="shadow", **more):
    """A ``seam.compared`` in which these paths differ."""
    differences = [{"path": path, "kind": "changed", "legacy": '"a"', "bus": '"b"'} for path in paths]
    verdict = {"verdict": "mismatch", "differences": differences} if paths else {"verdict": "match"}
    by = {"handler": "self"} if source == "noise" else {"handler": "new:search"}
    return {"callid": callid, "source": source, **by, **verdict, **more}


def pairs(both=0, raw=0, noise=0, neither=0, path="$.id"):
    """So many calls that differ at ``path`` in A/B and A/A, in one of them, in neither."""
    found = []
    for n, count in enumerate((both, raw, noise, neither)):
        for at in range(count):
            callid = f"{n}-{at}"
            found.append(compared(callid, *([path] if n in (0, 1) else [])))
            found.append(compared(callid, *([path] if n in (0, 2) else []), source="noise"))
    return found


def state(**counts):
    [place] = study(pairs(**counts)).places
    return place.state


def test_one_call_says_nothing():
    """Where others would flag a place that differs in one A/B of one, it is unclear, and no rule is suggested."""
    found = study(pairs(raw=1))
    assert [place.state for place in found.places] == ["unclear"]
    assert suggest(found) == ()


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({"raw": 5}, "unclear"),
        ({"raw": 6}, "difference"),
        ({"raw": 20, "neither": 400}, "difference"),
        ({"both": 20}, "unclear"),
        ({"both": 4, "neither": 400}, "unclear"),
        ({"both": 30}, "noise"),
        ({"both": 40, "raw": 40}, "difference"),
        ({"both": 200, "raw": 30, "noise": 30, "neither": 200}, "noise"),
        ({"raw": 3, "noise": 3, "neither": 4}, "unclear"),
        ({"noise": 60}, "noise"),
    ],
)
def test_it_takes_proof_to_be_noise_and_to_be_a_difference(counts, wanted):
    """As often in A/A as in A/B is noise, in A/B alone a difference; few calls prove neither."""
    assert state(**counts) == wanted


@settings(max_examples=25)
@given(small, small, small, small)
def test_no_rule_without_calls_and_a_bound(both, raw, noise, neither):
    """Whatever was counted, a rule is suggested only for what is bounded by the margin; never what is a difference."""
    found = study(pairs(both, raw, noise, neither))
    for suggestion in suggest(found):
        assert suggestion.place.n >= 20
        assert len(suggestion.place.noise) >= 5
        assert suggestion.place.excess.high <= MARGIN
        assert suggestion.place.state == "noise"
    assert not any(place.state == "noise" for place in found.places if not place.noise)


def test_a_handful_of_calls_suggests_nothing():
    """Legacy differs from itself in all of five calls, and the other side once: too few to say what is noise."""
    assert suggest(study(pairs(both=1, raw=0, noise=4, neither=0))) == ()


@settings(max_examples=25)
@given(small, small, small)
def test_more_of_it_in_the_handler_alone_never_makes_it_noise(both, raw, neither):
    """A place that is a difference stays one with more calls that differ in A/B only."""
    if raw and state(both=both, raw=raw, neither=neither) == "difference":
        assert state(both=both, raw=raw + 1, neither=neither) == "difference"


def test_calls_without_a_pair_are_not_counted():
    """A call that was compared once, one that was skipped, a replay: none of them is a pair."""
    found = study(
        [
            *pairs(both=2),
            compared("once", "$.id"),
            compared("alone", "$.id", source="noise"),
            compared("skipped", source="shadow") | {"verdict": "skipped"},
            compared("skipped", "$.id", source="noise"),
            compared("0-0", "$.other", replay=True),
        ]
    )
    assert (found.n, found.undecided, found.sides) == (2, 2, {"self": 2})
    assert [place.path for place in found.places] == ["$.id"]


def test_list_positions_are_one_place():
    """Each call counts once however many items of it differ."""
    found = study(
        [
            compared("a", "$.hits[0].id", "$.hits[3].id"),
            compared("a", "$.hits[1].id", source="noise"),
        ]
    )
    [place] = found.places
    assert (place.path, place.both, len(place.raw[0])) == ("$.hits[*].id", 1, 2)


@pytest.mark.parametrize(
    ("path", "folded"),
    [("$", "$"), ("$[2]", "$[*]"), ('$["a b"][0].c', '$["a b"][*].c'), ("$error.args[0]", "$error.args[*]")],
)
def test_a_folded_path_is_a_rules_path(path, folded):
    """And folding it again changes nothing, but for what no longer is a position."""
    assert fold_path(path) == folded


def test_what_is_too_deep_to_be_named_is_counted():
    """A shortened path is nobody's."""
    with pytest.raises(ConfigurationError, match="shortened"):
        fold_path("$.a…[0]")
    assert study([compared("a", "$.a…[0]"), compared("a", source="noise")]).unplaced == 1


def test_repeats_add_up():
    """Two variances, each of its own."""
    counts = {"runs": 3, "matched": 2, "structure": 3, "pairs": 2, "varied": 1, "asked": 3, "flipped": 1}
    found = study([compared("a", repeated=counts), compared("b", repeated=counts), compared("c")])
    assert found.repeats == {name: 2 * count for name, count in counts.items()}
    with pytest.raises(MalformedEventError, match="repeats"):
        study([compared("a", repeated={"runs": "many"})])
