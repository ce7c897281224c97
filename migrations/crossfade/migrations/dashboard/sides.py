"""What was recorded of one compared call: its arguments, and what each side answered, with marks where they differ.

Read from the bus when somebody opens the page, so nothing of it is kept. The mismatch is looked for from when it was
told, the observation from a minute and a half before: a shadow run of an older one is skipped.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.claimcheck import load_data
from crossfade.shim.comparison.paths import show_path
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from crossfade.shim.comparison.paths import Root
    from crossfade.shim.events import Event
    from crossfade.shim.ports import Bus, Stored
    from crossfade.shim.subjects import Subjects

REACH: Final = timedelta(seconds=90)
MOST: Final = 5000
"""Events that are looked through for one of them."""

LINES: Final = 200
WIDTH: Final = 400
"""Lines of a side that are shown, and characters of a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of indented JSON. ``differs``: it lies where the sides differ."""

    text: str
    differs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """``arguments``, ``legacy`` and ``new``: empty where nothing was recorded, or no more."""

    arguments: list[Line]
    legacy: list[Line]
    new: list[Line]
    revision: str = ""
    instance: str = ""


class Recorded:
    """Looks for what was recorded. ``redact`` sees every value before it is shown."""

    def __init__(self, bus: Bus, subjects: Subjects, redact: Callable[[Any], Any]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._redact = redact

    async def find(self, seam: str, call: str, *, at: datetime, differing: Iterable[Mapping[str, str]]) -> Sides:
        """The sides of ``call``, whose mismatch was told ``at`` with these differences. Raises ``BusError``."""
        subjects = self._subjects
        compared = await self._one(subjects.verdicts(seam), call, since=at, until=at + timedelta(seconds=1))
        observed = await self._one(subjects.observations(seam), call, since=at - REACH, until=at)
        old, verdict = await self._payload(observed), await self._payload(compared)
        event = compared or observed
        paths = {each["path"]: each["kind"] for each in differing}
        return Sides(
            arguments=[*lines(old["arguments"], ())] if "arguments" in old else [],
            # Behind an item that one side lacks, its place is another item's there.
            legacy=_answer(old, [path for path, kind in paths.items() if kind != "extra"]),
            new=_answer(verdict.get("answer") or {}, [path for path, kind in paths.items() if kind != "missing"]),
            revision=(event.get("policyrev") or "") if event else "",
            instance=str(old.get("instance") or verdict.get("instance") or ""),
        )

    async def _one(self, family: str, call: str, *, since: datetime, until: datetime) -> Event | None:
        looked = 0
        events = cast("AsyncGenerator[Stored]", self._bus.read(family, since=since))
        async with aclosing(events) as found:
            async for stored in found:
                if (stored.event.get("callid") or stored.event.id) == call:
                    return stored.event
                looked += 1
                if looked == MOST or stored.time > until:
                    break
        return None

    async def _payload(self, event: Event | None) -> dict[str, Any]:
        if event is None:
            return {}
        try:
            if event.get("dataref"):
                event = replace(event, data=await load_data(self._bus, event))
            payload = self._redact(json.loads(event.data or b"{}"))
        except (CrossfadeError, ValueError, RecursionError) as error:
            report.count("skipped", reason=f"recorded-{type(error).__name__}")
            return {}
        return cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}


def _answer(payload: dict[str, Any], differing: Collection[str]) -> list[Line]:
    stream: dict[str, Any] = payload.get("stream") or {}
    shown = [*lines(stream["items"], differing)] if "items" in stream else []
    if "error" in payload:
        return [*shown, *lines(payload["error"], differing, root="$error")]
    return [*shown, *lines(payload["value"], differing)] if "value" in payload else shown


def lines(value: Any, differing: Collection[str], *, root: Root = "$") -> Iterator[Line]:
    """``value`` as lines of JSON, the first ``LINES`` of them."""
    marks = frozenset(differing)
    for n, (place, text) in enumerate(_written(value, (), "")):
        if n == LINES:
            yield Line(text="\u2026 and more")
            return
        cut = text if len(text) <= WIDTH else f"{text[:WIDTH]}\u2026"
        yield Line(text=cut, differs=bool(marks) and not marks.isdisjoint(_above(place, root)))


def _above(place: Sequence[str | int], root: Root) -> Iterator[str]:
    """The path of a place, and of all that it lies in."""
    for length in range(len(place) + 1):
        yield show_path(root, place[:length])


def _written(
    value: Any, place: tuple[str | int, ...], before: str, *, after: str = ""
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each line with its place; ``before`` and ``after`` are what stands around the value."""
    indent = "  " * len(place)
    if not isinstance(value, (dict, list)) or not value:
        yield place, f"{indent}{before}{json.dumps(value, ensure_ascii=False)}{after}"
        return
    named = isinstance(value, dict)
    inside: list[tuple[str | int, Any]]
    inside = list(cast("dict[str, Any]", value).items()) if named else list(enumerate(cast("list[Any]", value)))
    yield place, f"{indent}{before}{'{' if named else '['}"
    for n, (key, each) in enumerate(inside, 1):
        name = f"{json.dumps(key, ensure_ascii=False)}: " if named else ""
        yield from _written(each, (*place, key), name, after="," if n < len(inside) else "")
    yield place, f"{indent}{'}' if named else ']'}{after}"
