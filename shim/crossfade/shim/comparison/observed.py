"""What a comparison looks at: how a call ended, with its error and timing, never a bare value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossfade.shim.outcomes import ErrorRecord, OutcomeKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one side of a comparison ended, already redacted.

    ``value`` is decoded JSON, meaningful for ``value`` only; a value that was not recorded is kind ``unknown``,
    never ``None``. ``error`` is set for ``error``. ``reason`` says why for ``not-executed`` and ``unknown``.
    ``duration`` is seconds, ``None`` when not measured; it is carried for comparators and not judged here.
    ``items`` are what a stream yielded before, in order, ``None`` of what is no stream; ``closed``: whoever took them
    wanted no more.
    """

    kind: OutcomeKind
    value: Any = None
    error: ErrorRecord | None = None
    reason: str = ""
    duration: float | None = None
    items: tuple[Any, ...] | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "error") != (self.error is not None):
            raise ValueError("an outcome has an error exactly when its kind is 'error'")
