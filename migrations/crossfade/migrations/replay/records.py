"""Nested calls of a replayed body, answered from the record: no tool is asked, no effect happens twice.

A tape holds what one recorded call asked for, in order. The same seam with the same arguments is answered with the
first such record that was not given yet; where only ids differ, by one whose ids can stand for each other. What is not
on the tape is missed: the call it happened in proves nothing.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crossfade.shim.comparison import Outcome
from crossfade.shim.errors import CrossfadeError, RemoteError
from crossfade.shim.judging import has_redacted
from crossfade.shim.outcomes import rebuild_error
from crossfade.shim.redaction import blank_marks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping

    from crossfade.shim.redaction import Redactor
    from crossfade.shim.seam import Seam

    from .ids import IdMap
    from .recording import RecordedCall

playing: ContextVar[Tape | None] = ContextVar("crossfade_tape", default=None)
"""The tape of the call that the code here is replayed for."""


class UnrecordedCallError(CrossfadeError):
    """Code that is replayed made a nested call that is not in the record: it is not made, and nothing is compared."""


class Tape:
    """What one recorded call asked other seams for. Its body's threads may ask at once.

    ``missed``: what today's code asked for that cannot be answered, and why. ``live``: what was asked for real instead.
    """

    def __init__(self, calls: Iterable[RecordedCall], ids: IdMap) -> None:
        self._left = list(calls)
        self._ids = ids
        self._lock = threading.Lock()
        self.missed: list[str] = []
        self.live = 0

    def take(self, seam: str, arguments: Any, normal: Callable[[Any], Any]) -> Outcome | str:
        """How the call was answered then, in the ids of the replay; a text that says why not.

        ``normal`` makes recorded arguments comparable with ``arguments``.
        """
        with self._lock:
            found = self._find(seam, arguments, normal)
            if isinstance(found, str):
                return found
            self._left.remove(found)
            if found.outcome is None:
                return f"recorded without an outcome ({found.unfit})"
            return self._in_ids_of_now(found.outcome)

    def _find(self, seam: str, arguments: Any, normal: Callable[[Any], Any]) -> RecordedCall | str:
        calls = [call for call in self._left if call.seam == seam]
        asked = self._ids.to_recorded(arguments)
        recorded = [normal(json.loads(call.arguments)) for call in calls]
        for call, then in zip(calls, recorded, strict=True):
            if then == asked:
                return call
        for call, then in zip(calls, recorded, strict=True):
            if (pairs := self._ids.fits(then, arguments)) is not None:
                self._ids.learn(pairs)
                return call
        others = f"; {len(calls)} other calls of it are" if calls else ""
        return f"not in the record with these arguments{others}"

    def _in_ids_of_now(self, outcome: Outcome) -> Outcome:
        translate = self._ids.to_replayed
        if outcome.error is None:
            return in_other_ids(outcome, translate)
        message, args = translate(outcome.error.message), translate(list(outcome.error.args))
        error = replace(outcome.error, message=message, args=tuple(args))
        return in_other_ids(replace(outcome, error=error), translate)


def in_other_ids(outcome: Outcome, translate: Callable[[Any], Any]) -> Outcome:
    """``outcome`` with value and items as ``translate`` has them."""
    items = None if outcome.items is None else tuple(translate(list(outcome.items)))
    return replace(outcome, value=translate(outcome.value), items=items)


async def _asynchronous(items: Iterable[Any]) -> AsyncGenerator[Any]:
    for item in items:
        yield item


class Answering:
    """The route of every seam while calls are replayed.

    ``live`` says of a seam whether a call that is not in the record may run its body instead.
    """

    def __init__(self, redactor: Redactor, *, live: Callable[[Seam], bool]) -> None:
        self._redactor = redactor
        self._live = live
        self._defaults: dict[str, dict[str, Any]] = {}
        self.running: set[Tape] = set()

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        outcome = self._outcome(seam, args, kwargs)
        return body(*args, **kwargs) if outcome is None else self._given(seam, outcome)

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        outcome = self._outcome(seam, args, kwargs)
        return await body(*args, **kwargs) if outcome is None else self._given(seam, outcome)

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        items = self._recorded(seam, args, kwargs)
        return body(*args, **kwargs) if items is None else items

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        items = self._recorded(seam, args, kwargs)
        return body(*args, **kwargs) if items is None else _asynchronous(items)

    def _recorded(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Generator[Any] | None:
        """The items to give; ``None``: run the body."""
        outcome = self._outcome(seam, args, kwargs)
        if outcome is None:
            return None
        if outcome.items is None:
            self._refuse(seam, self._tapes(), "its items are not in the record")
            return None
        return self._items(seam, outcome, outcome.items)

    def _items(self, seam: Seam, outcome: Outcome, items: tuple[Any, ...]) -> Generator[Any]:
        """As the seam's callers get them, then its error; no more than were taken then."""
        for item in items:
            yield self._given(seam, Outcome(kind="value", value=item))
        if outcome.closed:
            self._miss(seam, self._tapes(), why := f"then its caller took {len(items)} items and no more")
            raise UnrecordedCallError(f"{seam.name}: {why}")
        if outcome.error is not None:
            self._given(seam, outcome)

    def _outcome(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome | None:
        """What to give; ``None``: run the body."""
        tapes = self._tapes()
        try:
            arguments = self._normal(seam, json.loads(seam.codec.encode(seam.codec.bind(args, kwargs))))
        except TypeError:
            if seam.has_body:
                return None  # calling the body raises what it would always have raised
            raise
        except CrossfadeError as error:
            found: Outcome | str = str(error)
        else:
            found = "called in a thread that does not know for which call: copy the context"
            if len(tapes) == 1:
                found = tapes[0].take(seam.name, arguments, lambda recorded: self._normal(seam, recorded))
        if not isinstance(found, str):
            return found
        self._refuse(seam, tapes, found)
        return None

    def _tapes(self) -> list[Tape]:
        """That of the call this code runs for; a thread that does not know its call may run for any of them."""
        tape = playing.get()
        return [tape] if tape is not None else list(self.running)

    def _refuse(self, seam: Seam, tapes: list[Tape], why: str) -> None:
        """Note that a call cannot be answered, and raise; nothing of that where it may be made for real."""
        if tapes and self._live(seam):
            for tape in tapes:
                tape.live += 1
            return
        for tape in tapes:
            tape.missed.append(f"{seam.name}: {why}")
        raise UnrecordedCallError(f"{seam.name} is not called in a replay: {why}")

    def _given(self, seam: Seam, outcome: Outcome) -> Any:
        """The value as the seam's callers get it, or its error raised."""
        tapes = self._tapes()
        if outcome.error is not None:
            error = rebuild_error(outcome.error)
            if isinstance(error, RemoteError):
                self._miss(seam, tapes, f"it raised {outcome.error.type}: say shim.register_error of it")
            raise error
        if has_redacted(outcome.value):
            self._miss(seam, tapes, "its answer holds a secret, which is not in the record")
        try:
            return seam.codec.decode_result(json.dumps({"value": outcome.value}).encode())
        except CrossfadeError as error:
            self._miss(seam, tapes, f"its recorded answer is none any more: {error}")
            raise UnrecordedCallError(str(error)) from error

    def _miss(self, seam: Seam, tapes: list[Tape], why: str) -> None:
        for tape in tapes:
            tape.missed.append(f"{seam.name}: {why}")

    def _normal(self, seam: Seam, arguments: dict[str, Any]) -> Any:
        """Arguments without what differs for no reason: secrets, marks of another key, defaults said or left out."""
        defaults = self._defaults_of(seam)
        said = {
            name: value
            for name, value in arguments.items()
            if name not in seam.codec.secret and (name not in defaults or defaults[name] != value)
        }
        return blank_marks(self._redactor.value(said))

    def _defaults_of(self, seam: Seam) -> dict[str, Any]:
        found = self._defaults.get(seam.name)
        if found is None:
            found = self._defaults[seam.name] = {}
            for name, parameter in seam.codec.signature.parameters.items():
                if parameter.default is not parameter.empty and name not in seam.codec.secret:
                    with suppress(CrossfadeError):  # it has no JSON form: then nobody leaves it out
                        found |= json.loads(seam.codec.encode({name: parameter.default}))
        return found
