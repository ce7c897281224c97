"""Programs some tests drive that no Python package brings along.

``.ci/debian-packages.txt`` is the one list of them: CI installs it, and a skipped test quotes it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / ".ci" / "debian-packages.txt"
# Toolchains that CI's machine has, from wherever their makers' packages come.
TOOLCHAINS = {"go": "Go", "java": "Java 17", "mvn": "Maven", "npm": "Node.js with npm"}
# Debian keeps servers where only root's PATH looks, and Go's own archive where none does.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")


def packages() -> dict[str, str]:
    """Binary -> Debian package, from the list."""
    rows = (line.partition("#")[0].split() for line in PACKAGES.read_text().splitlines())
    return {binary: package for package, binary in filter(None, rows)}


def remedy(binaries: set[str]) -> str:
    """What to install so that all of them are here; empty when they are. ``LookupError`` for one nobody listed."""
    listed = packages()
    if unlisted := sorted(binaries - listed.keys() - TOOLCHAINS.keys()):
        raise LookupError(f"{', '.join(unlisted)}: name its package in {PACKAGES}")
    absent = sorted(binary for binary in binaries if locate(binary) is None)
    debian = [listed[binary] for binary in absent if binary in listed]
    others = [f"install {TOOLCHAINS[binary]}" for binary in absent if binary in TOOLCHAINS]
    return " and ".join(([f"apt-get install {' '.join(debian)}"] if debian else []) + others)


def locate(binary: str) -> str | None:
    """The program's path, or ``None`` when it is not installed."""
    return shutil.which(binary, path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))


def needs(binary: str) -> pytest.MarkDecorator:
    """Mark a test that drives ``binary``: absent is a skip at home, a failure under ``CI=true``."""
    return pytest.mark.needs(binary)
