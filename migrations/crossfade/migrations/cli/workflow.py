"""``crossfade workflow``: run workflows, look at their instances, answer what they wait for."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal as signals
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from crossfade.shim.config import load_config
from crossfade.shim.connection import connect
from crossfade.shim.correlate import correlate
from crossfade.shim.errors import ConfigurationError, MalformedEventError
from crossfade.workflows import Engine, EngineOptions, registry
from crossfade.workflows.facts import fact, send
from crossfade.workflows.instance import read_instance
from crossfade.workflows.serving import ROLE, serving
from crossfade.workflows.signals import signal as send_signal
from crossfade.workflows.store import Store

from ._control_plane import CREDENTIAL, control_plane
from ._logs import LogFormat, LogFormatOption, log_to_stderr
from ._modules import import_modules
from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._stdin import StdinOption, stop_with_stdin
from ._text import actor, clock, plural, print_columns, read_span, safe, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.workflows.instance import Instance, StepState
    from crossfade.workflows.serving import Serving
    from crossfade.workflows.signals import Action

    from ._session import Session

app = typer.Typer(help="Workflows: run them, look at their instances, answer what they wait for.", no_args_is_help=True)

InstanceArgument = Annotated[
    str, typer.Argument(metavar="INSTANCE", help="Its id, or the beginning of it, 4 characters at least.")
]
ByOption = Annotated[str | None, typer.Option(help="Who says so; else who is logged in.")]
CommentOption = Annotated[str, typer.Option(help="Why; kept with the instance.")]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", metavar="NAME", help="Only instances of this one.")]

_WHOLE: Final = 32  # characters of an id
_PART: Final = 4


@app.command()
def run(
    modules: Annotated[list[str], typer.Argument(metavar="MODULE", help="Modules that declare workflows.")],
    concurrency: Annotated[int, typer.Option(min=1, help="Events in hand at once, of each type.")] = 64,
    keep: Annotated[
        str, typer.Option(metavar="SPAN", help="How long ended instances are kept, like 12h or 7d.")
    ] = "7d",
    ack_wait: Annotated[
        float, typer.Option(min=1, help="Seconds after which a dead engine's events go to another.")
    ] = 10.0,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the bus at start.")] = 30.0,
    log_format: LogFormatOption = LogFormat.TEXT,
    with_stdin: StdinOption = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the workflows that some modules declare, until SIGTERM or Ctrl-C; in as many processes as you like."""
    log_to_stderr(log_format)
    options = EngineOptions(
        concurrency=concurrency, ack_wait=ack_wait, keep=read_span(keep, where="--keep").total_seconds()
    )
    import_modules(modules)
    with connect(bus, config=load_config(config), wait=wait, required=True) as connection:
        connection.runtime.act_as(ROLE)
        engine = Engine(connection.runtime, registry, options)
        for number in (signals.SIGTERM, signals.SIGINT):
            signals.signal(number, lambda _number, _frame: engine.stop())
        if with_stdin:
            stop_with_stdin(engine.stop)
        engine.run(when_ready=lambda: _say_ready(engine, as_json=as_json))


def _say_ready(engine: Engine, *, as_json: bool) -> None:
    known = {name: sorted(versions) for name, versions in engine.definitions.items()}
    if as_json:
        print_json({"ready": True, "workflows": known})
        return
    names = [f"{name} ({', '.join(f'v{version}' for version in versions)})" for name, versions in known.items()]
    sys.stdout.write(f"Running {', '.join(names)}. Ctrl-C stops.\n")
    sys.stdout.flush()


@app.command("list")
def list_instances(
    workflow: WorkflowOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List instances, the newest first."""

    async def look() -> tuple[list[Instance], list[str], Serving, datetime]:
        async with session(bus, config) as opened:
            found, unreadable = await _instances(opened, everything=everything)
            return found, unreadable, await serving(opened.bus), opened.bus.now()

    found, unreadable, served, now = asyncio.run(look())
    found = [instance for instance in found if workflow in (None, instance.workflow)]
    if as_json:
        print_json([_summary(instance, served) for instance in found])
    elif not found:
        say("No instance lives." if not everything else "There is no instance.")
    else:
        rows = [_row(instance, served, now) for instance in found]
        print_columns([("instance", "workflow", "state", "age", "at", "key"), *rows])
        say(f"\n{plural(len(found), 'instance')}. One's steps: crossfade workflow show INSTANCE")
    for key in unreadable:
        sys.stderr.write(f"crossfade: instance {safe(key)} cannot be read by this version, and is left alone\n")


@app.command()
def show(
    instance: InstanceArgument,
    data: Annotated[bool, typer.Option("--data", help="Each step's input and value, too.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one instance: its steps, what it waits for, how it ended."""

    async def look() -> tuple[Instance, Serving, datetime]:
        async with session(bus, config) as opened:
            return await _find(opened, instance), await serving(opened.bus), opened.bus.now()

    found, served, now = asyncio.run(look())
    if as_json:
        print_json(_document(found, served))
    else:
        _print_instance(found, served, now, data=data)


@app.command()
def signal(
    instance: InstanceArgument,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step that waits.")],
    approve: Annotated[bool, typer.Option("--approve", help="Say yes to an approval.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Say no to an approval.")] = False,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="The value of a wait; goes along with a yes.")
    ] = None,
    by: ByOption = None,
    comment: CommentOption = "",
    control: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Through this control plane, as who {CREDENTIAL} belongs to."),
    ] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer what a step waits for."""
    if approve and reject:
        raise typer.BadParameter("say --approve or --reject, not both")
    value = _read_json(data)
    if not (approve or reject or data is not None):
        raise typer.BadParameter("say --approve, --reject, or the value that the step waits for with --data JSON")
    action: Action = "approve" if approve else "reject" if reject else "send"
    if control is None:
        found = asyncio.run(_say(instance, action, step, by, comment, value, bus, config))
        workflow, whole = found.workflow, found.id
    elif by is not None or bus is not None or action == "send":
        raise typer.BadParameter("--control goes with --approve or --reject, and knows who you are: no --by, no --bus")
    else:
        with control_plane(control) as plane:
            answered = plane.answer(instance, step, action, comment=comment, data=value)
        workflow, whole = answered["workflow"], answered["instance"]
    if as_json:
        print_json({"instance": whole, "step": step, "action": action})
    else:
        say(safe(f"{workflow}, instance {whole}: {step} {_SAID[action]}."))


@app.command()
def cancel(
    instance: InstanceArgument,
    by: ByOption = None,
    comment: CommentOption = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an instance: calls under way are waited for, then what it did is undone where its workflow says how."""
    found = asyncio.run(_say(instance, "cancel", "", by, comment, None, bus, config))
    if as_json:
        print_json({"instance": found.id, "action": "cancel"})
    else:
        say(f"{found.workflow}, instance {found.id} is being cancelled: crossfade workflow show {found.id[:8]}")


@app.command()
def emit(
    event: Annotated[str, typer.Argument(metavar="TYPE", help="Its type, like order.placed.")],
    data: Annotated[str, typer.Option(metavar="JSON", help="Its data.")] = "{}",
    user: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Its run; else its own.")] = None,
    key: Annotated[str, typer.Option(help="Two of the same type and key are one event.")] = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish an event as a trigger does, to try a workflow or to tell it something."""
    with correlate(user=user, tenant=tenant, run=run_id):
        made = fact(event, _read_json(data), key=key)
    if run_id is None:  # it begins a run of its own
        made = replace(made, extensions={**made.extensions, "correlationid": made.id})

    async def publish() -> None:
        async with session(bus, config) as opened:
            await send(opened.bus, opened.subjects, made)

    asyncio.run(publish())
    if as_json:
        print_json({"id": made.id, "type": made.type})
    else:
        say(f"{made.type} {made.id} is published.")


_SAID: Final[Mapping[Action, str]] = {"approve": "is approved", "reject": "is rejected", "send": "has its value"}


async def _say(
    instance: str,
    action: Action,
    step: str,
    by: str | None,
    comment: str,
    value: Any,
    bus: str | None,
    config: str | None,
) -> Instance:
    async with session(bus, config) as opened:
        found = await _find(opened, instance)
        who = by or actor()
        await send_signal(opened.bus, opened.subjects, found, action, step=step, by=who, comment=comment, data=value)
        return found


def _read_json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"is no JSON ({error}): quote texts, like --data '\"yes\"'", where="--data") from None


async def _instances(opened: Session, *, everything: bool) -> tuple[list[Instance], list[str]]:
    """Every instance, the newest first, and the keys of those that cannot be read."""
    store = Store(opened.bus)
    lying = await store.live() + (await store.ended() if everything else [])
    found: dict[str, Instance] = {}
    unreadable: list[str] = []
    for key, value, _ in lying:
        try:
            found.setdefault(key, read_instance(value))
        except MalformedEventError:
            unreadable.append(key)
    if not everything:
        found = {key: instance for key, instance in found.items() if not instance.ended}
    return sorted(found.values(), key=lambda instance: -instance.started), unreadable


async def _find(opened: Session, given: str) -> Instance:
    """The one instance that ``given`` means."""
    exact = await Store(opened.bus).find(given) if len(given) == _WHOLE and given.isalnum() else None
    if exact is not None:
        return exact
    found, _ = await _instances(opened, everything=True)
    if len(given) >= _PART:
        found = [instance for instance in found if instance.id.startswith(given)]
    else:
        raise ConfigurationError(f"{given!r} is too short: give {_PART} characters at least", where="INSTANCE")
    if len(found) > 1:
        ids = "\n  ".join(instance.id for instance in found)
        raise ConfigurationError(f"{given!r} begins {len(found)} instances, say which:\n  {ids}", where="INSTANCE")
    if not found:
        raise ConfigurationError(
            f"no instance begins with {given!r}, live or ended: crossfade workflow list --all", where="INSTANCE"
        )
    return found[0]


# -- as data -----------------------------------------------------------------------------------------------------


def _summary(instance: Instance, served: Serving) -> dict[str, Any]:
    return {
        "instance": instance.id,
        "workflow": instance.workflow,
        "version": instance.version,
        "key": instance.key,
        "state": instance.status,
        "waiting": _waiting(instance, served) or None,
        "started": _time(instance.started).isoformat(),
        "updated": _time(instance.updated).isoformat(),
        "user": instance.correlation.get("userid"),
        "run": instance.correlation.get("correlationid"),
        "at": _at(instance),
    }


def _waiting(instance: Instance, served: Serving) -> str:
    """Why it does not go on although it could; empty when it does."""
    return f"no engine serves version {instance.version}" if served.lacks(instance) else ""


def _document(instance: Instance, served: Serving) -> dict[str, Any]:
    return {
        **_summary(instance, served),
        "event": instance.event,
        "steps": {name: _step(state) for name, state in instance.steps.items()},
        "undone": {name: _step(state) for name, state in instance.undos.items()},
        "kept_events": len(instance.inbox),
        "failed_step": instance.failed_step or None,
        "error": instance.error,
        "value": instance.value,
    }


def _step(state: StepState) -> dict[str, Any]:
    return {
        "kind": state.kind,
        "state": state.status,
        "attempt": state.attempt,
        "callid": state.callid or None,
        "due": _time(state.due).isoformat() if state.due is not None else None,
        "by": state.by,
        "authenticated": state.authenticated,
        "input": state.input,
        "value": state.value,
        "error": state.error,
    }


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _at(instance: Instance) -> list[str]:
    """The steps that something is happening in."""
    states = instance.undos if instance.status == "undoing" and instance.undos else instance.steps
    return [name for name, state in states.items() if state.status in ("calling", "waiting", "pausing")]


# -- for people --------------------------------------------------------------------------------------------------


def _row(instance: Instance, served: Serving, now: datetime) -> tuple[str, ...]:
    waiting = _waiting(instance, served)
    return (
        instance.id[:8],
        safe(f"{instance.workflow} v{instance.version}"),
        f"waiting: {waiting}" if waiting else instance.status,
        span(now - _time(instance.started)),
        safe(", ".join(_at(instance)) or "-"),
        safe(instance.key[:40]),
    )


def _print_instance(instance: Instance, served: Serving, now: datetime, *, data: bool) -> None:
    say(safe(f"{instance.workflow} v{instance.version}, instance {instance.id}"))
    say(f"{instance.status}, started {clock(_time(instance.started))} ({span(now - _time(instance.started))} ago)\n")
    if waiting := _waiting(instance, served):
        say(f"waiting: {waiting}; crossfade workflow run MODULE, where MODULE declares it\n")
    facts = {"key": instance.key, "run": instance.correlation.get("correlationid"), "user": instance.event["user"]}
    print_columns([(name, safe(value)) for name, value in facts.items() if value])
    say("")
    print_columns([("step", "kind", "state", ""), *(_step_row(name, state) for name, state in instance.steps.items())])
    if instance.undos:
        say("\nundone")
        print_columns([_step_row(name, state) for name, state in instance.undos.items()])
    if instance.error:
        say(f"\n{safe(instance.failed_step or 'ended')}: {safe(instance.error['message'])}")
    if data:
        for name, state in instance.steps.items():
            shown = json.dumps({"input": state.input, "value": state.value}, ensure_ascii=False)
            say(f"\n{name}: {safe(shown)}")
    for name, state in instance.steps.items():
        if state.status == "waiting" and state.kind == "approval":
            question = json.dumps(state.input, ensure_ascii=False)
            say(f"\n{name} waits for {safe(' or '.join(state.by) or 'anybody')}: {safe(question)}")
            say(f"  crossfade workflow signal {instance.id[:8]} {name} --approve{_how(state)}")


def _how(state: StepState) -> str:
    """What an approval's answer needs besides."""
    if state.authenticated:
        return " --control URL"
    return f" --by {shlex.quote(safe(state.by[0]))}" if state.by else ""


def _step_row(name: str, state: StepState) -> tuple[str, ...]:
    about = [f"attempt {state.attempt}"] if state.attempt > 1 else []
    about += [f"until {clock(_time(state.due))}"] if state.due is not None else []
    about += [safe(f"{state.error['type']}: {state.error['message'][:120]}")] if state.error else []
    return name, state.kind, state.status, ", ".join(about)
