"""What a diverted call does beyond observing: ``OverBus`` answers from the bus.

``Split`` chooses between them per call, and ``Keyed`` asks the ledger before a keyed unsafe call runs its body. All
run in the caller's thread or task. Nothing of ours may change what the body returns or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ._loop import wait_for
from ._owned import arun_owned, owns, run_owned
from .callers import caused
from .calls import serving
from .correlate import current_correlation
from .errors import (
    BusUnavailableError,
    CallCancelledError,
    CrossfadeError,
    HandlerOverdueError,
    KeyReusedError,
    MissingExtraError,
    NestedTooDeepError,
    NotExecutedError,
    OutcomeUnknownError,
    SeamDefinitionError,
    UnserialisableError,
)
from .events import derived_id, new_id
from .hooks import report
from .outcomes import EFFECTS_DIFFER, Answer, rebuild_error, type_name
from .routing import choose
from .seam import is_an_heirs
from .watching import fell_back

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ._runtime import Runtime
    from .correlate import Correlation
    from .policy import Policy
    from .seam import Route, Seam

_log = logging.getLogger("crossfade")

_OURS: Final = {type_name(error): error for error in (CallCancelledError, HandlerOverdueError, NestedTooDeepError)}
"""Errors of a worker's own, which are rebuilt here, where their call id is known."""

MAX_DEPTH: Final = 32
"""Handlers that may wait for one another, one within the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A call about to travel. ``data`` is the payload; ``deadline`` is the broker's time; ``keyed``: from outside.

    ``shard`` begins its subjects; ``partition``: whose answers belong together, the run's unless said otherwise.
    """

    seam: Seam
    policy: Policy
    callid: str
    data: bytes
    sealed: bool
    correlation: Correlation
    deadline: datetime
    keyed: bool = False
    detached: bool = False
    depth: int = 0
    shard: str = "0"
    partition: str = ""

    @property
    def guarded(self) -> bool:
        """Whether the ledger decides who starts it."""
        return self.policy.effects == "unsafe" or self.keyed

    @property
    def once(self) -> bool:
        """Whether its key stands for one execution, so that its body runs under a claim only."""
        return self.policy.effects == "unsafe" and self.keyed


class OverBus:
    """A handler on the bus answers; the body is the fallback where running it is legal."""

    def __init__(self, runtime: Runtime, policy: Policy) -> None:
        self.runtime = runtime
        self._policy = policy

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        if serves(seam):
            return body(*args, **kwargs)
        command, legacy = self.command(seam, body, args, kwargs), self.legacy(seam, body)
        if command is None:
            return legacy(*args, **kwargs)
        if self.runtime.thread.is_current():
            self.runtime.skip(seam.name, "own-loop", "it is called from crossfade's own loop")
            return body(*args, **kwargs)
        _warn_when_blocking(seam)
        answer = wait_for(self._ask(command))
        if not self.may_fall_back(command, answer):
            return result_of(command, answer)
        if answer.claim is None:
            return legacy(*args, **kwargs)
        return run_owned(self.runtime, command, answer, lambda: legacy(*args, **kwargs))

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        if serves(seam):
            return await body(*args, **kwargs)
        command, legacy = self.command(seam, body, args, kwargs), self.legacy(seam, body)
        if command is None:
            return await legacy(*args, **kwargs)
        answer = await self._aask(command)
        if not self.may_fall_back(command, answer):
            return result_of(command, answer)
        if answer.claim is None:
            return await legacy(*args, **kwargs)
        return await arun_owned(self.runtime, command, answer, lambda: legacy(*args, **kwargs))

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        from .streaming import stream  # noqa: PLC0415 - only where streams are used

        return stream(self, self.runtime, seam, body=body, args=args, kwargs=kwargs)

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        from .streaming import astream  # noqa: PLC0415 - only where streams are used

        return astream(self, self.runtime, seam, body=body, args=args, kwargs=kwargs)

    def hit(self, seam: Seam) -> None:
        """Count that legacy answers a call of ``seam`` which commands should have answered."""
        self.runtime.hit(seam, self._policy)

    def legacy(self, seam: Seam, body: Callable[..., Any]) -> Callable[..., Any]:
        """``body``, each call of it a hit that the way to retirement counts, whatever let it run."""
        return lambda *args, **kwargs: self.runtime.run_legacy(seam, self._policy, body, args, kwargs)

    def _ask(self, command: Command) -> Future[Answer]:
        try:
            calls = self.runtime.calls
            return self.runtime.thread.spawn(calls.while_lent(calls.ask, command))
        except BusUnavailableError:  # closed since the route was taken
            answer: Future[Answer] = Future()
            answer.set_result(
                Answer(kind="unknown", reason="ledger-down")
                if command.once
                else Answer(kind="not-executed", reason="closed")
            )
            return answer

    async def _aask(self, command: Command) -> Answer:
        asking = self._ask(command)
        try:
            return await asyncio.wrap_future(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(partial(self.abandoned, command))
            raise

    def abandoned(self, command: Command, asking: Future[Any]) -> None:
        """The answer came in the moment in which its caller was cancelled: nobody will run a body that is ours."""
        answer = None if asking.cancelled() or asking.exception() is not None else asking.result()
        if answer is not None and answer.claim is not None:
            refusing = self.runtime.calls.refuse_abandoned(command, answer)
            with contextlib.suppress(BusUnavailableError):  # closed: the claim ends as unknown
                self.runtime.thread.spawn(refusing)

    def command(
        self,
        seam: Seam,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        detached: bool = False,
    ) -> Command | None:
        """The command of this call, or ``None`` when it must stay legacy; the reason is counted."""
        if is_an_heirs(seam, body):
            self.runtime.skip(
                seam.name, "heir", "it was called on a subclass, and a worker knows the seam's own class only"
            )
            return None
        correlation = current_correlation()
        key = correlation.key if correlation else None
        depth = 0 if detached else _depth(seam)
        try:
            codec = seam.codec
            bound = codec.bind(args, kwargs)
            arguments = codec.encode_faithfully(bound)
            callid = keyed_callid(seam.name, correlation.tenant, key) if correlation and key else new_id()
            secrets = codec.encode_secrets(bound)
            codec.verify_secrets(bound, secrets)
            self.runtime.refuse_clear_secrets(arguments)
            sealed = self.runtime.seal(seam.name, callid, secrets)
        except TypeError:
            if not seam.has_body:
                raise
            return None  # calling the body raises what it would always have raised
        except (UnserialisableError, SeamDefinitionError) as error:
            self._leave_to_body(seam, "unserialisable", str(error))
            return None
        except (MissingExtraError, CrossfadeError) as error:
            self._leave_to_body(seam, "secret", str(error))
            return None
        except Exception as error:  # a type of the user's own failed in its own way
            self._leave_to_body(seam, "internal", type(error).__name__)
            return None
        return Command(
            seam=seam,
            policy=self._policy,
            callid=callid,
            data=b'{"arguments":' + arguments + sealed + b"}",
            sealed=bool(sealed),
            correlation=caused(correlation, callid=callid),
            deadline=self.runtime.deadline(self._policy.timeout),
            keyed=bool(key),
            detached=detached,
            depth=depth,
        )

    def _leave_to_body(self, seam: Seam, reason: str, text: str) -> None:
        """A call that cannot travel: its body answers, counted; where there is none, nothing runs."""
        if seam.has_body:
            self.runtime.skip(seam.name, reason, text)
            return
        report.count("skipped", seam=seam.name, reason=reason)
        text = self.runtime.redactor.text(text)
        raise NotExecutedError(
            f"{seam.name} cannot travel, and has no body here: {text}", callid="-", reason=reason
        ) from None

    def may_fall_back(self, command: Command, answer: Answer) -> bool:
        """Whether the body may run now: by phase, not by exception type.

        Not executed: always legal, for a key that stands for one execution only under a claim. Unknown: legal only
        where running twice does no harm, or where the policy accepts it of a ledger that is down.
        """
        self.runtime.miss(command.seam, command.policy, answer)
        if answer.reason == "deadline":
            self.runtime.warn_once(
                command.seam.name,
                "deadline",
                f"no result within {self._policy.timeout:g} s: does a worker serve it (crossfade worker MODULE)?",
            )
        if answer.kind in ("value", "error") or not self._policy.runs_legacy or answer.reason == "key-reused":
            return False
        if answer.reason == "ledger-down":
            legal = self._policy.ledger_down == "run"
        elif answer.kind == "unknown":
            legal = not command.guarded and answer.reason != EFFECTS_DIFFER
        else:
            legal = answer.claim is not None or not command.once
        if legal:
            report.count("fallback", seam=command.seam.name, reason=answer.reason or answer.kind)
            fell_back(command.seam.name)
        return legal


class Split:
    """Some calls take the bus, the others the body: at canary, and while a rolled back seam drains."""

    def __init__(self, runtime: Runtime, policy: Policy, *, legacy: Route, bus: OverBus) -> None:
        self._runtime = runtime
        self._policy = policy
        self._legacy = legacy
        self._bus = bus

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._choose(seam).call(seam, body, args, kwargs)

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        return await self._choose(seam).acall(seam, body, args, kwargs)

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._choose(seam).stream(seam, body, args, kwargs)

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._choose(seam).astream(seam, body, args, kwargs)

    def takes_bus(self, seam: Seam) -> bool:
        """Whether the current call goes over the bus; a run's first choice is kept."""
        correlation = current_correlation()
        pins = self._runtime.pins
        pinned = pins.get(correlation.run, seam.name) if correlation else None
        path = choose(seam.name, self._policy, correlation, pinned=pinned)
        if correlation and pinned is None:
            pins.pin(correlation.run, seam.name, path)
        return path == "bus"

    def _choose(self, seam: Seam) -> Route:
        return self._bus if self.takes_bus(seam) else self._legacy

    @property
    def bus(self) -> OverBus:
        """The way over the bus."""
        return self._bus

    @property
    def legacy(self) -> Route:
        """The way through the body."""
        return self._legacy


class Keyed:
    """A keyed unsafe call asks the ledger before its body runs: its key may have been used on the other path."""

    def __init__(self, runtime: Runtime, policy: Policy, *, inner: Route) -> None:
        self._runtime = runtime
        self._policy = policy
        self.inner = inner
        self.bus = OverBus(runtime, policy)

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        command = None if owns(seam) else self._command(seam, body, args, kwargs)
        if command is None:
            return self.inner.call(seam, body, args, kwargs)
        calls = self._runtime.calls
        answer = wait_for(self._runtime.thread.spawn(calls.while_lent(calls.own, command)))
        if answer.claim is None:
            return self._settled(command, answer, lambda: self.inner.call(seam, body, args, kwargs))
        return run_owned(self._runtime, command, answer, lambda: self.inner.call(seam, body, args, kwargs))

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        command = None if owns(seam) else self._command(seam, body, args, kwargs)
        if command is None:
            return await self.inner.acall(seam, body, args, kwargs)
        calls = self._runtime.calls
        answer = await asyncio.wrap_future(self._runtime.thread.spawn(calls.while_lent(calls.own, command)))
        if answer.claim is None:
            settled = self._settled(command, answer, lambda: self.inner.acall(seam, body, args, kwargs))
            return await settled if asyncio.iscoroutine(settled) else settled
        return await arun_owned(self._runtime, command, answer, lambda: self.inner.acall(seam, body, args, kwargs))

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``; a stream that began on one path is never begun again on the other."""
        return self.inner.stream(seam, body, args, kwargs)

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``stream``."""
        return self.inner.astream(seam, body, args, kwargs)

    def _command(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Command | None:
        correlation = current_correlation()
        if correlation is None or not correlation.key:
            return None
        return self.bus.command(seam, body, args, kwargs)

    def _settled(self, command: Command, answer: Answer, run: Callable[[], Any]) -> Any:
        if answer.reason == "ledger-down" and self._policy.ledger_down == "run":
            report.count("ledger-down", seam=command.seam.name, reason="run")
            return run()
        return result_of(command, answer)


def result_of(command: Command, answer: Answer) -> Any:
    """What the call site gets of an answer: the value, or the error raised."""
    if answer.kind == "value":
        return command.seam.codec.decode_result(answer.value)
    if answer.kind == "error" and answer.error is not None:
        if (error := _OURS.get(answer.error.type)) is not None:
            raise error(answer.error.message, callid=command.callid)
        raise rebuild_error(answer.error)
    if answer.reason == "key-reused":
        raise KeyReusedError(
            f"{command.seam.name}: this idempotency key was used for other arguments; use a new key for a new intent",
            callid=command.callid,
        )
    if answer.kind == "not-executed":
        raise NotExecutedError(
            f"{command.seam.name} was not executed: {answer.reason}", callid=command.callid, reason=answer.reason
        )
    raise OutcomeUnknownError(
        f"{command.seam.name}: no result before the deadline ({answer.reason}); it may have run",
        callid=command.callid,
        deadline=command.deadline,
        reason=answer.reason,
    )


def keyed_callid(seam: str, tenant: str | None, key: str) -> str:
    """The call id of a call whose key came from outside: the same for every retry, on every path."""
    return derived_id(tenant or "-", seam, key)


def serves(seam: Seam) -> bool:
    """Whether this code is the seam's own handler: it recurses in place, or a full worker would wait for itself."""
    call = serving.get()
    if call is None or call.seam != seam.name or not seam.has_body:
        return False
    report.count("skipped", seam=seam.name, reason="own-handler")
    return True


def _depth(seam: Seam) -> int:
    """How deep in handlers that wait a call of ``seam`` made here is. Raises ``NestedTooDeepError``."""
    call = serving.get()
    if call is None:
        return 0
    if call.depth >= MAX_DEPTH:
        report.count("refused", seam=seam.name, reason="depth")
        raise NestedTooDeepError(
            f"{MAX_DEPTH} handlers wait for one another, the last of them ({call.seam}) for {seam.name}: do these "
            "seams call each other without end? Where they must, submit the next call instead of waiting for it",
            callid=call.callid,
        )
    return call.depth + 1


_warned: set[str] = set()


def _warn_when_blocking(seam: Seam) -> None:
    if seam.name in _warned:
        return
    with contextlib.suppress(RuntimeError):  # no loop runs here: the usual case
        asyncio.get_running_loop()
        _warned.add(seam.name)
        _log.warning(
            "seam %s is a plain function called inside a running event loop: on the bus it blocks that loop; "
            "make it a coroutine function, or call it through asyncio.to_thread",
            seam.name,
        )
