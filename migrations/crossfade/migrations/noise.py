"""What differs by nature: each place of an answer, by how often legacy differs from itself there, and the other side.

A call that was sampled for noise was compared twice: the recorded answer with the handler's (A/B), and with the one
that the same code gave when it ran again (A/A). A place that differs as often in both is noise; one that differs in A/B
alone is a difference. Pure.

Rules
- Pairs are compared, not counts: both comparisons of one call share its input and the recorded answer.
- Noise is proven, too: A/B must not differ there in more than a tenth of the calls beyond A/A, by the upper bound.
- What is neither proven to be noise nor to be a difference is unclear, and nothing is suggested: one call says nothing.
- The bounds are for one look; who looks until he likes what he sees will see what he likes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from crossfade.shim.comparison import Verdict
from crossfade.shim.comparison.paths import parse_path, show_path
from crossfade.shim.errors import ConfigurationError, MalformedEventError

from .coverage import JUDGED
from .statistics import paired_difference, paired_p

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crossfade.shim.comparison import Difference
    from crossfade.shim.comparison.paths import Segment

    from .statistics import Bounds

State = Literal["noise", "difference", "unclear"]

CONFIDENCE: Final = 0.95
MARGIN: Final = 0.1
"""Of the calls: how much more often A/B may differ at a place that is called noise."""
ENOUGH: Final = 5
"""Calls that differ in A/A: fewer show no shape that a rule could be cut to."""
FEWEST: Final = 20
"""Calls compared twice: fewer say little of the other side, however often legacy differs from itself."""

Calls = tuple[tuple["Difference", ...], ...]
"""The differences at one place, call by call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One path, list positions folded to ``[*]``, in ``n`` calls that were compared twice.

    ``p``: how likely A/A and A/B differ so unevenly by chance. ``excess``: between which the share of calls is in
    which A/B differs beyond A/A. ``noise`` and ``raw`` are what was seen in A/A and in A/B.
    """

    path: str
    n: int
    both: int
    raw_only: int
    noise_only: int
    p: float
    excess: Bounds
    noise: Calls
    raw: Calls

    @property
    def state(self) -> State:
        """What it is."""
        if self.raw_only > self.noise_only and self.p < 1 - CONFIDENCE:
            return "difference"
        proven = self.n >= FEWEST and len(self.noise) >= ENOUGH and self.excess.high <= MARGIN
        return "noise" if proven else "unclear"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What the pairs of a seam say.

    ``sides``: how many pairs by what ran again: ``self``, the legacy body, or a handler, whose noise is not legacy's.
    ``undecided``: samples of which a comparison said nothing. ``unplaced``: differences too deep for a path.
    ``repeats``: the sums of ``seam.compared.repeated``.
    """

    sides: Mapping[str, int]
    undecided: int
    unplaced: int
    repeats: Mapping[str, int]
    places: tuple[Place, ...]

    @property
    def n(self) -> int:
        """How many calls were compared twice."""
        return sum(self.sides.values())


def study(payloads: Iterable[Mapping[str, Any]]) -> Study:
    """What the ``seam.compared`` of one seam say, in any order. Raises ``MalformedEventError`` for a broken one."""
    raw, again = dict[str, Verdict](), dict[str, tuple[Verdict, str]]()
    repeats = Counter[str]()
    for payload in payloads:
        source, callid = payload.get("source", "shadow"), str(payload.get("callid"))
        if source == "shadow" and not payload.get("replay"):
            raw[callid] = Verdict.from_json(payload)
            repeats.update(_counts(payload.get("repeated")))
        elif source == "noise":
            again[callid] = Verdict.from_json(payload), str(payload.get("handler", ""))
    return _paired(raw, again, repeats)


def fold_path(path: str) -> str:
    """A path of a difference as rules name it: any item for each position. Raises ``ConfigurationError``."""
    if "…" in path:
        raise ConfigurationError(f"{path} was shortened")
    place = parse_path(path)
    return show_folded(place.root, place.segments)


def show_folded(root: str, segments: Iterable[Segment]) -> str:
    """The text of a path of names and items, any item for each position."""
    return root + "".join(show_path("$", [part])[1:] if isinstance(part, str) else "[*]" for part in segments)


def _paired(raw: Mapping[str, Verdict], again: Mapping[str, tuple[Verdict, str]], repeats: Mapping[str, int]) -> Study:
    sides, unplaced = Counter[str](), Counter[str]()
    seen: dict[str, tuple[dict[str, Sequence[Difference]], dict[str, Sequence[Difference]]]] = defaultdict(
        lambda: ({}, {})
    )
    for callid, (verdict, by) in again.items():
        first = raw.get(callid)
        if first is None or not {first.kind, verdict.kind} <= JUDGED:
            continue
        sides[by] += 1
        for side, one in enumerate((first, verdict)):
            for path, differences in _by_path(one, unplaced).items():
                seen[path][side][callid] = differences
    n = sides.total()
    places = (_place(path, n, *found) for path, found in seen.items())
    return Study(
        sides=sides,
        undecided=len(again) - n,
        unplaced=unplaced.total(),
        repeats=repeats,
        places=tuple(sorted(places, key=lambda place: (place.state, place.path))),
    )


def _place(
    path: str, n: int, raw: Mapping[str, Sequence[Difference]], noise: Mapping[str, Sequence[Difference]]
) -> Place:
    both = len(raw.keys() & noise.keys())
    raw_only, noise_only = len(raw) - both, len(noise) - both
    return Place(
        path=path,
        n=n,
        both=both,
        raw_only=raw_only,
        noise_only=noise_only,
        p=paired_p(raw_only, noise_only),
        excess=paired_difference(both, raw_only, noise_only, n - both - raw_only - noise_only, confidence=CONFIDENCE),
        noise=tuple(map(tuple, noise.values())),
        raw=tuple(map(tuple, raw.values())),
    )


def _by_path(verdict: Verdict, unplaced: Counter[str]) -> dict[str, list[Difference]]:
    found: dict[str, list[Difference]] = defaultdict(list)
    for difference in verdict.differences:
        try:
            found[fold_path(difference.path)].append(difference)
        except ConfigurationError:
            unplaced[difference.path] += 1
    return found


def _counts(repeated: Mapping[str, Any] | None) -> dict[str, int]:
    try:
        return {name: int(count) for name, count in (repeated or {}).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise MalformedEventError(f"this says nothing of repeats: {error!r}", reason="payload") from error
