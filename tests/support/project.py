"""This repository as data: its folders, its pyproject.toml, the files git knows."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
# Each part of the namespace (``crossfade.shim`` ...) and the folder it lives in. A new part starts here: the
# guards then ask for its type marker, its arrows and its place in the wheel.
PARTS = {"adapters": "adapters", "migrations": "migrations", "proxy": "proxy", "shim": "shim", "workflows": "shim"}
ROOTS = sorted(set(PARTS.values()))


def files(*patterns: str) -> list[Path]:
    """Files git knows or would add, under ``patterns``; paths from the top, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    # A file just deleted is still in git's index.
    return sorted(Path(name) for name in set(listed.split("\0")) if name and (TOP / name).exists())
