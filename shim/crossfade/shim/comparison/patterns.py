"""Regular expressions whose cost grows with the text and nothing else, whatever the text is.

Python's own engine tries one way after another: ``(a+)+b`` takes years over forty letters. Here all ways are followed
at once (Thompson, Regular Expression Search Algorithm, 1968), a character at a time. What cannot be done that way is
refused when the pattern is read: look-around, back-references, word boundaries, and ``^`` or ``$`` inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_TEXT: Final = 10_000
"""Characters of a text; a longer one matches nothing."""

_MAX_PATTERN: Final = 500  # characters
_MAX_STEPS: Final = 2_000  # of the program; {m,n} writes its part n times
_MAX_CACHE: Final = 5_000  # steps remembered before all are forgotten

_token = re.compile(
    r"(?P<open>\((?:\?:)?(?!\?))|(?P<close>\))|(?P<or>\|)"
    r"|(?P<repeat>[*+?]|\{(?=[0-9,])(?P<least>[0-9]*)(?P<comma>,)?(?P<most>[0-9]*)\})\??(?![*+?])"
    r"|(?P<one>\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^0-9xuUNbBAZ]|\[\^?\]?(?:[^\]\\]|\\.)*\]|[^\\()|*+?^$])",
    re.DOTALL,
).match


@dataclass(frozen=True, slots=True)
class _One:
    """One character for which ``fits`` has an answer."""

    fits: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Many:
    """``all`` of its parts in order, or ``any`` one of them."""

    kind: Literal["all", "any"]
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    """A part, ``least`` times or more; ``most`` is ``None`` where nothing ends it."""

    part: _Node
    least: int
    most: int | None


_Node = _One | _Many | _Repeat


class Pattern:
    """A pattern that a whole text must match. Raises ``ValueError`` saying what is wrong with it."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_PATTERN:
            raise ValueError(f"it is longer than {_MAX_PATTERN} characters")
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from None
        self._fits: list[Callable[[str], object]] = []  # by step; a step that is no character fits nothing
        self._next: list[tuple[int, ...]] = []
        self._write(_Reader(_unanchored(text)).read())
        self._end = self._step(())
        self._start = self._closure([0])
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, text: str) -> bool:
        """Whether the whole of ``text`` matches, 10,000 characters at most; longer ones do not."""
        if len(text) > MAX_TEXT:
            return False
        here = self._start
        for character in text:
            there = self._known.get((here, character))
            here = self._follow(here, character) if there is None else there
            if not here:
                return False
        return self._end in here

    def _follow(self, here: frozenset[int], character: str) -> frozenset[int]:
        if len(self._known) > _MAX_CACHE:
            self._known.clear()
        there = self._closure([self._next[step][0] for step in here if self._fits[step](character)])
        self._known[here, character] = there
        return there

    def _closure(self, steps: Iterable[int]) -> frozenset[int]:
        """The steps that take a character, or are the end, reached from ``steps`` without taking one."""
        seen, waiting, found = set[int](), list(steps), set[int]()
        while waiting:
            step = waiting.pop()
            if step in seen:
                continue
            seen.add(step)
            if self._fits[step] is not _nothing or step == self._end:
                found.add(step)
            else:
                waiting += self._next[step]
        return frozenset(found)

    # -- writing the program: a part's steps end by going on to whatever is written next ----------------------------

    def _step(self, after: tuple[int, ...], fits: Callable[[str], object] | None = None) -> int:
        if len(self._next) >= _MAX_STEPS:
            raise ValueError("it is too long when its {m,n} are written out")
        self._fits.append(fits or _nothing)
        self._next.append(after)
        return len(self._next) - 1

    def _write(self, node: _Node) -> None:
        if isinstance(node, _One):
            at = self._step((), node.fits)
            self._next[at] = (at + 1,)
        elif isinstance(node, _Repeat):
            self._write_repeat(node)
        elif node.kind == "all":
            for part in node.parts:
                self._write(part)
        else:
            self._write_choice(node.parts)

    def _write_choice(self, parts: tuple[_Node, ...]) -> None:
        fork = self._step(())
        ends: list[int] = []
        for part in parts:
            self._next[fork] += (len(self._next),)
            self._write(part)
            ends.append(self._step(()))
        for end in ends:
            self._next[end] = (len(self._next),)

    def _write_repeat(self, node: _Repeat) -> None:
        for _ in range(node.least):
            self._write(node.part)
        if node.most is None:
            fork = self._step(())
            self._write(node.part)
            self._step((fork,))
            self._next[fork] = (fork + 1, len(self._next))
            return
        forks: list[int] = []
        for _ in range(node.most - node.least):
            forks.append(self._step(()))
            self._write(node.part)
        for fork in forks:
            self._next[fork] = (fork + 1, len(self._next))


def _unanchored(text: str) -> str:
    """``text`` without the ``^`` and ``$`` around it, which say nothing of a whole text."""
    text = text.removeprefix("^")
    escaped = (len(text) - len(text.rstrip("$").rstrip("\\"))) % 2 == 0  # ``\\$`` is a dollar
    return text if escaped else text.removesuffix("$")


def _nothing(_character: str) -> bool:
    return False


class _Reader:
    """Reads the text of a pattern that Python has found to be one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):
            raise self._refused()
        return node

    def _choice(self) -> _Node:
        parts = [self._sequence()]
        while (found := _token(self._text, self._at)) and found["or"]:
            self._at = found.end()
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Many("any", tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text):
            found = _token(self._text, self._at)
            if found is None:
                raise self._refused()
            if found["or"] or found["close"]:
                break
            self._at = found.end()
            if found["repeat"] and parts:
                parts.append(_repeated(parts.pop(), found))
            elif found["open"]:
                parts.append(self._group())
            else:
                parts.append(_One(re.compile(found[0], re.DOTALL).fullmatch))
        return _Many("all", tuple(parts))

    def _group(self) -> _Node:
        node = self._choice()
        self._at += 1  # its end: Python has seen to it that there is one
        return node

    def _refused(self) -> ValueError:
        return ValueError(f"{self._text[self._at : self._at + 4]!r} cannot be matched in time that only the text sets")


def _repeated(part: _Node, found: re.Match[str]) -> _Node:
    sign = found["repeat"]
    if sign in ("*", "+"):
        return _Repeat(part, 1 if sign == "+" else 0, None)
    if sign == "?":
        return _Repeat(part, 0, 1)
    least = int(found["least"] or 0)
    if not found["comma"]:
        return _Repeat(part, least, least)
    return _Repeat(part, least, int(found["most"]) if found["most"] else None)
