from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.bindings import from_nats, to_nats
from crossfade.shim.correlate import (
    Correlation,
    correlate,
    correlated,
    current_correlation,
    extensions,
    from_event,
)
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.events import EXTENSIONS, Event
from crossfade.shim.hooks import counters

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
names = st.text(min_size=1, max_size=30).filter(str.isprintable)
correlations = st.builds(
    Correlation,
    run=names,
    user=st.none() | names,
    tenant=st.none() | names,
    session=st.none() | names,
    traceparent=st.just(PARENT),
    tracestate=st.none() | st.just("a=1,b=2"),
    baggage=st.dictionaries(
        st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]))
    ),
)


def skipped(reason):
    return counters.get("skipped", reason=reason)


def test_there_is_no_correlation_until_somebody_says_so():
    """Code that never heard of runs has none."""
    assert current_correlation() is None
    assert extensions(None) == {}


def test_everything_inside_belongs_to_the_run():
    """The context names user and tenant, mints a run, and ends with the block."""
    with correlate(user="alice", tenant="acme") as inside:
        assert current_correlation() is inside
        assert (inside.user, inside.tenant, inside.session, inside.causation) == ("alice", "acme", None, None)
        assert len(inside.run) == 32
    assert current_correlation() is None


def test_two_actions_are_two_runs():
    """A run is minted for each outermost block."""
    with correlate(user="alice") as one:
        pass
    with correlate(user="alice") as other:
        pass
    assert one.run != other.run


def test_an_inner_block_overrides_what_it_names_and_inherits_the_rest():
    """Acting for somebody else within a run keeps the run, the tenant and the trace."""
    with correlate(user="alice", tenant="acme", traceparent=PARENT, baggage={"a": "1", "b": "1"}) as outer:
        with correlate(user="bob", baggage={"b": "2"}) as inner:
            assert inner == replace(outer, user="bob", baggage={"a": "1", "b": "2"})
        assert current_correlation() is outer
        with correlate(run="other") as inner:
            assert (inner.run, inner.user) == ("other", "alice")


def test_an_empty_name_is_nobody():
    """An anonymous call inside a user's block is not made as that user."""
    with correlate(user="alice", tenant="acme"), correlate(user="") as inner:
        assert inner.user is None
        assert inner.tenant == "acme"
        assert "userid" not in extensions(inner)


def test_the_block_ends_when_an_error_leaves_it():
    """No user leaks into the next request."""
    with pytest.raises(ZeroDivisionError), correlate(user="alice"):
        _ = 1 / 0
    assert current_correlation() is None


async def test_tasks_do_not_see_each_others_correlation():
    """Two requests at once on one loop stay apart, and their own tasks inherit."""
    seen = {}
    both_inside = asyncio.Barrier(2)

    async def nested(user):
        seen[user] = current_correlation().user

    async def request(user):
        with correlate(user=user):
            await both_inside.wait()
            await asyncio.create_task(nested(user))
            assert current_correlation().user == user

    await asyncio.gather(request("alice"), request("bob"))
    assert seen == {"alice": "alice", "bob": "bob"}
    assert current_correlation() is None


async def test_a_thread_sees_it_when_the_context_is_copied():
    """``asyncio.to_thread`` copies, a bare thread does not."""
    bare = []
    with correlate(user="alice"):
        assert (await asyncio.to_thread(current_correlation)).user == "alice"
        thread = threading.Thread(target=lambda: bare.append(current_correlation()))
        thread.start()
        thread.join()
    assert bare == [None]


def test_leaving_in_another_context_breaks_nothing():
    """FastAPI runs the two halves of a plain dependency in two copies of a context."""
    block = correlate(user="alice")
    contextvars.copy_context().run(block.__enter__)
    with correlate(user="bob"):
        block.__exit__(None, None, None)
        assert current_correlation().user == "bob"
    assert current_correlation() is None


UNUSABLE = [
    {"user": "a\nb"},
    {"tenant": "a\x00"},
    {"session": 7},
    {"run": ""},
    {"user": "x" * 1025},
    {"user": b"x"},
    {"user": "\ud800"},
]


@pytest.mark.parametrize("given_", UNUSABLE)
def test_a_name_that_no_event_can_carry_is_refused_at_once(given_):
    """Ignoring it would run the call as somebody else."""
    (name,) = given_
    with pytest.raises(ConfigurationError, match=rf"correlate\({name}=\)"):
        correlate(**given_)


@pytest.mark.parametrize("baggage", [{"a b": "1"}, {"a": 1}, {"a": "x" * 9000}])
def test_baggage_that_fits_in_no_header_is_refused_at_once(baggage):
    """The caller's own baggage is the caller's mistake to mend."""
    with pytest.raises(ConfigurationError, match=r"correlate\(baggage=\)"):
        correlate(baggage=baggage)


def test_a_broken_trace_from_outside_is_counted_and_left_out():
    """A stranger's header cannot break a request (W3C 3.2.2), and its tracestate goes with it."""
    before = skipped("traceparent")
    with correlate(traceparent="nonsense", tracestate="a=1") as inside:
        assert inside.traceparent is None
        assert inside.tracestate is None
    assert skipped("traceparent") == before + 1


def test_a_new_trace_brings_its_own_state():
    """A vendor's state belongs to its parent and is not carried into another trace."""
    other = PARENT.replace("4bf9", "5bf9")
    before = skipped("tracestate")
    with correlate(traceparent=PARENT, tracestate="a=1"), correlate(traceparent=other) as inner:
        assert (inner.traceparent, inner.tracestate) == (other, None)
    with correlate(traceparent=PARENT, tracestate="broken") as inner:
        assert (inner.traceparent, inner.tracestate) == (PARENT, None)
    assert skipped("tracestate") == before + 1


@given(correlations)
def test_a_correlation_crosses_the_bus(correlation):
    """What a worker rebuilds is what the caller had, plus the cause."""
    event = Event(type="tool.invoke", source="s", extensions=extensions(correlation))
    assert set(event.extensions) <= set(EXTENSIONS)
    arrived = from_event(from_nats(to_nats(event), b""))
    assert arrived == replace(correlation, causation=event.id)


def test_calls_made_by_a_handler_stay_in_the_run_and_name_their_cause():
    """Nested calls inside a worker belong to the user's action that began it all."""
    with correlate(user="alice") as outer:
        command = Event(type="tool.invoke", source="s", extensions=extensions(outer))
    with correlated(from_event(command)):
        nested = extensions(current_correlation())
        assert (nested["correlationid"], nested["causationid"]) == (outer.run, command.id)
        with correlate(tenant="acme") as inner:
            assert (inner.run, inner.causation) == (outer.run, command.id)
    assert current_correlation() is None


def test_an_event_without_a_run_starts_one():
    """A trigger from outside names the run after itself, so a redelivery is the same run."""
    event = Event(type="email.received", source="s", id="mail-1")
    assert from_event(event) == Correlation(run="mail-1", causation="mail-1")


def test_a_broken_trace_in_an_event_is_counted_and_left_out():
    """An event is executed even when its telemetry is damaged."""
    before = skipped("traceparent"), skipped("baggage")
    damaged = {"correlationid": "r", "traceparent": "x", "tracestate": "a=1", "baggage": "a=1,b,c=%FF"}
    event = Event(type="t", source="s", id="1", extensions=damaged)
    assert from_event(event) == Correlation(run="r", causation="1", baggage={"a": "1"})
    assert (skipped("traceparent"), skipped("baggage")) == (before[0] + 1, before[1] + 2)


def test_a_correlation_is_a_value():
    """Handlers share it: nobody can change it under another's feet."""
    with correlate(user="alice", baggage={"a": "1"}) as inside:
        with pytest.raises(FrozenInstanceError):
            inside.user = "bob"
        with pytest.raises(TypeError):
            inside.baggage["a"] = "2"
