"""Commands that are imported when they are called: listing them, as ``--help`` does, imports none."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

COMMANDS: Final = {
    "worker": "Run the bodies of seams for callers on the bus, until SIGTERM or Ctrl-C.",
    "doctor": "Check settings, bus, streams, clocks and limits. Exit code 1 when something fails.",
    "demo": "Move functions and routes of a real stack to the bus under traffic, kill workers, count what happened.",
    "bus": "The broker: the embedded one, and a NATS server of yours.",
    "stage": "Where each seam stands, and moving it.",
    "migrate": "Playbooks: seams that move on evidence, and taking them back.",
    "events": "What travels on the bus.",
    "traces": "Runs as trees of calls: on the legacy path, on the bus, and beside each other.",
    "compare": "Compare two answers under rules, to try the rules out. "
    "Exit code 1 unless they match or differences are ignored.",
    "noise": "Show where a seam's answers differ by nature, and rules for it; keep those that are accepted.",
    "replay": "Run recorded calls again with the code as it is here, and compare. "
    "Exit code 1 unless every seam passes.",
    "calls": "Calls on the bus: what became of one, and which nobody knows.",
    "workflow": "Workflows: run them, look at their instances, answer what they wait for.",
    "dlq": "Dead letters: what could not be processed.",
    "control": "The control plane: API and streams for pages; serves when no command is given.",
    "mcp": "Seams as the tools of an MCP server.",
    "trigger": "Ways in: webhooks, mail, schedules, files and MQTT become facts on the bus.",
    "bench": "What crossfade costs, measured here and now.",
    "proxy": "The reverse proxy in front of HTTP services.",
}
"""Each module of this package that is a command, and its own first paragraph, which a test compares."""


class LazyGroup(TyperGroup):
    """The command ``crossfade``. What it lists are names and paragraphs; what it runs is the real command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=paragraph) for name, paragraph in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, imported; a usage error when there is none."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and command else command, rest


def load(name: str) -> Any:
    """Import the module ``name`` and make its command, one of typer's."""
    module = import_module(f".{name}", __package__)
    group: typer.Typer | None = getattr(module, "app", None)
    command: Any
    if group is not None:
        command = get_group(group)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(getattr(module, name))
        command = get_command(alone)
    command.name = name
    return command
