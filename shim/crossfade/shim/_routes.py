"""What a diverted call does, by stage: ``Observing`` answers from the body, ``OverBus`` from the bus.

Both run in the caller's thread or task. Nothing of ours may change what the body returns or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._loop import wait_for
from .calls import serving
from .correlate import Correlation, current_correlation
from .errors import (
    BusUnavailableError,
    CrossfadeError,
    MissingExtraError,
    NotExecutedError,
    OutcomeUnknownError,
    SeamDefinitionError,
    UnserialisableError,
)
from .events import new_id
from .hooks import report
from .observations import Observation
from .outcomes import Answer, SeenError, rebuild_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ._runtime import Runtime
    from .policy import Policy
    from .seam import Seam

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A call about to travel. ``data`` is the payload; ``deadline`` is the broker's time."""

    seam: Seam
    policy: Policy
    callid: str
    data: bytes
    sealed: bool
    correlation: Correlation
    deadline: datetime


@dataclass(slots=True)
class _Started:
    n: int
    arguments: bytes | None
    secrets: Mapping[str, bytes]
    started: float
    clock: float


class Observing:
    """The body answers; a finished call leaves an observation."""

    def __init__(self, runtime: Runtime, policy: Policy) -> None:
        self._runtime = runtime
        self._policy = policy

    def call(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        begun = self._before(seam, args, kwargs)
        try:
            value = seam.body(*args, **kwargs)
        except BaseException as error:
            self._after(seam, begun, error=error)
            raise
        self._after(seam, begun, value=value)
        return value

    async def acall(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        begun = self._before(seam, args, kwargs)
        try:
            value = await seam.body(*args, **kwargs)
        except BaseException as error:
            self._after(seam, begun, error=error)
            raise
        self._after(seam, begun, value=value)
        return value

    def _before(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Started:
        """Serialise before the body runs, so that what it does to its arguments cannot change the record."""
        arguments: bytes | None = None
        secrets: Mapping[str, bytes] = {}
        try:
            codec = seam.codec
            bound = codec.bind(args, kwargs)
            arguments = codec.encode(bound)
            if codec.secret:
                secrets = codec.encode_secrets(bound)
        except TypeError:
            pass  # the body raises the same for wrong arguments, which the observation then records
        except Exception as error:
            self._runtime.observer.failed(seam.name, error)
        n = self._runtime.observer.number(seam.name)
        return _Started(n, arguments, secrets, time.time(), time.perf_counter())

    def _after(self, seam: Seam, begun: _Started, *, value: Any = None, error: BaseException | None = None) -> None:
        duration = time.perf_counter() - begun.clock
        try:
            encoded = None if error is not None or begun.arguments is None else seam.codec.observe_result(value)
            self._runtime.observer.offer(
                Observation(
                    seam=seam,
                    n=begun.n,
                    callid=new_id(),
                    revision=self._policy.revision,
                    started=begun.started,
                    duration=duration,
                    arguments=begun.arguments,
                    secrets=begun.secrets,
                    value=encoded,
                    error=SeenError(error) if error is not None else None,
                    correlation=current_correlation(),
                )
            )
        except Exception as failure:
            self._runtime.observer.failed(seam.name, failure)


class OverBus:
    """A handler on the bus answers; the body is the fallback where running it is legal."""

    def __init__(self, runtime: Runtime, policy: Policy) -> None:
        self._runtime = runtime
        self._policy = policy

    def call(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        if _serves(seam):
            return seam.body(*args, **kwargs)
        command = self._command(seam, args, kwargs)
        if command is None:
            return seam.body(*args, **kwargs)
        if self._runtime.thread.is_current():
            report.count("skipped", seam=seam.name, reason="own-loop")
            return seam.body(*args, **kwargs)
        _warn_when_blocking(seam)
        answer = wait_for(self._ask(command))
        if self._legal_fallback(command, answer):
            return seam.body(*args, **kwargs)
        return self._result(command, answer)

    async def acall(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        if _serves(seam):
            return await seam.body(*args, **kwargs)
        command = self._command(seam, args, kwargs)
        if command is None:
            return await seam.body(*args, **kwargs)
        answer = await asyncio.wrap_future(self._ask(command))
        if self._legal_fallback(command, answer):
            return await seam.body(*args, **kwargs)
        return self._result(command, answer)

    def _ask(self, command: Command) -> Future[Answer]:
        try:
            return self._runtime.thread.spawn(self._runtime.ask(command))
        except BusUnavailableError:  # closed since the route was taken
            answer: Future[Answer] = Future()
            answer.set_result(Answer(kind="not-executed", reason="closed"))
            return answer

    def _command(self, seam: Seam, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Command | None:
        """The command of this call, or ``None`` when it must stay legacy; the reason is counted."""
        try:
            codec = seam.codec
            bound = codec.bind(args, kwargs)
            arguments = codec.encode(bound)
            codec.verify(bound, arguments)
            callid = new_id()
            secrets = codec.encode_secrets(bound)
            codec.verify_secrets(bound, secrets)
            sealed = self._runtime.seal(seam.name, callid, secrets)
        except TypeError:
            return None  # calling the body raises what it would always have raised
        except (UnserialisableError, SeamDefinitionError) as error:
            self._runtime.skip(seam.name, "unserialisable", str(error))
            return None
        except (MissingExtraError, CrossfadeError) as error:
            self._runtime.skip(seam.name, "secret", str(error))
            return None
        except Exception as error:  # a type of the user's own failed in its own way
            self._runtime.skip(seam.name, "internal", type(error).__name__)
            return None
        return Command(
            seam=seam,
            policy=self._policy,
            callid=callid,
            data=b'{"arguments":' + arguments + sealed + b"}",
            sealed=bool(sealed),
            correlation=current_correlation() or Correlation(run=callid),
            deadline=self._runtime.deadline(self._policy.timeout),
        )

    def _legal_fallback(self, command: Command, answer: Answer) -> bool:
        """Whether the body may run now: by phase, not by exception type.

        Not executed: always legal. Unknown: legal only where running twice does no harm.
        """
        if answer.kind in ("value", "error") or self._policy.fallback == "raise":
            return False
        if answer.kind == "unknown" and self._policy.effects == "unsafe":
            return False
        report.count("fallback", seam=command.seam.name, reason=answer.reason or answer.kind)
        return True

    def _result(self, command: Command, answer: Answer) -> Any:
        if answer.kind == "value":
            return command.seam.codec.decode_result(answer.value)
        if answer.kind == "error" and answer.error is not None:
            raise rebuild_error(answer.error)
        if answer.kind == "not-executed":
            raise NotExecutedError(
                f"{command.seam.name} was not executed: {answer.reason}", callid=command.callid, reason=answer.reason
            )
        raise OutcomeUnknownError(
            f"{command.seam.name}: no result before the deadline ({answer.reason}); it may have run",
            callid=command.callid,
            deadline=command.deadline,
        )


def _serves(seam: Seam) -> bool:
    """Whether this code is the seam's own handler: it recurses in place, or a full worker would wait for itself."""
    call = serving.get()
    if call is None or call.seam != seam.name:
        return False
    report.count("skipped", seam=seam.name, reason="own-handler")
    return True


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
