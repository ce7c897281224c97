"""Trying a workflow without a bus: its author plays the tools, the people and the clock.

run = rehearse(orders, {"number": 7})
assert run.calls == {"reserved": {"item": "lamp"}}
run.answer("reserved", {"reservation": "r1"})
run.approve("approved", by="boss")
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossfade.shim.errors import WorkflowRefusedError
from crossfade.shim.events import derived_id

from .definition import RUN, fits, pick, seconds
from .inputs import Answered, Arrived, Fired, Signalled, Started
from .instance import read_instance
from .reducer import instance_id, reduce
from .signals import check

if TYPE_CHECKING:
    from datetime import timedelta

    from .inputs import Input
    from .instance import Instance, Status, StepStatus
    from .signals import Action
    from .workflow import Workflow


class Rehearsal:
    """One instance. Every state is written and read again, as between two processes.

    Each method raises ``WorkflowRefusedError`` for what would have no effect.
    """

    def __init__(self, workflow: Workflow, data: Any, *, run: str = "run", user: str = "") -> None:
        self._definition = workflow.definition
        self._now = 1_000_000_000.0
        self._given = 0
        self.run, self.user = run, user
        self.published: list[tuple[str, Any]] = []
        event = self._event(self._definition.trigger.type, data)
        key = pick(event, self._definition.trigger.key)
        if key is None or not fits(event, self._definition.trigger.where):
            raise WorkflowRefusedError(f"{workflow.name} is not started by {data!r}: see its where and key")
        started = Started(event=event, key=str(key), correlation={"correlationid": run})
        self._instance = self._take(reduce(self._definition, None, started, now=self._now).instance)

    @property
    def instance(self) -> Instance:
        """Its state now."""
        return self._instance

    @property
    def status(self) -> Status:
        """How it stands."""
        return self._instance.status

    @property
    def value(self) -> Any:
        """What it ended with."""
        return self._instance.value

    @property
    def steps(self) -> dict[str, StepStatus]:
        """How each step stands."""
        return {name: state.status for name, state in self._instance.steps.items()}

    @property
    def calls(self) -> dict[str, Any]:
        """The arguments of every call under way, by step; an undo is ``undo STEP``."""
        undos = {f"undo {name}": state for name, state in self._instance.undos.items()}
        states = {**self._instance.steps, **undos}
        return {name: state.input for name, state in states.items() if state.status == "calling"}

    def answer(self, step: str, value: Any = None) -> None:
        """Let the call of ``step`` return ``value``."""
        self._give(Answered(callid=self._callid(step), kind="value", value=json.loads(json.dumps(value))))

    def fail(self, step: str, message: str = "failed", *, unknown: bool = False) -> None:
        """Let the call of ``step`` raise; ``unknown``: nobody knows whether it ran."""
        error = {"type": "RuntimeError", "message": message}
        self._give(Answered(callid=self._callid(step), kind="unknown" if unknown else "error", error=error))

    def arrive(self, event: str, data: Any = None) -> None:
        """Let an event of this type come, of the instance's run."""
        self._give(Arrived(event=self._event(event, data)))

    def approve(self, step: str, *, by: str = "", comment: str = "", data: Any = None) -> None:
        """Say yes."""
        self._say("approve", step, by, comment, data)

    def reject(self, step: str, *, by: str = "", comment: str = "") -> None:
        """Say no."""
        self._say("reject", step, by, comment, None)

    def cancel(self, *, by: str = "") -> None:
        """Cancel it."""
        self._say("cancel", "", by, "", None)

    def wait(self, time: float | timedelta) -> None:
        """Let time pass: whatever falls due within it happens when it is due. Calls do not time out here."""
        until = self._now + seconds(time)
        while (due := self._due()) is not None and due <= until:
            self._now = due
            self._give(Fired())
        self._now = until

    def _due(self) -> float | None:
        states = (*self._instance.steps.values(), *self._instance.undos.values())
        return min(
            (state.due for state in states if state.due is not None and state.status in ("waiting", "pausing")),
            default=None,
        )

    def _say(self, action: Action, step: str, by: str, comment: str, data: Any) -> None:
        check(self._instance, action, step=step, by=by, authenticated=True)
        said = Signalled(id=self._id(), action=action, step=step, by=by, comment=comment, data=data, authenticated=True)
        self._give(said)

    def _callid(self, step: str) -> str:
        states = self._instance.undos if step.startswith("undo ") else self._instance.steps
        state = states.get(step.removeprefix("undo "))
        if state is None or state.status != "calling":
            raise WorkflowRefusedError(
                f"step {step!r} has no call under way; there are: {', '.join(self.calls) or 'none'}"
            )
        return state.callid

    def _give(self, given: Input) -> None:
        turn = reduce(self._definition, self._instance, given, now=self._now)
        if turn.ignored:
            raise WorkflowRefusedError(f"it has no effect: {turn.ignored}")
        self._instance = self._take(turn.instance)

    def _take(self, instance: Instance) -> Instance:
        self.published += [
            (item["type"], item["data"])
            for item in instance.outbox
            if item["do"] == "fact" and not item["type"].startswith("workflow.")
        ]
        return read_instance(instance.encode())

    def _event(self, kind: str, data: Any) -> dict[str, Any]:
        return {
            "id": self._id(),
            "type": kind,
            "source": "urn:crossfade:rehearsal",
            "subject": None,
            RUN: self.run,
            "user": self.user or None,
            "tenant": None,
            "session": None,
            "data": json.loads(json.dumps(data)),
        }

    def _id(self) -> str:
        self._given += 1
        return derived_id("rehearsal", instance_id(self._definition.name, self.run), str(self._given))


def rehearse(workflow: Workflow, data: Any = None, *, run: str = "run", user: str = "") -> Rehearsal:
    """Start an instance of ``workflow`` with this data, in this process and without a bus."""
    return Rehearsal(workflow, data, run=run, user=user)
