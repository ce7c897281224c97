"""Moving the resolution date changes one line, and only to a moment that has passed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import pytest

from support.project import TOP


@pytest.fixture
def move(tmp_path):
    """Run the script in a copy of the project; the copy's pyproject.toml is ``move.pyproject``."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "move_resolution_date.py"
    script.write_text((TOP / ".ci" / script.name).read_text())

    def move(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)

    move.pyproject = tmp_path / "pyproject.toml"
    move.pyproject.write_text((TOP / "pyproject.toml").read_text())
    return move


def today() -> str:
    return datetime.now(tz=UTC).date().isoformat()


@pytest.mark.parametrize("day", ["2026-01-31", today()])
def test_the_date_moves_and_nothing_else_changes(move, day):
    """One line of pyproject.toml differs afterwards, and uv's setting reads as midnight UTC."""
    before = move.pyproject.read_text().splitlines()

    assert move(day).returncode == 0

    after = move.pyproject.read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [f'exclude-newer = "{day}T00:00:00Z"']
    assert tomllib.loads("\n".join(after))["tool"]["uv"]["exclude-newer"] == f"{day}T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "usage: python .ci/move_resolution_date.py YYYY-MM-DD"),
        (("2026-01-01", "2026-01-02"), "usage: python .ci/move_resolution_date.py YYYY-MM-DD"),
        (("yesterday",), "'yesterday' is no date: write it like 2026-12-01"),
        (("20260101",), "'20260101' is no date: write it like 2026-12-01"),
        (("2026-02-30",), "day is out of range for month"),
        (
            ((datetime.now(tz=UTC).date() + timedelta(days=2)).isoformat(),),
            "resolution repeats only for a moment that has passed",
        ),
    ],
)
def test_a_wrong_date_changes_nothing(move, arguments, complaint):
    """A request that is no past date is refused in one line, with exit status 2."""
    before = move.pyproject.read_text()

    result = move(*arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert move.pyproject.read_text() == before


def test_a_pyproject_without_the_line_is_refused(move):
    """The script never reports a move it did not make."""
    move.pyproject.write_text("[tool.uv]\n")

    result = move("2026-01-01")

    assert result.returncode == 2
    assert "found 0" in result.stderr
