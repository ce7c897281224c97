"""The command line lists every command, as each says of itself, and imports only the one that is called."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from crossfade.migrations.cli import _lazy
from crossfade.migrations.cli._app import app


def imported(*arguments):
    """The modules that a command line has imported when it ends."""
    code = (
        "import sys\n"
        "from crossfade.migrations.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def test_the_help_imports_no_command():
    """It is asked for by people who wait for it: no pydantic, no broker's client, no command."""
    text, modules = imported("--help")
    ours = {f"crossfade.migrations.cli.{name}" for name in _lazy.COMMANDS}
    assert not modules & {*ours, "pydantic", "nats", "crossfade.adapters", "crossfade.migrations.demo", "httpx"}
    assert all(name in text for name in _lazy.COMMANDS)


def test_a_command_imports_no_other():
    """``calls`` needs no demo, no bench and no worker."""
    _, modules = imported("calls", "show", "--help")
    others = {f"crossfade.migrations.cli.{name}" for name in _lazy.COMMANDS if name != "calls"}
    assert "crossfade.migrations.cli.calls" in modules
    assert not modules & {*others, "crossfade.migrations.demo", "crossfade.migrations.bench"}


@pytest.mark.parametrize("name", _lazy.COMMANDS)
def test_what_is_listed_is_what_the_command_says_of_itself(name):
    """Two places, one text."""
    said = (_lazy.load(name).help or "").partition("\n\n")[0].replace("\n", " ")
    assert said == _lazy.COMMANDS[name]


def test_every_module_that_is_a_command_is_listed():
    """One that is written and not listed could not be called."""
    folder = Path(find_spec("crossfade.migrations.cli").origin).parent
    assert {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")} == set(_lazy.COMMANDS)


def test_completion_finds_commands_and_their_commands():
    """Shells ask these two questions; the second imports the command."""
    from typer.main import get_command

    group = get_command(app)
    context = group.make_context("crossfade", ["calls"], resilient_parsing=True)
    assert set(group.list_commands(context)) == set(_lazy.COMMANDS)
    _, calls, _ = group.resolve_command(context, ["calls"])
    assert {"show", "unknown", "resolve"} <= set(calls.list_commands(context))
