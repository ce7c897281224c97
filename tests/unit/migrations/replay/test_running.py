"""Today's code on recorded calls: compared by the same rules, cut off from everything, honest about what it skipped."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import types
import uuid
from collections.abc import Iterator  # noqa: TC003 - seams resolve their annotations
from datetime import UTC, datetime

import pytest

from crossfade import shim
from crossfade.migrations.replay import pacing
from crossfade.migrations.replay.pacing import Pace, Pacer
from crossfade.migrations.replay.running import disconnected
from crossfade.shim import connection, hooks
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.http import HttpRequest, HttpResponse, http_handler
from crossfade.shim.seam import registry
from unit.migrations.replay.conftest import BEGAN, REDACTOR, call


def price(answer, **options):
    @shim.tool("shop.price", **{"effects": "none", **options})
    def price(item: str) -> int:
        return answer(item) if callable(answer) else answer


def kinds(done):
    return [each.verdict.kind for each in done]


def test_the_same_answer_matches_and_another_does_not(replayed):
    """A regression is seen where it is, with what was and what is."""
    price(len)

    same, other = replayed(call("shop.price", {"item": "tea"}, 3), call("shop.price", {"item": "rum"}, 4, at=1))

    assert (same.verdict.kind, other.verdict.kind) == ("match", "mismatch")
    assert [(d.path, d.old, d.new) for d in other.verdict.differences] == [("$", "4", "3")]


def test_a_bug_that_was_recorded_is_reproduced(replayed):
    """The same error then and now is a match; once it is mended the call differs, and only it."""
    price(lambda item: {"tea": 3}[item])
    calls = [call("shop.price", {"item": "rum"}, error=KeyError("rum")), call("shop.price", {"item": "tea"}, 3, at=1)]

    assert kinds(replayed(*calls)) == ["match", "match"]
    registry.remove("shop.price")
    price(lambda item: {"tea": 3}.get(item, 0))
    assert kinds(replayed()) == ["mismatch", "match"]


def test_a_handler_runs_in_the_bodys_place(replayed):
    """Today's code is what a worker would run, and the result says which it was."""
    price(1)

    @shim.handler("shop.price")
    def new(item: str) -> int:
        return 2

    [done] = replayed(call("shop.price", {"item": "tea"}, 2))

    assert done.verdict.kind == "match"
    assert done.handler.endswith("test_a_handler_runs_in_the_bodys_place.<locals>.new")


def test_rules_decide_what_is_a_difference(replayed):
    """Those given for the replay, in place of the policy's."""
    price(4)
    [done] = replayed(call("shop.price", {"item": "tea"}, 3), rules={"$": "ignore"})

    assert (done.verdict.kind, done.verdict.rule) == ("ignored", "$")


# -- what is left alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effects", ["unsafe", "idempotent"])
def test_effects_are_blocked(replayed, effects):
    """Nothing runs that changes anything."""
    ran = []
    price(ran.append, effects=effects)

    [done] = replayed(call("shop.price", {"item": "tea"}, 3))

    assert (done.verdict.kind, done.verdict.reason, ran) == ("skipped", "effects", [])


def test_in_a_sandbox_effects_run_as_nobody_of_production(replayed):
    """Run, tenant and call id begin with its prefix, so that no key collides."""
    seen = []

    def answer(item):
        correlation, current = shim.current_correlation(), shim.current_call()
        seen.extend([correlation.run, correlation.tenant, current.callid, current.shadow])
        return 3

    price(answer, effects="unsafe")
    made = call("shop.price", {"item": "tea"}, 3, run="r1", attributes={"correlationid": "r1", "tenantid": "acme"})
    [done] = replayed(made, sandbox="sb-")

    assert done.verdict.kind == "match"
    assert seen[:2] == ["sb-r1", "sb-acme"]
    assert seen[2].startswith("sb-")
    assert seen[3] is False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arguments": b'{"item": {"$redacted": "0"}}'}, None),
        ({"unfit": "sampled-out", "outcome": None}, "sampled-out"),
        ({"unfit": "unfinished", "outcome": None}, "unfinished"),
        ({"outcome": None}, "unfinished"),
    ],
)
def test_what_cannot_be_run_as_it_was_is_skipped(replayed, changes, reason):
    """With its reason, which lowers coverage."""
    price(3)
    if reason is None:
        hidden = REDACTOR.value({"item": {"password": "p"}})
        [done] = replayed(call("shop.price", hidden, 3))
        assert done.verdict.reason == "redacted"
        return
    [done] = replayed(call("shop.price", {"item": "tea"}, 3, **changes))
    assert (done.verdict.kind, done.verdict.reason) == ("skipped", reason)


@pytest.mark.parametrize(
    ("recorded", "kind", "said"),
    [
        ({"items": (1, 2, 3)}, "match", ""),
        ({"items": (1, 2), "closed": True}, "match", ""),
        ({"items": (1, 9, 2, 3)}, "mismatch", "missing $[1]"),
        ({"items": (2, 1, 3)}, "mismatch", "changed $[0]"),
        ({}, "skipped", "no-items"),
    ],
)
def test_a_stream_is_compared_by_its_items(replayed, recorded, kind, said):
    """What is recorded without them, as older versions did, is skipped by name."""
    ended = []

    @shim.tool("web.count", effects="none")
    def count(n: int) -> Iterator[int]:
        try:
            yield from range(1, n + 1)
        finally:
            ended.append(n)

    then = call("web.count", {"n": 3})
    [done] = replayed(dataclasses.replace(then, outcome=dataclasses.replace(then.outcome, **recorded)))

    found = [f"{each.kind} {each.path}" for each in done.verdict.differences]
    assert done.verdict.kind == kind
    assert said == (found[0] if found else done.verdict.reason)
    assert ended == ([] if kind == "skipped" else [3])


def test_a_stream_without_an_end_is_closed_where_its_caller_closed_it(replayed):
    """Else it would be replayed until its time is over, and prove nothing."""

    @shim.tool("web.count", effects="none")
    def count(n: int) -> Iterator[int]:
        while True:
            yield n

    then = call("web.count", {"n": 3})
    [done] = replayed(dataclasses.replace(then, outcome=dataclasses.replace(then.outcome, items=(3, 3), closed=True)))

    assert done.verdict.kind == "match"


def test_an_older_observation_of_a_stream_says_so(replayed):
    """It has neither a value nor items."""

    @shim.tool("web.count", effects="none")
    def count(n: int) -> Iterator[int]:
        yield n

    [done] = replayed(call("web.count", {"n": 3}, outcome=None, unfit="no-outcome"))

    assert (done.verdict.kind, done.verdict.reason) == ("skipped", "no-items")


def test_arguments_that_fit_no_more_are_told(replayed):
    """A signature that cannot take yesterday's calls is no match, and no silence."""
    price(3)
    [done] = replayed(call("shop.price", {"thing": "tea"}, 3))

    assert (done.verdict.kind, done.verdict.reason) == ("inconclusive", "arguments")
    assert "item" in done.verdict.detail


def test_code_that_hangs_decides_nothing(replayed):
    """After the timeout of its policy the replay goes on with the next call."""
    free = threading.Event()
    price(lambda item: free.wait(20) and 3 if item == "slow" else 3, timeout=0.2)

    slow, quick = replayed(call("shop.price", {"item": "slow"}, 3), call("shop.price", {"item": "tea"}, 3, at=1))
    free.set()

    assert (slow.verdict.kind, slow.verdict.reason) == ("inconclusive", "timeout")
    assert quick.verdict.kind == "match"


def test_no_seam_leaves_the_process(replayed):
    """Code that connects connects to nothing, and afterwards everything is as it was."""
    seen = []

    def answer(_item):
        with shim.connect("nats://127.0.0.1:1", required=True) as connected:
            seen.append(connected.connected)
        return 3

    price(answer)
    before = connection.stand_in
    [done] = replayed(call("shop.price", {"item": "tea"}, 3))

    assert (done.verdict.kind, seen) == ("match", [False])
    assert connection.stand_in is before
    assert all(seam.route is None for seam in registry.all())


def test_connecting_while_modules_are_imported_is_counted(counts):
    """Nobody wonders in silence why nothing was sent."""
    with disconnected():
        shim.connect("nats://127.0.0.1:1")
    assert hooks.report.hooks.get("skipped", reason="replay-wanted-another-bus") == 1


# -- order, ids, time --------------------------------------------------------------------------------------------------


def test_calls_of_a_run_stay_in_order(replayed):
    """However many run at once; other runs go on meanwhile."""
    ended = []

    def answer(item):
        time.sleep(0.05 if item == "a1" else 0)
        ended.append(item)
        return 1

    price(answer)
    calls = [call("shop.price", {"item": i}, 1, at=n, run=i[0]) for n, i in enumerate(("a1", "a2", "b1"))]
    replayed(*calls, concurrency=4)

    assert ended.index("a1") < ended.index("a2")
    assert ended[0] == "b1"


def test_an_id_made_in_one_call_is_used_in_the_next(replayed):
    """A call of the same run gets today's id in its arguments, and its answer is compared in the recorded one."""
    made = []

    @shim.tool("orders.begin", effects="none")
    def begin() -> str:
        made.append(str(uuid.uuid4()))
        return made[-1]

    @shim.tool("orders.look", effects="none")
    def look(order: str) -> str:
        return f"order {order}" if order in made else "unknown"

    then = str(uuid.uuid4())
    calls = [
        call("orders.begin", {}, then, run="r"),
        call("orders.look", {"order": then}, f"order {then}", at=1, run="r"),
        call("orders.look", {"order": then}, "unknown", at=2, run="another"),
    ]
    done = replayed(*calls)

    assert {each.call.run + each.call.seam: each.verdict.kind for each in done} == {
        "rorders.begin": "mismatch",  # it is another id: a rule must say that this is right
        "rorders.look": "match",
        "anotherorders.look": "match",
    }


def test_the_call_knows_its_own_id_again(replayed):
    """A body that answers with its call's id answers the same."""
    price(3)

    @shim.tool("web.me", effects="none")
    def me() -> str:
        return shim.current_call().callid

    callid = uuid.uuid4().hex
    [done] = replayed(call("web.me", {}, callid, callid=callid), only=["web.me"])

    assert done.verdict.kind == "match"


@pytest.mark.parametrize("clock", ["shift", "freeze", "real"])
def test_the_clock_tells_when_it_was(replayed, clock):
    """``shim.now()`` is the recorded time, going on or standing still; Python's own clock is nobody else's."""
    told = []

    def answer(_item):
        told.extend([shim.now(), datetime.now(UTC)])
        time.sleep(0.01)
        told.append(shim.now())
        return 3

    price(answer)
    replayed(call("shop.price", {"item": "tea"}, 3), clock=clock)
    first, real, second = told
    then = datetime.fromtimestamp(BEGAN, UTC)

    assert abs((real - datetime.now(UTC)).total_seconds()) < 60
    if clock == "real":
        assert abs((first - real).total_seconds()) < 60
    else:
        assert 0 <= (first - then).total_seconds() < 60
        assert (second == first) is (clock == "freeze")
    assert abs((shim.now() - datetime.now(UTC)).total_seconds()) < 60


# -- routes ------------------------------------------------------------------------------------------------------------


def ask(method, **more):
    return {"method": method, "target": "/a", "headers": [], **more}


def test_only_requests_that_change_nothing_are_sent(replayed):
    """GET and its like, whatever the route's policy is; others only in a sandbox."""

    @http_handler("http.a")
    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [], request.method)

    answered = [{"status": 200, "headers": [], "text": method, "body": ""} for method in ("GET", "POST")]
    get, post = (call("http.a", ask(each["text"]), each, at=n, callid=each["text"]) for n, each in enumerate(answered))

    assert {each.call.callid: each.verdict.kind for each in replayed(get, post)} == {"GET": "match", "POST": "skipped"}
    assert kinds(replayed(sandbox="sb-")) == ["match", "match"]


def test_recorded_credentials_are_never_sent(replayed):
    """Without credentials of its own such a request is skipped; with them it carries those, and no mark."""
    seen = []

    @http_handler("http.a")
    async def answer(request: HttpRequest) -> HttpResponse:
        seen.append(request.headers)
        return HttpResponse(200, [], "ok")

    secret = REDACTOR.digest(b'[["authorization", "Bearer of-alice"]]')
    made = call("http.a", ask("GET", credentials=secret), {"status": 200, "headers": [], "text": "ok", "body": ""})

    assert replayed(made)[0].verdict.reason == "redacted"
    assert kinds(replayed(headers=(("authorization", "Bearer of-the-test"),))) == ["match"]
    assert seen == [[("authorization", "Bearer of-the-test")]]


# -- code that means harm ----------------------------------------------------------------------------------------------


def _pays(pay, look, items):
    pay("a card")


def _looks(pay, look, items):
    look("at today's data")


def _streams(pay, look, items):
    list(items())


def _submits(pay, look, items):
    pay.submit("a card").result(5)


def _swallows(pay, look, items):
    with contextlib.suppress(Exception):
        pay("a card")


def _declares_anew(pay, look, items):
    shim.tool("shop.late")(pay.__wrapped__)("a card")


@pytest.mark.parametrize("sandbox", ["", "sb-"])
@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (_pays, "shop.pay: not in the record"),
        (_looks, "shop.look: not in the record"),
        (_streams, "shop.items: "),
        (_submits, "shop.pay: not in the record"),
        (_swallows, "shop.pay: not in the record"),
        (_declares_anew, "shop.late: not in the record"),
    ],
)
def test_a_handler_cannot_reach_what_the_record_does_not_answer(replayed, attack, said, sandbox):
    """However it calls: no body but its own runs, in a sandbox neither, and the verdict names what was refused."""
    ran = []

    @shim.tool("shop.pay")
    def pay(card: str) -> None:
        ran.append(card)

    @shim.tool("shop.look", effects="none")
    def look(where: str) -> None:
        ran.append(where)

    @shim.tool("shop.items", effects="none")
    def items() -> Iterator[int]:
        ran.append("items")
        yield 1

    @shim.tool("shop.price", effects="none")
    def price(item: str) -> int:
        attack(pay, look, items)
        return 3

    [done] = replayed(call("shop.price", {"item": "tea"}, 3), only=("shop.price",), sandbox=sandbox)

    assert ran == []
    assert (done.verdict.kind, done.verdict.reason) == ("skipped", "unrecorded")
    assert said in done.verdict.detail


def test_what_the_record_answers_is_answered_once_and_changes_nothing(replayed):
    """An unsafe seam's recorded call is given back; the second, which nobody made then, is refused."""
    ran = []

    @shim.tool("shop.pay")
    def pay(card: str) -> str:
        ran.append(card)
        return "paid anew"

    @shim.tool("shop.price", effects="none")
    def price(item: str) -> str:
        return pay("card") + (pay("card") if item == "twice" else "")

    def recorded(item, at):
        outer = call("shop.price", {"item": item}, "paid then", at=at, callid=item)
        return outer, call("shop.pay", {"card": "card"}, "paid then", at=at, cause=item)

    once, twice = replayed(*recorded("once", 0), *recorded("twice", 1), only=("shop.price",))

    assert ran == []
    assert once.verdict.kind == "match"
    assert (twice.verdict.reason, twice.verdict.detail) == (
        "unrecorded",
        "shop.pay: not in the record with these arguments",
    )


def test_a_handler_that_connects_is_connected_to_nothing(replayed):
    """Whatever bus it names: there is no engine behind it that could publish."""

    @shim.tool("shop.price", effects="none")
    def price(item: str) -> str:
        connected = shim.connect("nats://127.0.0.1:1", required=True)
        try:
            connected.runtime.bus.emit("cf.x", None)
        except ConfigurationError as error:
            return str(error)
        return "published"

    [done] = replayed(call("shop.price", {"item": "tea"}, "the connection is closed: call connect() again"))

    assert done.verdict.kind == "match"


@pytest.mark.parametrize(
    ("pace", "begun"),
    [
        (Pace(), [0, 0, 0]),
        (Pace(factor=1), [0, 2, 62]),
        (Pace(factor=10), [0, 0.2, 6.2]),
        (Pace(factor=1, max_gap=5), [0, 2, 7]),
        (Pace(rate=0.5), [0, 2, 4]),
    ],
)
def test_calls_begin_when_the_pace_says(replayed, monkeypatch, pace, begun):
    """By the loop's clock, which stands still but for what the pacer waits."""
    waits, now, wait = [], [0.0], Pacer.wait

    async def sleep(seconds):
        now[0] += seconds

    loop = types.SimpleNamespace(time=lambda: now[0])
    monkeypatch.setattr(pacing, "asyncio", types.SimpleNamespace(get_running_loop=lambda: loop, sleep=sleep))

    async def noted(pacer, at):
        await wait(pacer, at)
        waits.append(now[0])

    monkeypatch.setattr(Pacer, "wait", noted)
    price(3)
    calls = [call("shop.price", {"item": f"{at}"}, 3, at=at, run="one") for at in (0, 2, 62)]

    assert kinds(replayed(*calls, pace=pace)) == ["match"] * 3
    assert waits == pytest.approx(begun)
