"""The tools of the help desk, each a seam."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

from crossfade import shim

from .tickets import TICKETS, NoSuchTicketError, OutOfMoneyError, Priority, Ticket

sent: list[tuple[str, str]] = []
paid: list[int] = []
patience = threading.Event()


@shim.tool("tickets.search", effects="none")
def search(words: str, *, priority: Priority | None = None) -> list[Ticket]:
    """Every ticket with these words in its title."""
    found = [ticket for ticket in TICKETS.values() if words.lower() in ticket.title.lower()]
    return [ticket for ticket in found if priority in (None, ticket.priority)]


@shim.tool("tickets.get", effects="none")
def get(number: int) -> Ticket:
    if number not in TICKETS:
        raise NoSuchTicketError(number)
    return TICKETS[number]


@shim.tool("tickets.refund")
def refund(number: int, amount: Decimal) -> Decimal:
    if amount > 100:
        raise OutOfMoneyError(f"no {amount} left")
    paid.append(number)
    return amount


@shim.tool("tickets.classify", effects="none")
async def classify(title: str) -> Priority:
    await asyncio.sleep(0)
    return Priority.HIGH if "fire" in title else Priority.LOW


@shim.tool("tickets.export", effects="none")
def export(prefix: str = "#") -> Iterator[str]:
    for ticket in TICKETS.values():
        yield f"{prefix}{ticket.number}"


@shim.tool("tickets.tail", effects="none")
async def tail(n: int) -> AsyncIterator[Ticket]:
    for number in range(1, n + 1):
        await asyncio.sleep(0)
        yield TICKETS[number]


@shim.agent("desk.digest", effects="idempotent", timeout=20)
async def digest(topic: str) -> str:
    """An agent that calls a tool."""
    shim.report_progress(0.5, f"reading about {topic}")
    return ", ".join(ticket.title for ticket in search(topic))


@shim.tool("desk.sign_in", effects="none", secret=("password",))
def sign_in(user: str, password: str) -> bool:
    return password == f"{user}'s password"


@shim.tool("desk.wait", effects="none")
def wait(seconds: float) -> bool:
    return patience.wait(seconds)


class Mailer:
    """Methods of every kind; workers make a mailer by ``bind``."""

    def __init__(self, sender: str = "desk@example.com") -> None:
        self.sender = sender

    @shim.tool("mail.send", bind=lambda: Mailer())  # noqa: PLW0108 - the class has no name yet
    def send(self, to: str) -> str:
        sent.append((self.sender, to))
        return f"{self.sender} -> {to}"

    @shim.tool("mail.sign")
    def sign(self, text: str) -> str:
        return f"{text}\n-- {self.sender}"

    @classmethod
    @shim.tool("mail.name", effects="none")
    def name(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @staticmethod
    @shim.tool("mail.valid", effects="none")
    def valid(address: str) -> bool:
        return "@" in address
