"""Questions that a running call asks people, and their answers, kept on the bus until the call has used them.

A question is a key of the state ``answers``: ``CALLID.QUESTION``. Whoever answers first wins. The call waits for as
long as its deadline allows, and one that is delivered again finds its questions as they were, answered or not.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from ._loop import wait_for
from .calls import current_call, report_progress
from .connection import current
from .errors import BusError, InputRequiredError, NotConnectedError, WrongRevisionError
from .hooks import report
from .slots import alent

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from ._runtime import Runtime
    from .calls import CurrentCall
    from .ports import Bus

BUCKET: Final = "answers"
_AFTER: Final = 3600.0  # seconds past its call's deadline that a question without an answer goes away
_POLLS: Final = (0.1, 0.2, 0.5, 1.0)  # seconds between looks for an answer; people take longer than that


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a call waits to be told, ``value`` as JSON. ``id`` names it within its call; ``asked`` is broker's time."""

    callid: str
    id: str
    seam: str
    value: Any
    asked: datetime


# -- who asks ----------------------------------------------------------------------------------------------------------


async def ask(questions: Mapping[str, Any]) -> dict[str, Any]:
    """Ask people, and wait for an answer to each question, by the name it was given here; values are JSON.

    It is told as progress of the call, with the data ``{"status": "input-required", "questions": [{"id", "value"}]}``.
    A worker's other calls go on meanwhile. Use ``settle`` with the same questions once the answers are used up.

    Raises ``InputRequiredError`` where nobody can answer: outside a call that has an id, and in a shadow run.
    """
    call = current_call()
    if call is None or call.shadow:
        where = "in a shadow run" if call else "in a call that has no id: submit it, or put it on the bus"
        raise InputRequiredError(f"a person is asked {where}", callid=call.callid if call else "-")
    runtime = _runtime(call.callid)
    keys = {name: _key(call.callid, name, value) for name, value in questions.items()}
    asked = [
        {"id": keys[name].partition(".")[2], "value": json.loads(_json(value))} for name, value in questions.items()
    ]
    for name, value in questions.items():
        await _there(runtime, _keep_question(runtime.bus, keys[name], call, value))
    report_progress(None, "input required", {"status": "input-required", "questions": asked})
    try:
        async with alent():
            return {name: await _there(runtime, _wait(runtime.bus, keys[name], call)) for name in questions}
    except asyncio.CancelledError:
        if call.cancelled:  # else the worker stops, and the next one asks again
            for name, value in questions.items():
                runtime.thread.spawn(_forget(runtime.bus, _key(call.callid, name, value), call))
        raise


async def settle(questions: Mapping[str, Any]) -> None:
    """Forget ``questions`` of the current call and their answers; fail-open."""
    call = current_call()
    if call is None:
        return
    runtime = _runtime(call.callid)
    for name, value in questions.items():
        await _there(runtime, _forget(runtime.bus, _key(call.callid, name, value), call))


async def _forget(bus: Bus, key: str, call: CurrentCall) -> None:
    try:
        await bus.state(BUCKET).delete(key)
    except BusError as error:
        report.count("answer-kept", seam=call.seam, reason=type(error).__name__)


async def _keep_question(bus: Bus, key: str, call: CurrentCall, value: Any) -> None:
    record = {"seam": call.seam, "question": value, "asked": bus.now().isoformat()}
    left = (call.deadline - bus.now()).total_seconds()
    try:
        await bus.state(BUCKET).create(key, _json(record), ttl=max(left, 0) + _AFTER)
    except WrongRevisionError:
        return  # asked before this delivery


async def _wait(bus: Bus, key: str, call: CurrentCall) -> Any:
    looks = 0
    while True:
        try:
            entry = await bus.state(BUCKET).get(key)
        except BusError as error:
            report.count("look-up-failed", seam=call.seam, reason=type(error).__name__)
        else:
            record: Any = json.loads(entry.value) if entry is not None and entry.value else {}
            if "answer" in record:
                return record["answer"]
        await asyncio.sleep(_POLLS[min(looks, len(_POLLS) - 1)])
        looks += 1


# -- who answers -------------------------------------------------------------------------------------------------------


def answer(callid: str, value: Any, *, question: str | None = None, actor: str = "") -> Question:
    """Answer what the call ``callid`` asks, with JSON; returns the question. ``question`` says which of several.

    Raises ``NotConnectedError`` when this process is not connected, and ``InputRequiredError`` when the call asks
    nothing (any more), asks several, or somebody was quicker.
    """
    runtime = _runtime(callid)
    return wait_for(runtime.thread.spawn(answer_over(runtime.bus, callid, value, question=question, actor=actor)))


async def answer_over(bus: Bus, callid: str, value: Any, *, question: str | None, actor: str) -> Question:
    """See ``answer``."""
    open_ones = [each for each in await find_waiting(bus) if each.callid == callid]
    chosen = [each for each in open_ones if question in (None, each.id)]
    if not open_ones:
        raise InputRequiredError(
            f"call {callid} asks nothing, or not any more: `crossfade calls waiting` lists what is asked", callid=callid
        )
    if len(chosen) != 1:
        names = ", ".join(each.id for each in open_ones)
        raise InputRequiredError(f"call {callid} asks {names}: say which by its id", callid=callid)
    state, key = bus.state(BUCKET), f"{callid}.{chosen[0].id}"
    entry = await state.get(key)
    record: dict[str, Any] = json.loads(entry.value) if entry is not None and entry.value else {}
    if entry is None or "answer" in record:
        raise InputRequiredError(f"somebody has just answered call {callid}", callid=callid)
    answered = {**record, "answer": value, "actor": actor, "answered": bus.now().isoformat()}
    try:
        await state.update(key, _json(answered), revision=entry.revision)
    except WrongRevisionError as error:
        raise InputRequiredError(f"somebody has just answered call {callid}", callid=callid) from error
    return chosen[0]


async def find_waiting(bus: Bus) -> Sequence[Question]:
    """Every question without an answer, oldest first."""
    found: list[Question] = []
    for entry in await bus.state(BUCKET).entries():
        record: dict[str, Any] = json.loads(entry.value or b"{}")
        if "answer" not in record and "question" in record:
            callid, _, name = entry.key.partition(".")
            asked = datetime.fromisoformat(record["asked"])
            found.append(Question(callid=callid, id=name, seam=record["seam"], value=record["question"], asked=asked))
    return sorted(found, key=lambda each: each.asked)


# -- both --------------------------------------------------------------------------------------------------------------


def _runtime(callid: str) -> Runtime:
    connection = current()
    if connection is None:
        raise NotConnectedError(
            "questions and answers are kept on the bus: call crossfade.shim.connect()", callid=callid
        )
    return connection.runtime


def _key(callid: str, name: str, value: Any) -> str:
    """With the question in it: a name that is used for another question later must not find the first one's answer."""
    return f"{callid}.{sha256(name.encode() + b'/' + _json(value)).hexdigest()[:16]}"


def _json(value: Any) -> bytes:
    return to_json(value, fallback=str)


async def _there(runtime: Runtime, work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` on the loop that the bus lives on."""
    return await asyncio.wrap_future(runtime.thread.spawn(work))
