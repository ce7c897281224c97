"""When something happens next, of each instance that this process knows: a heap, so that nobody looks at them all."""

from __future__ import annotations

import heapq


class Timers:
    """The next due time per key. Setting another one, or none, forgets the last."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: str, due: float | None) -> bool:
        """Remember when ``key`` is due; ``None``: never. Returns whether it is now the first of all."""
        if due is None:
            self._due.pop(key, None)
            return False
        if self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._compact()
        return self.next() == due

    def hint(self, key: str, due: float | None) -> bool:
        """As ``set``, from what may be older than what is known: it only ever makes ``key`` due sooner."""
        known = self._due.get(key)
        return due is not None and (known is None or due < known) and self.set(key, due)

    def next(self) -> float | None:
        """When the first one is due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[str]:
        """Every key that is due by ``now``, the earliest first, and forget it."""
        found: list[str] = []
        while (due := self.next()) is not None and due <= now:
            key = heapq.heappop(self._heap)[1]
            del self._due[key]
            found.append(key)
        return found

    def _compact(self) -> None:
        """Drop what was replaced, once it is most of the heap."""
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._heap = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)
