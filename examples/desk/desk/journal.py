"""The effects journal: which tool ran, when and where, on disk before it ran and again after.

One JSON line per phase, one ``write`` and one ``fsync`` each, so a killed process loses at most the line it was
writing and a ``begin`` that is missing proves that the tool did not run. On when ``DESK_JOURNAL`` names a file.
"""

import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path


class JournalError(Exception):
    """The journal could not be written: the tool does not run, because nobody could tell that it did."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: ``phase`` is ``begin`` or ``end``, ``role`` is ``DESK_ROLE`` of the process, ``time`` Unix seconds."""

    tool: str
    request: str
    phase: str
    pid: int
    role: str
    time: float


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What a journal holds; ``torn`` counts lines that a dying process left unfinished."""

    entries: list[Entry]
    torn: int


@dataclass(kw_only=True)
class Executions:
    """How often one request's tool ran: ``begun`` and ``ended`` in all, ``roles`` counts ``begun`` by role."""

    tool: str
    begun: int = 0
    ended: int = 0
    roles: dict[str, int] = field(default_factory=dict)


@contextmanager
def execution(tool: str, request: str, *, role: str = "") -> Generator[None, None, None]:
    """Journal what happens inside as one execution of ``tool``; ``end`` is written after a failure, too.

    ``role`` overrides ``DESK_ROLE`` for this execution.
    """
    target = os.environ.get("DESK_JOURNAL")
    role = role or ("shadow" if is_shadow() else "")
    if not target:
        yield
        return
    append(Path(target), _entry(tool, request, "begin", role))
    try:
        yield
    finally:
        append(Path(target), _entry(tool, request, "end", role))


_shadow = ContextVar("shadow", default=False)


@contextmanager
def shadow(*, on: bool) -> Generator[None, None, None]:
    """Journal what happens inside as run to be compared when ``on``: its answer reaches nobody."""
    before = _shadow.set(on)
    try:
        yield
    finally:
        _shadow.reset(before)


def is_shadow() -> bool:
    """Whether what happens here is only to be compared."""
    return _shadow.get()


def _entry(tool: str, request: str, phase: str, role: str) -> Entry:
    role = role or os.environ.get("DESK_ROLE") or "legacy"
    return Entry(tool=tool, request=request, phase=phase, pid=os.getpid(), role=role, time=time.time())


def append(path: Path, entry: Entry) -> None:
    """Put ``entry`` at the end of ``path`` and on the disk; raises ``JournalError``."""
    line = json.dumps(asdict(entry)).encode() + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if _ends_torn(handle):
                line = b"\n" + line  # what a crash left behind must not swallow this line
            written = os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise JournalError(f"cannot write the journal {path}: {error}") from error
    if written != len(line):
        raise JournalError(f"the journal {path} took {written} of {len(line)} bytes: is the disk full?")


def _ends_torn(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def read_journal(path: Path | str) -> Journal:
    """Every whole line of the journal at ``path``; a missing file is an empty journal."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return Journal(entries=[], torn=0)
    entries: list[Entry] = []
    torn = 0
    for line in filter(None, lines):
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            torn += 1
    return Journal(entries=entries, torn=torn)


def tally(entries: Iterable[Entry]) -> dict[str, Executions]:
    """The executions of every request: more than one ``begun`` in a role is work done twice."""
    counted: dict[str, Executions] = {}
    for entry in entries:
        executions = counted.setdefault(entry.request, Executions(tool=entry.tool))
        if entry.phase == "begin":
            executions.begun += 1
            executions.roles[entry.role] = executions.roles.get(entry.role, 0) + 1
        else:
            executions.ended += 1
    return counted
