"""``crossfade bus``: the embedded broker, started and looked at; a NATS server of one's own, made ready and guarded."""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crossfade.adapters.embedded import directory, ensure_server, status, stop
from crossfade.adapters.nats import NatsBus
from crossfade.adapters.nats.permissions import configuration, user
from crossfade.migrations.bus_roles import BUCKETS, file_buckets, roles
from crossfade.shim.config import DEFAULT_BUS, load_config
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.subjects import Subjects

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session

app = typer.Typer(help="The broker: the embedded one, and a NATS server of yours.", no_args_is_help=True)

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH",
        help="The broker's directory; else that of CROSSFADE_BUS, else of crossfade.toml, else .crossfade.",
        show_default=False,
    ),
]

FilesOption = Annotated[
    list[str] | None, typer.Option(metavar="TRIGGER", help="A file trigger, which has a bucket of its own; repeatable.")
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


@app.command()
def prepare(files: FilesOption = None, bus: BusOption = None, config: ConfigOption = None) -> None:
    """Make every stream and bucket on a NATS server, for users who may not make any. What is there stays as it is."""
    buckets = [*BUCKETS, *file_buckets(files or ())]

    async def make() -> str:
        async with session(bus, config) as opened:
            if not isinstance(opened.bus, NatsBus):
                raise ConfigurationError("only a NATS server is prepared: name one", where="--bus")
            await opened.bus.prepare(buckets)
            return opened.subjects.prefix

    prefix = asyncio.run(make())
    say(f"The streams of {prefix!r}, {len(buckets)} buckets and the object store are there.")


@app.command()
def permissions(
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="One role; repeatable. Without it, all of them.")
    ] = None,
    files: FilesOption = None,
    prefix: Annotated[
        str | None, typer.Option(help="The installation; else CROSSFADE_PREFIX, else crossfade.toml, else cf.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print users with permissions by role, for the configuration of a NATS server."""
    subjects = Subjects(prefix or load_config(config).prefix)
    known = roles(subjects, files=files or ())
    for name in role or ():
        if name not in known:
            raise ConfigurationError(f"there is no role {name!r}: use {', '.join(known)}", where="--role")
    sys.stdout.write(configuration(user(known[name], subjects.prefix) for name in role or known))


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
