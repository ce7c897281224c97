"""``crossfade bus``: the embedded broker, started and looked at."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crossfade.adapters.embedded import directory, ensure_server, status, stop
from crossfade.shim.config import DEFAULT_BUS, load_config

from ._session import JsonOption, print_json, say

app = typer.Typer(help="The embedded broker: a real nats-server on a directory.", no_args_is_help=True)

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        help="The broker's directory; else that of CROSSFADE_BUS, else of crossfade.toml, else .crossfade.",
        show_default=False,
    ),
]


@app.command()
def up(
    path: PathArgument = None,
    idle: Annotated[float, typer.Option(min=0, help="Stop after so many seconds without use; 0: never.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Start the broker when it is not running; it stays up after this command."""
    path = path or _used()
    ensure_server(path, idle=idle)
    found = status(path)
    if as_json:
        print_json(asdict(found))
    else:
        say(
            f"nats-server {found.version} (pid {found.pid}) listens on 127.0.0.1:{found.port}; use it with\n"
            f"  export CROSSFADE_BUS={shlex.quote(f'embedded://{found.path}')}"
        )


@app.command("status")
def show_status(path: PathArgument = None, as_json: JsonOption = False) -> None:
    """Say whether the broker runs, without starting it. Exit code 1 when it does not answer."""
    found = status(path or _used())
    if as_json:
        print_json(asdict(found))
    else:
        say(_describe(found.path, asdict(found)))
    raise typer.Exit(0 if found.answering else 1)


@app.command()
def down(path: PathArgument = None) -> None:
    """Stop the broker; what is stored stays."""
    path = path or _used()
    say(f"The broker of {path} is stopped." if stop(path) else f"The broker of {path} was not running.")


def _used() -> Path:
    """The directory of the broker that every other command here would use."""
    url = load_config().bus
    return directory(url if url and url.startswith("embedded://") else DEFAULT_BUS)


def _describe(path: Path, found: dict[str, object]) -> str:
    if not found["running"]:
        return f"The broker of {path} is not running; `crossfade bus up {shlex.quote(str(path))}` starts it."
    if not found["answering"]:
        return f"The broker of {path} (pid {found['pid']}) does not answer."
    return (
        f"The broker of {path} answers: nats-server {found['version']}, pid {found['pid']}, port {found['port']}, "
        f"{found['connections']} connections, {found['store_bytes']} bytes stored."
    )
