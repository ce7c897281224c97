"""A person's word to an instance, checked against its state before it is sent; the engine checks it again."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, Literal

from crossfade.shim._loop import wait_for
from crossfade.shim.errors import WorkflowRefusedError
from crossfade.shim.events import Event

from . import naming
from .facts import connected
from .store import Store

if TYPE_CHECKING:
    from crossfade.shim.ports import Publisher
    from crossfade.shim.subjects import Subjects

    from .instance import Instance

Action = Literal["approve", "reject", "send", "cancel"]


async def signal(
    bus: Publisher,
    subjects: Subjects,
    instance: Instance,
    action: Action,
    *,
    step: str = "",
    by: str = "",
    comment: str = "",
    data: Any = None,
    authenticated: bool = False,
) -> Event:
    """Approve or reject a step, send a waiting one its value, or cancel the instance; returns once that is durable.

    ``authenticated``: the caller has seen a credential of ``by``. It is said on a subject of its own, which the broker
    should let nobody else publish on. Raises ``WorkflowRefusedError`` when the instance, as it stands, cannot take it,
    and ``BusError``.
    """
    check(instance, action, step=step, by=by, authenticated=authenticated)
    said = {
        "workflow": instance.workflow,
        "instance": instance.id,
        "action": action,
        "step": step,
        "by": by,
        "comment": comment,
        "data": data,
    }
    event = Event(
        type=naming.SIGNALLED,
        source="urn:crossfade:workflow",
        subject=instance.id,
        extensions={**instance.correlation, "partitionkey": instance.id},
        data=json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace"),
    )
    tenant, user = instance.correlation.get("tenantid"), instance.correlation.get("userid")
    if authenticated:
        subject = naming.answers(subjects, tenant=tenant, user=user)
    else:
        subject = naming.signals(subjects, instance.workflow, tenant=tenant, user=user)
    await bus.publish(subject, event)
    return event


def check(instance: Instance, action: Action, *, step: str, by: str, authenticated: bool = False) -> None:
    """Raise ``WorkflowRefusedError`` when the instance, as it stands, cannot take this."""
    name = f"instance {instance.id} of {instance.workflow}"
    if instance.ended:
        raise WorkflowRefusedError(f"{name} is {instance.status}: nothing can be said to it any more")
    if action == "cancel":
        if instance.status == "undoing":
            raise WorkflowRefusedError(f"{name} has failed or was cancelled, and is undoing what it did")
        return
    _check_step(instance, action, step)
    state = instance.steps[step]
    if state.status != "waiting":
        waiting = [other for other, found in instance.steps.items() if found.status == "waiting"]
        raise WorkflowRefusedError(
            f"step {step!r} is {state.status} and waits for nobody; waiting are: {', '.join(waiting) or 'none'}"
        )
    if state.by and by not in state.by:
        raise WorkflowRefusedError(f"step {step!r} waits for {' or '.join(state.by)}, not for {by!r}: say --by")
    if state.authenticated and not authenticated:
        raise WorkflowRefusedError(
            f"step {step!r} takes an answer through the control plane only: "
            "crossfade workflow signal --control URL, with your credential in CROSSFADE_CREDENTIAL"
        )


def _check_step(instance: Instance, action: Action, step: str) -> None:
    if step not in instance.steps:
        near = difflib.get_close_matches(step, instance.steps, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(instance.steps)}"
        raise WorkflowRefusedError(f"{instance.workflow} has no step {step!r}: {hint}")
    kind = instance.steps[step].kind
    if kind != ("wait" if action == "send" else "approval"):
        remedy = {"wait": "send it its value with --data", "approval": "say --approve or --reject"}
        raise WorkflowRefusedError(f"step {step!r} is of kind {kind}: {remedy.get(kind, 'nobody is asked there')}")


def answer(
    instance: str, step: str, *, approve: bool | None = None, by: str = "", comment: str = "", data: Any = None
) -> None:
    """Answer a step over the process's connection: ``approve`` yes or no, else ``data`` is the value of a wait.

    Returns once it is durable. Raises ``WorkflowRefusedError`` when the instance, as it stands, cannot take it,
    ``NotConnectedError`` and ``BusError``.
    """
    action: Action = "send" if approve is None else "approve" if approve else "reject"
    _tell(instance, action, step=step, by=by, comment=comment, data=data)


def cancel(instance: str, *, by: str = "", comment: str = "") -> None:
    """Cancel an instance over the process's connection; raises as ``answer`` does."""
    _tell(instance, "cancel", step="", by=by, comment=comment, data=None)


def _tell(instance: str, action: Action, *, step: str, by: str, comment: str, data: Any) -> None:
    runtime = connected()

    async def tell() -> None:
        found = await Store(runtime.bus).find(instance)
        if found is None:
            raise WorkflowRefusedError(f"there is no instance {instance!r}, live or ended")
        await signal(runtime.bus, runtime.subjects, found, action, step=step, by=by, comment=comment, data=data)

    wait_for(runtime.thread.spawn(tell()))
