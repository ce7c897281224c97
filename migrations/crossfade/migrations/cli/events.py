"""``crossfade events``: what travels on the bus, as it happens."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from crossfade.shim.redaction import Redactor
from crossfade.shim.subjects import check_seam

from . import _contracts
from ._session import BusOption, ConfigOption, JsonOption, Session, print_json, session
from ._text import read_span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from crossfade.shim.ports import Stored

app = typer.Typer(help="What travels on the bus.", no_args_is_help=True)
for command in (_contracts.spec, _contracts.schema, _contracts.check):
    app.command()(command)

_COLOURS: Final = {"invoke": "cyan", "result": "green", "observed": "blue", "changed": "magenta"}


@app.command()
def tail(
    seam: Annotated[str | None, typer.Option(help="Only events of this seam.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only events of this type, like tool.result.")] = None,
    run: Annotated[str | None, typer.Option(help="Only events of this run: its id, or the end of it.")] = None,
    since: Annotated[str | None, typer.Option(help="Begin so long ago, like 30s, 10m, 2h or 1d.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    data: Annotated[bool, typer.Option("--data", help="Show payloads, redacted.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print calls, observations and seam news, oldest first. With --follow and no --since, only what is new."""
    wanted = _Wanted(seam=None if seam is None else check_seam(seam), kind=kind, run=run)
    start = (
        datetime.now(UTC) - read_span(since, where="--since")
        if since is not None
        else datetime.now(UTC)
        if follow
        else None
    )
    printer = _JsonLines() if as_json else _Lines(show_data=data)

    async def show() -> None:
        shown = 0
        async with session(bus, config) as opened, aclosing(_merged(opened, start, follow=follow)) as events:
            async for stored in events:
                if wanted.selects(stored):
                    printer.print(stored)
                    shown += 1
                if limit is not None and shown >= limit:
                    return

    asyncio.run(show())


class _Wanted:
    """Which events to show."""

    def __init__(self, *, seam: str | None, kind: str | None, run: str | None) -> None:
        self._seam = seam
        self._kind = kind
        self._run = run

    def selects(self, stored: Stored) -> bool:
        event = stored.event
        return (
            self._seam in (None, event.get("seam"))
            and self._kind in (None, event.type)
            and (event.get("correlationid") or "").endswith(self._run or "")  # lines show the end only
        )


async def _merged(opened: Session, since: datetime | None, *, follow: bool) -> AsyncGenerator[Stored]:
    """Calls, observations, verdicts and facts; in order of the broker's time when they are read to the end."""
    prefix = opened.subjects.prefix
    filters = [f"{prefix}.>", f"{prefix}o.>", f"{prefix}v.>", f"{prefix}e.>"]
    if not follow:
        found = [stored for filter_ in filters async for stored in opened.bus.read(filter_, since=since)]
        for stored in sorted(found, key=lambda item: item.time):
            yield stored
        return
    queue: asyncio.Queue[Stored | Exception] = asyncio.Queue(1000)

    async def pump(filter_: str) -> None:
        try:
            async for stored in opened.bus.read(filter_, since=since, follow=True):
                await queue.put(stored)
        except Exception as error:  # raised to whoever reads the queue
            await queue.put(error)

    # No task group: whoever closes this generator early (--limit) would get its group of errors.
    pumps = [asyncio.create_task(pump(filter_)) for filter_ in filters]
    try:
        while True:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


class _Lines:
    """One line per event for a person."""

    def __init__(self, *, show_data: bool) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._redactor = Redactor.from_environment() if show_data else None

    def print(self, stored: Stored) -> None:
        event = stored.event
        colour = _COLOURS.get(event.type.rpartition(".")[2], "default")
        line = Text.assemble(
            f"{stored.time.astimezone():%H:%M:%S.%f}"[:12],
            "  ",
            (f"{event.type:<20}", colour),
            f"  {event.get('seam') or '-':<20}  call {(event.get('callid') or '-')[-8:]}  "
            f"run {(event.get('correlationid') or '-')[-8:]}  {len(event.data or b'')} B",
        )
        self._console.print(line)
        if self._redactor is not None:
            self._console.print(Text(f"    {json.dumps(_payload(stored, self._redactor), ensure_ascii=False)}", "dim"))


class _JsonLines:
    """One JSON document per line for a script; payloads redacted."""

    def __init__(self) -> None:
        self._redactor = Redactor.from_environment()

    def print(self, stored: Stored) -> None:
        event = stored.event
        print_json(
            {
                "time": stored.time.isoformat(),
                "position": stored.position,
                "subject": stored.subject,
                "id": event.id,
                "type": event.type,
                "source": event.source,
                **event.extensions,
                "data": _payload(stored, self._redactor),
            }
        )


def _payload(stored: Stored, redactor: Redactor) -> Any:
    if stored.event.data is None:
        return None
    try:
        return redactor.value(json.loads(stored.event.data))
    except (ValueError, RecursionError):
        return f"<{len(stored.event.data)} bytes that are no JSON>"
