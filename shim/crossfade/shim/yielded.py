"""What a stream has yielded, copied item by item before whoever takes it can change it.

Kept are 10,000 items and 256 KiB at most. Of a stream that is longer nothing is kept: half of it proves nothing.
"""

from __future__ import annotations

import marshal
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized

MOST_ITEMS: Final = 10_000
MOST_BYTES: Final = 256 * 1024
LIMIT: Final = "stream-limit"
"""Why a stream that yielded more than that is not compared."""

_FORMAT: Final = 4  # of marshal, as for arguments
_dumps: Final[Any] = marshal.dumps  # as there
_PER_ITEM: Final = 64  # bytes that keeping one takes beside its own


class Yielded:
    """The items of one stream so far; ``len`` is about what keeping them takes, in bytes.

    Attributes:
        copies: Of each item, in order: ``marshal``'s, or what ``encode`` made of one that it cannot copy.
        came: When each item came, in seconds after ``began``, which is by ``perf_counter``.
        count: How many there were, kept or not.
        closed: Whoever took them wanted no more.
        cut: Why they cannot be compared, empty where they can: ``stream-limit``; ``stream-driven``, something was sent
            or thrown into it, which no bus carries; ``stream-closed``, before its first item; ``unserialisable``.
    """

    __slots__ = ("_began", "_encode", "_size", "came", "closed", "copies", "count", "cut")

    def __init__(self, encode: Callable[[Any], Sized], *, began: float) -> None:
        self._began = began
        self._encode = encode
        self._size = 0
        self.copies: list[Any] = []
        self.came: list[float] = []
        self.count = 0
        self.closed = False
        self.cut = ""

    def __len__(self) -> int:
        return self._size + _PER_ITEM * len(self.copies)

    def add(self, item: Any) -> None:
        """Copy one more item, now. Raises nothing."""
        came = perf_counter() - self._began
        self.count += 1
        if self.cut:
            return
        try:
            copy = _dumps(item, _FORMAT)
        except Exception:  # not a plain value: whether that is a fault says ``encode``
            copy = self._encode(item)
        self._size += len(copy)
        if not copy:
            self.drop("unserialisable")
        elif self.count > MOST_ITEMS or self._size > MOST_BYTES:
            self.drop(LIMIT)
        else:
            self.copies.append(copy)
            self.came.append(came)

    def drop(self, why: str) -> None:
        """Keep nothing of it any more."""
        self.cut = self.cut or why
        self._size = 0
        self.copies.clear()
        self.came.clear()

    def drive(self) -> None:
        """Something was sent or thrown into the stream: what it yields from now on answers that."""
        self.drop("stream-driven")


class Watched:
    """A generator whose items are added to ``yielded``; for ``yield from``, which hands on all that its caller does."""

    __slots__ = ("_items", "_yielded")

    def __init__(self, items: Any, yielded: Yielded) -> None:
        self._items = items
        self._yielded = yielded

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self._yielded.add(item)
        return item

    def send(self, value: Any) -> Any:
        """See ``Generator``."""
        self._yielded.drive()
        return self._items.send(value)

    def throw(self, *error: Any) -> Any:
        """See ``Generator``."""
        self._yielded.drive()
        return self._items.throw(*error)

    def close(self) -> None:
        """See ``Generator``."""
        self._items.close()
