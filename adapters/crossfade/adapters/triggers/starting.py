"""Facts that start a seam's task: an email begins a report.

A consumer of what one trigger published, apart from the trigger: a mail is accepted when its fact is durable, and what
it starts begins from there, whoever dies in between. The task's key is the fact's id, so however often the fact is
delivered, or its sender repeats it, it is one call.

On the bus (stage canary and later) a fact is done with when its command is durable. Before that stage the body runs in
this process, and the fact is done with when the body has ended: after a crash in the middle it runs again, unless the
ledger of its key says no. What the body raises is its own outcome, as on the bus: counted, not tried again.

A fact whose fields do not fit the parameters goes to dead letters with the reason ``arguments``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.claimcheck import load_data
from crossfade.shim.correlate import correlated, from_event
from crossfade.shim.errors import (
    BusError,
    ConfigurationError,
    MalformedEventError,
    NotExecutedError,
    ObjectMissingError,
    UnserialisableError,
)
from crossfade.shim.hooks import report
from crossfade.shim.ports import ConsumeOptions
from crossfade.shim.tasks import asubmit

from .intake import source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.shim.events import Event
    from crossfade.shim.handles import TaskHandle
    from crossfade.shim.ports import Bus, Delivery
    from crossfade.shim.seam import Seam
    from crossfade.shim.subjects import Subjects

_AT_ONCE: Final = 8
_EXTEND: Final = 10.0  # seconds between words that a body runs still; a third of what the bus waits for
_GRACE: Final = 20.0  # seconds for bodies that run here when asked to stop; the rest begins again elsewhere
_AGAIN: Final = 5.0  # seconds until a task that could not be started is tried again
_TRIES: Final = 1000  # an hour and more of a bus that takes no commands
_ATTRIBUTES: Final = ("id", "subject", "time", "tenant", "user")

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Which seam a fact starts, and where each parameter's value comes from.

    ``subject`` is a field of the fact's data, ``attachments.0.name`` one within, ``$id`` an attribute of the event (id,
    subject, time, tenant, user), and ``=weekly`` the text itself, or the JSON when it is some.
    """

    seam: str
    arguments: Mapping[str, str]

    def check(self, seam: Seam) -> None:
        """Raise ``ConfigurationError`` when the seam cannot be called so."""
        if seam.streams:
            raise ConfigurationError(f"{seam.name} is a generator: nobody would read its items", where="start")
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        signature = seam.codec.signature.parameters
        parameters = {name: one for name, one in signature.items() if one.kind not in variable}
        named = ", ".join(parameters) or "none"
        for name in self.arguments:
            if name not in parameters:
                raise ConfigurationError(f"{seam.name} takes no {name!r}; its parameters: {named}", where="start")
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in self.arguments:
                raise ConfigurationError(f"{seam.name} needs {name!r}: say where it comes from", where="start")
        for path in self.arguments.values():
            if path.startswith("$") and path[1:] not in _ATTRIBUTES:
                known = ", ".join(f"${one}" for one in _ATTRIBUTES)
                raise ConfigurationError(f"{path!r} is none of {known}", where="start")

    def values(self, event: Event, data: Any) -> dict[str, Any]:
        """The arguments that ``event`` gives. Raises ``MalformedEventError`` (reason ``arguments``)."""
        return {name: _value(path, event, data) for name, path in self.arguments.items()}


class Starter:
    """Starts what one trigger's facts start."""

    def __init__(self, start: Start, seam: Seam, bus: Bus, subjects: Subjects, *, trigger: str, of: str) -> None:
        """``of`` is the facts' type."""
        start.check(seam)
        self.name = f"{trigger}>{seam.name}"
        self._start = start
        self._seam = seam
        self._bus = bus
        self._group = f"start_{trigger}"
        self._filter = f"{subjects.prefix}e.*.*.{of.replace('.', '-')}"
        self._source = source(trigger)

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``."""
        options = ConsumeOptions(max_in_flight=_AT_ONCE, start="new", max_deliver=_TRIES)
        running: set[asyncio.Task[None]] = set()
        async with self._bus.consume(self._group, [self._filter], options) as deliveries:
            deliveries.want(_AT_ONCE)
            ready(self._seam.name)
            try:
                while not stopping.is_set():
                    delivery = await deliveries.next(timeout=0.5)
                    if delivery is not None:
                        task = asyncio.create_task(self._guarded(delivery))
                        running.add(task)
                        task.add_done_callback(running.discard)
                if running:
                    await asyncio.wait(running, timeout=_GRACE)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    async def _guarded(self, delivery: Delivery) -> None:
        """One fact; whatever goes wrong, the next are started."""
        try:
            await self._take(delivery)
        except BusError as error:  # it is delivered again
            report.count("start-delayed", seam=self._seam.name, reason=type(error).__name__)
        except Exception:
            report.count("start-failed", seam=self._seam.name, reason="internal")
            _log.exception("%s: a fact could not be taken and is delivered again", self.name)

    async def _take(self, delivery: Delivery) -> None:
        event = delivery.stored.event
        if event.source != self._source:
            await delivery.ack()
            return
        try:
            arguments = await self._arguments(event)
        except ObjectMissingError as error:
            await self._reject(delivery, "dataref", str(error))
            return
        except (MalformedEventError, UnserialisableError) as error:
            await self._reject(delivery, "arguments", str(error))
            return
        try:
            handle = await self._submit(event, arguments)
        except NotExecutedError as error:
            report.count("start-delayed", seam=self._seam.name, reason=error.reason)
            await delivery.retry(_AGAIN, reason="not-executed")
            return
        if not handle.durable:
            await self._until_ended(handle, delivery)
        report.count("started", seam=self._seam.name)
        await delivery.ack()

    async def _reject(self, delivery: Delivery, reason: str, why: str) -> None:
        report.count("start-failed", seam=self._seam.name, reason=reason)
        await delivery.reject(reason, detail=why)

    async def _arguments(self, event: Event) -> inspect.BoundArguments:
        """What the seam is called with, in its parameters' own types."""
        try:
            data = json.loads(await load_data(self._bus, event) or b"null")
        except (ValueError, RecursionError) as error:
            raise MalformedEventError("its data is no JSON", reason="arguments") from error
        values = {"arguments": self._start.values(event, data)}
        decoded, _ = self._seam.codec.decode_command(json.dumps(values).encode())
        return self._seam.codec.bound(decoded)

    async def _submit(self, event: Event, arguments: inspect.BoundArguments) -> TaskHandle[Any]:
        body = self._seam.body() if self._seam.has_body else self._seam.function
        with correlated(replace(from_event(event), key=event.id)):
            return await asubmit(self._seam, body, arguments.args, arguments.kwargs)

    async def _until_ended(self, handle: TaskHandle[Any], delivery: Delivery) -> None:
        """Wait for a body that runs here, and keep the fact from being given to another process."""
        ending = asyncio.create_task(handle.aresult())
        while not (await asyncio.wait({ending}, timeout=_EXTEND))[0]:
            await delivery.extend()
        if (error := ending.exception()) is not None:
            report.count("start-failed", seam=self._seam.name, reason="body")
            _log.error("%s: what a fact started has failed", self.name, exc_info=error)


def _value(path: str, event: Event, data: Any) -> Any:
    if path.startswith("="):
        try:
            return json.loads(path[1:])
        except ValueError:
            return path[1:]
    if path.startswith("$"):
        return {
            "id": event.id,
            "subject": event.subject,
            "time": event.time.isoformat(),
            "tenant": event.get("tenantid"),
            "user": event.get("userid"),
        }[path[1:]]
    found = data
    for name in path.split("."):
        try:
            found = found[int(name) if isinstance(found, list) else name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise MalformedEventError(f"the fact has no {path!r}", reason="arguments") from None
    return found
