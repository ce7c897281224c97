"""Whatever comes in, over the bus or from a caller, ends as a counted refusal; legacy answers never change."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from crossfade.shim import NotExecutedError, current_call, tool
from crossfade.shim import connect as shim_connect
from crossfade.shim.claimcheck import CLAIM_CHECK
from crossfade.shim.config import Config
from crossfade.shim.errors import BusRefusedError, BusUnavailableError, UnserialisableError
from crossfade.shim.events import Event, new_id
from integration.shim import kit
from support.nats_server import NatsServer

# What pickle would run on loading; written by hand, since nothing here may import pickle.
BOMB = b"cposix\nsystem\n(S'touch exploded'\ntR."


class Touchy(BaseModel):
    a: int

    @model_validator(mode="after")
    def never_two(self):
        if self.a == 2:
            raise KeyError("two")
        return self


@pytest.fixture
def ran():
    return []


@pytest.fixture
def search(ran):
    @tool("web.search", effects="none", stage="bus", timeout=5, fallback="raise")
    def search(x: int = 1) -> int:
        ran.append(x)
        return x

    return search


def send(connection, data, *, seam="web.search", callid=None, **attributes):
    """A command of a stranger's; returns its call id."""
    runtime, callid = connection.runtime, callid or new_id()
    extensions = {"callid": callid, "expirytime": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(), **attributes}
    event = Event(type="tool.invoke", source="urn:stranger", id=callid, extensions=extensions, data=data)
    subject = runtime.subjects.call("invoke", domain="tool", seam=seam, run=callid, callid=callid)
    kit.on_loop(connection, runtime.bus.publish(subject, event))
    return callid


def outcome(connection, callid):
    found = kit.until(lambda: kit.read(connection, connection.runtime.subjects.of_call(callid, "result")))
    return json.loads(found[0].data)


# -- commands from strangers -----------------------------------------------------------------------------------------

DEEP = b'{"arguments": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


@pytest.mark.parametrize("bus", ["memory", "nats"])
def test_commands_that_cannot_be_read_end_in_dead_letters_and_the_next_is_served(  # noqa: PLR0917
    connect, work, nats_server, search, ran, bus, tmp_path, monkeypatch
):
    """Bytes, pickles, deep nesting, wrong types, missing arguments: each has a terminal and a dead letter."""
    monkeypatch.chdir(tmp_path)
    connection = connect(nats_server.url if bus == "nats" else None)
    bad = [b"", b"\x00\xff", BOMB, DEEP, b"null", b"{}", b'{"arguments": {"x": "seven"}}', b'{"arguments": [1]}']
    callids = [send(connection, data) for data in bad]
    work(connection, search)
    assert search(7) == 7
    for callid in callids:
        answer = outcome(connection, callid)
        assert (answer["outcome"], answer["reason"]) == ("not-executed", "arguments")
    letters = kit.until(lambda: len(found := kit.dead_letters(connection)) == len(bad) and found)
    assert {letter.reason for letter in letters} == {"arguments"}
    assert sorted(letter.event.get("callid") for letter in letters) == sorted(callids)
    assert ran == [7]
    assert not Path("exploded").exists()


def test_messages_that_are_no_events_end_in_dead_letters(connect, work, broker, search, ran):
    """Bytes on a command's subject with no envelope at all: never handed out, nothing lost."""
    connection = connect()
    prefix = connection.runtime.config.prefix
    subject = f"{prefix}.0.-.-.tool.web-search.r.c.invoke"
    broker.store_raw(subject, {}, BOMB)
    broker.store_raw(subject, {"ce-id": "1", "ce-specversion": "9.0", "ce-type": "x", "ce-source": "y"}, b"{}")
    broker.store_raw(subject, {"ce-id": "%", "ce-specversion": "1.0", "ce-type": "x", "ce-source": "y"}, b"{}")
    work(connection, search)
    assert search(7) == 7
    assert len(kit.until(lambda: len(found := kit.dead_letters(connection)) == 3 and found)) == 3
    assert ran == [7]


@pytest.mark.parametrize(
    "dataref",
    [
        "nonsense",
        "file:///etc/passwd#sha256=00&size=1",
        "http://127.0.0.1:1/#sha256=00&size=1",
        "memory-obj://x/y#sha256=00&size=1",
        "nats-obj://x/y#sha256=00&size=-1",
        "#sha256=&size=" + "9" * 30,
    ],
)
@pytest.mark.parametrize("bus", ["memory", "nats"])
def test_a_claim_check_that_leads_nowhere_ends_the_call(connect, work, nats_server, search, bus, dataref):  # noqa: PLR0917
    """A stranger's ``dataref`` fetches nothing, reads no file, and is not tried again and again."""
    connection = connect(nats_server.url if bus == "nats" else None)
    callid = send(connection, None, dataref=dataref)
    work(connection, search)
    answer = outcome(connection, callid)
    assert (answer["outcome"], answer["reason"]) == ("not-executed", "dataref")


def test_a_claim_check_that_cannot_be_fetched_now_is_fetched_later(connect, work, broker, counts):
    """The object store was away for a moment: no dead letter, no lie about a secret, an answer."""

    @tool("large.argument", effects="none", stage="bus", timeout=10, fallback="raise")
    def size(text: str) -> int:
        return len(text)

    connection = connect()
    broker.fail_next("get_object", BusUnavailableError("just now"))
    work(connection, size, ack_wait=1)
    assert size("x" * 400_000) == 400_000
    assert kit.dead_letters(connection) == []
    assert counts.get("unsettled", reason="BusUnavailableError") == 1


def test_an_unknown_seam_waits_for_its_worker(connect, work, search):
    """A command for a seam that this worker does not serve is not its business."""
    connection = connect()
    send(connection, b'{"arguments": {}}', seam="web.other")
    work(connection, search)
    assert search(7) == 7
    assert kit.dead_letters(connection) == []


def test_a_types_own_validation_may_fail_in_any_way(connect, work):
    """A validator that raises KeyError: refused at the worker, legacy at the caller."""

    @tool("touchy.one", effects="none", stage="bus", timeout=5)
    def touchy(x: Touchy) -> str:
        return "bus" if current_call() else "body"

    connection = connect()
    callid = send(connection, b'{"arguments": {"x": {"a": 2}}}', seam="touchy.one")
    work(connection, touchy)
    assert outcome(connection, callid)["reason"] == "arguments"
    assert touchy(Touchy.model_construct(a=2)) == "body"
    assert touchy(Touchy(a=1)) == "bus"


# -- answers from strangers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "payload"), (BOMB, "payload"), (b"[]", "payload"), (b'{"outcome": "odd"}', "payload"), (DEEP, "payload")],
)
def test_a_reply_that_cannot_be_read_is_counted_and_the_log_asked(connect, work, counts, data, reason):
    """The caller goes on waiting, and gets the true result."""

    @tool("web.patient", effects="none", stage="bus", timeout=5, fallback="raise")
    def patient() -> str:
        connection.runtime.thread.loop.call_soon_threadsafe(
            connection.runtime.calls.receive,
            Event(type="tool.result", source="urn:s", extensions={"callid": current_call().callid}, data=data),
        )
        return "true"

    connection = connect()
    work(connection, patient)
    assert patient() == "true"
    assert counts.get("malformed-reply", reason=reason) == 1


def test_a_result_of_another_type_is_an_error_by_name(connect, broker):
    """A handler in another version answers text where a number is declared."""

    @tool("web.number", effects="none", stage="bus", timeout=5, fallback="raise")
    def number() -> int: ...

    async def answer(payload):
        async with connection.runtime.bus.consume("stranger", [f"{connection.runtime.config.prefix}.>"]) as deliveries:
            delivery = await deliveries.next(timeout=5)
            command = delivery.stored.event
            extensions = {"callid": command.get("callid")}
            event = Event(type="tool.result", source="urn:s", extensions=extensions, data=payload)
            connection.runtime.bus.reply(command.get("replyto"), event)
            await delivery.ack()

    connection = connect()
    for payload in (b'{"outcome": "value", "value": "seven"}', b'{"outcome": "value"}'):
        answering = connection.runtime.thread.spawn(answer(payload))
        with pytest.raises(UnserialisableError, match="return"):
            number()
        answering.result(5)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "ExceptionGroup", "SystemExit", "type", "x" * 5000])
def test_a_hostile_error_type_is_only_text(connect, work, name, tmp_path, monkeypatch):
    """The wire's type name is never imported, called or resolved."""
    from crossfade.shim import RemoteError, execution
    from crossfade.shim.outcomes import ErrorRecord

    monkeypatch.chdir(tmp_path)

    @tool("evil.error", effects="none", stage="bus", timeout=5)
    def evil() -> None:
        raise ValueError

    def record_error(error, redact):
        return ErrorRecord(type=name, message="touch exploded", args=("touch exploded",))

    monkeypatch.setattr(execution, "record_error", record_error)
    connection = connect()
    work(connection, evil)
    with pytest.raises(RemoteError) as caught:
        evil()
    assert caught.value.type_name == name
    assert not Path("exploded").exists()


# -- live policies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        BOMB,
        b"[]",
        b"7",
        b'{"policy": {"stage": "warp"}}',
        b'{"policy": {"stage": null}}',
        b'{"policy": {"stage": ["bus"]}}',
        b'{"policy": {"timeout": "soon"}}',
        b'{"policy": {"timeout": 1e999}}',
        pytest.param(b'{"policy": {"timeout": 1' + b"0" * 400 + b"}}", id="huge"),
        b'{"policy": {"effects": {}}}',
        b'{"policy": {"unknown": 1}}',
        pytest.param(b'{"policy": ' + b"[" * 100_000, id="deep"),
    ],
)
def test_a_live_policy_that_cannot_be_read_changes_nothing_and_the_next_one_counts(connect, counts, garbage):
    """The last known policy stays in force, counted; a rollback after it still arrives."""

    @tool("web.search", effects="none", stage="observe")
    def search() -> None: ...

    connection = connect()
    before = search.__crossfade_seam__.route
    kit.set_live(connection, "web.search", garbage)
    kit.until(lambda: counts.get("skipped", seam="web.search", reason="policy"))
    assert type(search.__crossfade_seam__.route) is type(before)
    search()
    kit.set_live(connection, "web.search", {"stage": "legacy"})
    kit.until(lambda: search.__crossfade_seam__.route is None)


def test_a_live_policy_that_was_garbage_before_we_came_changes_nothing(connect, counts, prefix):
    """A process that starts beside it: code and file hold."""

    @tool("web.search", effects="none", stage="observe")
    def search() -> str:
        return "x"

    connection = connect()
    kit.set_live(connection, "web.search", b'{"policy": ' + b"[" * 100_000)
    kit.set_live(connection, "Not A Seam".replace(" ", "_"), b"\x00")
    connection.close()
    again = connect()
    assert search() == "x"
    assert kit.observed(again)


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", ["memory", "nats"])
@pytest.mark.parametrize("size", [CLAIM_CHECK - 200, CLAIM_CHECK + 1, 3_000_000])
def test_large_arguments_and_results_cross_by_claim_check(connect, work, nats_server, bus, size):
    """Larger than any message of the broker's: equal on both sides."""

    @tool("large.echo", effects="none", stage="bus", timeout=15, fallback="raise")
    def echo(text: str) -> str:
        assert current_call() is not None
        return text[::-1]

    connection = connect(nats_server.url if bus == "nats" else None)
    work(connection, echo)
    text = os.urandom(size // 2).hex()
    assert echo(text) == text[::-1]
    checked = [event.get("dataref") is not None for event in kit.read(connection, "{p}.>")]
    assert checked == [size > CLAIM_CHECK] * 2


def test_an_observation_too_large_for_the_broker_is_dropped_and_counted(connect, counts):
    """The caller's answer is what it is."""

    @tool("large.seen", stage="observe")
    def seen(text: str) -> int:
        return len(text)

    connect()
    assert seen("x" * 3_000_000) == 3_000_000
    kit.until(lambda: counts.get("dropped", seam="large.seen", reason="EventTooLargeError") == 1)


# -- a broker in no state to help ------------------------------------------------------------------------------------


def answers_as_legacy(url, prefix, **options):
    """Whether an observed seam answers though its broker does not help; the connection's failure."""

    @tool("web.search", stage="observe")
    def search(x: int) -> int:
        return x + 1

    with shim_connect(url, config=Config(prefix=prefix), wait=1.0, **options) as connection:
        assert [search(n) for n in range(50)] == list(range(1, 51))
        return connection.runtime.failure


def test_wrong_credentials_leave_every_seam_legacy(prefix, tmp_path, counts, caplog):
    """Refused by the broker: legacy, said once, without the password."""
    config = 'authorization { user: "app", password: "right" }'
    with NatsServer(tmp_path / "nats", config=config) as server:
        failure = answers_as_legacy(f"nats://app:wrong-tiger@127.0.0.1:{server.port}", prefix)
    assert isinstance(failure, BusRefusedError)
    assert "tiger" not in caplog.text + str(failure)
    assert len([r for r in caplog.records if "stays legacy" in r.getMessage()]) == 1


def test_something_else_that_listens_leaves_every_seam_legacy(prefix, counts):
    """Not a NATS server at all."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        failure = answers_as_legacy(f"nats://127.0.0.1:{listener.getsockname()[1]}", prefix)
    assert failure is None or isinstance(failure, BusUnavailableError)


def test_a_broker_without_room_refuses_commands_and_the_body_answers(connect, broker, counts, prefix):
    """A full stream: not executed, the legal fallback."""

    @tool("web.full", effects="none", stage="bus", timeout=5)
    def full(text: str) -> str:
        return "bus" if current_call() else "body"

    connect()
    broker.limit(prefix, max_bytes=1, discard="new")
    assert full("x") == "body"
    assert counts.get("fallback", reason="BusFullError") == 1


def test_a_server_without_room_leaves_answers_alone(prefix, tmp_path, counts):
    """A real server refuses: at observe nothing is noticed, at bus the body answers or the call says why not."""

    @tool("web.observed", stage="observe")
    def observed(text: str) -> int:
        return len(text)

    @tool("web.diverted", effects="none", stage="bus", timeout=0.5)
    def diverted(text: str) -> str:
        return "bus" if current_call() else "body"

    @tool("web.refused", effects="none", stage="bus", timeout=5, fallback="raise")
    def refused(text: str) -> str: ...

    with (
        NatsServer(tmp_path / "nats") as server,
        shim_connect(server.url, config=Config(prefix=prefix), required=True) as connection,
    ):
        command = f"{connection.runtime.bus._command}"
        limits = {"max_bytes": 40_000}
        kit.on_loop(connection, shrink(connection, command, limits))
        text = "x" * 30_000
        assert [observed(text) for _ in range(100)] == [30_000] * 100
        answers = [diverted(text) for _ in range(4)]
        assert set(answers) == {"body"}
        with pytest.raises(NotExecutedError):
            refused(text)
    assert counts.get("fallback", reason="BusFullError") >= 2


async def shrink(connection, stream, limits):
    """Give the commands' stream next to no room, as an operator or a full disk would."""
    link = connection.runtime.bus._connection
    config = (await link.api(f"STREAM.INFO.{stream}"))["config"]
    await link.api(f"STREAM.UPDATE.{stream}", {**config, **limits})
    await connection.runtime.bus._gate.refresh()


# -- callers ---------------------------------------------------------------------------------------------------------


class Unfriendly:
    def __eq__(self, other):
        raise ValueError("ambiguous")

    __hash__ = None


@pytest.mark.parametrize("value", [object(), Unfriendly(), (1, 2), {1: 2}, b"x", float("nan"), {"a": Unfriendly()}])
def test_arguments_that_cannot_cross_stay_legacy_with_one_warning(connect, work, counts, caplog, value):
    """At bus, too: the body answers with the very object, counted each time."""
    got: list[Any] = []

    @tool("any.value", effects="none", stage="bus", timeout=5)
    def take(x) -> bool:
        got.append(x)
        return current_call() is not None

    connection = connect()
    work(connection, take)
    assert [take(value), take(value)] == [False, False]
    assert got[0] is got[1] is value
    assert counts.get("skipped", seam="any.value") == 2
    assert len([record for record in caplog.records if "any.value" in record.getMessage()]) == 1


def test_a_signature_without_json_form_stays_legacy_and_costs_nothing_twice(connect, monkeypatch, counts):
    """It is tried once, not once per call."""
    import io

    from crossfade.shim import payloads

    built = []
    codec = payloads.SignatureCodec

    def spy(*args, **kwargs):
        built.append(1)
        return codec(*args, **kwargs)

    monkeypatch.setattr(payloads, "SignatureCodec", spy)

    @tool("takes.file", stage="observe")
    def takes(file: io.IOBase) -> str:
        return file.read()

    connect()
    assert [takes(io.StringIO("x")) for _ in range(5)] == ["x"] * 5
    assert len(built) == 1
    assert counts.get("skipped", seam="takes.file") == 5


def test_odd_correlations_do_not_break_a_call(connect, work):
    """Users and runs are any text that ``correlate`` accepts."""
    from crossfade.shim import correlate, current_correlation

    @tool("who.calls", effects="none", stage="bus", timeout=5, fallback="raise")
    async def who() -> str:
        return current_correlation().user

    connection = connect()
    work(connection, who)
    for user in ("alice@example.com", "h_x", "a.b.*.>", "ünï", "x" * 1024, "-", "%41"):
        with correlate(user=user, tenant=user, run=user, baggage={"k": "v,;=%"}):
            assert asyncio.run(who()) == user
