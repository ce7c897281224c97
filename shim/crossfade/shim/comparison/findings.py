"""What a walk over two values collects, bounded however much differs."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .verdict import Difference

MOST: Final = 50  # differences kept of one comparison
MOST_ALIKE: Final = 10  # of them, alike: the drift of a long list must not hide the rest


class Findings:
    """What was found so far.

    ``ignored`` are the paths of the rules that did, ``judged`` those of semantic rules by which texts are the same.
    ``undecided`` is a reason and a line for people.
    ``exhausted``: the budget ended the walk.
    """

    def __init__(self) -> None:
        self.differences: list[Difference] = []
        self.ignored: set[str] = set()
        self.judged: set[str] = set()
        self.undecided: tuple[str, str] | None = None
        self.exhausted = False
        self._alike: Counter[bytes] = Counter()

    @property
    def more(self) -> int:
        """How many differences were found and not kept."""
        return self._alike.total() - len(self.differences)

    @property
    def signature(self) -> str:
        """One text for the places and kinds of all differences."""
        return signature(self._alike)

    def counts(self, alike: bytes) -> bool:
        """Count one more difference; whether it is to be kept. ``alike`` stands for its folded path and kind."""
        self._alike[alike] += 1
        return len(self.differences) < MOST and self._alike[alike] <= MOST_ALIKE


def fold(above: bytes, segment: str | int | None) -> bytes:
    """The hash of a place without list positions, from the one above it; ``None`` is the document itself.

    A chain of hashes, because a text per place would cost its depth every time.
    """
    if segment is None:
        return above
    step = b"[]" if isinstance(segment, int) else b"." + segment.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(above + step, digest_size=16).digest()


def signature(alike: Iterable[bytes]) -> str:
    """A short text, equal for equal sets."""
    return hashlib.blake2b(b"\0".join(sorted(set(alike))), digest_size=8).hexdigest()
