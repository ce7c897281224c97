import os
import threading
from decimal import Decimal

import pytest
from helpdesk import tools
from helpdesk.tickets import TICKETS, NoSuchTicketError, Priority, Ticket

from crossfade import shim


def test_search(bus, stage):
    stage("tickets.search", "bus")

    found = tools.search("printer", priority=Priority.HIGH)

    assert found == [TICKETS[1]]
    assert found[0] is not TICKETS[1]
    (call,) = bus.calls("tickets.search")
    assert call.arguments == {"words": "printer", "priority": Priority.HIGH}
    assert (call.outcome, call.value, call.path) == ("value", [TICKETS[1]], "bus")


def test_every_test_begins_anew(bus):
    tools.search("printer")

    assert bus.events() == []
    assert bus.calls("tickets.search") == []


def test_a_registered_error(bus, stage):
    stage("tickets.get", "bus")

    with pytest.raises(NoSuchTicketError) as caught:
        tools.get(99)

    assert caught.value.args == (99,)
    assert isinstance(bus.calls("tickets.get")[0].error, NoSuchTicketError)


def test_an_unregistered_error(bus, stage):
    stage("tickets.refund", "bus")

    with pytest.raises(shim.RemoteError, match="no 101 left"):
        tools.refund(2, Decimal(101))


def test_unsafe_calls_are_claimed(bus, stage, monkeypatch):
    monkeypatch.setattr(tools, "paid", [])
    stage("tickets.refund", "bus")

    assert tools.refund(2, Decimal("12.50")) == Decimal("12.50")

    assert tools.paid == [2]
    assert len(bus.events("call.claimed", seam="tickets.refund")) == 1


def test_streams(bus, stage):
    stage("tickets.export", "bus")

    assert list(tools.export(prefix="")) == ["1", "2", "3"]

    assert bus.calls("tickets.export")[0].value == ["1", "2", "3"]


def test_methods(bus, stage, monkeypatch):
    monkeypatch.setattr(tools, "sent", [])
    for seam in ("mail.send", "mail.name", "mail.valid"):
        stage(seam, "bus")

    assert tools.Mailer("me@example.com").send("you@example.com") == "desk@example.com -> you@example.com"
    assert tools.Mailer.name("!") == "Mailer!"
    assert tools.Mailer.valid("nobody") is False

    assert tools.sent == [("desk@example.com", "you@example.com")]
    assert len(bus.calls("mail.send")) == len(bus.calls("mail.name")) == len(bus.calls("mail.valid")) == 1


def test_a_method_that_cannot_move(bus, stage):
    stage("mail.sign", "observe")
    assert tools.Mailer("me").sign("hi") == "hi\n-- me"
    assert len(bus.events("tool.observed", seam="mail.sign")) == 1

    with pytest.raises(shim.SeamDefinitionError, match="bind="):
        stage("mail.sign", "bus")


def test_shadow_agrees_with_itself(bus, stage):
    stage("tickets.search", "shadow")

    for words in ("printer", "password", "nothing"):
        tools.search(words)

    assert [verdict.kind for verdict in bus.verdicts("tickets.search")] == ["match"] * 3


def test_shadow_finds_what_differs(bus, stage):
    @shim.handler("tickets.search")
    def search_v2(words: str, *, priority: Priority | None = None) -> list[Ticket]:
        return [ticket for ticket in TICKETS.values() if words in ticket.title]

    stage("tickets.search", "shadow")
    assert len(tools.search("printer")) == 2

    (verdict,) = bus.verdicts("tickets.search")
    assert verdict.kind == "mismatch"
    assert verdict.differences


def test_the_handler_of_another_test_is_gone(bus, stage):
    stage("tickets.search", "bus")

    assert len(tools.search("printer")) == 2


def test_canary_by_user(bus, stage):
    stage("tickets.get", "canary", percent=100)

    tools.get(1)
    with shim.correlate(user="ann"):
        tools.get(2)

    assert [call.arguments for call in bus.calls("tickets.get")] == [{"number": 2}]
    assert bus.calls("tickets.get")[0].command.event.get("userid") == "ann"


def test_back_again(bus, stage):
    stage("tickets.get", "bus")
    tools.get(1)
    stage("tickets.get", "legacy")

    assert tools.get(1) is TICKETS[1]
    assert len(bus.calls("tickets.get")) == 1


def test_an_agent_that_calls_a_tool(bus, stage):
    stage("desk.digest", "bus")
    stage("tickets.search", "bus")

    task = tools.digest.submit("printer")

    assert task.durable
    assert task.result(5) == "Printer on fire, Printer out of paper"
    assert bus.wait_for("agent.task.progress")[0].payload["message"] == "reading about printer"
    assert bus.calls("tickets.search")[0].command.event.get("causationid") == task.callid


def test_a_secret(bus, stage):
    stage("desk.sign_in", "bus")

    assert tools.sign_in("ann", "ann's password")

    (call,) = bus.calls("desk.sign_in")
    assert call.arguments == {"user": "ann"}
    assert "ann's password" not in str(bus.events())


def test_the_broker_is_away(bus, stage):
    stage("tickets.refund", "bus")
    bus.broker.stop()

    assert tools.refund(2, Decimal(1)) == 1

    assert bus.counts.get("fallback", seam="tickets.refund") == 1
    assert bus.calls("tickets.refund") == []


def test_a_reply_is_lost(bus, stage, monkeypatch):
    monkeypatch.setattr(tools, "paid", [])
    stage("tickets.refund", "bus", timeout=1)
    bus.broker.lose_replies(1)

    assert tools.refund(2, Decimal(1)) == 1

    assert tools.paid == [2]


def test_threads_may_call_too(bus, stage):
    stage("tickets.get", "bus")

    threads = [threading.Thread(target=tools.get, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(bus.calls("tickets.get")) == 8


def test_the_shells_settings_are_out_of_sight(bus, stage):
    assert [name for name in os.environ if name.startswith("CROSSFADE_") and name != "CROSSFADE_SEAL_KEY"] == []
    stage("tickets.get", "bus")
    tools.get(1)

    assert len(bus.calls("tickets.get")) == 1


def test_a_typo(bus, stage):
    with pytest.raises(shim.ConfigurationError, match=r"tickets\.serach.*tickets\.search"):
        stage("tickets.serach", "bus")
    with pytest.raises(shim.ConfigurationError, match="legacy, observe"):
        stage("tickets.search", "buss")


def test_what_did_not_come(bus, stage):
    stage("tickets.get", "observe")
    tools.get(1)

    with pytest.raises(TimeoutError, match=r"0 of 1 tool.invoke of tickets.get; on the bus are: .*tool.observed"):
        bus.wait_for("tool.invoke", seam="tickets.get", timeout=0.05)
