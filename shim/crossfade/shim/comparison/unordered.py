"""Pairs the items of two lists whose order says nothing, in time that grows with them and not with their square.

1. Equal items are paired by a hash of what they hold; nothing more is asked of them.
2. With a key, items that agree in its members are paired, and compared under the rules.
3. What has no key is paired by a hash that leaves out what a rule has a say in, and compared under the rules.
4. What is left is missing or extra. Where a redacted value may be all that keeps two apart, it is undecided.

A list below one of these has an order unless a rule says otherwise there, too. The pairs, and so all that is found, are
the same however the items lie and whichever side is which; only the positions in paths are the legacy side's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.redaction import MARK, is_redacted

from .matchers import MISSING, AnyOrder
from .normalising import normalised, weight
from .paths import Wild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .budget import Meter
    from .rules import Rule
    from .scopes import Scope

Pairs = list[tuple[int, Any, Any]]
"""Position, and an item of each side or ``MISSING``."""

_LIMITED_TEXT: Final = "[redacted:limit]"


@dataclass(slots=True)
class _Item:
    """An item with its place and its hash; ``hidden`` and ``opaque`` as in ``Print``."""

    at: int
    value: Any
    seal: bytes
    hidden: bool
    opaque: bool


def pair(old: Sequence[Any], new: Sequence[Any], order: AnyOrder, scope: Scope, meter: Meter) -> tuple[Pairs, bool]:
    """What is to be compared of the lists at ``scope``, and whether a redacted value leaves their pairing open.

    Pays for every node it looks at: raises ``ExhaustedError``.
    """
    return _Pairing(order, scope.below(Wild.ITEM), meter).pair(old, new)


class _Pairing:
    def __init__(self, order: AnyOrder, scope: Scope, meter: Meter) -> None:
        self._order = order
        self._scope = scope
        self._meter = meter
        self._found: list[tuple[_Item | None, _Item | None]] = []

    def pair(self, old: Sequence[Any], new: Sequence[Any]) -> tuple[Pairs, bool]:
        left, right = self._differing(self._sealed(old), self._sealed(new))
        if left and right:
            left, right = self._by_key(left, right)
            left, right = self._loosely(left, right)
        is_open = bool(left and right) and any(item.hidden for item in chain(left, right))
        if not is_open or len(left) != len(right):
            self._found += [(item, None) for item in left] + [(None, item) for item in right]
        return [_shown(*found) for found in sorted(self._found, key=_rank)], is_open

    def _sealed(self, values: Sequence[Any]) -> list[_Item]:
        items = list[_Item]()
        seen = set[bytes]()
        for at, value in enumerate(values):
            print_ = Print(self._meter, loose=False)
            seal = print_.of(value, self._scope)
            if not self._order.repeats and seal in seen and not print_.opaque:
                continue
            seen.add(seal)
            items.append(_Item(at, value, seal, print_.hidden, print_.opaque))
        return items

    def _differing(self, old: list[_Item], new: list[_Item]) -> tuple[list[_Item], list[_Item]]:
        """What is not equal to an item of the other side; of equal ones the first are taken for the pairs."""
        return _without(old, _counted(new)), _without(new, _counted(old))

    def _by_key(self, old: list[_Item], new: list[_Item]) -> tuple[list[_Item], list[_Item]]:
        """Pair what has a key, or tell that its partner is missing; what has none is left."""
        if not self._order.key:
            return old, new
        without = list[_Item](), list[_Item]()
        buckets = defaultdict[bytes, tuple[list[_Item], list[_Item]]](lambda: ([], []))
        for side, items in enumerate((old, new)):
            for item in items:
                key = self._key(item.value)
                (without[side] if key is None else buckets[key][side]).append(item)
        for olds, news in buckets.values():
            self._zip(sorted(olds, key=_size), sorted(news, key=_size))
        return without

    def _key(self, value: Any) -> bytes | None:
        if not isinstance(value, dict) or is_redacted(value):
            return None
        members = cast("dict[str, Any]", value)
        print_ = Print(self._meter, loose=False)
        seals = [print_.of(members.get(name, MISSING), self._scope.below(name)) for name in self._order.key]
        return None if print_.opaque or any(members.get(name) is None for name in self._order.key) else b"".join(seals)

    def _loosely(self, old: list[_Item], new: list[_Item]) -> tuple[list[_Item], list[_Item]]:
        """Pair what differs only where a rule has a say, or where something is redacted."""
        buckets = defaultdict[bytes, tuple[list[_Item], list[_Item]]](lambda: ([], []))
        for side, items in enumerate((old, new)):
            for item in items:
                buckets[Print(self._meter, loose=True).of(item.value, self._scope)][side].append(item)
        left, right = list[_Item](), list[_Item]()
        for olds, news in buckets.values():
            olds.sort(key=_size)
            news.sort(key=_size)
            if olds and news:
                if not self._order.repeats:
                    _fill(olds, news)
                paired = min(len(olds), len(news))
                self._zip(olds[:paired], news[:paired])
                olds, news = olds[paired:], news[paired:]  # noqa: PLW2901 - what is left of the bucket
            left += olds
            right += news
        return left, right

    def _zip(self, old: list[_Item], new: list[_Item]) -> None:
        self._found += zip_longest(old, new)


class Print:
    """The hash of a JSON value under the rules of its place, without recursion.

    Equal for equal JSON: members and the items of what a rule calls unordered in any order, ``1`` and ``1.0`` alike.
    ``loose`` leaves out what is ignored, and what a rule other than ``exact`` judges, or redaction hides, is a blank.
    ``hidden``, ``opaque``: it met something redacted; it met something that nothing can be equal to.
    """

    def __init__(self, meter: Meter, *, loose: bool) -> None:
        self.hidden = False
        self.opaque = False
        self._meter = meter
        self._loose = loose

    def of(self, value: Any, scope: Scope) -> bytes:
        """The hash; pays for every node."""
        whole = _Open(lambda seals: seals[0], iter(((b"", value, scope),)))
        stack = [whole]
        while True:
            top = stack[-1]
            for label, part, below in top.parts:
                inside = self._look(part, below)
                if inside is None:
                    continue
                if isinstance(inside, _Open):
                    inside.label = label
                    stack.append(inside)
                    break
                top.seals.append(label + inside)
            else:
                stack.pop()
                seal = top.close(top.seals or [b""])
                if not stack:
                    return seal
                stack[-1].seals.append(top.label + seal)

    def _look(self, value: Any, scope: Scope) -> bytes | _Open | None:
        """The hash of a leaf, what is inside a container, or ``None`` for what does not count."""
        self._meter.spend()
        rule = scope.rule
        if rule is not None and rule.steps:
            self._meter.spend(weight(value))
            value = normalised(value, rule.steps)
        if self._loose and rule is not None and not scope.may_change and (rule.ignores or rule.settles):
            return b"?" if rule.settles else None
        if is_redacted(value) or value == _LIMITED_TEXT:
            return self._see_hidden(value)
        if isinstance(value, dict):
            return self._members(cast("Mapping[Any, Any]", value), scope)
        return _items(cast("Sequence[Any]", value), scope) if isinstance(value, list) else self._scalar(value, rule)

    def _scalar(self, value: Any, rule: Rule | None) -> bytes | None:
        if self._loose and rule is not None and (rule.ignores or rule.has_opinion):
            return None if rule.ignores else b"?"
        return self._leaf(value)

    def _members(self, members: Mapping[Any, Any], scope: Scope) -> _Open:
        self._meter.foresee(len(members))
        if not set(map(type, members)) <= {str}:
            self.opaque = True
            return _Open(_hash_of(b"{"), iter(()))
        parts = ((_digest(b"n", name), members[name], scope.below(name)) for name in sorted(members))
        return _Open(_hash_of(b"{"), parts)

    def _see_hidden(self, value: Any) -> bytes:
        self.hidden = True
        if isinstance(value, str) or value[MARK].startswith("limit:"):
            self.opaque = True
        return b"?" if self._loose else _digest(b"*", str(value))

    def _leaf(self, value: Any) -> bytes:
        if isinstance(value, str):
            return _digest(b"t", value)
        if value is None or isinstance(value, bool) or value is MISSING:
            return _digest(b"w", str(value))
        if isinstance(value, int | float):
            whole = isinstance(value, int) or value.is_integer()
            return _digest(b"#", f"{int(value):x}" if whole else repr(value))
        self.opaque = True
        return b"!"


class _Open:
    """A container whose parts are being hashed."""

    __slots__ = ("close", "label", "parts", "seals")

    def __init__(self, close: Callable[[list[bytes]], bytes], parts: Iterator[tuple[bytes, Any, Scope]]) -> None:
        self.close = close
        self.parts = parts
        self.seals: list[bytes] = []
        self.label = b""


def _items(items: Sequence[Any], scope: Scope) -> _Open:
    order = scope.rule.judge if scope.rule else None
    if not isinstance(order, AnyOrder):
        return _Open(_hash_of(b"["), ((b"", item, scope.below(at)) for at, item in enumerate(items)))
    below = scope.below(Wild.ITEM)
    parts = ((b"", item, below) for item in items)
    if order.repeats:
        return _Open(lambda seals: _hash_of(b"<")(sorted(seals)), parts)
    return _Open(lambda seals: _hash_of(b"<")(sorted(set(seals))), parts)


def _hash_of(tag: bytes) -> Callable[[Iterable[bytes]], bytes]:
    return lambda seals: hashlib.blake2b(tag + b"".join(_sized(seals)), digest_size=16).digest()


def _sized(seals: Iterable[bytes]) -> Iterator[bytes]:
    return (b"%d:%b" % (len(seal), seal) for seal in seals)


def _digest(tag: bytes, text: str) -> bytes:
    return hashlib.blake2b(tag + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _counted(items: Iterable[_Item]) -> dict[bytes, int]:
    counts = defaultdict[bytes, int](int)
    for item in items:
        if not item.opaque:
            counts[item.seal] += 1
    return counts


def _without(items: Iterable[_Item], paired: dict[bytes, int]) -> list[_Item]:
    left = list[_Item]()
    for item in items:
        if not item.opaque and paired.get(item.seal, 0):
            paired[item.seal] -= 1
        else:
            left.append(item)
    return left


def _fill(old: list[_Item], new: list[_Item]) -> None:
    """In a set one item may stand for several that a rule takes for the same."""
    old += [old[-1]] * (len(new) - len(old))
    new += [new[-1]] * (len(old) - len(new))


def _size(item: _Item) -> tuple[bool, float, bytes]:
    """Numbers by their size, so that close ones meet; all else in an order of its own, the same wherever it lies."""
    value = item.value
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return not is_number, float(value) if is_number else 0.0, item.seal


def _rank(found: tuple[_Item | None, _Item | None]) -> tuple[list[int], list[bytes]]:
    """The order of the lists as far as both sides agree on it; then one that does not know sides."""
    items = [item for item in found if item is not None]
    return sorted(item.at for item in items), sorted(item.seal for item in items)


def _shown(old: _Item | None, new: _Item | None) -> tuple[int, Any, Any]:
    at = old.at if old else new.at if new else 0
    return at, old.value if old else MISSING, new.value if new else MISSING
