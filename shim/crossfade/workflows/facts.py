"""Publishing an event that workflows may listen to, from code that is no trigger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossfade.shim._loop import wait_for
from crossfade.shim.connection import current
from crossfade.shim.correlate import current_correlation, extensions
from crossfade.shim.errors import NotConnectedError, UnserialisableError, WorkflowDefinitionError
from crossfade.shim.events import Event, derived_id, new_id
from crossfade.shim.subjects import check_seam

from .definition import OURS

if TYPE_CHECKING:
    from crossfade.shim._runtime import Runtime
    from crossfade.shim.ports import Publisher
    from crossfade.shim.subjects import Subjects


def publish(event: str, data: Any = None, *, key: str = "") -> str:
    """Publish an event of this type over the process's connection; returns its id once it is durable.

    It belongs to the run, user and tenant of ``correlate``. ``key``: two of one type and key are one event, so it can
    be repeated. Raises ``NotConnectedError``, ``BusError``, ``UnserialisableError`` for what is no JSON and
    ``WorkflowDefinitionError`` for what is no type.
    """
    made = fact(event, data, key=key)
    runtime = connected()
    wait_for(runtime.thread.spawn(send(runtime.bus, runtime.subjects, made)))
    return made.id


def connected() -> Runtime:
    """What this process is connected by. Raises ``NotConnectedError``."""
    connection = current()
    if connection is None:
        raise NotConnectedError("this process is not connected: call crossfade.shim.connect()", callid="-")
    return connection.runtime


def fact(event: str, data: Any, *, key: str = "") -> Event:
    """The event that ``publish`` publishes."""
    check_seam(event)
    if event.startswith(OURS):
        raise WorkflowDefinitionError(f"{event!r} is a type of our own: publish another")
    try:
        payload = json.dumps(data, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")
    except (TypeError, ValueError, RecursionError) as error:
        raise UnserialisableError(str(error), what="data") from None
    return Event(
        type=event,
        source="urn:crossfade:published",
        id=derived_id("published", event, key) if key else new_id(),
        extensions=extensions(current_correlation()),
        data=payload,
    )


async def send(bus: Publisher, subjects: Subjects, event: Event) -> None:
    """Publish ``event`` where facts of its tenant and user lie. Raises ``BusError``."""
    subject = subjects.fact(event.type, tenant=event.get("tenantid"), user=event.get("userid"))
    await bus.publish(subject, event)
