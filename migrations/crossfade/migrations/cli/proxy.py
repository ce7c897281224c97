"""``crossfade proxy``: the reverse proxy in front of HTTP services."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from crossfade.shim.buses import hide_credentials
from crossfade.shim.config import load_config
from crossfade.shim.errors import ConfigurationError

from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._session import JsonOption, print_json
from ._stdin import StdinOption, stop_with_stdin
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.proxy.config import Address, Config

app = typer.Typer(help="The reverse proxy in front of HTTP services.", invoke_without_command=True)

_CHANGED: Final = "\N{RIGHTWARDS ARROW}"

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The routes, like routes.yaml.")]


@app.callback()
def proxy(
    context: typer.Context,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="The service, like http://127.0.0.1:9000; or use --config.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where; else the file's, else 127.0.0.1:8080.")
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Upstreams and routes, like routes.yaml.")] = None,
    limit: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A limit; may be repeated.")] = None,
    access_log: Annotated[
        str | None, typer.Option(metavar="FILE", help="One JSON line a request; - for stdout. Else the file's.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the address.")] = 1,
    bus: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where routes are seams; else CROSSFADE_BUS, else crossfade.toml, else none."),
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C; with a file, SIGHUP applies what it says now."""
    if context.invoked_subcommand:
        return
    log_to_stderr(log_format)
    read = _reader(upstream, listen, config, dict(_setting(text) for text in limit or []), access_log)
    settings = read()
    url = (bus or load_config().bus) if settings.routes else None

    def ready(address: Address) -> None:
        if with_stdin:  # now: workers are forked while there is no thread yet
            stop_with_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
        _say_ready(settings, address, workers, bus=url, as_json=as_json)

    from crossfade.proxy.running import run, run_together  # noqa: PLC0415 - the extra

    if workers == 1:
        run(settings, read, ready=ready, bus=url)
    elif not run_together(settings, read, workers, ready=ready, bus=url):
        raise typer.Exit(1)


@app.command()
def check(file: FileArgument, as_json: JsonOption = False) -> None:
    """Read FILE as the proxy would, certificates and keys included, show what it says and what it may not mean."""
    from crossfade.proxy.reading import read_config  # noqa: PLC0415 - the extra
    from crossfade.proxy.routing import serving_of  # noqa: PLC0415 - the extra

    config = read_config(file)
    serving_of(config)
    warnings = [*config.warnings(), *_missing_folder(config)]
    if as_json:
        print_json({**_summary(config), "warnings": warnings})
        return
    lines = [f"{file} is good.", *_description(config), *(f"Warning: {text}" for text in warnings)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


@app.command()
def export(
    file: FileArgument,
    to: Annotated[Literal["nginx"], typer.Option(help="The proxy that stands in front: nginx.")],
    listen: Annotated[str, typer.Option(metavar="[HOST:]PORT", help="Where that proxy listens.")] = "80",
) -> None:
    """Print configuration for the proxy in front, which then sends crossfade the routes of FILE and nothing else."""
    from crossfade.proxy.export import EXPORTERS  # noqa: PLC0415 - the extra
    from crossfade.proxy.reading import read_config  # noqa: PLC0415 - the extra

    sys.stdout.write(EXPORTERS[to].export(read_config(file), listen=listen))


# -- serving ---------------------------------------------------------------------------------------------------


def _reader(
    upstream: str | None, listen: str | None, config: str | None, limits: dict[str, str], access_log: str | None
) -> Callable[[], Config]:
    """What reads the configuration, now and at each reload. Raises ``ConfigurationError`` for a contradiction."""
    from crossfade.proxy import reading  # noqa: PLC0415 - the extra

    if upstream is not None and config is not None:
        raise ConfigurationError("say --upstream or --config: the file names its upstreams", where="--upstream")
    if config is not None:
        return partial(reading.read_config, config, listen=listen, limits=limits, access_log=access_log)
    if upstream is None:
        raise ConfigurationError("which service? Say --upstream http://HOST:PORT, or --config FILE", where="--upstream")
    return partial(reading.config_for, upstream, listen=listen, limits=limits, access_log=access_log)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{text!r} is not NAME=VALUE, like body_bytes=1048576", where="--limit")
    return name, value


# -- what a person sees ----------------------------------------------------------------------------------------


def _say_ready(config: Config, address: Address, workers: int, *, bus: str | None, as_json: bool) -> None:
    scheme = "https" if config.tls else "http"
    if as_json:
        found = {"ready": True, "url": f"{scheme}://{address}", "workers": workers}
        print_json({**found, "bus": hide_credentials(bus) if bus else None, **_summary(config)})
        return
    stop = "SIGHUP reloads the file, Ctrl-C stops." if config.file else "Ctrl-C stops."
    processes = f", {plural(workers, 'worker')}" if workers > 1 else ""
    lines = [f"Listening on {scheme}://{address}{processes}", *_description(config)]
    if config.routes:
        none = "none, so every route passes through: name one with --bus or CROSSFADE_BUS, like embedded://.crossfade"
        lines.append(f"Bus: {hide_credentials(bus) if bus else none}")
    lines.append(stop)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _description(config: Config) -> list[str]:
    lines = [
        f"  {route.pattern.text} {_CHANGED} {route.upstream.name}, as seam {route.seam}" for route in config.routes
    ]
    rest = "everything else" if config.routes else "everything"
    lines.append(f"  {rest} {_CHANGED} {config.default.name} ({config.default.url})")
    lines.append(f"Access log: {config.access_log or 'none'}")
    return lines


def _missing_folder(config: Config) -> list[str]:
    path = Path(config.access_log or "-")
    return (
        [] if path.parent.is_dir() else [f"access_log: there is no folder {path.parent}: make it, or no start succeeds"]
    )


def _summary(config: Config) -> dict[str, object]:
    return {
        "file": config.file or None,
        "listen": str(config.listen),
        "upstreams": {name: upstream.url for name, upstream in config.upstreams.items()},
        "default": config.default.name,
        "access_log": config.access_log,
        "routes": [
            {
                "seam": route.seam,
                "match": route.pattern.text,
                "upstream": route.upstream.name,
                "mode": route.mode,
                "effects": route.effects,
                "timeout": route.timeout,
            }
            for route in config.routes
        ],
    }
