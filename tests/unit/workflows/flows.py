"""Workflows for tests that need no bus, and a person who drives the reducer by hand."""

from __future__ import annotations

from typing import Any

from crossfade.workflows import workflow as declared
from crossfade.workflows.inputs import Answered, Arrived, Fired, Signalled, Started
from crossfade.workflows.instance import Instance, read_instance
from crossfade.workflows.reducer import reduce


def flow(name: str = "orders", **options: Any) -> declared.Workflow:
    """A workflow that no other test knows."""
    declared.registry.clear()
    return declared.Workflow(name, **{"on": "order.placed", **options})


def event(kind: str = "order.placed", data: Any = None, *, identity: str = "e1", run: str = "") -> dict[str, Any]:
    return {
        "id": identity,
        "type": kind,
        "source": "urn:test",
        "subject": None,
        "run": run or identity,
        "user": None,
        "tenant": None,
        "session": None,
        "data": {} if data is None else data,
    }


class Driver:
    """One instance, one input after the other; every state is written and read again in between."""

    def __init__(self, definition: Any, data: Any = None, *, key: str = "e1") -> None:
        self.definition = definition
        self.now = 1000.0
        self.sent: list[dict[str, Any]] = []
        self.instance: Instance | None = None
        self.give(Started(event=event(data=data), key=key, correlation={"correlationid": "e1"}))

    def give(self, given: Any) -> str:
        """Apply; why it was ignored."""
        turn = reduce(self.definition, self.instance, given, now=self.now)
        if not turn.ignored:
            self.sent += turn.instance.outbox
            self.instance = read_instance(turn.instance.encode())
        return turn.ignored

    def state(self, step: str) -> Any:
        return self.instance.steps[step]

    def status(self, step: str) -> str:
        return self.state(step).status

    def answer(self, step: str, value: Any = None, *, undo: bool = False) -> str:
        return self.give(Answered(callid=self.call(step, undo=undo), kind="value", value=value))

    def fail(self, step: str, kind: str = "error", *, undo: bool = False) -> str:
        error = {"type": "ValueError", "message": "no"}
        return self.give(Answered(callid=self.call(step, undo=undo), kind=kind, error=error))

    def call(self, step: str, *, undo: bool = False) -> str:
        return (self.instance.undos if undo else self.instance.steps)[step].callid

    def arrive(self, kind: str, data: Any = None, identity: str = "e2") -> str:
        return self.give(Arrived(event=event(kind, data, identity=identity, run="e1")))

    def say(
        self, action: str, step: str = "", *, by: str = "", identity: str = "s1", authenticated: bool = False
    ) -> str:
        said = Signalled(id=identity, action=action, step=step, by=by, data={"n": 1}, authenticated=authenticated)
        return self.give(said)

    def wait(self, seconds: float) -> str:
        self.now += seconds
        return self.give(Fired())

    def calls(self) -> list[str]:
        """The seams called, in order."""
        return [item["seam"] for item in self.sent if item["do"] == "call"]

    def facts(self, kind: str) -> list[Any]:
        return [item["data"] for item in self.sent if item["do"] == "fact" and item["type"] == kind]
