"""A run as the tree of its calls, and what one event says of one call.

A call knows the call that made it by ``causationid``. A handler that ran for comparison only is a call of path
``shadow`` below the one it repeats; what it called hangs below it. Times of calls on the bus are the broker's, those of
observations are of the process that made the call, so a child may seem to begin a little before its parent.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.events import TYPES, derived_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Stored

MAX_TEXT: Final = 256  # characters that are kept of a name or an error, which come from outside
_MILLISECOND: Final = 0.001
_COMPARISON: Final = ("shadow", "noise")  # paths of what ran only to be compared: a handler, or legacy once more


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call. Times are seconds since the epoch; ``ended`` is ``None`` while nobody has said how it ended.

    ``queue`` is what passed until the handler began, ``handler`` how long that ran (seconds, ``None``: not told).
    ``outcome``: ``value``, ``error``, ``not-executed``, ``unknown``, ``open``; ``reason``: an error's type, or why not.
    """

    id: str
    run: str
    seam: str
    path: str
    parent: str = ""
    began: float
    ended: float | None = None
    queue: float | None = None
    handler: float | None = None
    outcome: str = "open"
    reason: str = ""
    by: str = ""
    instance: str = ""
    user: str = ""
    traceparent: str = ""

    @property
    def end(self) -> float:
        """When it ended, or began where that is not known; never before it began, whatever clocks said."""
        return self.began if self.ended is None else max(self.began, self.ended)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.began

    @property
    def handled(self) -> tuple[float, float]:
        """From when to when the handler ran; all the time after waiting, where that is not told.

        A worker times its handler exactly and knows the broker's time to a few milliseconds: waiting gives way.
        """
        if self.handler is None:
            return min(self.began + (self.queue or 0.0), self.end), self.end
        took = min(self.handler, self.seconds)
        start = self.began + min(self.queue or 0.0, self.seconds - took)
        return start, min(start + took, self.end)

    @property
    def transport(self) -> float:
        """Seconds that neither waiting nor the handler took: what came after it."""
        return self.end - self.handled[1]


@dataclass(frozen=True, slots=True)
class Node:
    """A call and the calls it made, in the order in which they began."""

    call: Call
    children: tuple[Node, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[Node, int]]:
        """Every call of the tree with its depth, callers first."""
        stack: list[tuple[Node, int]] = [(self, depth)]
        while stack:
            node, level = stack.pop()
            yield node, level
            stack.extend((child, level + 1) for child in reversed(node.children))

    @property
    def own(self) -> float:
        """Seconds that the handler ran while none of its own calls was under way."""
        start, end = self.call.handled
        return (end - start) - covered(((c.call.began, c.call.end) for c in self.children), start, end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that one action triggered: usually one tree. ``roots`` have no known parent."""

    id: str
    roots: tuple[Node, ...] = field(default=())

    @classmethod
    def of(cls, id: str, calls: Iterable[Call]) -> Run:  # noqa: A002 - what it is called everywhere
        """Build the trees. A call whose cause is not among ``calls`` is a root, and so is one of a circle of causes."""
        return cls(id=id, roots=_trees(_folded(list(calls))))

    def walk(self) -> Iterator[tuple[Node, int]]:
        """Every call with its depth, callers first."""
        for root in self.roots:
            yield from root.walk()

    @property
    def began(self) -> float:
        """When its first call began."""
        return min(node.call.began for node, _ in self.walk())

    @property
    def end(self) -> float:
        """When its last call ended."""
        return max(node.call.end for node, _ in self.walk())

    @property
    def seconds(self) -> float:
        """From the first call's beginning to the last one's end."""
        return self.end - self.began

    @property
    def idle(self) -> float:
        """Seconds in which no recorded call was under way."""
        return self.seconds - covered(((n.call.began, n.call.end) for n in self.roots), self.began, self.end)

    def served(self) -> Run:
        """Without what ran for comparison only."""
        return Run(id=self.id, roots=_trees([call for root in self.roots for call in _served(root)]))

    def twins(self) -> list[tuple[Node, Node]]:
        """Each call that was run again for comparison, and that run."""
        found = {node.call.id: node for node, _ in self.walk()}
        again = ((found.get(node.call.parent), node) for node in found.values() if node.call.path == "shadow")
        return [(_trees(_served(first))[0], twin) for first, twin in again if first is not None]


def covered(spans: Iterable[tuple[float, float]], start: float, end: float) -> float:
    """Seconds between ``start`` and ``end`` that at least one of ``spans`` covers."""
    total, reached = 0.0, start
    for first, last in sorted(spans):
        low, high = max(first, reached), min(last, end)
        if high > low:
            total, reached = total + high - low, high
    return total


def _served(node: Node) -> list[Call]:
    """Its calls but those that ran for comparison only, and what these called."""
    found, waiting = list[Call](), [node]
    while waiting:
        each = waiting.pop()
        if each.call.path not in _COMPARISON:
            found.append(each.call)
            waiting.extend(each.children)
    return found


def _folded(calls: list[Call]) -> list[Call]:
    """A body that ran here under a claim was claimed and observed: one call, with the claim's id."""
    claims = {call.id: call for call in calls if call.path == "legacy" and call.by == "legacy"}
    same = {
        call.id: call
        for call in calls
        if call.path == "legacy" and call.parent in claims and claims[call.parent].seam == call.seam
    }
    took = {call.parent: call.handler for call in same.values()}
    parents = {call.id: call.parent for call in same.values()}
    return [
        replace(call, parent=parents.get(call.parent, call.parent), handler=took.get(call.id, call.handler))
        for call in calls
        if call.id not in same
    ]


def _trees(calls: list[Call]) -> tuple[Node, ...]:
    known = {call.id: call for call in calls}
    below: defaultdict[str, list[Call]] = defaultdict(list)
    for call in sorted(known.values(), key=lambda call: (call.began, call.id)):
        below[call.parent if call.parent in known and call.parent != call.id else ""].append(call)
    built: dict[str, Node] = {}
    roots = [_build(call, below, built) for call in below[""]]
    # What is left hangs in a circle, because somebody wrote its causes by hand.
    return (*roots, *(_build(call, below, built) for call in known.values() if call.id not in built))


def _build(top: Call, below: defaultdict[str, list[Call]], built: dict[str, Node]) -> Node:
    """The tree under ``top``, without recursion: chains of calls may be longer than Python's stack."""
    order, seen = [top], {top.id}
    for call in order:
        fresh = [child for child in below[call.id] if child.id not in seen and child.id not in built]
        seen.update(child.id for child in fresh)
        order.extend(fresh)
    for call in reversed(order):
        inside = tuple(built[child.id] for child in below[call.id] if child.id in seen and child.id != top.id)
        built[call.id] = Node(call, inside)
    return built[top.id]


# -- what an event says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What one event says of one call; ``None`` is what it does not say. Later facts win over earlier ones."""

    id: str
    run: str | None = None
    seam: str | None = None
    path: str | None = None
    parent: str | None = None
    began: float | None = None
    ended: float | None = None
    queue: float | None = None
    handler: float | None = None
    outcome: str | None = None
    reason: str | None = None
    by: str | None = None
    instance: str | None = None
    user: str | None = None
    traceparent: str | None = None


def facts(stored: Stored) -> list[Fact]:
    """What ``stored`` says of calls. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for rubbish."""
    if stored.event.type == "seam.compared":
        return _compared(stored)
    found = _fact(stored)
    return [] if found is None else [found]


def _fact(stored: Stored) -> Fact | None:
    event = stored.event
    kind = TYPES.get(event.type)
    if kind == "command":
        return _about(event, path="bus", began=stored.time.timestamp())
    if kind == "answer":
        return _answered(stored)
    if kind == "observation":
        return _observed(event)
    if event.type == "call.claimed":
        return Fact(id=_id(event), seam=_cut(event.get("seam")), began=stored.time.timestamp())
    return None


def _answered(stored: Stored) -> Fact:
    said = _payload(stored.event)
    raw: Any = said.get("timings")
    timings = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    local = stored.event.get("path") == "legacy"  # a body here under a claim: nobody took its time
    return _about(
        stored.event,
        ended=stored.time.timestamp(),
        path=stored.event.get("path"),
        queue=None if local else _seconds(timings.get("queue_ms")),
        handler=None if local else _seconds(timings.get("handler_ms")),
        **_outcome(said),
    )


def _observed(event: Event) -> Fact:
    said = _payload(event)
    began, took = datetime.fromisoformat(said["started"]).timestamp(), float(said["duration_ms"]) * _MILLISECOND
    return _about(event, path="legacy", began=began, ended=began + took, handler=took, **_outcome(said))


def _compared(stored: Stored) -> list[Fact]:
    """What ran for a comparison, as often as it did: the last ended when it was told, each began after another."""
    said, event = _payload(stored.event), stored.event
    source = said.get("source") or "shadow"
    if source not in _COMPARISON or said.get("replay"):
        return []
    first: Any = said.get("bus_ms")
    ran: list[Any] = said.get("ran_ms") or ([] if first is None else [first])
    found, ended = list[Fact](), stored.time.timestamp()
    for n, milliseconds in reversed(list(enumerate(ran))):
        took = float(milliseconds) * _MILLISECOND
        found.append(_ran(event, said, f"{source}-{n}" if n else source, began=ended - took, ended=ended))
        ended -= took
    return found[::-1]


def _ran(event: Event, said: dict[str, Any], key: str, *, began: float, ended: float) -> Fact:
    return Fact(
        id=derived_id(_id(event), key),
        run=event.get("correlationid") or _id(event),
        seam=_cut(event.get("seam")),
        path=key.partition("-")[0],
        parent=_id(event) or event.get("causationid"),
        outcome=_cut(said.get("verdict")),
        reason=_cut(said.get("reason") or said.get("signature")),
        by=_cut(said.get("handler")),
        instance=_instance(event),
        user=_cut(event.get("userid")),
        began=began,
        ended=ended,
        handler=ended - began,
    )


def _about(event: Event, **said: Any) -> Fact:
    # A worker's result names its command as the cause; only who ran a body here under a claim passes the caller's on.
    began = TYPES.get(event.type) != "answer"
    told = began or event.get("path") == "legacy"
    return Fact(
        id=_id(event),
        run=event.get("correlationid") or _id(event),
        seam=_cut(event.get("seam")),
        parent=event.get("causationid") if told else None,
        instance=_instance(event),
        user=_cut(event.get("userid")),
        traceparent=event.get("traceparent"),
        **said,
    )


def _outcome(said: dict[str, Any]) -> dict[str, str | None]:
    raised: Any = said.get("error")
    error = cast("dict[str, Any]", raised) if isinstance(raised, dict) else {}
    reason = error.get("type") or said.get("reason") or ""
    return {"outcome": _cut(said["outcome"]), "reason": _cut(reason), "by": _cut(said.get("handler"))}


def _payload(event: Event) -> dict[str, Any]:
    said: Any = json.loads(event.data or b"")
    if not isinstance(said, dict):
        raise TypeError("the payload is no object")
    return cast("dict[str, Any]", said)


def _id(event: Event) -> str:
    return event.get("callid") or event.id


def _instance(event: Event) -> str | None:
    return _cut(event.source.removeprefix("urn:crossfade:"))


def _cut(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_TEXT]


def _seconds(milliseconds: object) -> float | None:
    return max(0.0, milliseconds * _MILLISECOND) if isinstance(milliseconds, (int, float)) else None
