"""The index of runs: one row a call in an SQLite file, filled from the log and brought up to date by position.

It holds names, times and outcomes, never arguments or values. It can be deleted at any time: the log is the truth.
Facts are merged in the order in which they were stored, so reading an event twice changes nothing, and positions are
written in the same transaction as what they count for. Calls are read where they are stored first, since the long log
has the times at which it copied them: that is read only for what is no longer there.
"""

from __future__ import annotations

import sqlite3
from contextlib import aclosing, closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.claimcheck import load_data
from crossfade.shim.errors import ConfigurationError, CrossfadeError
from crossfade.shim.hooks import report
from crossfade.shim.ports import Position

from .run import Call, Fact, Run, facts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from datetime import timedelta
    from pathlib import Path

    from crossfade.shim.ports import Bus, Stored
    from crossfade.shim.subjects import Subjects

VERSION: Final = 2
_BATCH: Final = 1000  # events between two transactions
MOST_CALLS: Final = 1_000_000
"""Calls that an index file keeps, about 300 MB: runs that ended before go, the log has them while it lasts."""

_COLUMNS: Final = tuple(field.name for field in fields(Fact))
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, {", ".join(f"{name}" for name in _COLUMNS[1:])}) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_by_run ON calls (run);
CREATE INDEX IF NOT EXISTS calls_by_seam ON calls (seam, path);
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (began);
CREATE TABLE IF NOT EXISTS positions (family TEXT PRIMARY KEY, epoch TEXT, position TEXT);
CREATE TABLE IF NOT EXISTS source (name TEXT);
"""
_INSERT: Final = (
    f"INSERT INTO calls ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - our names
    "ON CONFLICT (id) DO UPDATE SET "
)
_KEPT: Final = ("began", "run", "parent")  # a claim comes after its command, and begins nothing that has begun
_MERGE: Final = _INSERT + ", ".join(
    f"{name} = COALESCE({name}, excluded.{name})" if name in _KEPT else f"{name} = COALESCE(excluded.{name}, {name})"
    for name in _COLUMNS[1:]
)
_FILL: Final = _INSERT + ", ".join(f"{name} = COALESCE({name}, excluded.{name})" for name in _COLUMNS[1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which runs: with a call of ``seam`` that took ``path`` and began from ``since`` to ``until`` (epoch seconds).

    ``user``: whose call; ``run``: what the run's id contains.
    """

    run: str | None = None
    user: str | None = None
    seam: str | None = None
    path: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One run in a list."""

    run: str
    began: float
    seconds: float
    calls: int
    errors: int
    seam: str
    paths: tuple[str, ...]


class TraceIndex:
    """An open index file. Close it."""

    def __init__(self, file: Path | None, *, source: str) -> None:
        """Open or make the index of ``source``. Raises ``ConfigurationError`` when it is another's, or no index.

        Without a ``file`` it is a temporary one that nobody else sees, gone once it is closed.
        """
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file or ""
        self._gap = False  # something was forgotten before it was read
        try:
            self._base = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)  # one at a time
            self._prepare(source)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"cannot be used as an index ({error}): name another file", where=str(self._file)
            ) from error

    def _prepare(self, source: str) -> None:
        version = self._base.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise ConfigurationError(
                "was written by another version: delete it, it is made anew", where=str(self._file)
            )
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
        found = self._base.execute("SELECT name FROM source").fetchone()
        if found is None:
            self._base.execute("INSERT INTO source VALUES (?)", (source,))
        elif found[0] != source:
            raise ConfigurationError(f"is an index of {found[0]}: name another --index", where=str(self._file))

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    # -- filling -----------------------------------------------------------------------------------------------------

    async def update(self, bus: Bus, subjects: Subjects) -> int:
        """Take in what was stored since the last time; how many events that were. Raises ``BusError``.

        What cannot be read is counted (``skipped``) and passed over.
        """
        calls = f"{subjects.prefix}.>"
        lacking = await self._position(bus, calls) is None or self._gap
        read = [await self._follow(bus, family) for family in _families(subjects)]
        log = f"{subjects.prefix}log.>"
        if lacking and await _is_kept(bus, log):
            read.append(await self._fill(bus, log))
        self._gap = False
        return sum(read)

    async def glance(self, bus: Bus, subjects: Subjects, *, reach: timedelta, most: int) -> bool:
        """Take in ``most`` events of a kind at a time, beginning ``reach`` ago; whether there are more.

        For who looks often and waits for nothing: the long log is left alone. Raises ``BusError``.
        """
        read = [await self._follow(bus, family, reach=reach, most=most) for family in _families(subjects)]
        return max(read) >= most

    async def take_run(self, bus: Bus, subjects: Subjects, run: str, *, most: int) -> None:
        """Take in the first ``most`` events of a run's calls on the bus, wherever the rest of this index is."""
        found = list[Fact]()
        async with aclosing(cast("AsyncGenerator[Stored]", bus.read(subjects.run(run)))) as events:
            async for stored in events:
                if len(found) >= most:
                    break
                found += await _facts(bus, stored)
        self.add(found)

    async def _fill(self, bus: Bus, log: str) -> int:
        """Take from the long log what the commands' stream has forgotten, and no more: its times are of copying."""
        read, batch = 0, list[Fact]()
        async for stored in bus.read(log):
            read += 1
            batch += await _facts(bus, stored)
            if len(batch) >= _BATCH:
                self.add(batch, fill=True)
                batch.clear()
        self.add(batch, fill=True)
        return read

    async def _follow(self, bus: Bus, family: str, *, reach: timedelta | None = None, most: int | None = None) -> int:
        after = await self._position(bus, family)
        read, batch, last = 0, list[Fact](), after
        epoch = (await bus.extent(family)).epoch
        since = bus.now() - reach if reach is not None and after is None else None
        async with aclosing(cast("AsyncGenerator[Stored]", bus.read(family, after=after, since=since))) as events:
            async for stored in events:
                read, last = read + 1, stored.position
                batch += await _facts(bus, stored)
                if read % _BATCH == 0:
                    self._write(batch, family, epoch, last)
                    batch.clear()
                if read == most:
                    break
        if last is not None and last != after:
            self._write(batch, family, epoch, last)
        return read

    async def _position(self, bus: Bus, family: str) -> Position | None:
        """Where the last event lies that is in here; ``None`` where the stream was made anew."""
        row = self._base.execute("SELECT epoch, position FROM positions WHERE family = ?", (family,)).fetchone()
        if row is None:
            return None
        extent = await bus.extent(family, after=Position(row[1]))
        if extent.epoch != row[0]:
            report.count("retried", reason="traces-stream-anew")
            return None
        if not extent.whole:
            self._gap = True
            report.count("skipped", reason="traces-expired")
        return Position(row[1])

    def _write(self, facts: Iterable[Fact], family: str, epoch: str, position: Position) -> None:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._merge(facts)
            self._base.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (family, epoch, position))
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def _merge(self, facts: Iterable[Fact], *, fill: bool = False) -> None:
        self._base.executemany(
            _FILL if fill else _MERGE, ([getattr(each, name) for name in _COLUMNS] for each in facts)
        )

    def add(self, facts: Iterable[Fact], *, fill: bool = False) -> None:
        """Take in what came from elsewhere, like an imported trace; ``fill``: what is known already stays."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._merge(facts, fill=fill)
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def prune(self, *, most: int, before: float | None = None) -> int:
        """Forget runs whose calls all began ``before`` (epoch seconds), and the oldest beyond ``most`` calls.

        Returns how many calls that were.
        """
        limit = self._base.execute(
            "SELECT COALESCE(began, ended) FROM calls ORDER BY 1 DESC LIMIT 1 OFFSET ?", (most - 1,)
        ).fetchone()
        oldest = max((limit or (None,))[0] or 0.0, before or 0.0)
        if not oldest:
            return 0
        return self._base.execute(
            "DELETE FROM calls WHERE COALESCE(began, ended) < ? AND NOT EXISTS "
            "(SELECT 1 FROM calls AS late WHERE late.run = calls.run AND COALESCE(late.began, late.ended) >= ?)",
            (oldest, oldest),
        ).rowcount

    # -- asking ------------------------------------------------------------------------------------------------------

    def run(self, run: str) -> Run | None:
        """One run by its id, or the id of any of its calls."""
        calls = self._calls(run)
        if not calls:
            row = self._base.execute("SELECT run FROM calls WHERE id = ?", (run,)).fetchone()
            calls = self._calls(row[0]) if row else []
        return Run.of(calls[0].run, calls) if calls else None

    def matching(self, part: str, *, limit: int = 10) -> list[str]:
        """The runs whose id begins or ends with ``part``."""
        quoted = part.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
        rows = self._base.execute(
            "SELECT DISTINCT run FROM calls WHERE run LIKE ? ESCAPE '\\' OR run LIKE ? ESCAPE '\\' LIMIT ?",
            (f"{quoted}%", f"%{quoted}", limit),
        )
        return [row[0] for row in rows]

    def select(self, wanted: Selection, *, limit: int | None = None) -> Iterator[Run]:
        """The selected runs, newest first, one at a time."""
        with closing(self._base.cursor()) as cursor:
            where, values = _where(wanted)
            newest = f"SELECT run FROM calls {where} GROUP BY run ORDER BY MAX(began) DESC LIMIT ?"  # noqa: S608 - ours
            for (run,) in cursor.execute(newest, (*values, -1 if limit is None else limit)):
                found = self.run(run)
                if found is not None:
                    yield found

    def summaries(self, wanted: Selection, *, limit: int) -> list[Summary]:
        """The selected runs in short, newest first."""
        return [_summary(run) for run in self.select(wanted, limit=limit)]

    def _calls(self, run: str) -> list[Call]:
        rows = self._base.execute(f"SELECT {', '.join(_COLUMNS)} FROM calls WHERE run = ?", (run,))  # noqa: S608 - ours
        return [call for row in rows if (call := _call(dict(zip(_COLUMNS, row, strict=True)))) is not None]


async def _is_kept(bus: Bus, log: str) -> bool:
    try:
        return await bus.last(log) is not None
    except ConfigurationError:  # no stream of that name: the bus in memory has none
        return False


async def _facts(bus: Bus, stored: Stored) -> list[Fact]:
    try:
        if stored.event.get("dataref") and stored.event.type.endswith(("result", "completed", "failed", "response")):
            data = await load_data(bus, stored.event)
            stored = replace(stored, event=replace(stored.event, data=data))
        return facts(stored)
    except (CrossfadeError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        report.count("skipped", reason=f"trace-{type(error).__name__}")
        return []


def _call(row: dict[str, Any]) -> Call | None:
    """A call of what is known; ``None`` while only that it is claimed is, or when it began cannot be said."""
    began = row["began"] if row["began"] is not None else row["ended"]
    if began is None or row["seam"] is None:
        return None
    told: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    given: dict[str, Any] = {"run": row["id"], "path": "legacy", **told, "began": began}
    return Call(**given)


def _where(wanted: Selection) -> tuple[str, list[Any]]:
    terms = {
        "instr(run, ?) > 0": wanted.run,
        "user = ?": wanted.user,
        "seam = ?": wanted.seam,
        "path = ?": wanted.path,
        "began >= ?": wanted.since,
        "began <= ?": wanted.until,
    }
    given = {term: value for term, value in terms.items() if value is not None}
    if wanted.path is not None and wanted.seam is None:
        given["parent IS NULL AND 1 = ?"] = 1  # the path of a run is that of what began it
    return (f"WHERE run IS NOT NULL AND {' AND '.join(given)}" if given else "WHERE run IS NOT NULL"), list(
        given.values()
    )


def _families(subjects: Subjects) -> tuple[str, ...]:
    return f"{subjects.prefix}.>", subjects.observations(), subjects.verdicts()


def _summary(run: Run) -> Summary:
    calls = [node.call for node, _ in run.walk()]
    first = min(calls, key=lambda call: call.began)
    return Summary(
        run=run.id,
        began=run.began,
        seconds=run.seconds,
        calls=len(calls),
        errors=sum(call.outcome == "error" for call in calls),
        seam=first.seam,
        paths=tuple(sorted({call.path for call in calls})),
    )
