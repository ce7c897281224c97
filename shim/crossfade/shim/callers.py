"""Which call the code here runs for, so that the calls it makes can name their cause.

Legacy code hands nothing down when it calls: a context variable says inside which call a call began. Tasks, and threads
that copy the context, go on in it; a thread that does not starts a tree of its own, and so does what a stream's
consumer calls between two items.

Setting a context variable costs a third of a whole observed call, and most seams never call another. So an observed
call sets it only while its seam is new, now and then, and always from the first call on that was found inside one: what
is missed until then has no cause, never a wrong one.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

from .correlate import Correlation

if TYPE_CHECKING:
    from collections.abc import Mapping

NEW: Final = 64  # calls of a seam in a process that are looked into; after them one in sixteen is


@dataclass(slots=True, eq=False)
class Calls:
    """The calls of one seam in one process; ``nest``: one of them has called another seam."""

    name: str
    nest: bool = False


Caller: TypeAlias = "tuple[Calls, int, Caller | None]"
"""A call that runs: one of which, its number there, and the outermost call it is inside of.

Not the call around it: a task that begins a task that begins a task would hold them all.
"""

calling: ContextVar[Caller | None] = ContextVar("crossfade_calling", default=None)
current_caller: Final = calling.get  # bound, because the observe path pays for each look-up

_calls: dict[str, Calls] = {}  # by process and seam: what was found out outlives a change of the seam's policy


def calls_of(instance: str, seam: str) -> Calls:
    """The calls of ``seam`` in this process, which is ``instance`` to others."""
    name = f"{instance}/{seam}"
    return _calls.setdefault(name, Calls(name))


def call_with_id(callid: str) -> Caller:
    """A call that has an id of its own: one that a handler serves, or a body under a claim."""
    return Calls(callid, nest=True), 0, None


def enter(calls: Calls, number: int, outer: Caller | None, *, streamed: bool) -> Caller | None:
    """Begin call ``number`` inside ``outer``; what ``leave`` wants at its end, ``None`` where nobody was told of it."""
    outermost = None if outer is None else _nesting(outer)
    if streamed or not (calls.nest or number < NEW or not number & 15):
        return None
    me = calls, number, outermost
    calling.set(me)
    return me


def leave(me: Caller, outer: Caller | None) -> None:
    """End what ``enter`` began; in another context, where a framework may end it, there is nothing of ours to undo."""
    if calling.get() is me:
        calling.set(outer)


def _nesting(outer: Caller) -> Caller:
    outer[0].nest = True
    return outer[2] or outer


def id_of(caller: Caller) -> str:
    """The call's id, 32 hex digits: an observed one's follows from its process, seam and number."""
    calls, number, _ = caller
    return blake2b(f"{calls.name}/{number}".encode(), digest_size=16).hexdigest() if number else calls.name


def told_by(outer: Caller | None, attributes: Mapping[str, str]) -> dict[str, str]:
    """What ``attributes`` lack of a call that began inside ``outer``: its cause, and its run where there is none."""
    if outer is None:
        return {}
    cause = {"causationid": id_of(outer)}
    return cause if "correlationid" in attributes else {**cause, "correlationid": id_of(outer[2] or outer)}


def caused(correlation: Correlation | None, *, callid: str) -> Correlation:
    """The correlation of a call made here; a run that nobody named has the id of its outermost call."""
    outer = calling.get()
    if outer is None:
        return correlation or Correlation(run=callid)
    run = id_of(_nesting(outer))
    return replace(correlation or Correlation(run=run), causation=id_of(outer))
