"""Rules for what differs by nature, each the narrowest that covers what legacy showed beside itself. Pure.

Tried in this order, the first that covers every difference of A/A is taken:

    unordered  the same items in another order
    uuid       UUIDs
    timestamp  times, within twice the widest gap seen
    approx     numbers, within twice the widest gap seen, where that is less than the numbers themselves
    regex      texts of one shape: what they begin and end with, and one kind of characters between
    type       values of one type
    ignore     anything else

What A/B shows has no say in it: a rule is cut to legacy's own noise, and whatever the other side does beyond it stays a
mismatch. A place that is not proven to be noise gets no rule.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.comparison import MISSING, Rules
from crossfade.shim.comparison.findings import MOST_ALIKE
from crossfade.shim.comparison.paths import Wild, parse_path
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.redaction import is_redacted

from .noise import show_folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crossfade.shim.comparison import Difference

    from .noise import Calls, Place, Study

Pair = tuple[Any, Any]

_ROOM: Final = 2  # times the widest gap seen: the widest of the next calls is wider in every second sample
_SHAPES: Final = ("0-9", "0-9a-f", "0-9A-F", "a-z", "A-Z", "0-9A-Za-z", "0-9A-Za-z_-")


class _Unreadable:
    """Stands for a value that was shortened before it came here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A rule for a person to accept: ``path`` and what is ``said`` of it, as a rules file has it.

    ``place`` is what it rests on. ``covers_noise`` and ``covers_raw``: calls that differ at the place and would not
    under the rule; the rest of them stay mismatches.
    """

    path: str
    said: Any
    place: Place
    covers_noise: int
    covers_raw: int


def suggest(found: Study) -> tuple[Suggestion, ...]:
    """A rule for each place that is proven to be noise and at which the other side differs, too; one for a path."""
    made: dict[str, Suggestion] = {}
    for place in found.places:
        if place.state == "noise" and place.raw and (suggestion := _suggestion(place)):
            made.setdefault(suggestion.path, suggestion)
    return tuple(made[path] for path in sorted(made))


def _suggestion(place: Place) -> Suggestion | None:
    for path, said in _candidates(place):
        covered = _covered(path, said, place.noise)
        if covered == len(place.noise):
            raw = _covered(path, said, place.raw)
            return Suggestion(path=path, said=said, place=place, covers_noise=covered, covers_raw=raw)
    return None


def _candidates(place: Place) -> Iterator[tuple[str, Any]]:
    """Narrowest first."""
    pairs = [pair for call in place.noise for pair in map(_values, call)]
    if any(difference.kind == "outcome" for call in place.noise for difference in call) or _is_hidden(pairs):
        return  # no rule covers how a call ended, and what is redacted is nobody's to judge
    folded = parse_path(place.path)
    for at in reversed([at for at, part in enumerate(folded.segments) if part is Wild.ITEM]):
        yield show_folded(folded.root, folded.segments[:at]), "unordered"
    yield place.path, "uuid"
    if gap := _widest(pairs, _time):
        yield place.path, {"matcher": "timestamp", "within": max(1, math.ceil(_ROOM * gap))}
    if (gap := _widest(pairs, _number)) and (near := _rounded(_ROOM * gap)) < _largest(pairs):
        yield place.path, {"matcher": "approx", "abs": near}
    if pattern := _pattern([value for pair in pairs for value in pair]):
        yield place.path, {"matcher": "regex", "pattern": pattern}
    yield place.path, "type"
    yield place.path, "ignore"


# -- what a rule covers ------------------------------------------------------------------------------------------------


def _covered(path: str, said: Any, calls: Calls) -> int:
    """In how many calls nothing would differ at the place any more."""
    if said == "unordered":
        return _shuffled(calls, parse_path(path).segments)
    if said == "ignore":
        return len(calls)
    try:
        [rule] = Rules.parse({path: said}).rules
    except ConfigurationError:  # a shape that no pattern may have
        return 0
    return sum(all(rule.judge.judge(*pair) == "same" for pair in map(_values, call)) for call in calls)


def _shuffled(calls: Calls, above: Sequence[Any]) -> int:
    """In how many calls each list at this depth holds the same on both sides.

    Of a long list not all differences were kept. There items that only moved, in most of such calls, have to do: the
    rule forgives another order and nothing else, whatever this says.
    """
    told = [list(_sides(call, above)) for call in calls if len(call) < MOST_ALIKE]
    cut = [list(_sides(call, above)) for call in calls if len(call) >= MOST_ALIKE]
    moved = sum(all(old & new for old, new in lists) for lists in cut)
    return sum(all(old == new for old, new in lists) for lists in told) + (len(cut) if 2 * moved > len(cut) else 0)


def _sides(call: Sequence[Difference], above: Sequence[Any]) -> Iterable[tuple[Counter[str], Counter[str]]]:
    """What differed in each list at this depth, on the one side and on the other."""
    lists: dict[tuple[Any, ...], tuple[Counter[str], Counter[str]]] = defaultdict(lambda: (Counter(), Counter()))
    for difference in call:
        old, new = lists[parse_path(difference.path).segments[: len(above)]]
        old[difference.old] += 1
        new[difference.new] += 1
    return lists.values()


# -- values ------------------------------------------------------------------------------------------------------------


def _values(difference: Difference) -> Pair:
    return _value(difference.old), _value(difference.new)


def _value(text: str) -> Any:
    if not text:
        return MISSING
    try:
        return json.loads(text)
    except ValueError:
        return _Unreadable()


def _is_hidden(pairs: Iterable[Pair]) -> bool:
    return any(is_redacted(value) for pair in pairs for value in pair)


def _widest(pairs: Sequence[Pair], scale: Any) -> float:
    """The widest gap between two of a pair on a scale; 0 where one of them is not on it."""
    on_scale = [(scale(old), scale(new)) for old, new in pairs]
    if any(one is None or other is None for one, other in on_scale):
        return 0.0
    return max((abs(one - other) for one, other in on_scale), default=0.0)


def _time(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value.strip().upper())
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _number(value: Any) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if is_one else None


def _largest(pairs: Iterable[Pair]) -> float:
    return max(abs(float(value)) for pair in pairs for value in pair)


def _rounded(gap: float) -> float:
    """Up, to two digits that count."""
    unit = 10.0 ** (math.floor(math.log10(gap)) - 1)
    return float(f"{math.ceil(gap / unit) * unit:.12g}")


def _pattern(values: Sequence[Any]) -> str:
    """A shape that all the texts have; empty where they have none."""
    if not all(isinstance(value, str) for value in values):
        return ""
    start = re.sub(r"[0-9A-Za-z]+$", "", _common(values))
    ends = [value[len(start) :][::-1] for value in values]
    end = re.sub(r"[0-9A-Za-z]+$", "", _common(ends))[::-1]
    middles = [value[len(start) : len(value) - len(end)] for value in values]
    for shape in _SHAPES:
        if all(re.fullmatch(f"[{shape}]+", middle) for middle in middles):
            lengths = {len(middle) for middle in middles}
            times = f"{{{min(lengths)}}}" if len(lengths) == 1 else "+"
            return f"{re.escape(start)}[{shape}]{times}{re.escape(end)}"
    return ""


def _common(texts: Sequence[str]) -> str:
    """What all of them begin with."""
    least, most = min(texts), max(texts)
    alike = (at for at, (one, other) in enumerate(zip(least, most, strict=False)) if one != other)
    return least[: next(alike, min(len(least), len(most)))]
