"""Where settings come from: ``crossfade.toml`` and the environment; the environment wins.

bus = "embedded://.crossfade"        # CROSSFADE_BUS
prefix = "cf"                        # CROSSFADE_PREFIX
build = "2026.11.3"                  # CROSSFADE_BUILD

[seams."web.search"]
stage = "observe"
timeout = 30
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from .errors import ConfigurationError, SeamDefinitionError
from .policy import Policy
from .subjects import Subjects, check_seam

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "crossfade.toml"
DEFAULT_BUS: Final = "embedded://.crossfade"
_KEYS: Final = {"bus": str, "prefix": str, "build": str, "seams": dict}
_BUILD: Final = 64  # characters: a version, a tag or a commit
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Settings of this process. ``bus`` is ``None`` when nobody named one; ``seams`` holds the file's overrides.

    ``build`` says which build of the application this is; empty when nobody said.
    """

    bus: str | None = None
    prefix: str = "cf"
    build: str = ""
    seams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])
    path: str = FILE

    def policy(self, seam: str, base: Policy) -> Policy:
        """``base`` with what the file says of ``seam``."""
        changes = self.seams.get(seam)
        return base.override(changes, where=f'{self.path}: seams."{seam}"') if changes else base


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read ``path``, else ``$CROSSFADE_CONFIG``, else ``./crossfade.toml`` if there is one.

    Raises ``ConfigurationError`` with ``file:line`` for syntax and ``file: dotted.key`` for a value; a file
    that was named must exist.
    """
    environ = os.environ if environ is None else environ
    named = path or environ.get("CROSSFADE_CONFIG")
    file = Path(named or FILE)
    table = _read(file, must_exist=bool(named))
    _check(table, file)
    return Config(
        bus=environ.get("CROSSFADE_BUS") or table.get("bus"),
        prefix=Subjects(environ.get("CROSSFADE_PREFIX") or table.get("prefix", "cf")).prefix,
        build=_build(environ, table, file),
        seams=table.get("seams", {}),
        path=str(file),
    )


def switched_off(environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``CROSSFADE_OFF`` forces every seam of this process to legacy.

    A value that is neither true nor false raises ``ConfigurationError``: a kill switch must not be guessed.
    """
    value = (os.environ if environ is None else environ).get("CROSSFADE_OFF", "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ConfigurationError(f"{value!r} is neither 1 nor 0", where="CROSSFADE_OFF")


def _build(environ: Mapping[str, str], table: Mapping[str, Any], file: Path) -> str:
    named = environ.get("CROSSFADE_BUILD")
    build = named or str(table.get("build", ""))
    return check_build(build, where="CROSSFADE_BUILD" if named else f"{file}: build")


def check_build(build: str, *, where: str) -> str:
    """``build`` as it is. Raises ``ConfigurationError`` at ``where`` when it is no name of a build."""
    if len(build) > _BUILD or not build.isprintable():
        raise ConfigurationError(f"{build[:_BUILD]!r} is no build: {_BUILD} printable characters at most", where=where)
    return build


def _read(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise ConfigurationError("there is no such file", where=str(file)) from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=str(file)) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what its parser lets through
        line = str(error).rpartition("at line ")[2].split(",")[0]
        where = f"{file}:{line}" if line.isdigit() else str(file)
        raise ConfigurationError(str(error), where=where) from None


def _check(table: dict[str, Any], file: Path) -> None:
    for key, value in table.items():
        if key not in _KEYS:
            raise ConfigurationError(f"unknown setting; known are {', '.join(_KEYS)}", where=f"{file}: {key}")
        if not isinstance(value, _KEYS[key]):
            raise ConfigurationError(f"must be a {_KEYS[key].__name__}, not {value!r}", where=f"{file}: {key}")
    for seam, changes in table.get("seams", {}).items():
        where = f'{file}: seams."{seam}"'
        if not isinstance(changes, dict):
            raise ConfigurationError(f"must be a table, not {changes!r}", where=where)
        settings = cast("dict[str, Any]", changes)
        try:
            check_seam(seam)
        except SeamDefinitionError as error:
            raise ConfigurationError(str(error), where=where) from None
        for name, value in settings.items():
            if isinstance(value, dict) and name != "compare":
                raise ConfigurationError(f'a seam\'s name is quoted: [seams."{seam}.{name}"]', where=where)
        Policy().override(settings, where=where)
