"""Whether the body may run is decided by phase and effects, not by the type of an exception."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim import (
    NotExecutedError,
    OutcomeUnknownError,
    RemoteError,
    UnserialisableError,
    current_call,
    register_error,
    tool,
)
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusFullError,
    BusRefusedError,
    BusUnavailableError,
    EventTooLargeError,
)
from integration.shim import kit

SAFE = ["none", "idempotent"]


def declare(*, effects="none", fallback="legacy", timeout=0.4):
    @tool("web.search", effects=effects, stage="bus", timeout=timeout, fallback=fallback)
    def search(x: int = 0) -> str:
        return "bus" if current_call() else "body"

    @tool("web.asearch", effects=effects, stage="bus", timeout=timeout, fallback=fallback)
    async def asearch(x: int = 0) -> str:
        return "bus" if current_call() else "body"

    def both(x: int = 0) -> set[str]:
        return {search(x), asyncio.run(asearch(x))}

    return search, asearch, both


NOT_SENT = [BusUnavailableError(), BusFullError(), BusRefusedError(), EventTooLargeError(size=2, limit=1)]


@pytest.mark.parametrize("effects", SAFE)
@pytest.mark.parametrize("error", NOT_SENT, ids=lambda error: type(error).__name__)
def test_not_sent_the_body_answers(connect, broker, counts, effects, error):
    """Provably not sent, for whatever reason; a failure of the bus that evidence hears of, of tasks as well."""
    search, _, both = declare(effects=effects)
    connection = connect()
    for _ in range(2):
        broker.fail_next("publish", error)
    assert both() == {"body"}
    assert counts.get("fallback", reason=type(error).__name__) == 2
    broker.fail_next("publish", error)
    task = search.submit()
    assert not task.durable
    task.result()
    unanswered = {name: seam["unanswered"] for name, seam in connection.runtime.observer.tally.to_json().items()}
    why = f"not-executed:{type(error).__name__}"
    assert unanswered == {"web.search": {why: 2}, "web.asearch": {why: 1}}
    assert kit.read(connection, "{p}.>") == []


@pytest.mark.parametrize("error", NOT_SENT, ids=lambda error: type(error).__name__)
def test_not_sent_and_no_fallback_is_not_executed(connect, broker, error):
    """``fallback=raise``: the error says that nothing ran, and why."""
    search, _, _ = declare(fallback="raise")
    connect()
    broker.fail_next("publish", error)
    with pytest.raises(NotExecutedError) as caught:
        search()
    assert caught.value.reason == type(error).__name__


@pytest.mark.parametrize("effects", SAFE)
def test_unknown_and_harmless_the_body_answers(connect, counts, effects):
    """Sent, and no result by the deadline: running it twice does no harm."""
    *_, both = declare(effects=effects, timeout=0.2)
    connect()
    assert both() == {"body"}
    assert counts.get("fallback", reason="deadline") == 2


def test_unknown_and_no_fallback_is_unknown(connect):
    """``fallback=raise``: never reported as not executed."""
    search, asearch, _ = declare(fallback="raise", timeout=0.2)
    connect()
    with pytest.raises(OutcomeUnknownError):
        search()
    with pytest.raises(OutcomeUnknownError):
        asyncio.run(asearch())


def test_an_unsafe_seam_is_not_sent_to_storage_that_forgets_claims(connect, broker, counts, work, caplog):
    """Code says bus and effects are unsafe (the default): the body answers, observed, with one warning."""
    search, asearch, both = declare(effects="unsafe")
    connection = connect()
    work(connection, search, asearch)
    assert both() == {"body"}
    assert kit.read(connection, "{p}.>") == []
    assert counts.get("skipped", seam="web.search", reason="storage") >= 1
    assert len([record for record in caplog.records if "web.search" in record.getMessage()]) == 1


@pytest.mark.parametrize("landed", [True, False])
def test_a_publish_in_doubt_is_repeated_until_it_is_clean(connect, work, broker, counts, landed):
    """The answer got lost, whether the command was stored or not: one execution, one answer."""
    search, asearch, both = declare(fallback="raise", timeout=5)
    connection = connect()
    for _ in range(2):
        broker.fail_next("publish", BusAmbiguousError(), after=landed)
    work(connection, search, asearch)
    assert both() == {"bus"}
    assert counts.get("served") == 2
    assert counts.get("publish-ambiguous") >= 2


@pytest.mark.parametrize("refusal", [BusFullError(), BusUnavailableError(), BusRefusedError()])
def test_a_refusal_after_a_publish_in_doubt_proves_nothing(connect, work, broker, refusal):
    """The first try landed, the second was refused: the call ran, so "not executed" would be a lie."""
    search, _, _ = declare(fallback="raise", timeout=5)
    connection = connect()
    broker.fail_next("publish", BusAmbiguousError(), after=True)
    broker.fail_next("publish", refusal)
    work(connection, search)
    assert search() == "bus"


@pytest.mark.parametrize("error", [ValueError("no", 3), KeyError("k"), OSError(2, "gone"), RuntimeError()])
def test_an_error_of_the_handler_is_raised_never_retried(connect, work, error, counts):
    """Executed and failed: the caller gets the handler's error; the body does not run a second time."""
    runs = []

    @tool("always.fails", effects="none", stage="bus", timeout=5)
    def fails() -> None:
        runs.append(current_call())
        raise error

    connection = connect()
    work(connection, fails)
    with pytest.raises(type(error)) as caught:
        fails()
    assert type(caught.value) is type(error)
    assert caught.value.args == error.args
    assert "Raised by the handler on the bus" in caught.value.__notes__[-1]
    assert len(runs) == 1
    assert counts.get("fallback") == 0


class TeapotError(Exception):
    """An application's own error."""


def test_an_unregistered_error_arrives_as_text(connect, work):
    """Its class is never looked up by the name on the wire; once registered here it is raised as itself."""

    @tool("tea.pot", effects="none", stage="bus", timeout=5)
    def pot() -> None:
        raise TeapotError("short", "stout")

    connection = connect()
    work(connection, pot)
    with pytest.raises(RemoteError, match="stout") as caught:
        pot()
    assert caught.value.type_name == f"{__name__}.TeapotError"
    assert "raise TeapotError" in caught.value.remote_traceback
    register_error(TeapotError)
    with pytest.raises(TeapotError) as registered:
        pot()
    assert registered.value.args == ("short", "stout")


def test_a_result_that_cannot_travel_is_an_error_never_not_executed(connect, work):
    """It ran: whoever hears "not executed" would run it again."""

    @tool("odd.result", effects="none", stage="bus", timeout=5)
    def odd():
        return object()

    connection = connect()
    work(connection, odd)
    with pytest.raises(UnserialisableError):
        odd()
