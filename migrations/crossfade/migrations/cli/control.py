"""``crossfade control``: the control plane of an installation, and who may use it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.migrations import unserved
from crossfade.migrations.controller import Controller
from crossfade.migrations.operating import check_not_led
from crossfade.shim.errors import MissingExtraError
from crossfade.shim.events import new_id

from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._stdin import StdinOption, stop_with_stdin
from ._text import read_span

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    from crossfade.proxy.control.app import Control
    from crossfade.proxy.control.settings import ControlSettings

app = typer.Typer(help="The control plane: API and streams for pages; serves when no command is given.")

StateOption = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="Where credentials and stream keys lie, for their owner only.")
]
_STATE = Path(".crossfade/control")


@app.callback(invoke_without_command=True)
def control(
    context: typer.Context,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: one is chosen.")] = "127.0.0.1:8081",
    state: StateOption = _STATE,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="Serve HTTPS with it.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            "--client-ca",
            metavar="PEM",
            help="A certificate of this CA with a credential's name is as good as its token.",
        ),
    ] = None,
    plain_because: Annotated[
        str, typer.Option(metavar="WHY", help="Listen beyond this machine without TLS, for this reason.")
    ] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name that this API is asked by.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="An origin whose pages may read streams.")
    ] = None,
    heartbeat: Annotated[float, typer.Option(min=0.1, help="Seconds between signs of life on a quiet stream.")] = 15.0,
    max_streams: Annotated[int, typer.Option(min=1, help="Open streams of this process.")] = 5000,
    max_streams_per_user: Annotated[int, typer.Option(min=1, help="Open streams of one user.")] = 50,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the API and the streams until SIGTERM or Ctrl-C, or do what the command after it says."""
    if context.invoked_subcommand is not None:
        return
    log_to_stderr(log_format)
    host, port = _part("settings").parse_listen(listen)
    settings = _part("settings").ControlSettings(
        host=host,
        port=port,
        state=state,
        certificate=tls_certificate,
        key=tls_key,
        client_ca=client_ca,
        plain_because=plain_because,
        hosts=frozenset(allow_host or ()),
        origins=frozenset(allow_origin or ()),
        limits=_part("stream").StreamLimits(heartbeat=heartbeat, streams=max_streams, per_user=max_streams_per_user),
    )
    if plain_because:
        logging.getLogger("crossfade").warning("listening on %s without TLS because: %s", host, plain_because)
    if with_stdin:
        stop_with_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with _part("serving").listen(settings) as listening:
        _run(_serve(settings, listening, bus, config, as_json=as_json))


@app.command("access")
def access(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for; recorded with what they do.")],
    role: Annotated[str, typer.Option(help="view, or operate: change seams, mint tokens.")] = "view",
    state: StateOption = _STATE,
    as_json: JsonOption = False,
) -> None:
    """Make a credential for the API, or replace the one of this name. It is shown once."""
    path = _credentials(state)
    made, secret = _part("auth").Credentials.load(path).with_new(name, role)
    made.save(path)
    if as_json:
        print_json({"name": name, "role": role, "token": secret})
    else:
        say(f"{name} ({role}), shown this once; a running control plane knows it after a restart:\n{secret}")


@app.command("token")
def token(
    user: Annotated[str, typer.Option(help="Whose events it opens.")],
    tenant: Annotated[str, typer.Option(help="The user's tenant.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is good for, like 30s, 10m, 1h, 7d at most.")] = "1h",
    state: StateOption = _STATE,
    as_json: JsonOption = False,
) -> None:
    """Sign a token for one user's stream and tasks."""
    keyring = _part("tokens").Keyring.load(_keys(state))
    text = keyring.mint(user=user, tenant=tenant, ttl=read_span(ttl, where="--ttl"))
    read = keyring.read(text)
    if as_json:
        print_json({"token": text, "id": read.id, "expires": read.expires})
    else:
        sys.stdout.write(f"{text}\n")


@app.command("rotate")
def rotate(state: StateOption = _STATE, as_json: JsonOption = False) -> None:
    """Sign with a new key from now on; tokens of the key before stay good until they end."""
    path = _keys(state)
    rotated = _part("tokens").Keyring.load(path).rotated()
    rotated.save(path)
    if as_json:
        print_json({"keys": [key.id for key in rotated.keys]})
    else:
        say(f"New key {rotated.keys[0].id}. Restart the control plane, and whoever mints tokens with this file.")


async def _serve(
    settings: ControlSettings, listening: socket.socket, bus: str | None, config: str | None, *, as_json: bool
) -> None:
    credentials, made = _first_credentials(settings.state)
    instance = f"control_{os.getpid()}_{new_id()[-8:]}"
    async with session(bus, config) as opened:
        plane = _part("app").Control(
            bus=opened.bus,
            url=opened.url,
            config=opened.config,
            subjects=opened.subjects,
            credentials=credentials,
            keyring=_part("tokens").Keyring.load(_keys(settings.state)),
            settings=settings,
            instance=instance,
        )
        url = settings.url(listening.getsockname()[1])
        application, missing = _application(plane)
        helpers = [
            asyncio.create_task(Controller(opened.bus, opened.subjects, instance=instance).run()),
            asyncio.create_task(unserved.watch(opened.bus)),
        ]
        try:
            await _part("serving").serve(
                application,
                plane,
                listening,
                when_ready=lambda: _say_ready(url, made, settings, without=missing, as_json=as_json),
            )
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)


def _application(plane: Control) -> tuple[Any, str]:
    """The control plane with what migrations add to it; and why it has no dashboard, empty when it has one."""
    check = partial(check_not_led, plane.bus)
    create = _part("app").create_app
    routers = [
        importlib.import_module("crossfade.migrations.api").router(plane.bus, plane.subjects, plane.policies),
        importlib.import_module("crossfade.migrations.approvals").router(plane.bus, plane.subjects),
    ]
    try:
        pages = importlib.import_module("crossfade.migrations.dashboard")
    except MissingExtraError as error:
        return create(plane, routers=routers, check=check), str(error)
    routers += [pages.front(), pages.router(plane)]
    return create(plane, routers=routers, entrance=pages.entrance(), check=check), ""


def _first_credentials(state: Path) -> tuple[Any, dict[str, str]]:
    """The credentials; at the first start one for each role, whose secrets are to be shown."""
    path = _credentials(state)
    known = _part("auth").Credentials.load(path)
    made: dict[str, str] = {}
    if not known.known:
        for role in ("operate", "view"):
            known, made[role] = known.with_new(f"first-{role}", role)
        known.save(path)
    return known, made


def _say_ready(url: str, made: dict[str, str], settings: ControlSettings, *, without: str, as_json: bool) -> None:
    """``without``: why there is no dashboard, empty when there is."""
    if as_json:
        print_json({"ready": True, "url": url, "dashboard": None if without else f"{url}/dashboard", "tokens": made})
        return
    say(f"Control plane at {url}, its operations at {url}/docs. Ctrl-C stops.")
    say(without or f"Dashboard at {url}/dashboard")
    for role, secret in made.items():
        say(f"Made for the first start, shown this once, {role}: {secret}")
    if made:
        say(f"More of them: crossfade control access NAME --role view --state {settings.state}")


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where there is one."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def _credentials(state: Path) -> Path:
    return state / "credentials.json"


def _keys(state: Path) -> Path:
    return state / "stream-keys.json"


def _part(name: str) -> Any:
    """A module of the control plane, which needs the extra ``proxy``."""
    try:
        return importlib.import_module(f"crossfade.proxy.control.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("crossfade"):
            raise
        raise MissingExtraError("proxy", needed_for="the control plane") from error
