"""``crossfade worker``: the bus side of the seams that some modules declare."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.health import Address, HealthServer
from crossfade.shim.worker import ACK_WAIT, Worker, WorkerOptions
from crossfade.workflows import Engine, registry

from ._bodies import answer_by_http, leave_bodies_behind
from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._modules import import_modules
from ._session import BusOption, ConfigOption, JsonOption, print_json
from ._stdin import StdinOption, stop_with_stdin

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def worker(
    modules: Annotated[
        list[str] | None, typer.Argument(metavar="MODULE", help="Modules that declare seams, like myapp.tools.")
    ] = None,
    http: Annotated[
        str | None, typer.Option(metavar="URL", help="Answer the routes of --seam by asking this service by HTTP.")
    ] = None,
    seam: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A route's seam, for --http; repeat it.")
    ] = None,
    routes: Annotated[
        str | None, typer.Option(metavar="FILE", help="The proxy's routes.yaml: all its seams, for --http.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls of one seam at once.")] = 8,
    shadows: Annotated[int, typer.Option(min=0, help="Shadow runs of one seam at once; 0: none here.")] = 2,
    ack_wait: Annotated[
        float, typer.Option(min=1, help="Seconds after which a dead worker's calls go to another.")
    ] = ACK_WAIT,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for calls in progress when asked to stop.")] = 20.0,
    spool: Annotated[Path, typer.Option(help="Folder for results the bus does not take.")] = Path(".crossfade/spool"),
    health: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Answer GET /healthz there; port 0: one is chosen.")
    ] = None,
    health_anywhere: Annotated[
        bool, typer.Option("--health-anywhere", help="Let --health listen beyond this machine.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Answer GET /metrics for Prometheus, too, where --health listens.")
    ] = False,
    otel: Annotated[
        bool, typer.Option("--otel", help="Export spans and metrics by OTLP, as the OTEL_* variables say.")
    ] = False,
    workflows: Annotated[
        bool, typer.Option("--workflows", help="Run the workflows that the modules declare, too.")
    ] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the bus at start.")] = 30.0,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the bodies of seams for callers on the bus, until SIGTERM or Ctrl-C."""
    log_to_stderr(log_format)
    options = WorkerOptions(concurrency=concurrency, ack_wait=ack_wait, grace=grace, spool=spool, shadows=shadows)
    address = Address.parse(health, anywhere=health_anywhere) if health is not None else None
    if metrics and address is None:
        raise typer.BadParameter("say where to listen, like --health 127.0.0.1:8080", param_hint="--metrics")
    answer_by_http(http, seam or [], routes)
    if not modules and http is None:
        raise typer.BadParameter("name the modules that declare seams, or a service with --http", param_hint="MODULE")
    import_modules(modules or [])
    stop_telemetry = _export() if otel else _nothing
    page = _measure() if metrics else None
    with connect(bus, config=load_config(config), wait=wait, required=True) as connection:
        engine = Engine(connection.runtime, registry) if workflows else None
        serving = Worker(connection.runtime, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: serving.stop())
        if with_stdin:
            stop_with_stdin(serving.stop)
        server, thread = HealthServer(serving.health, metrics=page), connection.runtime.thread
        try:
            heard_at = thread.run(server.start(address)) if address else None
            names = [service.name for service in serving.services]
            with _beside(engine, serving.stop):
                serving.run(
                    when_ready=lambda: _say_ready(
                        names, options, heard_at, engine=engine, measured=metrics, as_json=as_json
                    )
                )
        finally:
            thread.run(server.close())
    stop_telemetry()
    leave_bodies_behind()


@contextmanager
def _beside(engine: Engine | None, stop: Callable[[], None]) -> Generator[None]:
    """Run workflows while the block does, which begins once they run and is told to ``stop`` should they fail."""
    if engine is None:
        yield
        return
    begun = threading.Event()
    with ThreadPoolExecutor(1, "crossfade-workflows") as thread:
        running = thread.submit(engine.run, when_ready=begun.set)
        running.add_done_callback(lambda _: begun.set())
        running.add_done_callback(lambda _: stop())
        try:
            begun.wait()
            yield
        finally:
            engine.stop()
            running.result()


def _export() -> Callable[[], None]:
    from crossfade.adapters.otel import export_by_otlp  # noqa: PLC0415 - an extra

    return export_by_otlp("crossfade-worker")


def _measure() -> Callable[[], tuple[str, bytes]]:
    """Into the library's own registry, so that metrics of the handlers' code are on the same page."""
    from crossfade.adapters.prometheus import instrument, page  # noqa: PLC0415 - an extra

    instrument()
    return page


def _nothing() -> None:
    """Nobody is told anything."""


def _say_ready(
    seams: list[str],
    options: WorkerOptions,
    health: Address | None,
    *,
    engine: Engine | None,
    measured: bool,
    as_json: bool,
) -> None:
    flows = {name: sorted(versions) for name, versions in engine.definitions.items()} if engine else {}
    if as_json:
        told = {"workflows": flows} if engine else {}
        print_json({"ready": True, "seams": seams, **told, "health": str(health) if health else None})
    else:
        if flows:
            sys.stdout.write(f"Running workflows {', '.join(flows)}.\n")
        sys.stdout.write(f"Serving {', '.join(seams)}, {options.concurrency} calls of each at once. Ctrl-C stops.\n")
        if health:
            sys.stdout.write(f"Health at http://{health}/healthz\n")
        if measured:
            sys.stdout.write(f"Metrics at http://{health}/metrics\n")
        sys.stdout.flush()
