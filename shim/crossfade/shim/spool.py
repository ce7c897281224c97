"""Results that could not be logged wait here, on this machine's disk, until the bus takes them.

A result exists only once its effect has happened, so it must not be lost with the process: one file per event,
written and synced before the worker goes on.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final

from .bindings import from_nats, to_nats
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .events import Event
    from .ports import Position


_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC  # opened for the owner only: results are their caller's


class Spool:
    """A folder of spooled events. Several workers may share one: publishing twice is a duplicate by event id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, subject: str, event: Event, claim: Position | None = None) -> None:
        """Keep ``event`` until ``remove``; durable on return. ``claim`` is the fence it must be logged under."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._file(event)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        data = None if event.data is None else b64encode(event.data).decode()
        with os.fdopen(os.open(partial, _FLAGS, 0o600), "w", encoding="utf-8") as file:
            json.dump({"subject": subject, "headers": to_nats(event), "data": data, "claim": claim}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        self._sync_folder()

    def remove(self, event: Event) -> None:
        """Forget ``event``: it is logged."""
        self._file(event).unlink(missing_ok=True)

    def count(self) -> int:
        """How many results wait here."""
        return sum(1 for _ in self._folder.glob("*.json"))

    def items(self) -> Iterator[tuple[str, Event, Position | None]]:
        """What is spooled, oldest first. A file that cannot be read is renamed ``.bad`` and counted, never lost.

        One that is gone when its turn comes has been logged by another worker of this folder.
        """
        for file in sorted(self._folder.glob("*.json"), key=_written):
            try:
                stored = json.loads(file.read_text("utf-8"))
                data = b64decode(stored["data"]) if stored["data"] is not None else b""
                yield stored["subject"], from_nats(stored["headers"], data), stored.get("claim")
            except FileNotFoundError:
                continue
            except Exception as error:
                report.count("spool-unreadable", reason=type(error).__name__)
                file.rename(file.with_suffix(".bad"))

    def _file(self, event: Event) -> Path:
        return self._folder / f"{event.id}.json"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
