"""When the bus path of a seam is not asked any more, and when it is tried again. Pure: time and chance are passed in.

1. Failures in a row open it: one answer begins the row anew. A share of a window would need traffic to mean something;
   a row of failures is what a bus that is gone looks like, at one request a minute or at a thousand a second.
2. Open, nobody asks the bus. After a time, longer by chance so that processes do not try together, one request may.
3. That probe's answer closes it, its failure opens it for as long again. One that says nothing, because its client left
   or the request itself was wrong, gives its place to the next.
4. What was asked before the last change says nothing any more: the answers that an outage left behind close nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

State = Literal["closed", "open", "half-open"]

JITTER: Final = 0.25
"""How much longer than its time a breaker may stay open, by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """``failures`` in a row open a breaker for ``open`` seconds, and up to a quarter of them more."""

    failures: int = 5
    open: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """``failures`` in a row so far; ``until``: when an open one may be tried; ``epoch`` changes with ``state``."""

    state: State = "closed"
    failures: int = 0
    until: float = 0.0
    epoch: int = 0

    def admit(self, now: float) -> tuple[Breaker, int | None]:
        """The breaker after somebody wanted to ask the bus, and their ticket; ``None``: they must not ask."""
        if self.state == "closed":
            return self, self.epoch
        if self.state == "open" and now >= self.until:
            probing = replace(self, state="half-open", epoch=self.epoch + 1)
            return probing, probing.epoch
        return self, None

    def answered(self, ticket: int) -> Breaker:
        """After the bus has answered the holder of ``ticket``, whatever the answer was."""
        if ticket != self.epoch:
            return self
        if self.state == "closed":
            return replace(self, failures=0) if self.failures else self
        return Breaker(epoch=self.epoch + 1)

    def failed(self, ticket: int, now: float, *, rule: Rule, chance: float) -> Breaker:
        """After the bus path failed the holder of ``ticket``; ``chance`` is from 0 to 1."""
        if ticket != self.epoch:
            return self
        failures = self.failures + 1
        if self.state == "closed" and failures < rule.failures:
            return replace(self, failures=failures)
        until = now + rule.open * (1 + JITTER * chance)
        return Breaker(state="open", failures=failures, until=until, epoch=self.epoch + 1)

    def withdrawn(self, ticket: int) -> Breaker:
        """After the holder of ``ticket`` went without a word on the bus."""
        if ticket != self.epoch or self.state == "closed":
            return self
        return replace(self, state="open", epoch=self.epoch + 1)
