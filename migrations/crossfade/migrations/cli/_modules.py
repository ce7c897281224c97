"""Importing a user's modules, whose mistakes show as the user's own lines."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Final

from crossfade.shim.errors import ConfigurationError, CrossfadeError

_IMPORTING: Final = ("<frozen importlib", importlib.__file__)


def import_modules(modules: list[str]) -> None:
    """Import each, the working directory first. Raises ``ConfigurationError`` naming what is wrong in it."""
    sys.path.insert(0, str(Path.cwd()))
    for module in modules:
        _import(module)


def _import(module: str) -> None:
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigurationError(f"{module!r} is no module name: write myapp.tools for myapp/tools.py", where="MODULE")
    try:
        importlib.import_module(module)
    except CrossfadeError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"there is no module {error.name!r} (looked in {Path.cwd()} and on sys.path)", where="MODULE"
            ) from error
        raise ConfigurationError(f"{module} cannot be imported:\n{_own_lines(error)}", where="MODULE") from error


def _own_lines(error: Exception) -> str:
    """The traceback from the first line that is neither ours nor the import system's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((__file__, *_IMPORTING)):
        trace = trace.tb_next
    return "".join(traceback.format_exception(error.with_traceback(trace))).rstrip()
