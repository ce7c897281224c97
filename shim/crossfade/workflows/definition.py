"""What a workflow is: its trigger, its steps and what they need. Pure values, validated when built.

A step's input is made by a function of the user's own, whose parameters name what it takes: ``event`` (the data of the
event that started the instance), ``instance`` (its id, key, run, user, tenant), or steps, which it thereby needs.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from crossfade.shim.errors import WorkflowDefinitionError
from crossfade.shim.policy import Policy
from crossfade.shim.subjects import check_seam

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from crossfade.shim.policy import Effects

Kind = Literal["tool", "agent", "wait", "approval", "timer", "emit", "show"]
Join = Literal["all", "any"]

EVENT: Final = "event"
INSTANCE: Final = "instance"
RUN: Final = "run"
"""The path of an event's run: its ``correlationid``, else its own id."""

CALLS: Final = frozenset({"tool", "agent"})
WAITS: Final = frozenset({"wait", "approval", "timer"})
"""What is dropped when nobody needs it any more; a call always ends, and is left to end."""

OURS: Final = "workflow."
"""What the types of our own events begin with: a workflow that listened to them could start itself for ever."""

_RESERVED: Final = (EVENT, INSTANCE)
_MAX_CALL: Final = 80_000.0  # seconds; commands and results are kept for 24 h, and somebody must read them in time
_ATTRIBUTES: Final = ("id", "type", "source", "subject", RUN, "user", "tenant", "session", "data")


class _Nothing:
    """Says that a step has no stand-in for its value, since ``None`` is one."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """Which events: of a type, whose ``key`` is the instance's, and that have each value of ``where`` at its path.

    A path is ``data.order.id`` or an attribute: ``id, type, source, subject, run, user, tenant, session``.
    """

    type: str
    key: str
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        _check_type(self.type)
        if self.type.startswith(OURS):
            raise WorkflowDefinitionError(
                f"a workflow cannot listen to {self.type!r}, it would hear itself: emit an event of your own type"
            )
        for path in (self.key, *self.where):
            _check_path(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trying:
    """How often a call is tried and how long each try may take, in seconds. ``backoff`` doubles from try to try."""

    timeout: float = 30.0
    attempts: int = 1
    backoff: float = 1.0
    effects: Effects = "unsafe"

    def __post_init__(self) -> None:
        Policy(effects=self.effects)
        _check_seconds("timeout", self.timeout, _MAX_CALL)
        _check_seconds("backoff", self.backoff, _MAX_CALL)
        if not 1 <= self.attempts <= 100:
            raise WorkflowDefinitionError(f"{self.attempts} attempts: say 1 to 100", where="attempts")

    def pause(self, attempt: int) -> float:
        """Seconds between the end of ``attempt`` and the next: at most an hour."""
        return float(min(3600.0, self.backoff * 2.0 ** min(attempt - 1, 30)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Undo:
    """A call that takes back what a step has done."""

    domain: Literal["tool", "agent"]
    seam: str
    make: Callable[..., Any]
    trying: Trying = field(default_factory=Trying)

    def __post_init__(self) -> None:
        check_seam(self.seam)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step. ``make`` makes its input of what its parameters name; ``needs`` may name more steps.

    ``target``: the seam of a call, the type of an emitted event. ``timeout``: seconds that a wait or an approval may
    take, ``None``: any time. ``if_fails`` stands in for its value when it fails, ``otherwise`` where ``when`` says no;
    without it, it is skipped. ``by``: who may approve; empty: anybody. ``authenticated``: only through
    the control plane.
    """

    name: str
    kind: Kind
    make: Callable[..., Any]
    needs: Sequence[str] = ()
    join: Join = "all"
    target: str = ""
    pattern: Pattern | None = None
    trying: Trying = field(default_factory=Trying)
    timeout: float | None = None
    if_fails: Any = NOTHING
    when: Callable[..., Any] | None = None
    otherwise: Any = NOTHING
    by: Sequence[str] = ()
    authenticated: bool = False
    undo: Undo | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in _RESERVED:
            raise WorkflowDefinitionError(
                f"{self.name!r} cannot name a step: use a Python name other than {' and '.join(_RESERVED)}"
            )
        if self.kind in CALLS:
            check_seam(self.target)
        if self.kind == "emit":
            _check_type(self.target)
            if self.target.startswith(OURS):
                raise WorkflowDefinitionError(f"{self.target!r} is a type of our own: emit another", where=self.name)
        for name, value in (("if_fails", self.if_fails), ("otherwise", self.otherwise)):
            _check_json(f"{self.name}: {name}", value)
        if self.otherwise is not NOTHING and self.when is None:
            raise WorkflowDefinitionError("goes with when=: it is the value where that says no", where="otherwise")
        if self.timeout is not None:
            _check_seconds(f"{self.name}: timeout", self.timeout, math.inf)

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """The user's own."""
        undo = self.undo.make if self.undo else None
        return [function for function in (self.make, self.when, undo) if function is not None]

    @property
    def needed(self) -> tuple[str, ...]:
        """The steps it needs, by parameter or by ``needs``, each once."""
        named = (*self.needs, *parameters(self.make), *(parameters(self.when) if self.when else ()))
        return tuple(dict.fromkeys(name for name in named if name not in _RESERVED))


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A workflow of one version. ``result`` makes what it ends with. Raises ``WorkflowDefinitionError`` when built."""

    name: str
    version: int
    trigger: Pattern
    steps: Mapping[str, Step]
    result: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        check_seam(self.name)
        if not 1 <= self.version < 1_000_000:
            raise WorkflowDefinitionError("must be 1 or more", where=f"{self.name}: version")
        if not self.steps:
            raise WorkflowDefinitionError(f"{self.name} has no step: decorate a function, like @flow.tool(...)")
        for step in self.steps.values():
            for function in step.functions:
                check_known(self.name, step.name, parameters(function), self.steps)
            check_known(self.name, step.name, step.needs, self.steps)
        if self.result is not None:
            check_known(self.name, "result", parameters(self.result), self.steps)
        self._check_cycles()

    def _check_cycles(self) -> None:
        """A step that needs itself, whoever is between, can never begin, nor can what needs it."""
        reachable: set[str] = set()
        while ready := [
            name for name, step in self.steps.items() if name not in reachable and _can_begin(step, reachable)
        ]:
            reachable.update(ready)
        if stuck := [name for name in self.steps if name not in reachable]:
            raise WorkflowDefinitionError(
                f"{self.name}: {', '.join(stuck)} can never begin: they wait for one another; "
                f"{stuck[0]!r} needs {', '.join(self.steps[stuck[0]].needed)}"
            )

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Everything it listens to."""
        return (self.trigger, *(step.pattern for step in self.steps.values() if step.pattern is not None))

    @property
    def unsafe(self) -> set[str]:
        """The seams of its calls that must not start twice."""
        steps = {step.target for step in self.steps.values() if step.kind in CALLS and step.trying.effects == "unsafe"}
        undos = {step.undo.seam for step in self.steps.values() if step.undo and step.undo.trying.effects == "unsafe"}
        return steps | undos


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """What ``function`` takes, by name. Raises ``WorkflowDefinitionError`` for ``*`` and what only has a place."""
    found = inspect.signature(function).parameters.values()
    for parameter in found:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise WorkflowDefinitionError(
                f"{_name(function)} takes {parameter}: name a step, {EVENT!r} or {INSTANCE!r}"
            )
    return tuple(parameter.name for parameter in found)


def check_known(workflow: str, step: str, names: Sequence[str], steps: Collection[str]) -> None:
    """Raise ``WorkflowDefinitionError`` for the first name that is no step, with the nearest one that is."""
    known = [*steps, *_RESERVED]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise WorkflowDefinitionError(f"{workflow}: step {step!r} needs {name!r}, which is no step: {hint}")


def seconds(value: float | timedelta) -> float:
    """A length of time in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def pick(event: Mapping[str, Any], path: str) -> Any:
    """What lies at ``path`` in an event, ``None`` where there is nothing."""
    found: Any = event
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = cast("dict[str, Any]", found).get(part)
    return found


def fits(event: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether ``event`` has each value at its path. Of a list one is enough; a list in the event may hold it."""
    return all(_is_wanted(pick(event, path), wanted) for path, wanted in where.items())


def _is_wanted(found: Any, wanted: Any) -> bool:
    if found == wanted or (isinstance(found, list) and wanted in found):
        return True
    alternatives = cast("list[Any]", wanted) if isinstance(wanted, list | tuple) else []
    return any(_is_wanted(found, one) for one in alternatives)


def _can_begin(step: Step, reachable: Collection[str]) -> bool:
    met = [name in reachable for name in step.needed]
    return not met or (any(met) if step.join == "any" else all(met))


def _check_type(name: str) -> None:
    try:
        check_seam(name)
    except Exception:
        raise WorkflowDefinitionError(
            f"{name!r} is no type of event: use words of a-z, 0-9 and _ joined by dots, like 'email.received'"
        ) from None


def _check_path(path: str) -> None:
    first, *rest = path.split(".")
    if first not in _ATTRIBUTES or (first == "data") != bool(rest) or not all(rest):
        near = difflib.get_close_matches(first, _ATTRIBUTES, n=1)
        raise WorkflowDefinitionError(
            f"{path!r} is no path in an event: use {near[0] if near else 'data'!r}, like 'data.order.id' or 'run'"
            if first != "data"
            else f"{path!r} is no path in an event: say what of the data, like 'data.order.id'"
        )


def _check_json(what: str, value: Any) -> None:
    if value is NOTHING:
        return
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise WorkflowDefinitionError(f"{value!r} is no JSON value", where=what) from None


def _check_seconds(what: str, value: float, most: float) -> None:
    if isinstance(cast("object", value), bool) or not 0 < value <= most:
        limit = "" if most == math.inf else f", at most {most:g}"
        raise WorkflowDefinitionError(f"{value!r}: must be seconds or a timedelta, more than 0{limit}", where=what)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))
