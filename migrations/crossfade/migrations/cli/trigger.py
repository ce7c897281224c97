"""``crossfade trigger``: ways in, one by one or all that a file names."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.adapters.triggers import Intake, Triggers
from crossfade.adapters.triggers.files import Folder, FolderWatcher
from crossfade.adapters.triggers.mqtt import MqttReader, Subscription
from crossfade.adapters.triggers.schedule import Schedule, Ticker
from crossfade.adapters.triggers.smtp import MailBox, MailServer
from crossfade.adapters.triggers.starting import Starter
from crossfade.adapters.triggers.webhook import Receiver, Webhook, WebhookServer
from crossfade.migrations.triggers_file import Configured, TriggersFile, configure, load_triggers
from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.health import Address, HealthServer
from crossfade.shim.seam import registry

from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._modules import import_modules
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
    check: Annotated[bool, typer.Option("--check", help="Read the file, import its modules, open nothing.")] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open every way in that a file names, until SIGTERM or Ctrl-C."""
    log_to_stderr(log_format)
    loaded = load_triggers(file)
    if check:
        _check_starts(loaded)
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
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Signed POSTs become webhook.received."""
    log_to_stderr(log_format)
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


@app.command("smtp")
def smtp(
    name: NameArgument,
    recipient: Annotated[list[str], typer.Option(help="An address, @domain, or * for anybody; repeat it.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: one is chosen.")] = "127.0.0.1:8025",
    hostname: Annotated[str | None, typer.Option(help="What it calls itself.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="The largest mail that is taken.")] = None,
    tls_certificate: Annotated[str | None, typer.Option(metavar="PEM", help="Offer STARTTLS with it.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None,
    require_tls: Annotated[bool, typer.Option("--require-tls", help="Take no mail before STARTTLS.")] = False,
    tenant: TenantOption = None,
    user: UserOption = None,
    health: HealthOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mails become email.received."""
    log_to_stderr(log_format)
    values = {
        "recipients": recipient,
        "listen": listen,
        "hostname": hostname,
        "max_bytes": max_bytes,
        "certificate": tls_certificate,
        "key": tls_key,
        "require_tls": require_tls,
        "tenant": tenant,
        "user": user,
    }
    _serve_one("smtp", name, values, health, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


@app.command("schedule")
def schedule(
    name: NameArgument,
    cron: Annotated[str | None, typer.Option(help="When: five fields, or six with seconds in front.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When, once: a time with its zone.")] = None,
    zone: Annotated[str | None, typer.Option(help="The time zone that --cron is in; else UTC.")] = None,
    catch_up: Annotated[str, typer.Option(help="Of what was missed: none, the last, or all.")] = "last",
    tenant: TenantOption = None,
    user: UserOption = None,
    health: HealthOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Times become schedule.fired."""
    log_to_stderr(log_format)
    values = {"cron": cron, "at": at, "zone": zone, "catch_up": catch_up, "tenant": tenant, "user": user}
    _serve_one("schedule", name, values, health, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


@app.command("files")
def files(
    name: NameArgument,
    directory: Annotated[str, typer.Argument(metavar="FOLDER", help="What is watched.")],
    pattern: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Names that are taken; repeat it.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Names that are not; repeat it.")] = None,
    settle: Annotated[float | None, typer.Option(min=0.1, help="Seconds without a change.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders in it, too.")] = False,
    path_only: Annotated[bool, typer.Option("--path-only", help="Keep the content where it is.")] = False,
    tenant: TenantOption = None,
    user: UserOption = None,
    health: HealthOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Files in a folder become file.created."""
    log_to_stderr(log_format)
    values = {
        "directory": directory,
        "patterns": pattern,
        "ignore": ignore,
        "settle": settle,
        "recursive": recursive,
        "content": not path_only,
        "tenant": tenant,
        "user": user,
    }
    _serve_one("files", name, values, health, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


@app.command("mqtt")
def mqtt(
    name: NameArgument,
    url: Annotated[str, typer.Argument(metavar="BROKER", help="The broker: mqtt://HOST:PORT, or mqtts://.")],
    topic: Annotated[list[str], typer.Option(metavar="PATTERN", help="Like devices/{tenant}/{user}/#; repeat it.")],
    client_id: Annotated[str | None, typer.Option(help="The session's name; else crossfade- and the name.")] = None,
    username: Annotated[str | None, typer.Option(help="Who we are to the broker.")] = None,
    password: Annotated[str | None, typer.Option(metavar="env:NAME|file:PATH", help="Its password.")] = None,
    ca: Annotated[str | None, typer.Option(metavar="PEM", help="Authorities to trust.")] = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    health: HealthOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Messages of an MQTT broker become device.reported."""
    log_to_stderr(log_format)
    values = {
        "url": url,
        "topics": topic,
        "client_id": client_id,
        "username": username,
        "password": password,
        "ca": ca,
        "tenant": tenant,
        "user": user,
    }
    _serve_one("mqtt", name, values, health, bus=bus, config=config, as_json=as_json, with_stdin=with_stdin)


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
    address = Address.parse(loaded.health) if loaded.health else None
    import_modules(list(loaded.modules))
    with connect(bus, config=load_config(config), wait=_WAIT, required=True) as connection:
        runtime = connection.runtime
        triggers = Triggers(build(loaded.triggers, runtime), runtime.bus, first=starters(loaded.triggers, runtime))

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


def _check_starts(loaded: TriggersFile) -> None:
    import_modules(list(loaded.modules))
    for one in loaded.triggers:
        if one.start is not None:
            one.start.check(registry.get(one.start.seam))


def build(configured: tuple[Configured, ...], runtime: Runtime) -> list[Trigger]:
    """The triggers of these settings; webhooks of one address are one server."""
    receivers: dict[tuple[str, int], dict[str, Receiver]] = {}
    names: dict[tuple[str, int], list[str]] = {}
    triggers: list[Trigger] = []
    for one in configured:
        intake = Intake(runtime.bus, runtime.subjects, one.name)
        match one.settings:
            case Webhook():
                listen = one.listen or ("127.0.0.1", 0)
                there = receivers.setdefault(listen, {})
                if one.settings.path in there:
                    raise ConfigurationError(f"another webhook lives at {one.settings.path} already", where=one.name)
                there[one.settings.path] = Receiver(one.settings, intake)
                names.setdefault(listen, []).append(one.name)
            case MailBox():
                triggers.append(MailServer(one.settings, intake))
            case Schedule():
                triggers.append(Ticker(one.settings, intake))
            case Folder():
                triggers.append(FolderWatcher(one.settings, intake))
            case Subscription():
                triggers.append(MqttReader(one.settings, intake))
    servers = [WebhookServer(listen, found, name="+".join(names[listen])) for listen, found in receivers.items()]
    return [*servers, *triggers]


def starters(configured: tuple[Configured, ...], runtime: Runtime) -> list[Trigger]:
    """What starts the tasks of those that start some. Raises ``ConfigurationError`` for a seam that does not fit."""
    return [
        Starter(
            one.start,
            runtime.registry.get(one.start.seam),
            runtime.bus,
            runtime.subjects,
            trigger=one.name,
            of=one.type,
        )
        for one in configured
        if one.start is not None
    ]


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
