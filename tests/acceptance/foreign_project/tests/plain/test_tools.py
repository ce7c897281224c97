"""Tests from before there was a bus, not a word changed."""

import asyncio
import inspect
from decimal import Decimal

import pytest
from helpdesk import tools
from helpdesk.tickets import NoSuchTicketError, Priority


def test_search():
    assert [ticket.number for ticket in tools.search("printer")] == [1, 3]
    assert [ticket.number for ticket in tools.search("printer", priority=Priority.HIGH)] == [1]


def test_search_keeps_its_identity():
    assert tools.search("fire")[0] is tools.search("fire")[0]


def test_get_of_nothing():
    with pytest.raises(NoSuchTicketError):
        tools.get(99)


def test_refund(monkeypatch):
    monkeypatch.setattr(tools, "paid", [])
    assert tools.refund(2, Decimal("12.50")) == Decimal("12.50")
    assert tools.paid == [2]


def test_classify():
    assert inspect.iscoroutinefunction(tools.classify)
    assert asyncio.run(tools.classify("Printer on fire")) is Priority.HIGH


def test_export():
    assert list(tools.export()) == ["#1", "#2", "#3"]


def test_tail():
    async def collect():
        return [ticket.number async for ticket in tools.tail(2)]

    assert asyncio.run(collect()) == [1, 2]


def test_mailer(monkeypatch):
    monkeypatch.setattr(tools, "sent", [])
    assert tools.Mailer("me@example.com").send("you@example.com") == "me@example.com -> you@example.com"
    assert tools.Mailer("me@example.com").sign("hi") == "hi\n-- me@example.com"
    assert tools.Mailer.name("!") == "Mailer!"
    assert tools.Mailer.valid("nobody") is False


def test_digest():
    assert asyncio.run(tools.digest("printer")) == "Printer on fire, Printer out of paper"
