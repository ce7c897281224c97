"""The state of one instance, as JSON: everything that its next step depends on, and what its last one has to send.

``outbox`` is what the last transition sends. It is stored in the same write as the transition, and published after;
whoever finds it may publish it again, under the same ids.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from crossfade.shim.errors import MalformedEventError

Status = Literal["running", "undoing", "completed", "failed", "cancelled"]
"""How an instance stands; ``undoing``: it will be ``failed`` or ``cancelled`` when its undos have ended."""

StepStatus = Literal["pending", "calling", "waiting", "pausing", "done", "skipped", "failed", "dropped"]
"""How a step stands. ``pausing``: between two attempts. ``skipped``: its ``when`` said no, or all it needs was.
``dropped``: nobody needs it any more."""

ENDED: Final = frozenset({"completed", "failed", "cancelled"})
OPEN: Final = frozenset({"pending", "calling", "waiting", "pausing"})

_FORMAT: Final = 1


@dataclass(slots=True, kw_only=True)
class StepState:
    """One step of an instance, or the undo of one. Times are seconds since 1970 of the broker's clock.

    ``due``: when something happens by itself: a timeout, the next attempt. ``order``: 1 for the first that was done.
    ``input``: what the user's function made: arguments, a question, a ``where``. ``by``: who may approve it;
    ``authenticated``: through the control plane only.
    """

    kind: str = ""
    status: StepStatus = "pending"
    attempt: int = 0
    callid: str = ""
    due: float | None = None
    order: int = 0
    input: Any = None
    value: Any = None
    error: dict[str, str] | None = None
    by: list[str] = field(default_factory=list[str])
    authenticated: bool = False


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance. ``event`` is the one that started it; ``seen`` are ids of events that have had their effect.

    ``inbox``: events that belong to it and that no step has waited for yet.
    """

    id: str
    workflow: str
    version: int
    key: str
    started: float
    event: dict[str, Any]
    correlation: dict[str, str]
    status: Status = "running"
    revision: int = 0
    updated: float = 0.0
    steps: dict[str, StepState] = field(default_factory=dict[str, StepState])
    undos: dict[str, StepState] = field(default_factory=dict[str, StepState])
    done: int = 0
    failed_step: str = ""
    error: dict[str, str] | None = None
    cancelled: bool = False
    value: Any = None
    seen: list[str] = field(default_factory=list[str])
    inbox: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    outbox: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in ENDED

    @property
    def due(self) -> float | None:
        """When something happens next by itself."""
        if self.ended:
            return None
        states = (*self.steps.values(), *self.undos.values())
        return min((state.due for state in states if state.due is not None and state.status in OPEN), default=None)

    def calling(self, callid: str) -> tuple[str, StepState, bool] | None:
        """The step whose call under way this is, and whether it is an undo."""
        for undo, states in ((False, self.steps), (True, self.undos)):
            for name, state in states.items():
                if state.callid == callid and state.status == "calling":
                    return name, state, undo
        return None

    def encode(self) -> bytes:
        """The value of the bucket."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "backslashreplace"
        )


def read_instance(value: bytes) -> Instance:
    """``Instance.encode`` undone; fields of a later version are ignored.

    Raises ``MalformedEventError`` (reason ``state``).
    """
    try:
        stored: dict[str, Any] = json.loads(value)
        for name in ("steps", "undos"):
            stored[name] = {key: _known(StepState, state) for key, state in stored[name].items()}
        found: Instance = _known(Instance, stored)
        written = stored["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedEventError(f"this is no instance of a workflow: {error!r}", reason="state") from error
    if written != _FORMAT:
        raise MalformedEventError(f"an instance in format {written}, this code knows {_FORMAT}", reason="state")
    return found


def _known(cls: Any, stored: dict[str, Any]) -> Any:
    return cls(**{name: value for name, value in stored.items() if name in cls.__slots__})
