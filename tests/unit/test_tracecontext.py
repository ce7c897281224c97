from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.shim.tracecontext import (
    MAX_BAGGAGE,
    MAX_TRACESTATE,
    TraceParent,
    child,
    format_baggage,
    format_tracestate,
    new_trace,
    parse_baggage,
    parse_traceparent,
    parse_tracestate,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def nonzero(size):
    return st.integers(1, 16**size - 1).map(lambda value: f"{value:0{size}x}")


parents = st.builds(TraceParent, nonzero(32), nonzero(16), sampled=st.booleans())
tokens = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1, max_size=12)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
state_keys = st.from_regex(r"[a-z][a-z0-9_*/-]{0,20}", fullmatch=True) | st.from_regex(
    r"[a-z0-9][a-z0-9_*/-]{0,9}@[a-z][a-z0-9_*/-]{0,9}", fullmatch=True
)
state_values = st.from_regex(r"[ -+\--<>-~]{0,20}[!-+\--<>-~]", fullmatch=True).map(
    lambda text: text.lstrip(" ") or "x"
)


@given(parents)
def test_a_parent_is_read_as_it_was_written(parent):
    """Text and value are one."""
    assert parse_traceparent(str(parent)) == parent
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", str(parent))


@given(parents)
def test_a_child_is_another_span_of_the_same_trace(parent):
    """Sampling is inherited, or half a trace is missing."""
    grown = child(parent)
    assert (grown.trace_id, grown.sampled) == (parent.trace_id, parent.sampled)
    assert grown.span_id != parent.span_id
    assert parse_traceparent(str(grown)) == grown


def test_new_traces_are_valid_and_different():
    """A trace id is random, never zero."""
    traces = [new_trace(sampled=False) for _ in range(100)]
    assert len({trace.trace_id for trace in traces}) == 100
    assert all(parse_traceparent(str(trace)) == trace for trace in traces)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"01-{TRACE}-{SPAN}-01x",
        f"00-{TRACE[:-1]}\u0663-{SPAN}-01",
    ],
)
def test_an_unreadable_parent_counts_as_absent(text):
    """W3C 3.2.2: restart the trace rather than join a wrong one."""
    assert parse_traceparent(text) is None


def test_a_newer_version_is_read_as_far_as_we_know_it():
    """W3C 3.2.4: the first four fields, and unknown flags are dropped when written on."""
    assert str(parse_traceparent(f"cc-{TRACE}-{SPAN}-ff-new-fields")) == f"00-{TRACE}-{SPAN}-01"
    assert str(parse_traceparent(f"00-{TRACE}-{SPAN}-02")) == f"00-{TRACE}-{SPAN}-00"


@given(st.dictionaries(state_keys, state_values, max_size=8).map(lambda members: tuple(members.items())))
def test_a_tracestate_within_the_limits_is_read_as_it_was_written(members):
    """Order matters: the newest vendor stands first."""
    assert parse_tracestate(format_tracestate(members)) == members


@given(st.lists(st.tuples(state_keys, st.from_regex(r"[!-+]{1,200}", fullmatch=True)), max_size=50))
def test_a_long_tracestate_is_cut_by_whole_members(members):
    """What is left is within 512 characters, in order, and no member is half there."""
    written = format_tracestate(members)
    assert len(written) <= MAX_TRACESTATE
    left = written.split(",") if written else []
    assert len(left) <= 32
    rest = iter([f"{key}={value}" for key, value in members])
    assert all(any(part == other for other in rest) for part in left)


def test_large_members_go_first_when_a_tracestate_is_cut():
    """W3C 3.3.1.5: members over 128 characters before the oldest small one."""
    members = [("a", "1"), ("big", "x" * 400), ("b", "y" * 110), ("z", "2")]
    assert format_tracestate(members) == f"a=1,b={'y' * 110},z=2"
    assert format_tracestate([("a", "x" * 100)] * 6) == ",".join([f"a={'x' * 100}"] * 4)


@pytest.mark.parametrize("text", ["a", "a=", "a=1,a=2", "A=1", "a=b=c", "1a=2", "a=é", "a=1,b", "a@1=2", "=1"])
def test_a_broken_tracestate_is_discarded_whole(text):
    """W3C 3.3: vendors are not required to mend it."""
    assert parse_tracestate(text) == ()


def test_a_tracestate_of_33_members_is_discarded():
    """32 is the limit; blanks and empty members are fine."""
    many = ",".join(f"k{at}=1" for at in range(33))
    assert parse_tracestate(many) == ()
    assert len(parse_tracestate(many.rpartition(",")[0] + ",")) == 32
    assert parse_tracestate(" a=1 ,\t, b= 2") == (("a", "1"), ("b", " 2"))


@given(st.dictionaries(tokens, values, max_size=10))
@example({"user": 'Ü;,=" %20\\'})
def test_baggage_is_read_as_it_was_written(members):
    """Every text survives, encoded once."""
    written = format_baggage(members)
    assert parse_baggage(written) == (members, 0)
    assert re.fullmatch(r"[!-~]*", written)


@given(st.text(max_size=200) | st.text("a=,;% \t", max_size=60))
def test_hostile_baggage_is_read_as_far_as_it_goes(text):
    """No text raises, and what was read can be written on."""
    members, lost = parse_baggage(text)
    assert lost <= text.count(",") + 1
    assert parse_baggage(format_baggage(members)) == (members, 0)


def test_unreadable_members_are_left_out_and_counted():
    """One vendor's mistake does not cost the others' baggage."""
    assert parse_baggage("a=1 , b = %C3%BC;ttl=5,, c=%FF,d,é=1,=2,e= ") == ({"a": "1", "b": "ü", "e": ""}, 5)


def test_baggage_beyond_the_limits_is_left_out_and_counted():
    """64 members and 8,192 bytes; whole members go, from the end."""
    members, lost = parse_baggage(",".join(f"k{at}=1" for at in range(70)))
    assert (len(members), lost) == (64, 6)
    members, lost = parse_baggage(f"a=1,b={'x' * MAX_BAGGAGE},c=2")
    assert (members, lost) == ({"a": "1"}, 2)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"a b": "1"}, "'a b' is no baggage name"),
        ({"": "1"}, "no baggage name"),
        ({"ü": "1"}, "no baggage name"),
        ({"a": 1}, "must be text"),
        ({f"k{at}": "" for at in range(65)}, "65 members"),
        ({"a": "x" * 8191}, "8193 bytes"),
    ],
)
def test_baggage_that_fits_in_no_header_is_refused(members, text):
    """The error says which member, or how much."""
    with pytest.raises(ValueError, match=text):
        format_baggage(members)
