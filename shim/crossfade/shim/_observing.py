"""The route of a seam whose body answers while its calls are observed.

The caller pays for a copy of what the call was given and of what it returned, and for one append; everything else
(binding, encoding, redaction, whether a shadow may run) happens on the background loop. The copy is ``marshal``'s
where all values are Python's own plain types: no other thread can change them while it is taken, it is faster than
JSON (measured 1.2 us against 1.8 us for 0.8 KB), and it never leaves this process. Any other value is encoded at
once, because an object cannot be kept for later without its aliases.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import random
from copy import copy as duplicate
from dataclasses import dataclass
from time import perf_counter, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from .callers import NEW, Calls, calls_of, current_caller, enter, id_of, leave
from .correlate import current_correlation
from .coverage import kind_of_call
from .errors import SeamDefinitionError, UnserialisableError
from .hooks import report
from .observations import Observation, Seen
from .outcomes import GIVEN_UP, SeenError
from .seam import is_an_heirs
from .stages import Stage
from .watching import trace_context, watchers
from .yielded import LIMIT, MOST_BYTES, Watched, Yielded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping

    from ._runtime import Runtime
    from .callers import Caller
    from .policy import Policy
    from .seam import Seam

_MUTATION_EVERY: Final = 16  # calls; looking whether a body changed its arguments costs a second copy
_FORMAT: Final = 4  # of marshal: 2 takes twice as long, 0 four times (measured)
_dumps: Final[Any] = marshal.dumps  # whose annotation names the types it takes: finding out is our question
_NO_KEY: Final = (
    "its answers set cookies or hold other credentials, and there is no key to seal them: set CROSSFADE_SEAL_KEY for "
    "the proxy and its workers"
)
_VALUE: Final = b'{"value":'  # what the JSON of every value begins with
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(slots=True)  # not frozen, which would take twice as long to make
class _Encoded:
    """Arguments or a value that could not be copied as they are, encoded when they were seen."""

    data: bytes
    bound: Mapping[str, Any]
    secrets: Mapping[str, bytes]

    def __len__(self) -> int:
        return len(self.data) + sum(map(len, self.secrets.values()))


@dataclass(frozen=True, slots=True)
class Later:
    """Arguments or a value that whoever saw the call makes on the background loop, out of ``size`` bytes it keeps.

    Nothing that ``make`` returns is an iterator, or holds one: nobody looks.
    """

    size: int
    make: Callable[[], Any]

    def __len__(self) -> int:
        return self.size or 1


_Copy: TypeAlias = "bytes | _Encoded | Later | None"
"""Arguments or a value: marshal's copy, or encoded; empty when it has no JSON form, ``None`` when nobody wants it."""

_Begun: TypeAlias = "tuple[int, Caller | None, Caller | None, _Copy, float, float]"
"""A call's number, inside which it began, what it is to those inside it where they are told so, its arguments, when it
began (seconds since the epoch), and the clock then."""


class Observing:
    """The body answers; a finished call leaves an observation.

    ``instead`` names what keeps the seam here although its stage says otherwise: each call is counted with it.
    """

    def __init__(self, runtime: Runtime, seam: Seam, policy: Policy, *, instead: str = "") -> None:
        self.seam = seam
        self._policy = policy
        self._instead = instead
        self._shadow = policy.stage is Stage.SHADOW
        self._sampled = policy.sample < 1
        self._observer = runtime.observer
        self._numbers: Iterator[int] = self._observer.numbers(seam.name)
        self._calls = calls_of(runtime.instance, seam.name)
        self._block = runtime.block
        self._seals = runtime.sealer is not None
        self._correlation = trace_context if watchers.all else current_correlation
        with contextlib.suppress(SeamDefinitionError):  # told when a call is read
            _ = seam.codec  # here, because making the first one takes pydantic's import: not at exit, nor in a call

    def once(self) -> tuple[str, Observing]:
        """The id that the next call of the seam has, and the route by which that call alone goes.

        For who must name a call before it runs, as a task's handle does; what it calls always hears of it.
        """
        n = next(self._numbers)
        calls = Calls(self._calls.name, nest=True)
        route = duplicate(self)
        route._numbers, route._calls = iter((n,)), calls  # noqa: SLF001 - of our own kind
        return id_of((calls, n, None)), route

    # -- in the caller's thread or task: every call pays for each line -------------------------------------------------

    def call(self, _seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        begun = self._before(args, kwargs)
        try:
            value = body(*args, **kwargs)
        except BaseException as error:
            self._failed(begun, body, args, kwargs, error)
            raise
        self._after(begun, body, args, kwargs, value)
        return value

    async def acall(
        self, _seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        begun = self._before(args, kwargs)
        try:
            value = await body(*args, **kwargs)
        except BaseException as error:
            self._failed(begun, body, args, kwargs, error)
            raise
        self._after(begun, body, args, kwargs, value)
        return value

    def stream(self, _seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._watch(body, args, kwargs, body(*args, **kwargs))

    def _watch(
        self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], items: Any
    ) -> Generator[Any, Any, Any]:
        begun = self._before(args, kwargs, streamed=True)  # at the first item: a stream that never begins is no call
        taken = Yielded(self._encode_value, began=begun[5]) if begun[3] else None
        try:
            returned = yield from cast("Generator[Any, Any, Any]", items if taken is None else Watched(items, taken))
        except BaseException as error:
            self._streamed(begun, body, args, kwargs, error, taken=taken)
            raise
        self._streamed(begun, body, args, kwargs, None, taken=taken)
        return returned

    def astream(self, _seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._awatch(body, args, kwargs, body(*args, **kwargs))

    async def _awatch(
        self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], items: Any
    ) -> AsyncGenerator[Any, Any]:
        begun = self._before(args, kwargs, streamed=True)
        taken = Yielded(self._encode_value, began=begun[5]) if begun[3] else None
        try:
            async with contextlib.aclosing(items):
                resume = items.asend(None)
                with contextlib.suppress(StopAsyncIteration):
                    while True:  # what `yield from` does, which async generators have not
                        item = await resume
                        if taken is not None:
                            taken.add(item)
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as thrown:
                            resume = items.athrow(thrown)
                        else:
                            resume = items.asend(sent)
                            if sent is None:
                                continue
                        if taken is not None:
                            taken.drive()
        except BaseException as error:
            self._streamed(begun, body, args, kwargs, error, taken=taken)
            raise
        self._streamed(begun, body, args, kwargs, None, taken=taken)

    def _before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, streamed: bool = False) -> _Begun:
        """Copy before the body runs, so that what it does to its arguments cannot change the record."""
        if self._instead:
            report.count("skipped", seam=self.seam.name, reason=self._instead)
        before: _Copy = None
        if not self._sampled or random.random() < self._policy.sample:  # noqa: S311 - a sample
            try:
                before = _dumps((args, kwargs), _FORMAT)
            except Exception:  # not a plain value: whether that is a fault says the codec
                before = self._encode(args, kwargs)
        n, outer, me = next(self._numbers), current_caller(), None
        if outer is not None or self._calls.nest or n < NEW or not n & 15:
            me = enter(self._calls, n, outer, streamed=streamed)
        return n, outer, me, before, time(), perf_counter()

    def _after(
        self,
        begun: _Begun,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        value: Any,
        *,
        taken: Yielded | None = None,
    ) -> None:
        n, outer, me, before, started, clock = begun
        duration = perf_counter() - clock
        if me is not None:
            leave(me, outer)
        try:
            copy: _Copy | Yielded = taken
            if before and taken is None:
                try:
                    copy = _dumps(value, _FORMAT)
                except Exception:
                    copy = self._encode_value(value)
            changed = n % _MUTATION_EVERY == 1 and self._changed(before, args, kwargs)
            heirs = self.seam.in_class and is_an_heirs(self.seam, body)
            self._observer.offer(
                (self, n, started, duration, before, copy, None, self._correlation(), changed, heirs, outer)
            )
        except Exception as failure:
            self._lost(before, duration, failure)

    def _failed(
        self,
        begun: _Begun,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        error: BaseException,
        *,
        taken: Yielded | None = None,
    ) -> None:
        n, outer, me, before, started, clock = begun
        duration = perf_counter() - clock
        if me is not None:
            leave(me, outer)
        try:
            changed = n % _MUTATION_EVERY == 1 and self._changed(before, args, kwargs)
            heirs = is_an_heirs(self.seam, body)
            seen = SeenError(error)
            self._observer.offer(
                (self, n, started, duration, before, taken, seen, self._correlation(), changed, heirs, outer)
            )
        except Exception as failure:
            self._lost(before, duration, failure)

    def _streamed(
        self,
        begun: _Begun,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        error: BaseException | None,
        *,
        taken: Yielded | None,
    ) -> None:
        """A stream ended; a consumer that has had enough of it, or is cancelled, is no error."""
        if error is not None and not isinstance(error, GeneratorExit | asyncio.CancelledError):
            self._failed(begun, body, args, kwargs, error, taken=taken)
            return
        if taken is not None:
            taken.closed = error is not None
        self._after(begun, body, args, kwargs, None, taken=taken)

    def _lost(self, before: _Copy, duration: float, failure: Exception) -> None:
        """An observation could not be made: an eligible call all the same."""
        self._observer.failed(self.seam.name, failure)
        size = len(before) if before else None
        self._observer.tally.add(self.seam.name, kind_of_call(size, duration, error=False), observed=False)

    # -- for who sees calls without calling anything here: the proxy ---------------------------------------------------

    def begin(self) -> tuple[int, bool]:
        """The number of a call that begins, and whether all of it is wanted."""
        if self._instead:
            report.count("skipped", seam=self.seam.name, reason=self._instead)
        return next(self._numbers), not self._sampled or random.random() < self._policy.sample  # noqa: S311 - a sample

    def saw(
        self,
        n: int,
        *,
        started: float,
        duration: float,
        arguments: Later | None,
        value: Later | None,
        error: SeenError | None = None,
    ) -> None:
        """It ended. ``arguments`` make a mapping by parameter, ``None``: sampled out; ``started`` is epoch seconds."""
        correlation = self._correlation()
        self._observer.offer(
            (self, n, started, duration, arguments, value, error, correlation, False, False, current_caller())
        )

    def told_credentials(self) -> None:
        """An answer holds what is for its client alone: without a key to seal it, no worker may give such an answer."""
        if not self._seals:
            self._block(self.seam, _NO_KEY)

    def _encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, plain: bool = False) -> bytes | _Encoded:
        """The arguments by the seam's own codec; empty, and counted, when they have no JSON form."""
        try:
            codec = self.seam.codec
            bound = codec.bind(args, kwargs)
            encoded = codec.encode(bound, plain=plain)
            if self._shadow:  # what would arrive changed must not be compared as if it had not
                codec.verify(bound, encoded)
            return _Encoded(encoded, bound, codec.encode_secrets(bound) if codec.secret else _NOTHING)
        except TypeError:
            return b""  # the body raises the same for wrong arguments, which the observation then records
        except Exception as error:
            self._observer.failed(self.seam.name, error)
            return b""

    def _encode_value(self, value: Any, *, plain: bool = False) -> bytes | _Encoded:
        try:
            return _Encoded(self.seam.codec.observe_result(value, plain=plain), _NOTHING, _NOTHING)
        except Exception as error:
            self._observer.failed(self.seam.name, error)
            return b""

    def _changed(self, before: _Copy, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | bool:
        """Whether the body changed its arguments, or a copy of how it left them, by which that can be told later."""
        try:
            if isinstance(before, _Encoded):
                return self.seam.codec.encode(before.bound) != before.data
            return _dumps((args, kwargs), _FORMAT) if before else False
        except (UnserialisableError, ValueError):
            return True

    # -- on the background loop ----------------------------------------------------------------------------------------

    def read(self, seen: Seen) -> Observation:
        """See ``observations.Reader``."""
        _, n, started, duration, before, value, error, correlation, changed, heirs, outer = seen
        taken = self._open(before)
        if taken is not None:
            self._notice_mutation(taken, changed)
        shown, stream = None, None
        if taken is not None and isinstance(value, Yielded):
            shown, stream = self._open_items(value), value
        elif taken is not None:
            shown = self._open_value(value)
        given_up = error is not None and error.given_up
        compared = self._shadow and self._is_shadowed(full=before is not None, heirs=heirs, given_up=given_up)
        return Observation(
            seam=self.seam,
            n=n,
            callid=id_of((self._calls, n, None)),
            outer=outer,
            revision=self._policy.revision,
            started=started,
            duration=duration,
            arguments=taken.data if taken else None,
            secrets=taken.secrets if taken else _NOTHING,
            value=shown,
            error=error,
            correlation=correlation,
            # What could not be read was counted as unserialisable when that was tried.
            shadow=compared and taken is not None and (shown is not None or (error is not None and stream is None)),
            stream=stream,
        )

    def _open(self, copy: _Copy) -> _Encoded | None:
        if isinstance(copy, Later):
            copy = self._encode((), copy.make(), plain=True)
        elif copy and isinstance(copy, bytes):
            copy = self._encode(*marshal.loads(copy), plain=True)  # noqa: S302 - ours; it never left this process
        return copy if isinstance(copy, _Encoded) else None

    def _open_value(self, copy: _Copy) -> bytes | None:
        if isinstance(copy, Later):
            copy = self._encode_value(copy.make(), plain=True)
        elif copy and isinstance(copy, bytes):
            copy = self._encode_value(marshal.loads(copy), plain=True)  # noqa: S302 - as above
        return copy.data if isinstance(copy, _Encoded) else None

    def _open_items(self, stream: Yielded) -> bytes | None:
        """The items of a stream as one list; ``None``, and ``cut`` says why, where that proves nothing; counted."""
        items: list[bytes] = []
        for copy in stream.copies:
            item = self._open_value(copy)
            if item is None:
                stream.cut = "unserialisable"
                break
            items.append(item[len(_VALUE) : -1])
        if stream.closed and not items:
            stream.cut = stream.cut or "stream-closed"
        if sum(map(len, items)) > 2 * MOST_BYTES:  # JSON may be longer than the copies
            stream.cut = stream.cut or LIMIT
        if not stream.cut:
            return _VALUE + b"[" + b",".join(items) + b"]}"
        if stream.cut != "unserialisable":  # which was counted when that was tried
            report.count("skipped", seam=self.seam.name, reason=stream.cut)
        return None

    def _notice_mutation(self, taken: _Encoded, changed: object) -> None:
        if isinstance(changed, bytes):
            after = self._encode(*marshal.loads(changed))  # noqa: S302 - as above
            changed = isinstance(after, bytes) or after.data != taken.data
        if changed:
            self._block(self.seam, "its body changes its arguments in place, and a change cannot cross a bus")

    def _is_shadowed(self, *, full: bool, heirs: bool, given_up: bool) -> bool:
        """Whether a worker shall run this call again and compare; why not is counted."""
        if not full:
            reason = "sampled-out"
        elif self._policy.effects == "unsafe":
            reason = "unsafe"
        elif heirs:
            reason = "heir"
        elif given_up:
            reason = GIVEN_UP
        else:
            return True
        report.count("skipped", seam=self.seam.name, reason=reason)
        return False
