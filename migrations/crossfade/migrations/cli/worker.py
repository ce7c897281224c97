"""``crossfade worker``: the bus side of the seams that some modules declare."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.worker import Worker, WorkerOptions

from ._session import BusOption, ConfigOption, JsonOption, print_json


def worker(
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE...", help="Modules that declare seams, like myapp.tools.")
    ],
    concurrency: Annotated[int, typer.Option(help="Calls of one seam at once.")] = 8,
    ack_wait: Annotated[float, typer.Option(help="Seconds after which a dead worker's calls go to another.")] = 30.0,
    grace: Annotated[float, typer.Option(help="Seconds for calls in progress when asked to stop.")] = 20.0,
    spool: Annotated[Path, typer.Option(help="Folder for results the bus does not take.")] = Path(".crossfade/spool"),
    wait: Annotated[float, typer.Option(help="Seconds to wait for the bus at start.")] = 30.0,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the bodies of seams for callers on the bus, until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    options = WorkerOptions(concurrency=concurrency, ack_wait=ack_wait, grace=grace, spool=spool)
    sys.path.insert(0, str(Path.cwd()))
    for module in modules:
        _import(module)
    with connect(bus, config=load_config(config), wait=wait, required=True) as connection:
        serving = Worker(connection.runtime, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: serving.stop())
        _say_ready([service.name for service in serving.services], options, as_json=as_json)
        serving.run()


def _import(module: str) -> None:
    """Import a user's module; that it is missing is the user's mistake, an error inside it shows as it is."""
    parent = ""
    for part in module.split("."):
        parent = f"{parent}.{part}".lstrip(".")
        if importlib.util.find_spec(parent) is None:
            raise ConfigurationError(
                f"there is no module {parent!r} (looked in {Path.cwd()} and on sys.path)", where="MODULE"
            )
    importlib.import_module(module)


def _say_ready(seams: list[str], options: WorkerOptions, *, as_json: bool) -> None:
    if as_json:
        print_json({"ready": True, "seams": seams})
    else:
        sys.stdout.write(f"Serving {', '.join(seams)}, {options.concurrency} calls of each at once. Ctrl-C stops.\n")
        sys.stdout.flush()
