"""The narrowest rule that covers legacy's own noise, whatever the other side did."""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.migrations.noise import study
from crossfade.migrations.suggestions import suggest
from crossfade.shim.comparison import Outcome, Rules, compare
from crossfade.shim.redaction import Redactor

ENOUGH = 60
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def answers(legacy, again, new, n=ENOUGH):
    """The verdicts on so many calls, each side a function of the call's number, compared by the real comparison."""
    found = []
    for at in range(n):
        old = Outcome(kind="value", value=json.loads(json.dumps(legacy(at))))
        for source, side, by in (("shadow", new, "new"), ("noise", again, "self")):
            verdict = compare(old, Outcome(kind="value", value=json.loads(json.dumps(side(at)))))
            found.append({"callid": str(at), "source": source, "handler": by, **verdict.to_json()})
    return study(found)


def rules(legacy, again=None, new=None):
    found = suggest(answers(legacy, again or legacy, new or legacy))
    return {suggestion.path: suggestion.said for suggestion in found}


def fresh(make):
    """A side that answers what ``make`` makes, anew each time."""
    return lambda at: {"it": make(at)}


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda at: str(uuid.uuid4()), "uuid"),
        (lambda at: f"req-{random.getrandbits(32):08x}", {"matcher": "regex", "pattern": r"req\-[0-9a-f]{8}"}),
        (lambda at: f"{random.randrange(10**8)}", {"matcher": "regex", "pattern": "[0-9]+"}),
        (lambda at: "".join(random.choices("ab .?", k=30)), "type"),
        (lambda at: random.choice([random.random(), "n/a", None]), None),
        (lambda at: random.randrange(10**9), "type"),
    ],
    ids=["uuid", "prefixed", "digits", "prose", "mixed", "any number"],
)
def test_what_is_drawn_anew_gets_its_shape(make, rule):
    """Never a wider rule than needed, and none for what only sometimes differs and so is not proven."""
    found = rules(fresh(make))
    assert found in ([{"$.it": rule}] if rule else [{}, {"$.it": "ignore"}])


def test_times_and_numbers_get_twice_the_widest_gap():
    """In seconds, one at least; numbers rounded up to two digits."""

    def later(seconds):
        return lambda at: {"at": (NOON + timedelta(seconds=seconds + at)).isoformat(), "score": 0.9 + seconds / 1e4}

    assert rules(later(0), later(3), later(2)) == {
        "$.at": {"matcher": "timestamp", "within": 6},
        "$.score": {"matcher": "approx", "abs": 0.0006},
    }


def test_what_the_other_side_does_beyond_the_noise_is_not_covered():
    """The rule is cut to A/A: a handler whose clock is off by an hour stays a mismatch, and the counts say so."""

    def later(seconds):
        return lambda at: {"at": (NOON + timedelta(seconds=seconds + at)).isoformat()}

    [suggestion] = suggest(answers(later(0), later(1), later(3600)))
    assert (suggestion.covers_noise, suggestion.covers_raw) == (ENOUGH, 0)
    assert suggestion.said == {"matcher": "timestamp", "within": 2}


@pytest.mark.parametrize("size", [6, 30])
def test_a_shuffled_list_has_no_order(size):
    """One rule for the list, whatever its items are and however many of them moved."""
    rng = random.Random(size)

    def shuffled(at):
        hits = [{"id": n, "title": f"t{n}"} for n in range(size)]
        rng.shuffle(hits)
        return {"hits": hits}

    assert rules(shuffled) == {"$.hits": "unordered"}


def test_a_list_of_other_items_is_not_shuffled():
    """Its items get a rule, its order none."""
    assert rules(lambda at: {"hits": [str(uuid.uuid4()) for _ in range(4)]}) == {"$.hits[*]": "uuid"}


def test_no_rule_says_how_a_call_ends():
    """A legacy that fails half the time is noise that no rule may cover."""
    found = [
        {"callid": str(at), "source": source, "handler": "self", "verdict": "mismatch",
         "differences": [{"path": "$", "kind": "outcome", "legacy": "1", "bus": "ValueError: no"}]}
        for at in range(ENOUGH) for source in ("shadow", "noise")
    ]  # fmt: skip
    assert study(found).places[0].state == "noise"
    assert suggest(study(found)) == ()


def test_what_is_redacted_gets_no_rule():
    """Nobody can say of what shape it is."""
    found = rules(lambda at: Redactor(b"a key").value({"password": f"{random.getrandbits(64):x}"}))
    assert found == {}


def test_every_suggestion_is_a_rule():
    """Of names that need quotes, too."""
    found = rules(lambda at: {"a b": {"x[*]": [str(uuid.uuid4())]}})
    assert found == {'$["a b"]["x[*]"][*]': "uuid"}
    assert Rules.parse(found)
