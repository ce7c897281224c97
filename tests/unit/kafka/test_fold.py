"""Which records count: the same for everybody, whoever began to read when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.kafka._fold import HORIZON, WINDOW, Fold, Hidden, call_of
from crossfade.adapters.kafka._wire import Record

STEM = "cf.0.-.-.tool.a.run1.call1."


def record(offset, kind="own", *, event=None, last=None, at="", unique=False, time=None):
    headers = [("cf_subject", (STEM + kind).encode()), ("ce_id", (event or f"e{offset}").encode())]
    if last is not None:
        headers += [("cf_last", last.encode()), ("cf_at", str(at).encode())]
    headers += [("cf_unique", b"1")] if unique else []
    return Record(offset, 1_000 + offset if time is None else time, None, b"", headers)


def fold(records, start=0):
    made = Fold(start, calls=True)
    return made, [made.add(each) for each in records]


def test_the_first_that_meets_its_condition_wins():
    """Of claims on one place the first counts; one that follows on the winner counts as well."""
    claims = [record(n, last=f"{STEM}>", at=0) for n in (1, 2, 3)]
    result = record(4, "result", last=f"{STEM}own", at=1)
    made, judged = fold([record(0, "invoke"), *claims, result])
    assert judged == [None, None, Hidden(None), Hidden(None), None]
    assert made.last(f"{STEM}>", 2_000) == 4
    assert made.last(f"{STEM}own", 2_000) == 1


def test_what_lost_leaves_no_trace():
    """A loser neither stands in the way of the next append nor keeps its event's id."""
    lost = record(1, event="x", last=f"{STEM}>", at=7)
    again = record(2, event="x", last=f"{STEM}>", at=0, unique=True)
    assert fold([record(0, "invoke"), lost, again])[1] == [None, Hidden(None), None]


def test_an_id_is_known_for_its_window():
    """A repeat within ten minutes is the first one; later it counts."""
    soon, late = record(1, event="x", time=WINDOW), record(2, event="x", time=WINDOW + 1_001)
    assert fold([record(0, event="x", time=1_000), soon, late])[1] == [None, Hidden(0), None]


def test_a_call_is_known_for_its_horizon():
    """What is older than a day decides about nothing: for who read it as for who began later."""
    command, claim = record(0, "invoke", time=1), record(1, last=f"{STEM}>", at=0, time=HORIZON + 2)
    first = record(2, last=f"{STEM}>", time=HORIZON + 3)
    assert fold([command, claim, first])[1] == [None, Hidden(None), None]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans()), max_size=25), st.integers(0, 25))
def test_everybody_agrees(writes, split):
    """A fold that pauses anywhere, or runs in another process, judges every record alike; at most one wins a place."""
    records = [
        record(n, event=event, last=f"{STEM}>", at="" if back == 0 else max(0, n - back), unique=unique)
        for n, (back, event, unique) in enumerate(writes)
    ]
    one, judged = fold(records)
    other, begun = fold(records[:split])
    begun += [other.add(each) for each in records[split:]]
    assert judged == begun
    assert one.hidden == other.hidden
    winners = [each.header("cf_at") for each, hidden in zip(records, judged, strict=True) if hidden is None]
    assert len(winners) == len(set(winners))


def test_the_call_of_a_filter():
    """Only a filter that names its call is about one."""
    assert call_of(f"{STEM}>") == call_of(f"{STEM}own") == call_of("cf.*.*.*.*.*.*.call1.*") == "call1"
    assert [call_of(each) for each in ("cf.>", "cf.*.*.*.*.*.run1.>", "cf.*.*.*.*.*.*.*.own", "cfe.a.b.c")] == [
        None
    ] * 4


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans()), max_size=25), st.integers(0, 25))
def test_who_begins_late_agrees(writes, start):
    """Who judges from anywhere on, and reads the past only when a record asks for it, agrees on every record."""
    records = [
        record(n, event=event, last=f"{STEM}>" if back else None, at=max(0, n - back), unique=unique)
        for n, (back, event, unique) in enumerate(writes)
    ]
    one, judged = fold(records)
    past, _ = fold(records[:start])
    late = Fold(start, calls=True, whole=False)
    assert [late.add(each) for each in records[:start]] == [None] * len(records[:start])
    for each, expected in zip(records[start:], judged[start:], strict=True):
        if late.lacks(each):
            late.learn(past)
        assert late.add(each) == expected
    if not late.whole:
        late.learn(past)
    assert (late.hidden, late.last(f"{STEM}>", 2_000)) == (one.hidden, one.last(f"{STEM}>", 2_000))


def test_the_past_is_asked_for_only_where_it_decides():
    """What follows on something that was judged, and what has no condition, takes no past."""
    late = Fold(5, calls=True, whole=False)
    assert late.add(record(5, "invoke")) is None
    assert not late.lacks(record(6, last=f"{STEM}>", at=5))
    assert not late.lacks(record(6, "result"))
    assert late.lacks(record(6, last="cf.0.-.-.tool.a.run1.call2.>", at=3))
    assert late.lacks(record(6, last="cf.0.-.-.tool.a.run1.call2.>"))
