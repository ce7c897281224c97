"""``crossfade worker``: the bus side of the seams that some modules declare."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Final

import typer

from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.errors import ConfigurationError, CrossfadeError
from crossfade.shim.worker import Worker, WorkerOptions

from ._session import BusOption, ConfigOption, JsonOption, print_json

_IMPORTING: Final = ("<frozen importlib", importlib.__file__)


def worker(
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE", help="Modules that declare seams, like myapp.tools.")
    ],
    concurrency: Annotated[int, typer.Option(min=1, help="Calls of one seam at once.")] = 8,
    ack_wait: Annotated[
        float, typer.Option(min=1, help="Seconds after which a dead worker's calls go to another.")
    ] = 30.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for calls in progress when asked to stop.")] = 20.0,
    spool: Annotated[Path, typer.Option(help="Folder for results the bus does not take.")] = Path(".crossfade/spool"),
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the bus at start.")] = 30.0,
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
    """Import a user's module; what is wrong in it shows as the user's own lines, without ours."""
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigurationError(f"{module!r} is no module name: write myapp.tools for myapp/tools.py", where="MODULE")
    try:
        importlib.import_module(module)
    except CrossfadeError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"there is no module {error.name!r} (looked in {Path.cwd()} and on sys.path)", where="MODULE"
            ) from error
        raise ConfigurationError(f"{module} cannot be imported:\n{_own_lines(error)}", where="MODULE") from error


def _own_lines(error: Exception) -> str:
    """The traceback from the first line that is neither ours nor the import system's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((__file__, *_IMPORTING)):
        trace = trace.tb_next
    return "".join(traceback.format_exception(error.with_traceback(trace))).rstrip()


def _say_ready(seams: list[str], options: WorkerOptions, *, as_json: bool) -> None:
    if as_json:
        print_json({"ready": True, "seams": seams})
    else:
        sys.stdout.write(f"Serving {', '.join(seams)}, {options.concurrency} calls of each at once. Ctrl-C stops.\n")
        sys.stdout.flush()
