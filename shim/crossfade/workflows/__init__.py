"""Workflows: subscribers to event patterns whose state is data and whose steps are calls, waits and events."""

from .definition import Definition
from .engine import Engine, EngineOptions
from .facts import publish
from .rehearsal import Rehearsal, rehearse
from .signals import answer, cancel
from .workflow import Workflow, registry

__all__ = [
    "Definition",
    "Engine",
    "EngineOptions",
    "Rehearsal",
    "Workflow",
    "answer",
    "cancel",
    "publish",
    "registry",
    "rehearse",
]
