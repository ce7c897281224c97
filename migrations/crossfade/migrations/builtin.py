"""The playbooks that come along: each a file to begin with, and a page of the documentation."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.subjects import check_seam

from .playbook import Playbook, read_playbook

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER: Final = files("crossfade.migrations") / "playbooks"
_SEAMS: Final = re.compile(r"^seams: \[.*\]$", re.MULTILINE)


def builtins() -> dict[str, Playbook]:
    """Every playbook that comes along, by its name."""
    found = sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))
    return {name: read_playbook(f"{name}.yaml", text=_text(name).encode()) for name in found}


def write_builtin(name: str, seams: Sequence[str]) -> str:
    """The text of the playbook ``name`` for these seams. Raises ``ConfigurationError`` for names that are none."""
    known = builtins()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        there = f"{meant}there are {', '.join(known)}"
        raise ConfigurationError(f"there is no playbook {name!r}: {there}", where="--playbook")
    if not seams:
        raise ConfigurationError("name the seams it moves, like --seam web.search", where="--seam")
    text = _SEAMS.sub(f"seams: [{', '.join(map(check_seam, seams))}]", _text(name), count=1)
    read_playbook("the new playbook", text=text.encode())  # a seam named twice, for one
    return text


def _text(name: str) -> str:
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
