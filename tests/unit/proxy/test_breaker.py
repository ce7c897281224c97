"""The breaker's laws, for whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crossfade.proxy.breaker import JITTER, Breaker, Rule

RULE = Rule(failures=3, open=10.0)


def after(breaker: Breaker, *failures: float) -> Breaker:
    """``breaker`` after failures at these times, each asked just before."""
    for now in failures:
        breaker, ticket = breaker.admit(now)
        assert ticket is not None
        breaker = breaker.failed(ticket, now, rule=RULE, chance=0.0)
    return breaker


class Life(RuleBasedStateMachine):
    """Requests come, are answered, fail or leave in any order while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.out: list[int] = []
        self.probes: set[int] = set()

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        before = self.breaker
        self.breaker, ticket = before.admit(self.now)
        if before.state == "half-open" or (before.state == "open" and self.now < before.until):
            assert ticket is None, "open or probing, and the bus was asked"
            assert self.breaker == before
            return
        assert ticket is not None, "it may ask, and was not let"
        self.out.append(ticket)
        if before.state == "open":
            self.probes.add(ticket)

    @precondition(lambda self: self.out)
    @rule(at=st.integers(0, 1000), end=st.sampled_from(["answered", "failed", "withdrawn"]), chance=st.floats(0, 1))
    def end(self, at: int, end: str, chance: float) -> None:
        ticket = self.out.pop(at % len(self.out))
        before = self.breaker
        if end == "failed":
            self.breaker = before.failed(ticket, self.now, rule=RULE, chance=chance)
        else:
            self.breaker = getattr(before, end)(ticket)
        self.probes.discard(ticket)
        if ticket != before.epoch:
            assert self.breaker == before, "something asked before the last change was heard"
        elif end == "answered":
            assert self.breaker.state == "closed"
            assert self.breaker.failures == 0
        elif end == "failed":
            assert self.breaker.failures == before.failures + 1
            opens = before.state != "closed" or before.failures + 1 >= RULE.failures
            assert self.breaker.state == ("open" if opens else "closed")
            if opens:
                assert RULE.open <= self.breaker.until - self.now <= RULE.open * (1 + JITTER) + 1e-6
        else:
            assert self.breaker.state == ("closed" if before.state == "closed" else "open")

    @invariant()
    def one_probe_at_most(self) -> None:
        live = [ticket for ticket in self.out if ticket == self.breaker.epoch and self.breaker.state == "half-open"]
        assert len(live) == (self.breaker.state == "half-open")
        assert len(self.probes) <= 1

    @invariant()
    def only_failures_in_a_row_open_it(self) -> None:
        if self.breaker.state == "closed":
            assert self.breaker.failures < RULE.failures
        else:
            assert self.breaker.failures >= RULE.failures

    @invariant()
    def it_recovers(self) -> None:
        """From wherever it is, an answer to the next that may ask closes it."""
        breaker = self.breaker.withdrawn(self.breaker.epoch)
        breaker, ticket = breaker.admit(max(self.now, breaker.until))
        assert ticket is not None
        assert breaker.answered(ticket).state == "closed"


Life.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


@given(failures=st.integers(1, 50), more=st.integers(0, 10))
def test_what_needs_more_failures_opens_no_sooner(failures, more):
    """Monotone: a row that does not open a strict breaker does not open a lenient one."""

    def opens(limit: int) -> bool:
        breaker = Breaker()
        for now in range(failures):
            breaker, ticket = breaker.admit(float(now))
            if ticket is None:
                return True
            breaker = breaker.failed(ticket, float(now), rule=Rule(failures=limit, open=1e6), chance=0.0)
        return breaker.state == "open"

    for limit in range(1, 20):
        assert opens(limit) or not opens(limit + more)
        assert opens(limit) == (failures >= limit)


def test_an_answer_begins_the_row_anew():
    """Two failures of three, an answer, two failures: closed."""
    breaker = after(Breaker(), 1, 2)
    breaker = breaker.answered(breaker.epoch)
    assert after(breaker, 3, 4).state == "closed"
    assert after(breaker, 3, 4, 5).state == "open"


def test_an_answer_from_before_the_outage_closes_nothing():
    """A ticket that was given while it was closed is void once it is open."""
    _, early = Breaker().admit(0)
    assert early is not None
    broken = after(Breaker(), 1, 2, 3)
    assert broken.answered(early) == broken
    assert broken.failed(early, 4, rule=RULE, chance=0.0) == broken


def test_a_failed_probe_waits_as_long_again():
    """And a probe whose client left lets the next one try at once."""
    broken = after(Breaker(), 1, 2, 3)
    assert broken.admit(12.9)[1] is None
    probing, probe = broken.admit(13)
    assert probe is not None
    again = probing.failed(probe, 20, rule=RULE, chance=1.0)
    assert (again.state, again.until) == ("open", 32.5)
    left = probing.withdrawn(probe)
    assert left.admit(20)[1] is not None
