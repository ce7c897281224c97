"""``/api/v1/approvals``: what workflows ask people, answered under the name of a credential.

Who is named in a step's ``by`` may answer it with any role: naming them is the grant. What names nobody takes
``operate``. The engine believes the name because it comes on a subject that only the control plane may publish on,
which is the broker's to enforce (docs/howto/answer-approvals.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from crossfade.proxy.control.auth import Caller, needs
from crossfade.proxy.control.problems import BODY, READS, WRITES, ProblemError, problems
from crossfade.workflows.signals import signal
from crossfade.workflows.store import Store

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects
    from crossfade.workflows.instance import Instance, StepState

InstanceId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="whole, as the list of approvals has it")]
StepName = Annotated[str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]


class ApprovalView(BaseModel):
    """A question that an instance waits for an answer to."""

    instance: str
    step: str
    workflow: str
    version: int
    key: str
    question: Any
    by: list[str] = Field(description="who may answer; empty: whoever has the role operate")
    authenticated: bool = Field(description="it can be answered here only")
    until: str | None = Field(description="when the step fails for want of an answer")


class Answer(BaseModel):
    """Yes or no, and why."""

    model_config = ConfigDict(extra="forbid")

    answer: Literal["approve", "reject"]
    comment: str = Field(default="", max_length=1000, description="why; kept with the instance")
    data: Any = Field(default=None, description="what goes along with a yes: the step's value holds it")


class Answered(BaseModel):
    """What was passed on to the engines; the instance goes on within moments."""

    instance: str
    step: str
    workflow: str
    answer: Literal["approve", "reject"]
    by: str = Field(description="the credential that it is recorded under")


def router(bus: Bus, subjects: Subjects) -> APIRouter:
    """The routes over this bus."""
    made = APIRouter(prefix="/api/v1/approvals", tags=["approvals"], responses=problems(*READS))
    store = Store(bus)

    @made.get("")
    async def list_approvals() -> list[ApprovalView]:
        """Every question that an instance waits for an answer to, the oldest instance first."""
        found = sorted(await store.readable(), key=lambda instance: instance.started)
        return [_view(instance, name, state) for instance in found for name, state in _asking(instance)]

    @made.post("/{instance}/{step}", responses=problems(404, 409, *BODY, *WRITES))
    @needs("view")
    async def answer(instance: InstanceId, step: StepName, given: Answer, request: Request) -> Answered:
        """Answer one in your own name; it must be among the step's `by`, or your role `operate` where that is empty."""
        found = await store.find(instance)
        if found is None:
            raise ProblemError(404, f"there is no instance {instance}, live or ended")
        caller: Caller = request.scope["crossfade.caller"]
        _check_theirs(caller, step, found.steps.get(step))
        await signal(
            bus,
            subjects,
            found,
            given.answer,
            step=step,
            by=caller.name,
            comment=given.comment,
            data=given.data,
            authenticated=True,
        )
        return Answered(instance=instance, step=step, workflow=found.workflow, answer=given.answer, by=caller.name)

    return made


def _asking(instance: Instance) -> list[tuple[str, StepState]]:
    waiting = [(name, state) for name, state in instance.steps.items() if state.status == "waiting"]
    return [(name, state) for name, state in waiting if state.kind == "approval"]


def _check_theirs(caller: Caller, step: str, state: StepState | None) -> None:
    """Raise a 403 where the caller is none of those who may; a step that is none is for ``signal`` to name."""
    if state is None or state.kind != "approval":
        return
    if state.by and caller.name not in state.by:
        raise ProblemError(
            403, f"step {step!r} waits for {' or '.join(state.by)}, and this credential is {caller.name}"
        )
    if not state.by and not caller.may("operate"):
        raise ProblemError(403, f"step {step!r} names nobody, so it takes the role 'operate'; {caller.name} has 'view'")


def _view(instance: Instance, step: str, state: StepState) -> ApprovalView:
    return ApprovalView(
        instance=instance.id,
        step=step,
        workflow=instance.workflow,
        version=instance.version,
        key=instance.key,
        question=state.input,
        by=state.by,
        authenticated=state.authenticated,
        until=None if state.due is None else datetime.fromtimestamp(state.due, UTC).isoformat(),
    )
