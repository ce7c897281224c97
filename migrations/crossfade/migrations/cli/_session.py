"""What most commands begin with: settings, and a bus that is connected for as long as the command runs."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from crossfade.shim.buses import open_bus
from crossfade.shim.config import DEFAULT_BUS, Config, load_config
from crossfade.shim.hooks import report
from crossfade.shim.policies import Policies
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from crossfade.shim.ports import Bus

_WIDE: Final = 500  # columns when nobody says how many there are

BusOption = Annotated[
    str | None,
    typer.Option("--bus", metavar="URL", help="The bus; else CROSSFADE_BUS, else crossfade.toml, else embedded."),
]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings; else crossfade.toml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A connected bus and what is read and changed over it."""

    bus: Bus
    url: str
    config: Config
    subjects: Subjects
    policies: Policies


@asynccontextmanager
async def session(bus: str | None, config: str | None) -> AsyncGenerator[Session]:
    """Connect for the length of the block. Raises ``ConfigurationError`` or ``BusError``."""
    settings = load_config(config)
    url = bus or settings.bus or DEFAULT_BUS
    opened = open_bus(url, BusSettings(prefix=settings.prefix, client_name="crossfade cli"), report)
    subjects = Subjects(settings.prefix)
    try:
        await opened.open()
        yield Session(bus=opened, url=url, config=settings, subjects=subjects, policies=Policies(opened, subjects))
    finally:
        await opened.close()


def terminal() -> Console:
    """Where results go: as wide as the terminal, not cut when piped; users' texts are no markup."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, markup=False, width=None if narrow else _WIDE)


def say(text: str) -> None:
    """Print prose; a long line is the terminal's to wrap, so that paths and commands can be copied whole."""
    terminal().print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()
