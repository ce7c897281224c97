"""Files that appear in a folder become ``file.created``, once they are whole.

Rules
- Whole is: not written for ``settle`` seconds, by the file's own time of change or by what two looks saw; or renamed
  into place, which is seen by its inode having changed after its last write. A file that changes while it is read
  is looked at again.
- Names of ``ignore`` are not looked at: that is where writers put what is not done yet.
- What was taken is noted in the state bucket ``files_NAME`` (path, inode, size, time, sha256), after the fact: a
  process that starts again neither repeats nor misses. The same content at the same path is no news.
- A file that is gone is forgotten, so that it is news when it comes again; not when the whole folder is gone, or is
  on another device (a share that is not mounted): then nothing can be said about its files.
- A link is never followed. A folder that is gone is told, counted, and watched again when it is back.

The operating system tells of changes (watchfiles); every ``_RESCAN`` seconds it is looked anyway, for what it did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError, ConfigurationError, MissingExtraError
from crossfade.shim.hooks import report

from .intake import Arrival

try:
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType] - anyio's event is typed loosely
except ImportError as error:
    raise MissingExtraError("triggers", needed_for="a file trigger") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .intake import Intake

IGNORED: Final = (".*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.filepart", "*.swp")
"""Names that writers give to what is not done yet."""

_RESCAN: Final = 10.0  # seconds
_AGAIN: Final = 1.0  # seconds until it looks again while folder or bus is away
_DEBOUNCE: Final = 50  # milliseconds that changes are gathered
_CHUNK: Final = 1024 * 1024

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What is watched.

    ``patterns`` and ``ignore`` are globs of names; ``settle`` is in seconds; with ``content`` a file of up to
    ``max_bytes`` goes to the object store, without it, or when it is larger, the fact has its path alone.
    """

    directory: Path
    patterns: tuple[str, ...] = ("*",)
    ignore: tuple[str, ...] = IGNORED
    settle: float = 2.0
    recursive: bool = False
    content: bool = True
    max_bytes: int = 16 * 1024 * 1024
    tenant: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise ConfigurationError(f"{str(self.directory)!r} is no folder: make it first", where="directory")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look says of a file. Times are nanoseconds."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> Look:
        """What ``stat`` says."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev)

    @property
    def was_renamed(self) -> bool:
        """The inode changed after the last write: renamed, linked, or finished by setting its times."""
        return self.size > 0 and self.ctime_ns > self.mtime_ns


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """A file that was taken."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    sha256: str
    device: int

    def is_of(self, look: Look) -> bool:
        """Whether this is the file as it is now."""
        return (self.inode, self.size, self.mtime_ns) == (look.inode, look.size, look.mtime_ns)


class FolderWatcher:
    """Watches one folder."""

    def __init__(self, settings: Folder, intake: Intake) -> None:
        self.name = intake.trigger
        self._settings = settings
        self._intake = intake
        self._state = intake.bus.state(f"files_{intake.trigger}")
        self._noted: dict[str, Noted] | None = None
        self._seen: dict[str, tuple[Look, float]] = {}  # not whole yet: the look, and since when it was the same
        self._changed = asyncio.Event()
        self._gone = False

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``."""
        self._noted = None
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells how many changes it saw, each time
        watched: tuple[asyncio.Task[None], asyncio.Event, int] | None = None
        ending = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                watched = await self._watch(watched)
                if watched is not None:
                    ready(str(self._settings.directory))
                self._changed.clear()
                pause = await self._try_look()
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({ending, changed}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            ending.cancel()
            await self._unwatch(watched)

    async def _try_look(self) -> float:
        try:
            pause = await self.look()
        except BusError as error:
            report.count("files-delayed", seam=self.name, reason=type(error).__name__)
            return _AGAIN
        except OSError as error:
            if not self._gone:
                report.count("folder-gone", seam=self.name, reason=type(error).__name__)
                _log.error("trigger %s: the folder is gone and is looked for: %s", self.name, error)
            self._gone = True
            return _AGAIN
        if self._gone:
            _log.warning("trigger %s: the folder is back", self.name)
        self._gone = False
        return pause

    async def look(self) -> float:
        """Take what is whole; seconds until something else may be. Raises ``BusError``, and ``OSError`` for the folder.

        What one file refuses (it is gone again, it may not be read) keeps none of the others.
        """
        found, device = await asyncio.to_thread(self._scan)
        noted = await self._load()
        await self._forget(noted, found, device)
        now, pause = asyncio.get_running_loop().time(), _RESCAN
        for path, look in found.items():
            known = noted.get(path)
            if known is not None and known.is_of(look):
                self._seen.pop(path, None)
                continue
            before = self._seen.get(path)
            since = before[1] if before is not None and before[0] == look else now
            self._seen[path] = look, since
            left = self._left(look, now - since)
            if left > 0:
                pause = min(pause, left)
            elif not await self._take(path, look, noted):
                pause = min(pause, self._settings.settle)
        for path in self._seen.keys() - found.keys():
            del self._seen[path]
        return pause

    def _left(self, look: Look, same_for: float) -> float:
        """Seconds until the file counts as whole."""
        if look.was_renamed:
            return 0.0
        age = datetime.now(UTC).timestamp() - look.mtime_ns / 1e9
        return self._settings.settle - max(same_for, age)

    async def _load(self) -> dict[str, Noted]:
        if self._noted is None:
            noted = [Noted(**json.loads(entry.value)) for entry in await self._state.entries()]
            self._noted = {one.path: one for one in noted}
        return self._noted

    async def _forget(self, noted: dict[str, Noted], found: dict[str, Look], device: int) -> None:
        for path in [path for path, one in noted.items() if path not in found and one.device == device]:
            await self._state.delete(_key(path))
            del noted[path]

    async def _take(self, path: str, look: Look, noted: dict[str, Noted]) -> bool:
        """Make the file a fact; whether it is done with."""
        try:
            sha256, data = await asyncio.to_thread(self._read, path, look)
        except _NotWholeError:
            self._seen.pop(path, None)
            return False
        except OSError as error:  # it is looked at again, and told each time
            report.count("file-unreadable", seam=self.name, reason=type(error).__name__)
            return False
        known = noted.get(path)
        if known is None or known.sha256 != sha256:
            await self._intake.take(await self._arrival(path, look, sha256, data))
        one = Noted(
            path=path, inode=look.inode, size=look.size, mtime_ns=look.mtime_ns, sha256=sha256, device=look.device
        )
        await self._state.put(_key(path), json.dumps(asdict(one)).encode())
        noted[path] = one
        self._seen.pop(path, None)
        return True

    async def _arrival(self, path: str, look: Look, sha256: str, data: bytes | None) -> Arrival:
        shown = os.fsencode(path).decode("utf-8", "replace")
        payload = {
            "path": shown,
            "name": shown.rpartition("/")[2],
            "directory": str(self._settings.directory),
            "size": look.size,
            "modified": datetime.fromtimestamp(look.mtime_ns / 1e9, UTC).isoformat(),
            "sha256": sha256,
            "content": await self._intake.keep(data) if data is not None else None,
        }
        return Arrival(
            type="file.created",
            parts=(os.fsencode(path).hex(), str(look.mtime_ns), sha256),
            data=json.dumps(payload).encode(),
            subject=shown if shown.isprintable() else None,
            tenant=self._settings.tenant,
            user=self._settings.user,
        )

    # -- in a thread -----------------------------------------------------------------------------------------

    def _scan(self) -> tuple[dict[str, Look], int]:
        """Every file that is of interest by its path in the folder, and the folder's device."""
        top = str(self._settings.directory)
        found: dict[str, Look] = {}
        folders = [""]
        while folders:
            inside = folders.pop()
            try:
                entries = list(os.scandir(os.path.join(top, inside)))  # noqa: PTH118 - bytes that are no UTF-8 go through
            except OSError:
                if not inside:
                    raise
                continue  # gone since its name was read; what was in it is looked for at the next look
            for entry in entries:
                if self._ignored(entry.name):
                    continue
                path = f"{inside}/{entry.name}" if inside else entry.name
                with contextlib.suppress(FileNotFoundError):  # likewise
                    if entry.is_dir(follow_symlinks=False):
                        folders += [path] if self._settings.recursive else []
                    elif entry.is_file(follow_symlinks=False) and self._wanted(entry.name):
                        found[path] = Look.of(entry.stat(follow_symlinks=False))
        return found, os.stat(top).st_dev  # noqa: PTH116 - as above

    def _ignored(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._settings.ignore)

    def _wanted(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._settings.patterns)

    def _read(self, path: str, look: Look) -> tuple[str, bytes | None]:
        """The file's sha256, and its bytes when they are to be kept. Raises ``_NotWholeError``: it is not ``look``."""
        keep = self._settings.content and look.size <= self._settings.max_bytes
        digest, kept = hashlib.sha256(), bytearray()
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(f"{self._settings.directory}/{path}", flags)
        with open(handle, "rb") as file:  # noqa: PTH123 - from a descriptor
            self._check(handle, look)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if keep:
                    kept += chunk
                if file.tell() > look.size:
                    raise _NotWholeError
            self._check(handle, look)
        return digest.hexdigest(), bytes(kept) if keep else None

    @staticmethod
    def _check(handle: int, look: Look) -> None:
        found = os.fstat(handle)
        now = Look.of(found)
        same = (now.inode, now.size, now.mtime_ns) == (look.inode, look.size, look.mtime_ns)
        if not same or not stat.S_ISREG(found.st_mode):
            raise _NotWholeError

    # -- being told ------------------------------------------------------------------------------------------

    async def _watch(
        self, watched: tuple[asyncio.Task[None], asyncio.Event, int] | None
    ) -> tuple[asyncio.Task[None], asyncio.Event, int] | None:
        """Be told of changes in the folder that is there now, which may be another than before."""
        try:
            inode = (await asyncio.to_thread(self._settings.directory.stat)).st_ino
        except OSError:
            inode = 0
        if watched is not None and watched[2] == inode and not watched[0].done():
            return watched
        await self._unwatch(watched)
        if not inode:
            return None
        stop = asyncio.Event()
        listening = asyncio.create_task(self._listen(stop))
        await asyncio.sleep(0)  # its first step begins to watch: a file that comes after the next look is told of
        return listening, stop, inode

    async def _listen(self, stop: asyncio.Event) -> None:
        try:
            async for _ in awatch(
                self._settings.directory,
                watch_filter=None,
                stop_event=stop,
                debounce=_DEBOUNCE,
                step=_DEBOUNCE,
                rust_timeout=500,
                recursive=self._settings.recursive,
            ):
                self._changed.set()
        except (OSError, RuntimeError) as error:  # the folder is gone, or the system watches too many already
            report.count("watch-failed", seam=self.name, reason=type(error).__name__)

    async def _unwatch(self, watched: tuple[asyncio.Task[None], asyncio.Event, int] | None) -> None:
        if watched is not None:
            watched[1].set()
            await watched[0]


class _NotWholeError(Exception):
    """The file changed while it was read, or is another now."""


def _key(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()
