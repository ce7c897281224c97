"""When a replay passes, and what is kept of it."""

from __future__ import annotations

import pytest

from crossfade.migrations.replay.running import Replayed
from crossfade.migrations.replay.scoring import Scores
from crossfade.shim.comparison import Verdict
from unit.migrations.replay.conftest import call


def scored(*kinds, seams=("a",), order=1):
    scores = Scores(dict.fromkeys(seams, "self"))
    for n, said in list(enumerate(kinds))[::order]:
        seam, _, kind = said.rpartition(":")
        made = call(seam or "a", {}, callid=str(n))
        scores.add(Replayed(call=made, verdict=Verdict(kind=kind, reason="why"), handler="self", seconds=0.5))
    return scores


@pytest.mark.parametrize(
    ("kinds", "least", "failure"),
    [
        (["match"], 0, ""),
        (["match", "ignored", "skipped"], 0.6, ""),
        (["match", "ignored", "skipped"], 0.7, "only 66.7%"),
        (["match", "mismatch"], 0, "1 of 2 compared calls differ"),
        (["match", "inconclusive"], 0, "could not be decided"),
        (["skipped"], 0, "nothing was compared"),
        ([], 0, "no call was recorded in that time: name an earlier --since, or record at observe first"),
    ],
)
def test_a_seam_passes_when_everything_that_was_compared_is_right(kinds, least, failure):
    """No data, and what nobody can decide, are no pass."""
    found = scored(*kinds).seams["a"].failure(least)
    assert (failure in found) if failure else found == ""


def test_seams_that_nobody_named_may_have_nothing_to_compare():
    """The app's unsafe seams fail no build; a seam that was named does, and so does a replay of nothing."""
    scores = scored("a:match", "b:skipped", seams=("a", "b"))
    assert scores.failures((), 0) == {}
    assert scores.failures(("a", "b"), 0) == {"b": "nothing was compared"}
    assert scored("a:skipped").failures((), 0) == {"-": "no recorded call could be compared"}


def test_the_digest_is_of_calls_and_verdicts():
    """In whatever order they ended; another verdict is another digest."""
    kinds = ["match", "skipped", "mismatch"]
    first, again, other = scored(*kinds), scored(*kinds, order=-1), scored("match", "skipped", "match")
    assert first.seams["a"].digest == again.seams["a"].digest != other.seams["a"].digest


def test_only_the_first_that_differ_are_kept():
    """A hundred thousand mismatches are counted, and cost no memory."""
    scores = scored(*["mismatch"] * 200)
    assert (len(scores.failed), scores.seams["a"].verdicts["mismatch"]) == (50, 200)
