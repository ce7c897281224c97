"""A replay as CI servers read test results: JUnit's XML, one test case a call.

Written as the replay goes on, and given its head, which holds the counts, at the end.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from .running import Replayed

_KINDS: Final = {"mismatch": "failure", "inconclusive": "error", "skipped": "skipped"}
# What XML 1.0 has no way to say, 2.2 Char.
_illegal = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JunitFile:
    """Collects cases; ``close`` writes ``path``, which names the ``build`` that ran."""

    def __init__(self, path: Path, *, build: str) -> None:
        self._path = path
        self._build = build
        self._cases = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed in close
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0

    def add(self, done: Replayed) -> None:
        """One case more: a call that differs is a failure, one that nobody can decide an error."""
        verdict, kind = done.verdict, _KINDS.get(done.verdict.kind)
        self._counts["tests"] += 1
        self._seconds += done.seconds
        case = (
            f"<testcase classname={_quoted(done.call.seam)} name={_quoted(done.call.callid)} time={_time(done.seconds)}"
        )
        if kind is None:
            self._cases.write(f"{case}/>\n")
            return
        self._counts[kind] += 1
        why = verdict.reason or verdict.signature
        lines = [f"{d.path}: {d.kind}, was {d.old or 'nothing'}, is {d.new or 'nothing'}" for d in verdict.differences]
        lines += [f"{verdict.more} more"] if verdict.more else []
        lines += [verdict.detail] if verdict.detail else []
        text = escape(_clean("\n".join(lines)))
        self._cases.write(f"{case}><{kind} message={_quoted(f'{verdict.kind}: {why}')}>{text}</{kind}></testcase>\n")

    def close(self) -> None:
        """Write the file. Raises ``ConfigurationError`` where that cannot be."""
        counts = self._counts
        head = (
            f'<testsuite name="crossfade replay" tests="{counts["tests"]}" failures="{counts["failure"]}" '
            f'errors="{counts["error"]}" skipped="{counts["skipped"]}" time={_time(self._seconds)}>\n'
            f'<properties><property name="build" value={_quoted(self._build)}/></properties>\n'
        )
        self._cases.seek(0)
        try:
            with self._path.open("w", encoding="utf-8") as file:
                file.write(f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n{head}')
                shutil.copyfileobj(self._cases, file)
                file.write("</testsuite>\n</testsuites>\n")
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error}", where=f"--junit {self._path}") from error
        finally:
            self._cases.close()


def _time(seconds: float) -> str:
    return f'"{seconds:.3f}"'


def _clean(text: str) -> str:
    return _illegal.sub("\N{REPLACEMENT CHARACTER}", text)


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))
