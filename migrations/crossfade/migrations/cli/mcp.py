"""``crossfade mcp``: seams for programs that speak MCP."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Annotated

import typer

from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.seam import registry

from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._modules import import_modules
from ._session import BusOption, ConfigOption  # noqa: TC001 - typer reads the annotations

app = typer.Typer(help="Seams as the tools of an MCP server.")


@app.callback()
def _group() -> None:
    """Keep ``serve`` a command of its own: there is one only."""


@app.command("serve")
def serve(
    modules: Annotated[list[str], typer.Argument(metavar="MODULE", help="Modules that declare seams.")],
    seam: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A seam to serve; repeat it. Else all of the modules.")
    ] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Streamable HTTP, this machine only; port 0: one is chosen.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the server calls itself.")] = "crossfade",
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the bus at start.")] = 5.0,
    log_format: LogFormatOption = LogFormat.TEXT,
    bus: BusOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve seams as MCP tools over stdin and stdout, or over HTTP, until the client or Ctrl-C ends it."""
    from crossfade.adapters.mcp import serve_seams  # noqa: PLC0415 - the extra
    from crossfade.adapters.mcp._server import serve_http  # noqa: PLC0415 - the extra

    log_to_stderr(log_format, level=logging.WARNING)
    import_modules(modules)
    chosen = seam or [each.name for each in registry.all()]
    if not chosen:
        raise ConfigurationError(f"no seam is declared in {', '.join(modules)}", where="MODULE")
    server = serve_seams(name, chosen)
    with connect(bus, config=load_config(config), wait=wait):
        if http is None:
            asyncio.run(server.run_stdio_async())
        else:
            asyncio.run(serve_http(server, http, ready=lambda url: _say_ready(chosen, url)))


def _say_ready(seams: list[str], url: str) -> None:
    sys.stdout.write(f"Serving {', '.join(seams)} at {url}. Ctrl-C stops.\n")
    sys.stdout.flush()
