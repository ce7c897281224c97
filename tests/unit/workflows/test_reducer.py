"""How instances advance: joins, waits, retries, stand-ins, undos, and what has no effect twice."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.shim import schemas
from crossfade.workflows.inputs import Answered, Stopped
from unit.workflows.flows import Driver, flow


def diamond():
    """a, then b and c side by side, then d."""
    orders = flow()
    orders.tool("s.a", effects="none")(named("a", lambda event: {}))
    orders.tool("s.b")(named("b", lambda a: {"a": a}))
    orders.tool("s.c")(named("c", lambda a: {"a": a}))
    orders.tool("s.d")(named("d", lambda b, c: {"b": b, "c": c}))
    orders.result(lambda d: d)
    return orders.definition


def named(name, function):
    function.__name__ = name
    return function


def test_a_join_waits_for_all_and_passes_their_values():
    """Both sides of a diamond run at once; what needs both begins after the second, with both values."""
    run = Driver(diamond())
    run.answer("a", 1)
    assert run.calls() == ["s.a", "s.b", "s.c"]
    run.answer("c", 3)
    assert run.status("d") == "pending"
    run.answer("b", 2)

    assert run.state("d").input == {"b": 2, "c": 3}
    run.answer("d", 4)
    assert (run.instance.status, run.instance.value) == ("completed", 4)


def test_the_order_in_which_a_join_fills_changes_nothing():
    """Whatever ends first, values, calls' ids and the end are the same."""

    def ended(order):
        run = Driver(diamond())
        run.answer("a", 1)
        for step in order:
            run.answer(step, step)
        run.answer("d", "d")
        states = {name: (state.callid, state.value, state.input) for name, state in run.instance.steps.items()}
        return states, run.instance.value, run.instance.status

    assert len({repr(ended(order)) for order in itertools.permutations(["b", "c"])}) == 1


def test_an_answer_counts_once():
    """A result that is delivered again, or that nobody waits for, changes nothing and says so."""
    run = Driver(diamond())
    callid = run.call("a")
    run.answer("a", 1)
    before = run.instance.encode()

    assert run.give(Answered(callid=callid, kind="value", value=9)) == "late"
    assert run.give(Answered(callid="unheard", kind="value")) == "late"
    assert run.instance.encode() == before


def waiting(**options):
    orders = flow()
    orders.wait("order.shipped", **options)(named("shipped", lambda: None))
    orders.wait("order.shipped", needs=["shipped"])(named("again", lambda: None))
    return orders.definition


def test_an_event_fills_one_wait_only():
    """The same event delivered again does not fill the next wait for its type."""
    run = Driver(waiting())
    assert run.arrive("order.shipped", {"n": 1}, "x1") == ""
    assert run.arrive("order.shipped", {"n": 1}, "x1") == "repeated"
    assert run.status("again") == "waiting"
    run.arrive("order.shipped", {"n": 2}, "x2")
    assert run.instance.status == "completed"


def test_an_event_that_comes_early_is_kept():
    """What a later step waits for is kept for it, however early it comes."""
    orders = flow()
    orders.tool("s.a")(named("a", lambda event: {}))
    orders.wait("order.shipped")(named("shipped", lambda a: {"data.parcel": a}))
    run = Driver(orders.definition)

    assert run.arrive("order.shipped", {"parcel": "other"}, "x1") == ""
    assert run.arrive("order.shipped", {"parcel": "p"}, "x2") == ""
    run.answer("a", "p")
    assert run.instance.status == "completed"
    assert run.state("shipped").value == {"parcel": "p"}


def test_an_event_that_nothing_waits_for_is_named():
    """It changes nothing, and the caller can count it."""
    assert Driver(waiting()).arrive("order.cancelled") == "not-waited-for"


def test_a_wait_that_takes_too_long_fails_or_stands_in():
    """``timeout`` fails the step; with ``if_fails`` it is done with that value."""
    run = Driver(waiting(timeout=60))
    assert run.wait(59) == "not-due"
    run.wait(2)
    assert run.instance.status == "failed"
    assert run.instance.error["type"] == "timeout"

    other = Driver(waiting(timeout=60, if_fails=None))
    other.wait(61)
    assert (other.status("shipped"), other.state("shipped").value) == ("done", None)
    assert other.state("shipped").error["type"] == "timeout"


def race():
    """An approval or a deadline, whichever is first."""
    orders = flow()
    orders.approval(by="boss")(named("approved", lambda event: {"sum": event.get("sum")}))
    orders.timer()(named("patience", lambda: timedelta(hours=1)))
    orders.show(join="any")(named("go", lambda approved, patience: [approved, patience]))
    return orders.definition


def test_any_of_begins_with_the_first_and_drops_the_rest():
    """The step sees ``None`` for what has not come, and what only it needs is waited for no more."""
    run = Driver(race())
    run.wait(3601)

    assert run.status("approved") == "dropped"
    assert run.instance.status == "completed"
    assert run.state("go").value[0] is None
    assert run.say("approve", "approved", by="boss") == "ended"


def test_a_no_is_tolerated_where_another_way_is_open():
    """A rejected approval fails the workflow only when nothing else can begin what needs it."""
    run = Driver(race())
    run.say("reject", "approved", by="boss")
    assert run.instance.status == "running"
    run.wait(3601)
    assert run.instance.status == "completed"


@pytest.mark.parametrize(
    ("action", "step", "by", "why"),
    [
        ("approve", "approvd", "boss", "no-such-step"),
        ("approve", "patience", "boss", "wrong-kind"),
        ("send", "approved", "boss", "wrong-kind"),
        ("approve", "approved", "clerk", "not-theirs"),
    ],
)
def test_a_signal_that_does_not_fit_is_named(action, step, by, why):
    """Nothing changes, and the reason is a word to count by."""
    run = Driver(race())
    before = run.instance.encode()
    assert run.say(action, step, by=by) == why
    assert run.instance.encode() == before


def test_an_authenticated_approval_believes_the_control_plane_only():
    """Whoever only claims to be the boss changes nothing; the control plane's word counts, and is recorded as that."""
    orders = flow()
    orders.approval(by="boss", authenticated=True)(named("approved", lambda event: None))
    orders.result(lambda approved: approved)
    run = Driver(orders.definition)
    assert run.say("approve", "approved", by="boss") == "not-authenticated"
    assert run.say("reject", "approved", by="boss", identity="s2") == "not-authenticated"
    assert run.say("approve", "approved", by="clerk", identity="s3", authenticated=True) == "not-theirs"
    assert run.say("approve", "approved", by="boss", identity="s4", authenticated=True) == ""
    assert run.instance.value == {"by": "boss", "authenticated": True, "comment": "", "data": {"n": 1}}


def test_a_timer_takes_seconds_spans_and_times():
    """All three mean the same instant."""
    for due in (60, timedelta(minutes=1), datetime.fromtimestamp(1060, UTC)):
        orders = flow()
        orders.timer()(_later(due))
        run = Driver(orders.definition)
        assert run.instance.due == 1060
        run.wait(61)
        assert run.instance.status == "completed"


def _later(due):
    def later():
        return due

    return later


def retrying(**options):
    orders = flow()
    orders.tool("s.a", attempts=3, backoff=10, **options)(named("a", lambda event: {}))
    return Driver(orders.definition)


def test_a_failed_call_is_tried_again_with_growing_pauses():
    """Each attempt is a call of its own id; after the last the workflow fails."""
    run, ids = retrying(), set()
    for pause in (10, 20):
        ids.add(run.call("a"))
        run.fail("a")
        assert run.status("a") == "pausing"
        assert run.wait(pause - 1) == "not-due"
        run.wait(1)
    ids.add(run.call("a"))
    run.fail("a")

    assert len(ids) == 3
    assert run.instance.status == "failed"
    assert run.calls() == ["s.a"] * 3


def test_an_unsafe_call_that_nobody_knows_of_is_never_repeated():
    """It may have happened; a call that does no harm twice is repeated."""
    unsafe, harmless = retrying(), retrying(effects="idempotent")
    unsafe.fail("a", "unknown")
    harmless.fail("a", "unknown")

    assert (unsafe.instance.status, harmless.status("a")) == ("failed", "pausing")


def booking(fails=""):
    """Three bookings, the last one after both others; each can be undone."""
    trip = flow("trip")
    trip.tool("flight.book")(named("flight", lambda event: {}))
    trip.tool("hotel.book")(named("hotel", lambda event: {}))
    trip.tool("pay")(named("payment", lambda flight, hotel: {}))
    trip.undo("flight", tool="flight.cancel", attempts=1)(lambda flight: {"id": flight})
    trip.undo("hotel", tool="hotel.cancel", attempts=1)(lambda hotel: {"id": hotel})
    return Driver(trip.definition)


@pytest.mark.parametrize("order", [("flight", "hotel"), ("hotel", "flight")])
def test_what_is_done_is_undone_backwards_one_by_one(order):
    """The last one done is undone first, and the next only when that has ended."""
    run = booking()
    for step in order:
        run.answer(step, step)
    run.fail("payment")
    assert run.calls()[3:] == [f"{order[1]}.cancel"]
    run.answer(order[1], undo=True)
    assert run.calls()[3:] == [f"{order[1]}.cancel", f"{order[0]}.cancel"]
    run.answer(order[0], undo=True)

    assert run.instance.status == "failed"
    assert run.facts("workflow.failed")[0]["compensated"] == [order[1], order[0]]


def test_calls_under_way_end_before_anything_is_undone():
    """What another call does meanwhile is undone, too."""
    run = booking()
    run.fail("flight")
    assert run.instance.status == "undoing"
    run.answer("hotel", "h")
    run.answer("hotel", undo=True)
    assert run.instance.status == "failed"
    assert run.calls() == ["flight.book", "hotel.book", "hotel.cancel"]


def test_an_undo_that_fails_does_not_keep_the_others_from_running():
    """It is named as failed, and what else is done is undone."""
    run = booking()
    run.answer("flight", "f")
    run.answer("hotel", "h")
    run.fail("payment")
    run.fail("hotel", undo=True)
    run.answer("flight", undo=True)

    assert run.instance.undos["hotel"].status == "failed"
    assert run.facts("workflow.failed")[0]["compensated"] == ["flight"]


def test_a_cancelled_workflow_undoes_and_ends_once():
    """Cancel is failure by a person's word; a second one has no effect."""
    run = booking()
    run.answer("flight", "f")
    assert run.say("cancel", identity="c1") == ""
    assert run.say("cancel", identity="c2") == "undoing"
    run.answer("hotel", "h")
    run.answer("hotel", undo=True)
    run.answer("flight", undo=True)
    assert run.instance.status == "cancelled"


def test_when_says_no_and_what_needs_it_is_skipped():
    """A skipped step skips what needs it, but for a step that has another way in."""
    orders = flow()
    orders.show(when=lambda event: event.get("big"))(named("big", lambda event: 1))
    orders.show(when=lambda event: not event.get("big"))(named("small", lambda event: 2))
    orders.show()(named("after_big", lambda big: big))
    orders.show(join="any")(named("both", lambda big, small: [big, small]))
    run = Driver(orders.definition, {"big": False})

    assert [run.status(step) for step in ("big", "small", "after_big", "both")] == [
        "skipped",
        "done",
        "skipped",
        "done",
    ]
    assert run.state("both").value == [None, 2]


def test_when_says_no_and_otherwise_stands_in():
    """With ``otherwise`` what needs the step goes on, as if it were done; a failure is still one."""
    orders = flow()
    big = named("big", lambda event: event["sum"] > 10)
    orders.approval(when=big, otherwise="no need")(named("approved", lambda event: None))
    orders.show()(named("shipped", lambda approved: approved))
    small, large = Driver(orders.definition, {"sum": 1}), Driver(orders.definition, {"sum": 11})
    large.say("reject", "approved")

    assert (small.instance.status, small.state("shipped").value) == ("completed", "no need")
    assert large.instance.status == "failed"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda event: event["missing"], "KeyError"),
        (lambda event: {"when": object()}, "a object is no JSON"),
        (lambda event: [1], "must return the call's arguments"),
        (lambda event: {"x": float("nan")}, "ValueError"),
    ],
)
def test_a_function_that_fails_fails_its_step(function, said):
    """The user's mistake ends the instance with its words, and nothing else."""
    orders = flow()
    orders.tool("s.a")(named("a", function))
    run = Driver(orders.definition, {})
    assert run.instance.status == "failed"
    assert said in run.instance.error["message"]


def test_a_function_cannot_change_the_state():
    """It gets copies."""
    orders = flow()

    @orders.show()
    def naughty(event):
        event["items"].append("more")

    run = Driver(orders.definition, {"items": []})
    assert run.instance.event["data"] == {"items": []}


def test_an_instance_that_cannot_be_stored_is_stopped():
    """What is done is undone, and the reason kept."""
    run = booking()
    run.answer("flight", "f")
    run.answer("hotel", "h")
    run.give(Stopped(error={"type": "too-large", "message": "big"}))
    run.fail("payment")
    run.answer("hotel", undo=True)
    run.answer("flight", undo=True)
    assert run.instance.status == "failed"
    assert run.instance.error["type"] == "too-large"


def test_our_facts_are_what_their_schemas_say():
    """Every fact an instance publishes is valid under its published schema."""
    run = booking()
    run.answer("flight", "f")
    run.fail("hotel")
    run.answer("flight", undo=True)
    done = Driver(diamond())
    for step in "abcd":
        done.answer(step, step)
    facts = [item for item in (*run.sent, *done.sent) if item["do"] == "fact"]

    assert {item["type"] for item in facts} == {
        f"workflow.{word}" for word in ("started", "advanced", "completed", "failed")
    }
    for item in facts:
        schemas.validate_payload(item["type"], json.dumps(item["data"]).encode())


def test_ids_follow_from_the_instance_alone():
    """Two processes that apply the same input send the same events."""
    first, second = Driver(diamond()), Driver(diamond())
    for step in "abcd":
        first.answer(step, step)
        second.answer(step, step)
    ids = [item.get("id") or item["callid"] for item in first.sent]

    assert ids == [item.get("id") or item["callid"] for item in second.sent]
    assert len(set(ids)) == len(ids)
