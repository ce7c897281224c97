"""Move the date as of which packages are resolved: ``python .ci/move_resolution_date.py 2026-12-01``.

Writes ``exclude-newer`` of pyproject.toml; the tests then say whether the newer packages serve.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_LINE = re.compile(r'^exclude-newer = "[^"]*"$', re.MULTILINE)


def check(text: str, *, today: date) -> date:
    """``text`` as a date; ``ValueError`` for another form and for a day that has not begun (in UTC)."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError(f"{text!r} is no date: write it like 2026-12-01")
    day = date.fromisoformat(text)
    if day > today:
        raise ValueError(f"{text} is not here yet: resolution repeats only for a moment that has passed")
    return day


def move(pyproject: str, day: date) -> str:
    """``pyproject`` with midnight UTC at the start of ``day`` as its resolution date."""
    moved, count = _LINE.subn(f'exclude-newer = "{day}T00:00:00Z"', pyproject)
    if count != 1:
        raise ValueError(f"expected one line 'exclude-newer = \"...\"' in pyproject.toml, found {count}")
    return moved


def main(arguments: list[str]) -> int:
    """Rewrite pyproject.toml; 2 and one line for whatever is wrong with the request."""
    if len(arguments) != 1:
        print("usage: python .ci/move_resolution_date.py YYYY-MM-DD", file=sys.stderr)
        return 2
    try:
        day = check(arguments[0], today=datetime.now(tz=UTC).date())
        PYPROJECT.write_text(move(PYPROJECT.read_text(), day))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"packages are resolved as of {day}T00:00:00Z: now run the tests, then commit pyproject.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
