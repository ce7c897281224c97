"""Which build of an application is replayed, where nobody named it: what git says of the files it was loaded from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN: Final = "unknown"
_PATIENCE: Final = 10.0  # seconds for git, which may have many files to look at


def described(modules: Iterable[str]) -> str:
    """What ``git describe`` says of the checkout in which all of the imported ``modules`` lie, else ``unknown``.

    It ends with ``-dirty`` where a tracked file was changed. A file that git does not track is no part of a checkout,
    as a virtual environment inside of one.
    """
    files = [getattr(sys.modules.get(module), "__file__", None) for module in modules]
    found = {_describe(Path(file)) if file else UNKNOWN for file in files}
    return found.pop() if len(found) == 1 else UNKNOWN


def _describe(file: Path) -> str:
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return UNKNOWN
    return _git(file, "describe", "--always", "--dirty", "--tags") or UNKNOWN


def _git(file: Path, *words: str) -> str | None:
    """What git prints; ``None`` where it is not there, or says no."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and a file that we loaded
            ["git", "-C", str(file.parent), *words],  # noqa: S607 - the user's own git
            env=clean,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
