"""When a schedule is due. Pure.

Rules
- Five fields (minute, hour, day of month, month, day of week) as Debian's cron has them, or six with seconds in front.
- Where clocks are put forward, a five-field expression with a fixed hour or minute that falls into the gap is due at
  its end; where they are put back it is due once. ``*`` and ``*/n`` count real time: nothing is skipped or doubled.
- Six fields are due whenever the clock on the wall says so: not at all in a gap, twice where an hour comes twice.
- What was due and did not fire is missed when it is more than ``LATE`` seconds old; ``catch_up`` says what then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crossfade.shim.errors import ConfigurationError, MissingExtraError

try:
    from cronsim import CronSim, CronSimError
except ImportError as error:
    raise MissingExtraError("triggers", needed_for="a schedule") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

CatchUp: TypeAlias = Literal["none", "last", "all"]
CATCH_UPS: Final[tuple[CatchUp, ...]] = get_args(CatchUp)

LATE: Final = timedelta(seconds=30)
"""How old something due may be and still count as on time."""

MOST: Final = 100
"""How much is caught up with at most; older is counted as missed."""

_FIELDS: Final = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES: Final = ("0-59", "0-59", "0-23", "1-31", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
_LONGEST: Final = 256  # characters of an expression


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """When something is due: by ``cron`` in ``zone`` (an IANA name), or once ``at`` a time with a zone.

    Raises ``ConfigurationError`` naming field and column of what is wrong.
    """

    cron: str | None = None
    at: datetime | None = None
    zone: str = "UTC"
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.at is None):
            raise ConfigurationError("say `cron` or `at`, one of them", where="cron")
        if self.at is not None and self.at.tzinfo is None:
            raise ConfigurationError("a time needs its zone, like 2026-12-24T18:00:00+01:00", where="at")
        try:
            object.__setattr__(self, "_zone", ZoneInfo(self.zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"{self.zone!r} is no time zone: use a name like Europe/Berlin, or UTC", where="zone"
            ) from None
        if self.cron is not None:
            _check(self.cron)
            if self.after(datetime.now(UTC)) is None:
                raise ConfigurationError(f"{self.cron!r} is never due: no year has that day", where="cron")

    def after(self, moment: datetime) -> datetime | None:
        """The first time that is due after ``moment``, ``None`` when nothing is any more."""
        if self.cron is None:
            return self.at if self.at is not None and self.at > moment else None
        start = moment.astimezone(self._zone)
        found = next(CronSim(self.cron, start), None)
        if found is not None and found.utcoffset() != start.utcoffset():
            # Forwards, cronsim 2.8 passes over what follows a change by half an hour (Lord Howe Island); backwards it
            # does not.
            found = next(iter(self.between(moment, found)), found)
        return found

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """What is due after ``after`` and up to ``until``, in order; of more than ``MOST`` + 1 the last of them."""
        if self.cron is None:
            return [self.at] if self.at is not None and after < self.at <= until else []
        after, until = (
            after.astimezone(UTC),
            until.astimezone(UTC),
        )  # two times of one zone compare by their wall clocks
        found: list[datetime] = []
        # Backwards, or a week of seconds would be gone through: what is due at `until` itself is before a second later.
        for due in CronSim(self.cron, (until + timedelta(seconds=1)).astimezone(self._zone), reverse=True):
            if due <= after or len(found) > MOST:
                break
            if due <= until:
                found.append(due)
        return found[::-1]

    def __str__(self) -> str:
        return f"{self.cron} {self.zone}" if self.cron is not None else str(self.at)


def choose(due: Sequence[datetime], now: datetime, policy: CatchUp) -> list[datetime]:
    """Which of what is due shall fire: what is on time always does, and of what was missed what ``policy`` says."""
    on_time = [one for one in due if now - one <= LATE]
    missed = list(due[: len(due) - len(on_time)])
    caught = {"none": [], "last": [] if on_time else missed[-1:], "all": missed[-MOST:]}[policy]
    return caught + on_time


def _check(expression: str) -> None:
    if len(expression) > _LONGEST:
        raise ConfigurationError(f"longer than {_LONGEST} characters", where="cron")
    words = list(re.finditer(r"\S+", expression))
    if len(words) not in (5, 6):
        raise ConfigurationError(
            f"{expression!r} has {len(words)} fields: write 5 (minute, hour, day of month, month, day of week), "
            "or 6 with seconds in front",
            where="cron",
        )
    for at, word in enumerate(words, 6 - len(words)):
        alone = ["*"] * 6
        alone[at] = word[0]
        try:
            CronSim(" ".join(alone), datetime(2024, 1, 1, tzinfo=UTC))
        except (CronSimError, ValueError, AssertionError, RecursionError, TypeError):
            raise ConfigurationError(
                f"field {at - 5 + len(words)} ({_FIELDS[at]}), column {word.start() + 1} of {expression!r}: "
                f"{word[0]!r} is none; use {_RANGES[at]}, *, lists, ranges and steps",
                where="cron",
            ) from None
    try:
        CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise ConfigurationError(f"{expression!r} is never due: no such month has that day", where="cron") from None
