"""A route's breakers: they are told what the bus path does, and what they decide is told to log, counters and bus.

There are two of a route. ``calls`` hears whether the bus answers; ``ledger`` hears whether it stores tasks and lets
keys be claimed, which it may do while no worker is there, and may not while one still answers.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from crossfade.shim.diverting import LegacyAnswersError, tell_breaker
from crossfade.shim.errors import BusError, KeyReusedError, NotExecutedError, OutcomeUnknownError
from crossfade.shim.hooks import report
from crossfade.shim.rollbacks import RollbackRequest
from crossfade.shim.stages import TABLE

from .breaker import Breaker, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from crossfade.shim.diverting import Command, OverBus
    from crossfade.shim.rollbacks import Failing

    from .breaker import State

_log = logging.getLogger("crossfade.proxy")

# What did not come of the bus path: the client's own (left, slow, a key of another request, too much to carry), this
# process at its end, a fault of ours in one request, and a rollback that is under way already.
_NEUTRAL: Final = frozenset(
    {"cancelled", "slow-client", "key-reused", "EventTooLargeError", "closed", "internal", "stale-policy"}
)


class BreakerOpenError(Exception):
    """The bus is not asked now, since it fails ``failing``; ``wait`` seconds from now it may be."""

    def __init__(self, failing: Failing, state: State, *, wait: float) -> None:
        super().__init__(f"the breaker for {failing} is {state}")
        self.failing = failing
        self.state = state
        self.wait = wait

    @property
    def retry_after(self) -> int:
        """Whole seconds for a client to wait, at least one."""
        return max(1, math.ceil(self.wait))


class Attempt:
    """One request's use of the bus path; the first word about it counts."""

    def __init__(self, circuit: Circuit, bus: OverBus, command: Command, ticket: int) -> None:
        self._circuit = circuit
        self._bus = bus
        self._command = command
        self._ticket: int | None = ticket

    def answered(self) -> None:
        """The bus has answered, whatever that was."""
        if (ticket := self._take()) is not None:
            self._circuit.now_is(self._circuit.breaker.answered(ticket), self._bus, self._command)

    def ended(self, error: BaseException) -> None:
        """It raised ``error``: a failure of the bus path, a handler's answer, or no word on either."""
        reason = failure_of(error)
        if reason is None:
            self.answered()
        elif reason in _NEUTRAL:
            if (ticket := self._take()) is not None:
                self._circuit.now_is(self._circuit.breaker.withdrawn(ticket), self._bus, self._command)
        elif (ticket := self._take()) is not None:
            self._circuit.failed(ticket, reason, self._bus, self._command)

    def _take(self) -> int | None:
        ticket, self._ticket = self._ticket, None
        return ticket


class Circuit:
    """One breaker at work."""

    def __init__(
        self,
        failing: Failing,
        told: Callable[[OverBus, RollbackRequest | None], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.rule = Rule()
        self.breaker = Breaker()
        self._failing: Failing = failing
        self._told = told
        self._clock = clock
        self._chance = chance
        self._reasons = Counter[str]()

    @contextmanager
    def attempt(self, bus: OverBus, command: Command) -> Generator[Attempt]:
        """Use the bus path; an end without an error is an answer.

        Raises ``BreakerOpenError`` before anything was sent.
        """
        now = self._clock()
        breaker, ticket = self.breaker.admit(now)
        if ticket is None:
            raise BreakerOpenError(self._failing, breaker.state, wait=breaker.until - now)
        self.now_is(breaker, bus, command)
        attempt = Attempt(self, bus, command, ticket)
        try:
            yield attempt
        except BaseException as error:
            attempt.ended(error)
            raise
        attempt.answered()

    def failed(self, ticket: int, reason: str, bus: OverBus, command: Command) -> None:
        """The bus path failed the holder of ``ticket``."""
        breaker = self.breaker.failed(ticket, self._clock(), rule=self.rule, chance=self._chance())
        if breaker is not self.breaker:
            self._reasons[reason] += 1
        self.now_is(breaker, bus, command, reason=reason)

    def now_is(self, breaker: Breaker, bus: OverBus, command: Command, *, reason: str = "") -> None:
        """Take ``breaker``, and tell of a change of state; an outage asks for one rollback, however long it lasts."""
        before, self.breaker = self.breaker, breaker
        if not breaker.failures:
            self._reasons.clear()
        if breaker.state == before.state:
            return
        seam = command.seam.name
        report.count("breaker", seam=seam, reason=breaker.state)
        request: RollbackRequest | None = None
        if before.state == "closed":
            counts = dict(self._reasons)
            why = ", ".join(f"{reason} {times} times" for reason, times in counts.items())
            _log.warning("seam %s: the bus fails its %s (%s): not asked for a while", seam, self._failing, why)
            if TABLE[command.policy.stage].commands:  # else its keys are claimed only: there is no way further back
                request = RollbackRequest(
                    seam=seam, revision=command.policy.revision, failing=self._failing, reason=reason, counts=counts
                )
        elif breaker.state == "closed":
            _log.warning("seam %s: the bus serves its %s again", seam, self._failing)
        self._told(bus, request)


class Circuits:
    """The breakers of the seam ``name``, kept over reloads; ``settle`` gives them the rule that holds now."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.calls = Circuit("calls", self._told)
        self.ledger = Circuit("ledger", self._told)

    def settle(self, rule: Rule) -> None:
        """Let ``rule`` hold from the next failure on."""
        self.calls.rule = self.ledger.rule = rule

    @property
    def state(self) -> State:
        """The worse of the two."""
        states = {self.calls.breaker.state, self.ledger.breaker.state}
        return "open" if "open" in states else "half-open" if "half-open" in states else "closed"

    def _told(self, bus: OverBus, request: RollbackRequest | None) -> None:
        tell_breaker(bus, self._name, self.state, request)


def failure_of(error: BaseException) -> str | None:
    """Why the bus path brought no answer, as a short token; ``None``: it did, and ``error`` is what a handler said."""
    match error:
        case LegacyAnswersError():
            return error.answer.reason or error.answer.kind
        case NotExecutedError() | OutcomeUnknownError():
            return error.reason
        case KeyReusedError():
            return "key-reused"
        case BusError():
            return type(error).__name__
        case _:
            return None if isinstance(error, Exception) else "cancelled"
