"""What a replay came to, seam by seam: counted as it goes on, so that its length costs no memory. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from crossfade.migrations.coverage import JUDGED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .running import Replayed

_KEPT: Final = 50  # what did not match is kept in full so many times; the rest is counted, and in the JUnit file


@dataclass(kw_only=True, slots=True)
class Score:
    """What became of the calls of one seam."""

    handler: str
    verdicts: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    recorded: float = 0.0
    _digest: int = 0

    def add(self, done: Replayed) -> None:
        """Count one."""
        verdict = done.verdict
        self.verdicts[verdict.kind] += 1
        if verdict.kind not in JUDGED:
            self.reasons[f"{verdict.kind}:{verdict.reason}"] += 1
        else:
            self.seconds += done.seconds
            self.recorded += done.call.seconds
        said = f"{done.call.callid} {verdict.kind} {verdict.reason} {verdict.signature}"
        self._digest ^= int.from_bytes(hashlib.blake2b(said.encode(), digest_size=16).digest())

    @property
    def calls(self) -> int:
        """How many were selected."""
        return self.verdicts.total()

    @property
    def compared(self) -> int:
        """How many a comparison said something of."""
        return sum(self.verdicts[kind] for kind in JUDGED)

    @property
    def coverage(self) -> float:
        """The share that was compared; 0 of none."""
        return self.compared / self.calls if self.calls else 0.0

    @property
    def digest(self) -> str:
        """The same when the same calls came to the same verdicts, in whatever order: 32 hex digits."""
        return f"{self._digest:032x}"

    def failure(self, least: float) -> str:
        """Why it did not pass; empty when it did. ``least`` is the share of calls that must be compared."""
        if self.verdicts["mismatch"]:
            return f"{self.verdicts['mismatch']} of {self.compared} compared calls differ"
        if self.verdicts["inconclusive"]:
            return f"{self.verdicts['inconclusive']} calls could not be decided"
        if not self.calls:
            return "no call was recorded in that time: name an earlier --since, or record at observe first"
        if not self.compared:
            return "nothing was compared"
        if self.coverage < least:
            return f"only {self.coverage:.1%} of {self.calls} calls were compared, {least:.1%} are wanted"
        return ""

    def to_json(self, least: float) -> dict[str, Any]:
        """For scripts; ``failure`` is empty when it passed."""
        return {
            "calls": self.calls,
            "compared": self.compared,
            "coverage": round(self.coverage, 4),
            "verdicts": dict(self.verdicts),
            "reasons": dict(self.reasons),
            "handler": self.handler,
            "seconds": round(self.seconds, 3),
            "recorded_seconds": round(self.recorded, 3),
            "digest": self.digest,
            "failure": self.failure(least),
        }


class Scores:
    """The score of each seam, and the first calls that did not match."""

    def __init__(self, handlers: Mapping[str, str]) -> None:
        self.seams = {seam: Score(handler=handler) for seam, handler in handlers.items()}
        self.failed: list[Replayed] = []

    def add(self, done: Replayed) -> None:
        """Count one."""
        self.seams[done.call.seam].add(done)
        if done.verdict.kind in ("mismatch", "inconclusive") and len(self.failed) < _KEPT:
            self.failed.append(done)

    def failures(self, wanted: tuple[str, ...], least: float) -> dict[str, str]:
        """Why each seam did not pass. A seam that nobody asked for by name may have no call that can be compared."""
        named = {seam: score.failure(least) for seam, score in self.seams.items() if seam in wanted or score.compared}
        found = {seam: why for seam, why in named.items() if why}
        if not named:
            found["-"] = "no recorded call could be compared"
        return found
