"""What the help desk talks about."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from crossfade import shim


class Priority(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Ticket:
    number: int
    title: str
    priority: Priority = Priority.LOW
    opened: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    refund: Decimal = Decimal(0)
    tags: list[str] = field(default_factory=list)


@shim.register_error
class NoSuchTicketError(LookupError):
    """There is no ticket of this number."""


class OutOfMoneyError(Exception):
    """Not registered: it crosses a bus as text."""


TICKETS = {
    1: Ticket(1, "Printer on fire", Priority.HIGH, tags=["hardware"]),
    2: Ticket(2, "Password forgotten", refund=Decimal("12.50")),
    3: Ticket(3, "Printer out of paper", tags=["hardware", "paper"]),
}
