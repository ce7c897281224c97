"""Programs some tests drive that no Python package brings along.

``.ci/debian-packages.txt`` is the one list of them: CI installs it, and a skipped test quotes it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / ".ci" / "debian-packages.txt"
# Debian keeps servers where only root's PATH looks.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def packages() -> dict[str, str]:
    """Binary -> Debian package, from the list."""
    rows = (line.partition("#")[0].split() for line in PACKAGES.read_text().splitlines())
    return {binary: package for package, binary in filter(None, rows)}


def locate(binary: str) -> str | None:
    """The program's path, or ``None`` when it is not installed."""
    return shutil.which(binary, path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))


def needs(binary: str) -> pytest.MarkDecorator:
    """Mark a test that drives ``binary``: absent is a skip at home, a failure under ``CI=true``."""
    return pytest.mark.needs(binary)
