"""Playbooks that are in force, each with how far its seams are. They lie in the bucket ``migrations``, by name."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from crossfade.shim.errors import ConfigurationError, WrongRevisionError
from crossfade.shim.hooks import report

from .playbook import Playbook, read_playbook
from .progress import SeamProgress, carried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.shim.ports import Bus, Entry

BUCKET: Final = "migrations"
_TRIES: Final = 5
_log = logging.getLogger("crossfade")

Change: TypeAlias = "Callable[[Applied], Applied]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """A playbook in force: its text as it was applied, by whom and when (ISO), and the progress of its seams."""

    name: str
    text: str
    actor: str
    applied: str
    seams: Mapping[str, SeamProgress] = field(default_factory=dict[str, SeamProgress])
    revision: int = 0

    @property
    def playbook(self) -> Playbook:
        """What its text says. Raises ``ConfigurationError``."""
        return _parsed(self.name, self.text)

    @property
    def parsed(self) -> Playbook | None:
        """What its text says, ``None`` where this version cannot read it."""
        try:
            return self.playbook
        except ConfigurationError:
            return None

    @property
    def digest(self) -> str:
        """A short text that is equal for equal playbooks. 16 hex digits."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    def with_progress(self, progress: SeamProgress) -> Applied:
        """This, with the progress of one seam."""
        return replace(self, seams={**self.seams, progress.seam: progress})

    def encode(self) -> bytes:
        """The value of the bucket."""
        seams = {name: progress.to_json() for name, progress in self.seams.items()}
        return json.dumps({"text": self.text, "actor": self.actor, "applied": self.applied, "seams": seams}).encode()


@lru_cache(maxsize=256)
def _parsed(name: str, text: str) -> Playbook:
    """Kept, because the controller asks for each seam, each second, and reading YAML takes milliseconds."""
    return replace(read_playbook(f"playbook {name}", text=text.encode()), name=name)


class Migrations:
    """Reads and changes the playbooks in force over a connected bus."""

    def __init__(self, bus: Bus) -> None:
        self._state = bus.state(BUCKET)

    async def all(self) -> list[Applied]:
        """Every playbook in force, by name. Raises ``ConfigurationError`` for one that cannot be read."""
        return sorted((_read(entry) for entry in await self._state.entries()), key=lambda found: found.name)

    async def readable(self) -> list[Applied]:
        """As ``all``, without those that cannot be read: counted (``controller-failed``). Raises ``BusError``."""
        found: list[Applied] = []
        for entry in sorted(await self._state.entries(), key=lambda entry: entry.key):
            try:
                applied = _read(entry)
                _ = applied.playbook
            except ConfigurationError as error:
                report.count("controller-failed", reason=f"playbook-{entry.key}")
                _log.warning("nobody moves its seams: %s", error)
            else:
                found.append(applied)
        return found

    async def find(self, name: str) -> Applied:
        """The playbook of this name. Raises ``ConfigurationError`` naming those there are."""
        entry = await self._state.get(name)
        if entry is None:
            known = ", ".join(found.name for found in await self.all()) or "none yet: crossfade migrate apply FILE"
            raise ConfigurationError(f"no playbook {name!r} is in force; there are: {known}", where="playbook")
        return _read(entry)

    async def of_seam(self, seam: str) -> Applied | None:
        """The playbook that moves ``seam``, if one does: no seam has two."""
        return next((found for found in await self.all() if seam in found.seams), None)

    async def apply(self, applied: Applied) -> Applied:
        """Put a playbook in force, or a new text of one; seams that it had go on from the stage where they are.

        Raises ``ConfigurationError`` when one of its seams is another playbook's.
        """
        playbook = applied.playbook
        for other in await self.all():
            taken = [seam for seam in playbook.seams if seam in other.seams]
            if other.name != applied.name and taken:
                raise ConfigurationError(
                    f"playbook {other.name} moves {taken[0]}: end it first (crossfade migrate end {other.name})",
                    where="seams",
                )
        entry = await self._state.get(applied.name)
        seams = {seam: SeamProgress(seam=seam) for seam in playbook.seams}
        if entry is not None:
            known = _read(entry)
            kept = {seam: carried(known.seams[seam], known.parsed, playbook) for seam in seams if seam in known.seams}
            seams |= kept
        whole = replace(applied, seams=seams)
        return await self._write(entry, whole)

    async def is_at(self, name: str, revision: int) -> bool:
        """Whether what lies there is what was read at ``revision``. Raises ``BusError``."""
        entry = await self._state.get(name)
        return entry is not None and entry.revision == revision

    async def change(self, name: str, change: Change) -> Applied:
        """Write what ``change`` makes of a playbook, by compare-and-set; it is asked again when somebody was faster."""
        for attempt in range(1, _TRIES + 1):
            entry = await self._state.get(name)
            if entry is None:
                return await self.find(name)  # which says what there is
            known = _read(entry)
            changed = change(known)
            if changed == known:
                return known
            try:
                return await self._write(entry, changed)
            except WrongRevisionError:
                if attempt == _TRIES:
                    raise
        raise AssertionError("not reached")

    async def save(self, applied: Applied) -> Applied:
        """Write it over the revision it was read at. Raises ``WrongRevisionError`` when somebody was faster."""
        revision = await self._state.update(applied.name, applied.encode(), revision=applied.revision)
        return replace(applied, revision=revision)

    async def end(self, name: str) -> None:
        """Take a playbook out of force; its seams stay where they are."""
        await self.find(name)
        await self._state.delete(name)

    async def _write(self, entry: Entry | None, applied: Applied) -> Applied:
        if entry is None:
            return replace(applied, revision=await self._state.create(applied.name, applied.encode()))
        return replace(
            applied, revision=await self._state.update(applied.name, applied.encode(), revision=entry.revision)
        )


def _read(entry: Entry) -> Applied:
    try:
        stored: dict[str, Any] = json.loads(entry.value)
        return Applied(
            name=entry.key,
            text=stored["text"],
            actor=stored["actor"],
            applied=stored["applied"],
            seams={name: SeamProgress.from_json(progress) for name, progress in stored["seams"].items()},
            revision=entry.revision,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"is no playbook in force: {error!r}", where=f"migrations/{entry.key}") from error
