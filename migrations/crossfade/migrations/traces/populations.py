"""Many runs against many runs: which calls they make, how often, and how long each takes, with what is certain of it.

An edge is a chain of seams, caller before called: ``agent.answer > web.search``. A run is added and forgotten: memory
grows with the number of different edges, which is bounded, and not with that of runs. Bounds hold whenever they are
looked at, each with the confidence asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from crossfade.migrations.sketch import Sketch
from crossfade.migrations.statistics import Bounds, sequential_bounds

if TYPE_CHECKING:
    from .run import Node, Run

Part = Literal["total", "queue", "handler", "transport"]
PARTS: Final[tuple[Part, ...]] = ("total", "queue", "handler", "transport")
MAX_EDGES: Final = 2000
_DEEPEST: Final = 32
_MOST_COUNTED: Final = 100  # calls of one edge in one run


@dataclass(slots=True)
class Edge:
    """What is known of one edge: in how many runs it is, how many calls, how they ended, and times by part."""

    runs: int = 0
    calls: int = 0
    errors: int = 0
    counts: Counter[int] = field(default_factory=Counter[int])
    times: dict[Part, Sketch] = field(default_factory=lambda: {part: Sketch() for part in PARTS})

    def add(self, node: Node) -> None:
        """One more call."""
        call = node.call
        self.calls += 1
        self.errors += call.outcome == "error"
        if call.ended is None:
            return
        start, end = call.handled
        self.times["total"].add(call.seconds)
        self.times["handler"].add(end - start)
        if call.path == "bus" and call.queue is not None:  # legacy calls wait in no queue, and travel nowhere
            self.times["queue"].add(start - call.began)
            self.times["transport"].add(call.transport)


@dataclass(slots=True)
class Population:
    """Runs that were added up. ``left_out`` counts calls of edges beyond the first ``MAX_EDGES``."""

    runs: int = 0
    left_out: int = 0
    edges: dict[str, Edge] = field(default_factory=dict[str, Edge])
    shapes: Counter[int] = field(default_factory=Counter[int])
    spans: Sketch = field(default_factory=Sketch)

    def add(self, run: Run) -> None:
        """One more run; what ran for comparison only does not count."""
        served = run.served()
        if not served.roots:
            return
        self.runs += 1
        self.spans.add(served.seconds)
        seen: defaultdict[str, list[Node]] = defaultdict(list)
        chains: list[str] = []
        for node, depth in served.walk():
            del chains[min(depth, _DEEPEST) :]
            chains.append(f"{chains[-1]} > {node.call.seam}" if chains else node.call.seam)
            seen[chains[-1]].append(node)
        self.shapes[hash(frozenset((edge, len(nodes)) for edge, nodes in seen.items()))] += 1
        for edge, nodes in seen.items():
            self._add(edge, nodes)

    def _add(self, name: str, nodes: list[Node]) -> None:
        edge = self.edges.get(name)
        if edge is None:
            if len(self.edges) >= MAX_EDGES:
                self.left_out += len(nodes)
                return
            edge = self.edges[name] = Edge()
        edge.runs += 1
        edge.counts[min(len(nodes), _MOST_COUNTED)] += 1
        for node in nodes:
            edge.add(node)


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One edge in one population: the share of runs that have it, calls a run, share of errors, times (seconds)."""

    runs: Bounds
    calls_a_run: float
    errors: Bounds
    quantiles: dict[tuple[Part, float], tuple[float | None, Bounds]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One edge in both populations. ``certain``: what differs beyond chance: ``runs``, ``calls``, ``total p50``."""

    edge: str
    old: Side
    new: Side
    certain: tuple[str, ...]


QUANTILES: Final = (0.5, 0.99)


def compare(old: Population, new: Population, *, confidence: float = 0.95) -> list[Difference]:
    """Every edge of either side, those that surely differ first."""
    found: list[Difference] = []
    for edge in sorted({*old.edges, *new.edges}):
        sides = _side(old, edge, confidence), _side(new, edge, confidence)
        found.append(
            Difference(
                edge=edge,
                old=sides[0],
                new=sides[1],
                certain=tuple(_certain(*sides, usual=_usual(old, new, edge, confidence))),
            )
        )
    return sorted(found, key=lambda each: (not each.certain, each.edge))


def _side(population: Population, name: str, confidence: float) -> Side:
    edge = population.edges.get(name) or Edge()
    return Side(
        runs=sequential_bounds(edge.runs, population.runs - edge.runs, confidence=confidence),
        calls_a_run=edge.calls / population.runs if population.runs else 0.0,
        errors=sequential_bounds(edge.errors, edge.calls - edge.errors, confidence=confidence),
        quantiles={
            (part, share): (edge.times[part].quantile(share), edge.times[part].bounds(share, confidence=confidence))
            for part in PARTS
            for share in QUANTILES
        },
    )


def _usual(old: Population, new: Population, name: str, confidence: float) -> tuple[Bounds, Bounds]:
    """On each side, the share of runs that make as many calls as most runs of the old side do, none included."""
    counts = [_counts(population, name) for population in (old, new)]
    usual = max(counts[0], key=lambda count: (counts[0][count], count), default=0)
    low, high = (sequential_bounds(c[usual], c.total() - c[usual], confidence=confidence) for c in counts)
    return low, high


def _counts(population: Population, name: str) -> Counter[int]:
    edge = population.edges.get(name) or Edge()
    return edge.counts + Counter({0: population.runs - edge.runs})


def _certain(old: Side, new: Side, *, usual: tuple[Bounds, Bounds]) -> list[str]:
    shares = (("runs", (old.runs, new.runs)), ("calls", usual), ("errors", (old.errors, new.errors)))
    found = [name for name, sides in shares if _apart(*sides)]
    for (part, share), (_, bounds) in old.quantiles.items():
        if _apart(bounds, new.quantiles[part, share][1]):
            found.append(f"{part} p{share * 100:g}")
    return found


def _apart(a: Bounds, b: Bounds) -> bool:
    return a.high < b.low or b.high < a.low
