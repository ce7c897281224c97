"""Short words for tests of workflows: publish an event, give a signal, look at an instance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossfade.shim.events import Event
from crossfade.workflows import naming
from crossfade.workflows.reducer import instance_id
from crossfade.workflows.store import Store
from integration.shim import kit

if TYPE_CHECKING:
    from crossfade.shim.connection import Connection
    from crossfade.workflows import Engine
    from crossfade.workflows.instance import Instance


class Desk:
    """What a test does with the workflows over one connection."""

    def __init__(self, connection: Connection, engine: Engine | None = None) -> None:
        self.connection = connection
        self.engine = engine
        self.runtime = connection.runtime
        self.store = Store(self.runtime.bus)

    def publish(self, kind: str, data: Any, *, user: str = "alice", **attributes: str) -> Event:
        """A fact, as a trigger publishes it."""
        identity = {"id": attributes.pop("id")} if "id" in attributes else {}
        event = Event(
            type=kind,
            source="urn:test",
            **identity,
            extensions={"userid": user, **attributes},
            data=data if isinstance(data, bytes) else json.dumps(data).encode(),
        )
        subject = self.runtime.subjects.fact(kind, user=user)
        kit.on_loop(self.connection, self.runtime.bus.publish(subject, event))
        return event

    def signal(self, workflow: str, data: dict[str, Any], **attributes: str) -> Event:
        event = Event(type=naming.SIGNALLED, source="urn:test", data=json.dumps(data).encode(), **attributes)
        subject = naming.signals(self.runtime.subjects, workflow)
        kit.on_loop(self.connection, self.runtime.bus.publish(subject, event))
        return event

    def find(self, workflow: str, key: str) -> Instance | None:
        return kit.on_loop(self.connection, self.store.find(instance_id(workflow, key)))

    def until(self, workflow: str, key: str, status: str, *, timeout: float = kit.SOON) -> Instance:
        """The instance, once it stands so."""

        def look() -> Instance | None:
            found = self.find(workflow, key)
            return found if found is not None and found.status == status else None

        def said() -> str:
            return f"{workflow} {key} is not {status} but {self.find(workflow, key)}"

        try:
            return kit.until(look, timeout=timeout)
        except AssertionError:
            raise AssertionError(said()) from None

    def step(self, workflow: str, key: str, step: str, status: str) -> Instance:
        """The instance, once this step stands so."""

        def look() -> Instance | None:
            found = self.find(workflow, key)
            return found if found is not None and found.steps[step].status == status else None

        try:
            return kit.until(look)
        except AssertionError:
            raise AssertionError(f"{step} is not {status}: {self.find(workflow, key)}") from None

    def facts(self, kind: str, n: int = 1) -> list[dict[str, Any]]:
        """The data of every fact of this type, once there are ``n``: they are published after the state is stored."""
        subject = naming.any_of(self.runtime.subjects.fact(kind), self.runtime.subjects)

        def look() -> list[dict[str, Any]]:
            return [json.loads(event.data or b"null") for event in kit.read(self.connection, subject)]

        return kit.until(lambda: len(found := look()) >= n and found, what=f"no {n} of {kind}") if n else look()
