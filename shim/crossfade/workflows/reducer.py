"""How an instance advances: ``reduce(definition, instance, given, now=...)`` gives the next state. Pure and total.

Rules
1. Data in, data out. User functions get values and give data; what they raise fails their step. No clock but ``now``.
2. What has had its effect has none again: a call's end counts while that call is under way, an event or a signal once.
3. Nothing is lost: an event that a later step waits for is kept; what has no effect is named (``ignored``).
4. A step begins when what it needs is done (``join="any"``: the first of it), else it is skipped.
5. A call always ends, so it is left to end. A wait, an approval, a timer is dropped when all that need it have begun.
6. A step that fails after its attempts fails the workflow, unless it has a stand-in value, or every step that needs it
   can begin without it. Then calls under way are waited for, and what is done is undone one by one, the last one first.
7. Ids follow from instance, step, attempt and revision, so that whoever sends the outbox sends the same events.
"""

from __future__ import annotations

import copy
import json
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.events import derived_id

from .definition import CALLS, EVENT, INSTANCE, NOTHING, OURS, WAITS, fits, parameters
from .inputs import Answered, Arrived, Fired, Signalled, Started, Stopped
from .instance import OPEN, Instance, StepState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .definition import Definition, Step, Trying, Undo
    from .inputs import Input

GRACE: Final = 12.0
"""Seconds past a call's deadline at which somebody asks its ledger how it ended: the ledger's own grace is ten."""

INBOX: Final = 100
"""Events that an instance keeps for steps that have not begun; further ones are refused."""

SHOWN: Final = "workflow.shown"
_TEXT: Final = 2000  # characters of an error that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """What came of an input. ``ignored`` says why it changed nothing; then ``instance`` is what it was."""

    instance: Instance
    ignored: str = ""


def instance_id(workflow: str, key: str) -> str:
    """The id of the instance of ``workflow`` with this key: there is one, ever."""
    return derived_id("workflow", workflow, key)


def reduce(definition: Definition, instance: Instance | None, given: Input, *, now: float) -> Transition:
    """The instance after ``given``. ``None``: there is none yet, and ``given`` must be ``Started``."""
    if instance is None:
        if not isinstance(given, Started):
            raise TypeError("only Started makes an instance")
        made = _new(definition, given, now)
        turn = _Turn(definition, made, now)
        turn.begin(given)
        return Transition(instance=made)
    changed = copy.deepcopy(instance)
    changed.outbox = []
    turn = _Turn(definition, changed, now)
    ignored = "ended" if instance.ended else turn.take(given)
    if ignored:
        return Transition(instance=instance, ignored=ignored)
    turn.advance()
    return Transition(instance=changed)


def _new(definition: Definition, given: Started, now: float) -> Instance:
    return Instance(
        id=instance_id(definition.name, given.key),
        workflow=definition.name,
        version=definition.version,
        key=given.key,
        started=now,
        event=dict(given.event),
        correlation=dict(given.correlation),
        steps={
            name: StepState(kind=step.kind, by=list(step.by), authenticated=step.authenticated)
            for name, step in definition.steps.items()
        },
        seen=[str(given.event["id"])],
    )


class _Turn:
    """One transition: works on a copy of the instance."""

    def __init__(self, definition: Definition, instance: Instance, now: float) -> None:
        self.definition = definition
        self.instance = instance
        self.now = now
        instance.revision += 1
        instance.updated = now

    # -- what happened -----------------------------------------------------------------------------------------

    def begin(self, given: Started) -> None:
        """The first transition."""
        self._fact("workflow.started", {"data": given.event["data"]})
        self.advance()

    def take(self, given: Input) -> str:
        """Apply ``given``; why it has no effect, or empty."""
        match given:
            case Started():
                return self._arrive(given.event, again="already-started")
            case Arrived():
                return self._arrive(given.event, again="not-waited-for")
            case Answered():
                return self._answer(given)
            case Signalled():
                return self._signal(given)
            case Fired():
                return self._fire()
            case Stopped():
                self._fail_all("", dict(given.error))
                return ""

    def _arrive(self, event: Mapping[str, Any], *, again: str) -> str:
        if event["id"] in self.instance.seen:
            return "repeated"
        takers = [name for name in self.definition.steps if self._may_take(name, event)]
        if not takers:
            return again
        waiting = [name for name in takers if self.instance.steps[name].status == "waiting"]
        if not waiting and len(self.instance.inbox) >= INBOX:
            return "inbox-full"
        self.instance.seen.append(str(event["id"]))
        if waiting:
            self._done(waiting[0], event["data"])
        else:
            self.instance.inbox.append(dict(event))
        return ""

    def _may_take(self, name: str, event: Mapping[str, Any]) -> bool:
        """Whether the step waits for this event, or may when it begins."""
        state, pattern = self.instance.steps[name], self.definition.steps[name].pattern
        if pattern is None or pattern.type != event["type"] or not fits(event, pattern.where):
            return False
        return state.status == "pending" or (state.status == "waiting" and fits(event, state.input or {}))

    def _answer(self, given: Answered) -> str:
        found = self.instance.calling(given.callid)
        if found is None:
            return "late"
        name, state, undo = found
        state.due = None
        trying = self._trying(name, undo=undo)
        if given.kind == "value":
            self._done(name, given.value, undo=undo)
        elif state.attempt < trying.attempts and _may_repeat(given, trying) and (undo or self._running):
            state.status, state.due = "pausing", self.now + trying.pause(state.attempt)
            state.error = dict(given.error)
        else:
            self._failed(name, dict(given.error), undo=undo)
        return ""

    def _signal(self, given: Signalled) -> str:
        if given.id in self.instance.seen:
            return "repeated"
        if given.action == "cancel":
            if self.instance.status == "undoing":
                return "undoing"
            self.instance.cancelled = True
            error = {"type": "cancelled", "message": _cut(given.comment) or "cancelled", "by": given.by}
            self._fail_all("", error)
        else:
            state = self.instance.steps.get(given.step)
            if state is None:
                return "no-such-step"
            if why := self._refuse(given, self.definition.steps[given.step], state):
                return why
            self._word(given)
        self.instance.seen.append(given.id)
        return ""

    def _refuse(self, given: Signalled, step: Step, state: StepState) -> str:
        if step.kind != ("wait" if given.action == "send" else "approval"):
            return "wrong-kind"
        if state.status != "waiting":
            return "not-waiting"
        if step.by and given.by not in step.by:
            return "not-theirs"
        return "not-authenticated" if step.authenticated and not given.authenticated else ""

    def _word(self, given: Signalled) -> None:
        if given.action == "send":
            self._done(given.step, given.data)
        elif given.action == "approve":
            said = {"by": given.by, "authenticated": given.authenticated, "comment": given.comment, "data": given.data}
            self._done(given.step, said)
        else:
            message = f"{given.by or 'somebody'} said no" + (f": {_cut(given.comment)}" if given.comment else "")
            self._failed(given.step, {"type": "rejected", "message": message})

    def _fire(self) -> str:
        fired = False
        for undo, states in ((False, self.instance.steps), (True, self.instance.undos)):
            for name, state in list(states.items()):
                # Of a call whose time is over only its ledger can say how it ended.
                if state.due is None or state.due > self.now or state.status not in ("pausing", "waiting"):
                    continue
                fired, state.due = True, None
                if state.status == "pausing":
                    self._call(name, undo=undo)
                elif self.definition.steps[name].kind == "timer":
                    self._done(name, datetime_text(self.now))
                else:
                    limit = self.definition.steps[name].timeout or 0
                    self._failed(name, {"type": "timeout", "message": f"nothing came within {limit:g} s"})
        return "" if fired else "not-due"

    # -- advancing ---------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Begin what can begin, until nothing changes; then see whether that was all."""
        while self._running and (self._begin_ready() or self._drop_unneeded()):
            pass
        if self._running and not any(state.status in OPEN for state in self.instance.steps.values()):
            self._complete()
        if self.instance.status == "undoing":
            self._undo_next()

    @property
    def _running(self) -> bool:
        return self.instance.status == "running"

    def _begin_ready(self) -> bool:
        for name, step in self.definition.steps.items():
            state = self.instance.steps[name]
            if state.status == "pending" and (ready := self._readiness(step)):
                if ready == "skip":
                    state.status = "skipped"
                else:
                    self._begin(name, step, state)
                return True
        return False

    def _readiness(self, step: Step) -> str:
        """``go``, ``skip``, or empty: it must wait."""
        if not step.needed:
            return "go"
        needed = [self.instance.steps[name].status for name in step.needed]
        done, over = [status == "done" for status in needed], [status not in OPEN for status in needed]
        if step.join == "any":
            return "go" if any(done) else "skip" if all(over) else ""
        return "go" if all(done) else "skip" if any(o and not d for o, d in zip(over, done, strict=True)) else ""

    def _begin(self, name: str, step: Step, state: StepState) -> None:
        try:
            if step.when is not None and not self._made(step.when):
                self._skip(name, step, state)
                return
            state.input = _data(self._made(step.make))
            self._enter(name, step, state)
        except Exception as error:  # the user's own code
            state.attempt = max(state.attempt, 1)
            self._failed(name, _as_input_error(error))

    def _skip(self, name: str, step: Step, state: StepState) -> None:
        """Its ``when`` said no."""
        if step.otherwise is NOTHING:
            state.status = "skipped"
        else:
            self._done(name, copy.deepcopy(step.otherwise))

    def _enter(self, name: str, step: Step, state: StepState) -> None:
        if step.kind in CALLS:
            _check_mapping(state.input, "its function must return the call's arguments by name")
            self._call(name)
        elif step.kind == "timer":
            state.status, state.due = "waiting", _due(state.input, self.now)
        elif step.kind in WAITS:
            self._wait(name, step, state)
        else:
            self._done(name, state.input)
            if step.kind == "emit":
                self._outgo("fact", step.target, state.input, step=name)
            else:
                self._outgo("ui", SHOWN, {**self._who, "step": name, "data": state.input}, step=name)

    def _wait(self, name: str, step: Step, state: StepState) -> None:
        if step.kind == "wait" and state.input is not None:
            _check_mapping(state.input, "its function must return a where, path -> value, or None")
        state.status = "waiting"
        state.due = None if step.timeout is None else self.now + step.timeout
        if step.kind == "approval":
            self._advanced(name, "waiting", state.input)
            return
        for at, event in enumerate(self.instance.inbox):
            if self._may_take(name, event):
                del self.instance.inbox[at]
                self._done(name, event["data"])
                return

    def _call(self, name: str, *, undo: bool = False) -> None:
        state = (self.instance.undos if undo else self.instance.steps)[name]
        state.attempt += 1
        state.status = "calling"
        trying = self._trying(name, undo=undo)
        state.callid = _callid(self.instance, name, state.attempt, undo=undo)
        state.due = self.now + trying.timeout + GRACE
        self.instance.outbox.append({"do": "call", **call_item(self.definition, self.instance, name, undo=undo)})

    def _drop_unneeded(self) -> bool:
        """Drop waits that only steps need which have begun, and what has not begun and is needed by none but those."""
        needing = self._needing()
        for name, step in self.definition.steps.items():
            state = self.instance.steps[name]
            droppable = state.status == "pending" or (state.status in ("waiting", "pausing"))
            if droppable and needing[name] and all(self._has_begun(other) for other in needing[name]):
                state.status, state.due = "dropped", None
                if step.kind == "approval":
                    self._advanced(name, "dropped")
                return True
        return False

    def _has_begun(self, name: str) -> bool:
        return self.instance.steps[name].status != "pending"

    def _needing(self) -> dict[str, list[str]]:
        needing: dict[str, list[str]] = {name: [] for name in self.definition.steps}
        for name, step in self.definition.steps.items():
            for needed in step.needed:
                needing[needed].append(name)
        return needing

    # -- how steps end -----------------------------------------------------------------------------------------

    def _done(self, name: str, value: Any, *, undo: bool = False) -> None:
        state = (self.instance.undos if undo else self.instance.steps)[name]
        state.status, state.value, state.due = "done", value, None
        state.error = None
        self.instance.done += 1
        state.order = self.instance.done
        self._advanced(name, "undone" if undo else "done")

    def _failed(self, name: str, error: dict[str, str], *, undo: bool = False) -> None:
        state = (self.instance.undos if undo else self.instance.steps)[name]
        state.due, state.error = None, {key: _cut(text) for key, text in error.items()}
        if undo:
            state.status = "failed"
            self._advanced(name, "undo-failed")
            return
        stand_in = self.definition.steps[name].if_fails
        if stand_in is not NOTHING and self._running:
            self._done(name, copy.deepcopy(stand_in))
            state.error = dict(error)
            return
        state.status = "failed"
        self._advanced(name, "failed")
        if self._running and not self._tolerated(name):
            self._fail_all(name, error)

    def _tolerated(self, name: str) -> bool:
        """Whether every step that needs it can begin, or has begun, without it."""
        needing = self._needing()[name]
        return bool(needing) and all(
            self._has_begun(other)
            or (
                self.definition.steps[other].join == "any"
                and any(
                    self.instance.steps[need].status in OPEN | {"done"} for need in self.definition.steps[other].needed
                )
            )
            for other in needing
        )

    def _fail_all(self, name: str, error: dict[str, str]) -> None:
        """The workflow has failed: nothing begins any more but undos."""
        self.instance.status = "undoing"
        if self.instance.error is None:
            self.instance.failed_step, self.instance.error = name, error
        for state in self.instance.steps.values():
            if state.status in OPEN and state.status != "calling":
                state.status, state.due = "dropped", None
        self.instance.inbox = []

    def _undo_next(self) -> None:
        """Undo one more step, when no call is under way; the end, when there is none left."""
        instance = self.instance
        under_way = (*instance.steps.values(), *instance.undos.values())
        if any(state.status in ("calling", "pausing") for state in under_way):
            return
        left = [
            name
            for name, state in instance.steps.items()
            if state.status == "done" and name not in instance.undos and self.definition.steps[name].undo is not None
        ]
        if not left:
            self._end_badly()
            return
        name = max(left, key=lambda step: instance.steps[step].order)
        instance.undos[name] = state = StepState(kind=self._undo_of(name).domain)
        try:
            state.input = _data(self._made(self._undo_of(name).make))
            _check_mapping(state.input, "its function must return the call's arguments by name")
        except Exception as error:  # the user's own code
            self._failed(name, _as_input_error(error), undo=True)
            self._undo_next()
            return
        self._call(name, undo=True)

    def _end_badly(self) -> None:
        instance = self.instance
        instance.status = "cancelled" if instance.cancelled else "failed"
        undone = [name for name, state in instance.undos.items() if state.status == "done"]
        error = {"type": "failed", "message": "", **(instance.error or {})}
        self._fact("workflow.failed", {"step": instance.failed_step, "error": error, "compensated": undone})

    def _complete(self) -> None:
        try:
            self.instance.value = _data(self._made(self.definition.result)) if self.definition.result else None
        except Exception as error:  # the user's own code
            self._fail_all("result", _as_input_error(error))
            return
        self.instance.status = "completed"
        self.instance.inbox = []
        self._fact("workflow.completed", {"value": self.instance.value})

    # -- helpers -----------------------------------------------------------------------------------------------

    def _made(self, function: Callable[..., Any]) -> Any:
        """What the user's function makes of copies of the values that its parameters name."""
        return function(**{name: self._value(name) for name in parameters(function)})

    def _value(self, name: str) -> Any:
        if name == EVENT:
            return copy.deepcopy(self.instance.event["data"])
        if name == INSTANCE:
            event = {key: value for key, value in self.instance.event.items() if key != "data"}
            return {**event, "id": self.instance.id, "key": self.instance.key, "event": self.instance.event["id"]}
        return copy.deepcopy(self.instance.steps[name].value)

    def _trying(self, name: str, *, undo: bool) -> Trying:
        return self._undo_of(name).trying if undo else self.definition.steps[name].trying

    def _undo_of(self, name: str) -> Undo:
        return cast("Undo", self.definition.steps[name].undo)

    @property
    def _who(self) -> dict[str, Any]:
        instance = self.instance
        return {"workflow": instance.workflow, "version": str(instance.version), "instance": instance.id}

    def _advanced(self, step: str, state: str, data: Any = None) -> None:
        self._fact(
            "workflow.advanced", {"step": step, "state": state, "revision": self.instance.revision, "data": data}
        )

    def _fact(self, kind: str, data: dict[str, Any]) -> None:
        """One of our own facts, and what a page may know of it: no values, but for the question of an approval."""
        self._outgo("fact", kind, {**self._who, **data})
        asked = data.get("data") if kind == f"{OURS}advanced" else None
        shown = {"step": data.get("step", ""), "state": data.get("state", kind.removeprefix(OURS)), "data": asked}
        self._outgo("ui", kind, {**self._who, **shown})

    def _outgo(self, do: str, kind: str, data: Any, *, step: str = "") -> None:
        number = str(len(self.instance.outbox))
        identity = derived_id(*_root(self.instance), do, kind, step, str(self.instance.revision), number)
        self.instance.outbox.append({"do": do, "id": identity, "type": kind, "data": data})


def call_item(definition: Definition, instance: Instance, name: str, *, undo: bool) -> dict[str, Any]:
    """What is to be sent of the call that a step has under way."""
    step = definition.steps[name]
    state = (instance.undos if undo else instance.steps)[name]
    declared = step.undo if undo else None
    trying = declared.trying if declared else step.trying
    return {
        "callid": state.callid,
        "domain": declared.domain if declared else step.kind,
        "seam": declared.seam if declared else step.target,
        "effects": trying.effects,
        "timeout": trying.timeout,
        "deadline": (state.due or 0.0) - GRACE,
        "arguments": state.input,
    }


def call_ids(instance: Instance) -> dict[str, str]:
    """The step of every call that the instance has made, by call id; an undo's is ``undo STEP``."""
    return {
        _callid(instance, name, attempt, undo=undo): f"undo {name}" if undo else name
        for undo, states in ((False, instance.steps), (True, instance.undos))
        for name, state in states.items()
        if state.callid
        for attempt in range(1, state.attempt + 1)
    }


def _callid(instance: Instance, step: str, attempt: int, *, undo: bool) -> str:
    return derived_id(*_root(instance), "undo" if undo else "step", step, str(attempt))


def _root(instance: Instance) -> tuple[str, str]:
    """What ids follow from: another instance with this key, years later, has other ones."""
    return instance.id, str(instance.event["id"])


def datetime_text(at: float) -> str:
    """Seconds since 1970 as ISO text in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def _may_repeat(given: Answered, trying: Trying) -> bool:
    """An unsafe call is repeated only when it is known how it ended."""
    return given.kind != "unknown" or trying.effects != "unsafe"


def _data(value: Any) -> Any:
    """``value`` as the JSON that it will be when it is read again; times as text, lengths of time as seconds."""
    return json.loads(json.dumps(value, default=_plain, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"a {type(value).__name__} is no JSON: return dicts, lists, texts, numbers, true, false, None")


def _check_mapping(value: Any, remedy: str) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"got {type(value).__name__}: {remedy}")


def _due(value: Any, now: float) -> float:
    if isinstance(value, str):
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError("a time needs a zone: use datetime.now(UTC) and its like")
        return at.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a timer's function must return seconds, a timedelta or a datetime")
    return now + max(0.0, float(value))


def _as_input_error(error: Exception) -> dict[str, str]:
    """What a user's function raised, and in which line of theirs."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return {"type": "input", "message": f"{_cut(f'{type(error).__name__}: {error}')}{where}"}


def _cut(text: object) -> str:
    return str(text)[:_TEXT]
