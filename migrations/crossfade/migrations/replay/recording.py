"""Recorded calls in a file of their own while they are replayed: a hundred thousand need no more memory than ten.

The file lies in a private folder, holds what the bus holds (observations redacted, arguments of commands as they are),
and is gone when the recording is closed.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from crossfade.shim.comparison import Outcome
from crossfade.shim.outcomes import ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from .selecting import Selection

_TABLE: Final = """
CREATE TABLE call (
    number INTEGER PRIMARY KEY, callid TEXT NOT NULL UNIQUE, seam TEXT NOT NULL, run TEXT NOT NULL, cause TEXT NOT NULL,
    begun REAL NOT NULL, seconds REAL NOT NULL, arguments BLOB NOT NULL, outcome TEXT, redaction TEXT NOT NULL,
    unfit TEXT NOT NULL, kind TEXT NOT NULL, attributes TEXT NOT NULL
)
"""
_INSERT: Final = "INSERT OR IGNORE INTO call VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_END: Final = (
    "UPDATE call SET outcome = ?, seconds = ?, redaction = ?, "
    "unfit = CASE WHEN unfit = ? THEN ? ELSE unfit END WHERE callid = ? AND outcome IS NULL"
)
_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS by_cause ON call (cause, begun)",
    "CREATE INDEX IF NOT EXISTS by_run ON call (run, begun)",
    "CREATE INDEX IF NOT EXISTS by_time ON call (begun)",
)

_TICK: Final = 0.001  # seconds; a call's begin and its length are told by two clocks

NO_OUTCOME: Final = "no-outcome"
"""Why an observation without one is not replayed: its value had no JSON form."""

UNFINISHED: Final = "unfinished"
"""Why a command without a result is not replayed: nobody knows how it ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCall:
    """One call as history tells it.

    Attributes:
        run: Its run; empty where it was made outside any.
        cause: The id of the call inside which it was made; empty where there was none.
        begun: Seconds since the epoch, by the clock of the process that made it.
        seconds: How long it took.
        arguments: A JSON object, as it was stored: redacted where the call was observed.
        outcome: How it ended; ``None`` where ``unfit`` says why that is not known.
        redaction: The fingerprint of the key that its marks were made with.
        unfit: Why it cannot be replayed; empty where it can.
        kind: What coverage counts it by.
        attributes: Those of its event.
    """

    callid: str
    seam: str
    run: str
    cause: str
    begun: float
    seconds: float
    arguments: bytes
    outcome: Outcome | None
    redaction: str
    unfit: str
    kind: str
    attributes: Mapping[str, str]


class Recording:
    """A place for recorded calls, until it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="crossfade-replay-")
        self._database = sqlite3.connect(Path(self._folder.name) / "calls.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(_TABLE)
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._database.close()
        self._folder.cleanup()

    def add(self, call: RecordedCall) -> None:
        """Keep a call; one that is there already stays as it is."""
        self._database.execute(
            _INSERT,
            (
                call.callid,
                call.seam,
                call.run,
                call.cause,
                call.begun,
                call.seconds,
                call.arguments,
                None if call.outcome is None else _dump(call.outcome),
                call.redaction,
                call.unfit,
                call.kind,
                json.dumps(dict(call.attributes)),
            ),
        )

    def end(self, callid: str, outcome: Outcome | None, *, redaction: str, unfit: str = "") -> None:
        """Say how a call ended that was added without its end; no word of a call that is not there."""
        text = None if outcome is None else _dump(outcome)
        seconds = outcome.duration if outcome is not None and outcome.duration is not None else 0.0
        self._database.execute(_END, (text, seconds, redaction, UNFINISHED, unfit, callid))

    def index(self) -> None:
        """Prepare for questions: everything is there."""
        for statement in _INDEXES:
            self._database.execute(statement)

    def __len__(self) -> int:
        return cast("int", self._database.execute("SELECT count(*) FROM call").fetchone()[0])

    def selected(self, selection: Selection) -> Iterator[RecordedCall]:
        """The calls that ``selection`` wants, oldest first."""
        where, values = selection.condition()
        statement = f"SELECT * FROM call WHERE {where} ORDER BY begun, number"  # noqa: S608 - our own words
        with closing(self._database.execute(statement, values)) as rows:
            for row in rows:
                yield _call(row)

    def inside(self, call: RecordedCall) -> list[RecordedCall]:
        """The calls that were made inside ``call``, in order.

        A call may have been told no cause, never a wrong one: where none names it, those of its run with a cause like
        its own that began and ended while it ran.
        """
        named = self._ask("cause = ?", call.callid)
        if named or not call.run:
            return named
        within = "run = ? AND cause = ? AND begun >= ? AND begun + seconds <= ? AND callid != ?"
        end = call.begun + call.seconds + _TICK
        return self._ask(within, call.run, call.cause, call.begun, end, call.callid)

    def _ask(self, where: str, *values: Any) -> list[RecordedCall]:
        statement = f"SELECT * FROM call WHERE {where} ORDER BY begun, number"  # noqa: S608 - our own words
        return [_call(row) for row in self._database.execute(statement, values)]

    def last_of(self, run: str) -> float:
        """When the last call of ``run`` began."""
        return cast("float", self._database.execute("SELECT max(begun) FROM call WHERE run = ?", (run,)).fetchone()[0])


def _call(row: tuple[Any, ...]) -> RecordedCall:
    _, callid, seam, run, cause, begun, seconds, arguments, outcome, redaction, unfit, kind, attributes = row
    return RecordedCall(
        callid=callid,
        seam=seam,
        run=run,
        cause=cause,
        begun=begun,
        seconds=seconds,
        arguments=arguments,
        outcome=None if outcome is None else _read(outcome, seconds),
        redaction=redaction,
        unfit=unfit,
        kind=kind,
        attributes=json.loads(attributes),
    )


def _dump(outcome: Outcome) -> str:
    ended: dict[str, Any] = {"value": outcome.value}
    if outcome.error is not None:
        ended = {"error": outcome.error.to_json()}
    if outcome.items is not None:
        ended |= {"items": outcome.items, "closed": outcome.closed}
    return json.dumps(ended)


def _read(text: str, seconds: float) -> Outcome:
    ended: dict[str, Any] = json.loads(text)
    items = tuple(ended["items"]) if "items" in ended else None
    if "error" in ended:
        return Outcome(kind="error", error=ErrorRecord.from_json(ended["error"]), duration=seconds, items=items)
    closed = ended.get("closed", False)
    return Outcome(kind="value", value=ended["value"], duration=seconds, items=items, closed=closed)
