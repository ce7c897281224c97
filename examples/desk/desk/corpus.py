"""The index: the harvested documentation in one SQLite file with full-text search.

``build`` writes a file of its own and renames it into place, so any number of processes may build at once and a
reader never sees half an index. After that the file is read-only; each thread of each process opens it for itself.
"""

import functools
import math
import os
import platform
import re
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from desk.harvest import Document, harvest
from desk.words import SYNONYMS, Query, keyword_token, read_question, stem, stems, symbol_token

LAYOUT = 1
"""Raise it when the tables or the harvest change: files of another layout are not opened."""

CANDIDATES = 60
"""Passages that the full-text index proposes and that are then ranked by hand."""

_SCHEMA = """
CREATE TABLE passage (
    number INTEGER PRIMARY KEY, passage_id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, kind TEXT NOT NULL,
    keywords TEXT NOT NULL, text TEXT NOT NULL, stems TEXT NOT NULL, part INTEGER NOT NULL
);
CREATE VIRTUAL TABLE lookup USING fts5 (
    title, keywords, text, content='passage', content_rowid='number', tokenize='porter unicode61'
);
"""
_FILL = "INSERT INTO passage (passage_id, title, kind, keywords, text, stems, part) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INDEX = "INSERT INTO lookup (lookup) VALUES ('rebuild')"
_MATCH = """
SELECT p.passage_id, p.title, p.kind, p.keywords, p.text, p.stems, p.part, -bm25(lookup, 6.0, 4.0, 1.0) AS score
FROM lookup JOIN passage AS p ON p.number = lookup.rowid WHERE lookup MATCH ? ORDER BY score DESC, p.number
LIMIT ?
"""
# A question is more often about a function or a statement than about a property or an exception's class.
_KIND_WEIGHT = {
    "topic": 1.0,
    "function": 1.0,
    "class": 0.95,
    "method": 0.85,
    "module": 0.9,
    "property": 0.7,
    "exception": 0.6,
}
# What people write every day; the rest of the library is as well documented but less often meant.
_BUILTIN_TYPES = frozenset(
    {"bytearray", "bytes", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "str", "tuple"}
)
_EXPLAIN = re.compile(r"\s*(what (is|are|does|do)|explain|describe|difference|why)\b", re.IGNORECASE)
_EVERYDAY_TEXT = """
argparse asyncio builtins collections concurrent contextlib copy csv dataclasses datetime enum functools glob
hashlib io itertools json logging math operator os pathlib random re secrets shutil sqlite3 statistics string
subprocess sys tempfile textwrap threading time typing unittest urllib zipfile
"""
_EVERYDAY = frozenset(_EVERYDAY_TEXT.split())


class CorpusError(Exception):
    """The index cannot be read; ``python -m desk index --rebuild`` makes a new one."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One passage that fits a query; ``score`` has no unit and compares only within one answer."""

    passage_id: str
    title: str
    kind: str
    text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Built:
    """What ``build`` did."""

    path: Path
    passages: int
    seconds: float
    missing: list[str]


def home() -> Path:
    """The folder for index, reports and journal: ``DESK_HOME``, else ``.desk`` where the desk was started."""
    return Path(os.environ.get("DESK_HOME") or ".desk").resolve()


def index_path() -> Path:
    """The index for this Python: another version documents other things, so it has a file of its own."""
    return home() / f"index-{LAYOUT}-python{platform.python_version()}.sqlite"


def build() -> Built:
    """Harvest and index everything, then put the new file in the place of the old one; takes about a second."""
    started = time.perf_counter()
    path = index_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    gathered = harvest()
    handle, name = tempfile.mkstemp(prefix="building-", suffix=".sqlite", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.executescript(_SCHEMA)
            rows = [(d.passage_id, d.title, d.kind, d.keywords, d.text, _stems(d), d.part) for d in gathered.documents]
            connection.executemany(_FILL, rows)
            connection.execute(_INDEX)
            connection.commit()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Built(
        path=path,
        passages=len(gathered.documents),
        seconds=time.perf_counter() - started,
        missing=gathered.missing,
    )


def _stems(document: Document) -> str:
    return " ".join(sorted({*stems(document.title), *stems(document.keywords), *stems(document.text)}))


# -- reading -----------------------------------------------------------------------------------------------------

_open = threading.local()


def _connection() -> sqlite3.Connection:
    """This thread's connection; a forked child and a changed ``DESK_HOME`` get a new one."""
    path = index_path()
    key = (os.getpid(), path)
    if getattr(_open, "key", None) != key:
        if not path.exists():
            build()
        _open.connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        _open.key = key
    connection: sqlite3.Connection = _open.connection
    return connection


def _rows(sql: str, *values: str | int) -> list[tuple[str, ...]]:
    try:
        return _connection().execute(sql, values).fetchall()
    except sqlite3.DatabaseError as error:
        raise CorpusError(f"{index_path()} cannot be read ({error}): run `python -m desk index`") from error


def count() -> int:
    """How many passages there are."""
    return int(_rows("SELECT count(*) FROM passage")[0][0])


def get(passage_id: str) -> Found | None:
    """The passage of this id, ``None`` when there is none."""
    rows = _rows("SELECT passage_id, title, kind, text FROM passage WHERE passage_id = ?", passage_id)
    if not rows:
        return None
    passage_id, title, kind, text = rows[0]
    return Found(passage_id=passage_id, title=title, kind=kind, text=text, score=0.0)


@dataclass(frozen=True, kw_only=True)
class _Sought:
    """A query with what ranking needs: every word's share of the question, rare words counting more."""

    question: str
    shares: dict[str, float]
    similar: dict[str, str]
    explains: bool


def find(question: str, limit: int) -> list[Found]:
    """The ``limit`` best passages for ``question``, best first; equal scores in the order of the index.

    Passages with every word come first; when they are too few, passages with some of the words fill up.
    """
    query = read_question(question)
    if query.is_empty:
        return []
    groups = _groups(query)
    rows = _rows(_MATCH, " AND ".join(groups.values()), CANDIDATES)
    if len(rows) < CANDIDATES and len(groups) > 1:
        known = {row[0] for row in rows}
        rows += [row for row in _rows(_MATCH, " OR ".join(groups.values()), CANDIDATES) if row[0] not in known]
    sought = _sought(question, query, groups)
    scored = sorted(((-_score(sought, row), order) for order, row in enumerate(rows)))[:limit]
    return [
        Found(
            passage_id=rows[order][0],
            title=rows[order][1],
            kind=rows[order][2],
            text=rows[order][4],
            score=round(-negative, 4),
        )
        for negative, order in scored
    ]


def _groups(query: Query) -> dict[str, str]:
    """One FTS5 expression per word of the question, by its stem; quoting makes every word a plain string."""
    groups = {stem(term): " OR ".join(f'"{word}"' for word in (term, *SYNONYMS.get(term, ()))) for term in query.terms}
    groups |= {keyword_token(word): f'"{keyword_token(word)}" OR title : "{word}"' for word in query.keywords}
    groups |= {symbol_token(symbol): f'"{symbol_token(symbol)}"' for symbol in query.symbols}
    return {word: f"({group})" for word, group in groups.items()}


def _sought(question: str, query: Query, groups: dict[str, str]) -> _Sought:
    weights = {word: math.log(1 + count() / (1 + _matches(index_path(), group))) for word, group in groups.items()}
    return _Sought(
        question=question.lower(),
        shares={word: weight / sum(weights.values()) for word, weight in weights.items()},
        similar={stem(word): stem(term) for term in query.terms for word in SYNONYMS.get(term, ())},
        explains=bool(_EXPLAIN.match(question)),
    )


@functools.lru_cache(maxsize=4096)
def _matches(path: Path, group: str) -> int:  # noqa: ARG001 - the answer holds for one index only
    return int(_rows("SELECT count(*) FROM lookup WHERE lookup MATCH ?", group)[0][0])


def _score(sought: _Sought, row: tuple[str, ...]) -> float:
    _, title, kind, keywords, _, told, part, bm25 = row
    name = title.removesuffix(" module")
    in_title = stems(name)
    coverage = _share(sought, {*told.split(), *keywords.split()})
    named = _share(sought, {*in_title, *keywords.split()})
    leaf = kind != "topic" and _fit(sought, stems(name.rsplit(".", 1)[-1])) == 1.0
    literal = "." in title and title.lower() in sought.question
    fit = 6.0 * _fit(sought, in_title) + 8.0 * named * leaf + 30.0 * literal
    score = 0.5 * float(bm25) + 14.0 * coverage + 10.0 * named + fit
    return score * _weight(sought, title, kind, told) * (1.0 if int(part) == 1 else 0.85)


def _fit(sought: _Sought, words: list[str]) -> float:
    """How much of a name the question asked for, 0 to 1."""
    return sum(1.0 if word in sought.shares else 0.6 * (word in sought.similar) for word in words) / len(words)


def _share(sought: _Sought, words: set[str]) -> float:
    """How much of the question ``words`` cover, 0 to 1; a synonym counts two thirds."""
    exact = {word for word in sought.shares if word in words}
    near = {meant for word, meant in sought.similar.items() if word in words} - exact
    return sum(sought.shares[word] for word in exact) + sum(sought.shares[word] for word in near) * 2 / 3


def _weight(sought: _Sought, title: str, kind: str, told: str) -> float:
    root = title.split(".", maxsplit=1)[0].removesuffix(" module")
    weight = _KIND_WEIGHT[kind]
    if kind == "topic":
        return weight * 1.25 if sought.explains else weight
    if kind == "method" and root in _BUILTIN_TYPES:
        weight = 1.05 if stem(root) in sought.shares or root in sought.similar else 0.8
    elif kind in {"method", "property"} and sought.explains:
        weight *= 0.75
    if ("." in title or kind == "module") and root not in _EVERYDAY | _BUILTIN_TYPES:
        weight *= 0.7
    return weight * 0.7 if " deprecat " in told else weight
