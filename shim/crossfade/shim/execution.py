"""Running one command: decode, judge the deadline, run the body, describe how it ended."""

from __future__ import annotations

import asyncio
import contextvars
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from ._runtime import seal_context
from .calls import CurrentCall, serving
from .claimcheck import load_data
from .correlate import Correlation, correlated, from_event
from .errors import BusError, CrossfadeError, MalformedEventError, ObjectMissingError, UnserialisableError
from .outcomes import error_payload, record_error, refusal_payload, value_payload

if TYPE_CHECKING:
    import inspect
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from ._runtime import Runtime
    from .events import Event
    from .ports import Delivery
    from .seam import Seam


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How a command ended. ``reject`` names why the command belongs in dead letters, besides its terminal."""

    kind: Literal["value", "error", "not-executed"]
    payload: bytes
    reject: str = ""
    detail: str = ""


class Execution:
    """Runs commands of one seam: coroutine bodies on ``loop``, plain ones in ``executor``."""

    def __init__(self, runtime: Runtime, seam: Seam, *, executor: Executor, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._seam = seam
        self._executor = executor
        self._loop = loop

    async def run(self, delivery: Delivery) -> Finished:
        """Run the delivered command to its end. Raises ``BusError`` only when its claim check cannot be fetched now."""
        event = delivery.stored.event
        try:
            call = self._current(event, delivery.attempt)
            if self.expired(call):
                return self._refused("expired")
            bound = await self._decode(event, call.callid)
        except (MalformedEventError, UnserialisableError, ObjectMissingError) as error:
            return self._undecodable(error)
        except BusError:
            raise  # not the command's fault: it comes again
        except CrossfadeError as error:
            return self._undecodable(error)
        if self.expired(call):
            return self._refused("expired")
        return await self._execute(event, call, bound)

    def expired(self, call: CurrentCall) -> bool:
        """Whether the broker's time is past the call's deadline."""
        return self._runtime.bus.now() > call.deadline

    def _current(self, event: Event, attempt: int) -> CurrentCall:
        callid, expiry = event.get("callid"), event.get("expirytime")
        if not callid or not expiry:
            raise MalformedEventError("a command needs callid and expirytime", reason="attributes")
        try:
            deadline = datetime.fromisoformat(expiry)
        except ValueError:
            raise MalformedEventError(f"expirytime {expiry[:64]!r} is no time", reason="attributes") from None
        if deadline.tzinfo is None:
            raise MalformedEventError("expirytime has no zone", reason="attributes")
        return CurrentCall(callid=callid, seam=self._seam.name, attempt=attempt, deadline=deadline)

    async def _decode(self, event: Event, callid: str) -> inspect.BoundArguments:
        codec = self._seam.codec
        values, sealed = codec.decode_command(await load_data(self._runtime.bus, event))
        for name, text in sealed.items():
            if self._runtime.sealer is None:
                raise CrossfadeError("the command carries sealed arguments and this worker has no key")
            opened = self._runtime.sealer.open(text, context=seal_context(self._seam.name, callid, name))
            values |= codec.decode_secret(name, opened)
        return codec.bound(values)

    async def _execute(self, event: Event, call: CurrentCall, bound: inspect.BoundArguments) -> Finished:
        context = contextvars.copy_context()
        context.run(serving.set, call)
        began = time.perf_counter()
        value, error = await self._call(context, from_event(event), bound)
        if error is None:
            try:
                payload = self._seam.codec.encode_result(value)
            except UnserialisableError as unserialisable:  # it ran: this is an error, never "not executed"
                error = unserialisable
            else:
                milliseconds = (time.perf_counter() - began) * 1000
                return Finished(kind="value", payload=value_payload(payload, handler="self", handler_ms=milliseconds))
        return self._raised(error, time.perf_counter() - began)

    async def _call(
        self, context: contextvars.Context, correlation: Correlation, bound: inspect.BoundArguments
    ) -> tuple[Any, BaseException | None]:
        """What the body returned, or what it raised: SystemExit and its like must not end the worker."""
        body = self._seam.body

        def plain() -> tuple[Any, BaseException | None]:
            try:
                with correlated(correlation):
                    return body(*bound.args, **bound.kwargs), None
            except BaseException as error:  # handed to the caller as the call's error
                return None, error

        async def coroutine() -> tuple[Any, BaseException | None]:
            try:
                with correlated(correlation):
                    return await body(*bound.args, **bound.kwargs), None
            except BaseException as error:  # handed to the caller as the call's error
                return None, error

        async def in_context() -> tuple[Any, BaseException | None]:
            return await asyncio.create_task(coroutine(), context=context)

        if self._seam.is_async:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(in_context(), self._loop))
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, plain)

    def _raised(self, error: BaseException, seconds: float) -> Finished:
        record = record_error(error, redact=self._runtime.redactor.text)
        return Finished(kind="error", payload=error_payload(record, handler="self", handler_ms=seconds * 1000))

    def _refused(self, reason: str) -> Finished:
        return Finished(kind="not-executed", payload=refusal_payload("not-executed", reason=reason))

    def _undecodable(self, error: CrossfadeError) -> Finished:
        reason = error.reason if isinstance(error, MalformedEventError) else _REASONS.get(type(error), "secret")
        detail = self._runtime.redactor.text(str(error))
        return Finished(
            kind="not-executed",
            payload=refusal_payload("not-executed", reason=reason, message=detail),
            reject=reason,
            detail=detail,
        )


_REASONS: Final[Mapping[type[CrossfadeError], str]] = {UnserialisableError: "arguments", ObjectMissingError: "dataref"}
