"""laboratory: a port of GitHub's scientist; ``enabled()`` false is its legacy stage."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

laboratory: Any = importlib.import_module("laboratory")
SETTING = "experiment not enabled"


@contextmanager
def opened(_runner: object, question: dict[str, Any]) -> Generator[Callable[[], object]]:
    """A decorated function whose experiment is off."""
    off: Any = type("Off", (laboratory.Experiment,), {"enabled": _never})
    decorated = off.decorator(_plain)(_plain)
    yield lambda: decorated(question)


def _never(_experiment: object) -> bool:
    return False


def _plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - as ours
    return limit
