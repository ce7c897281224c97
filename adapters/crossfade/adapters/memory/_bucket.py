"""A state bucket: keyed values with revisions, expiry and a history short enough to watch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crossfade.shim.errors import ConfigurationError, WrongRevisionError
from crossfade.shim.ports import Change, Entry

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


@dataclass(frozen=True, slots=True)
class _Record:
    value: bytes | None
    revision: int
    expires: float | None = None


class Bucket:
    """Every key's last value or deletion; ``now`` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._revision = 0
        self._records: dict[str, _Record] = {}

    def get(self, key: str, now: float) -> Entry | None:
        """The value now."""
        self._expire(now)
        record = self._records.get(check_key(key))
        if record is None or record.value is None:
            return None
        return Entry(key=key, value=record.value, revision=record.revision)

    def set_at(self, key: str, value: bytes, *, revision: int | None, now: float, ttl: float | None = None) -> int:
        """Set the key when it is at ``revision`` (``None``: absent), else raise ``WrongRevisionError``."""
        entry = self.get(key, now)
        actual = entry.revision if entry else None
        if actual != revision:
            raise WrongRevisionError(key, actual=actual)
        return self.put(key, value, expires=None if ttl is None else now + ttl)

    def put(self, key: str, value: bytes | None, *, expires: float | None = None) -> int:
        """Set the key whatever it was (``None``: delete); an earlier expiry no longer counts."""
        self._revision += 1
        self._records[check_key(key)] = _Record(value, self._revision, expires)
        return self._revision

    def delete(self, key: str, now: float) -> None:
        """Remove the key; an absent one is no change."""
        if self.get(key, now) is not None:
            self.put(key, None)

    def entries(self, now: float) -> list[Entry]:
        """Every key's value, sorted by key."""
        self._expire(now)
        return [
            Entry(key=key, value=record.value, revision=record.revision)
            for key, record in sorted(self._records.items())
            if record.value is not None
        ]

    def changes(self, after: int, now: float) -> list[Change]:
        """The last change of every key changed since revision ``after``, in order."""
        self._expire(now)
        changed = [
            Change(key=key, value=record.value, revision=record.revision)
            for key, record in self._records.items()
            if record.revision > after
        ]
        return sorted(changed, key=lambda change: change.revision)

    def wakes_at(self) -> float | None:
        """When the next key expires, if any does."""
        return min((record.expires for record in self._records.values() if record.expires is not None), default=None)

    def _expire(self, now: float) -> None:
        expired = [
            (record.expires, key)
            for key, record in self._records.items()
            if record.expires is not None and record.expires <= now
        ]
        for _, key in sorted(expired):
            self.put(key, None)


def check_key(key: str) -> str:
    """``key`` when every bus can store it, else ``ConfigurationError``."""
    if not _KEY.match(key):
        raise ConfigurationError(f"{key!r} is no state key: use A-Z, a-z, 0-9, _, - and inner dots", where="key")
    return key
