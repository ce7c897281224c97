"""``crossfade trigger``: ways in, one by one or all that a file names."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.adapters.triggers import Intake, Triggers
from crossfade.migrations.triggers_file import Configured, TriggersFile, configure, load_triggers
from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.health import Address, HealthServer

from ._session import BusOption, ConfigOption, JsonOption, print_json
from ._stdin import StdinOption, stop_with_stdin

if TYPE_CHECKING:
    from crossfade.adapters.triggers import Trigger
    from crossfade.shim._runtime import Runtime

app = typer.Typer(help="Ways in: webhooks, mail, schedules, files and MQTT become facts on the bus.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What its facts and counters call it.")]
TenantOption = Annotated[str | None, typer.Option(help="Whose the facts are.")]
UserOption = Annotated[str | None, typer.Option(help="Whose the facts are.")]
HealthOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Answer GET /healthz there; port 0: one is chosen.")
]
_WAIT = 30.0  # seconds for the bus at start


@app.command("run")
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The ways in, as triggers.yaml names them.")],
    check: Annotated[bool, typer.Option("--check", help="Only read the file.")] = False,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open every way in that a file names, until SIGTERM or Ctrl-C."""
    loaded = load_triggers(file)
    if check:
        names = [trigger.name for trigger in loaded.triggers]
        print_json({"triggers": names}) if as_json else sys.stdout.write(f"{file}: {', '.join(names)}\n")
        return
    _serve(loaded, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


@app.command("webhook")
def webhook(
    name: NameArgument,
    scheme: Annotated[str, typer.Option(help="How the sender signs: github, stripe, slack, standard or bearer.")],
    secret: Annotated[list[str], typer.Option(metavar="env:NAME|file:PATH", help="A secret of its; repeat it.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: one is chosen.")] = "127.0.0.1:8070",
    path: Annotated[str | None, typer.Option(help="Where the sender posts to; else / and the name.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="The largest body that is taken.")] = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    health: HealthOption = None,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Signed POSTs become webhook.received."""
    values = {
        "scheme": scheme,
        "secret": secret,
        "listen": listen,
        "path": path,
        "max_bytes": max_bytes,
        "tenant": tenant,
        "user": user,
    }
    _serve_one("webhook", name, values, health, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


def _serve_one(
    kind: str,
    name: str,
    values: dict[str, Any],
    health: str | None,
    *,
    bus: str | None,
    config: str | None,
    as_json: bool,
    with_stdin: bool,
) -> None:
    loaded = TriggersFile(triggers=(configure(kind, name, values),), health=health)
    _serve(loaded, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


def _serve(loaded: TriggersFile, *, bus: str | None, config: str | None, as_json: bool, with_stdin: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    address = Address.parse(loaded.health) if loaded.health else None
    with connect(bus, config=load_config(config), wait=_WAIT, required=True) as connection:
        runtime = connection.runtime
        triggers = Triggers(build(loaded.triggers, runtime), runtime.bus)

        def stop() -> None:
            runtime.thread.loop.call_soon_threadsafe(triggers.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop())
        if with_stdin:
            stop_with_stdin(stop)
        server = HealthServer(triggers.health)
        try:
            heard_at = runtime.thread.run(server.start(address)) if address else None
            runtime.thread.run(triggers.run(lambda where: _say_ready(where, heard_at, as_json=as_json)))
        finally:
            runtime.thread.run(server.close())


def build(configured: tuple[Configured, ...], runtime: Runtime) -> list[Trigger]:
    """The triggers of these settings; webhooks of one address are one server."""
    from crossfade.adapters.triggers.webhook import Receiver, WebhookServer  # noqa: PLC0415

    receivers: dict[tuple[str, int], dict[str, Receiver]] = {}
    names: dict[tuple[str, int], list[str]] = {}
    triggers: list[Trigger] = []
    for one in configured:
        intake = Intake(runtime.bus, runtime.subjects, one.name)
        if one.listen is None:
            continue
        there = receivers.setdefault(one.listen, {})
        if one.settings.path in there:
            raise ConfigurationError(f"two webhooks live at {one.settings.path}", where=one.name)
        there[one.settings.path] = Receiver(one.settings, intake)
        names.setdefault(one.listen, []).append(one.name)
    triggers += [WebhookServer(listen, found, name="+".join(names[listen])) for listen, found in receivers.items()]
    return triggers


def _say_ready(where: dict[str, str], health: Address | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"ready": True, "triggers": where, "health": str(health) if health else None})
        return
    for name, place in where.items():
        sys.stdout.write(f"{name}: {place}\n")
    if health:
        sys.stdout.write(f"Health at http://{health}/healthz\n")
    sys.stdout.write("Ctrl-C stops.\n")
    sys.stdout.flush()
