"""Files that only their owner may read: keys and the hashes of credentials."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, cast

from crossfade.shim.errors import ConfigurationError


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``, ``None`` when there is no such file.

    Raises ``ConfigurationError`` when others may read it, or when it holds something else.
    """
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            found: Any = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise ConfigurationError("must hold a JSON object", where=str(path))
    return cast("dict[str, Any]", found)


def write(path: Path, value: dict[str, Any]) -> None:
    """Replace ``path`` whole, for its owner only, on disk on return. Raises ``ConfigurationError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(prefix=".writing-", dir=path.parent)  # made with 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error}", where=str(path)) from error


def _check_mode(path: Path, mode: int) -> None:
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            f"others may read it (mode {stat.S_IMODE(mode):o}): chmod 600 {path}, and replace what was in it if "
            "somebody may have",
            where=str(path),
        )
