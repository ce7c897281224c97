"""Every error crossfade raises, in families by who must act.

``ConfigurationError``: you, before anything runs. ``BusError``: whoever runs the broker. ``CallError``: the
caller of a seam, whose call ended in something other than the body's own result. A third-party exception
appears only as ``__cause__``.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class CrossfadeError(Exception):
    """The root of every error raised by crossfade; a bare instance carries its class's docstring as its text."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[type[Exception], tuple[Any, ...]], dict[str, Any]]:
        # The default calls the class with ``args``, which fails for keyword arguments: an app's process pool
        # (or a copy of the error) would break on an error of ours.
        return _bare, (type(self), self.args), vars(self)


def _bare(cls: type[Exception], args: tuple[Any, ...]) -> Exception:
    return cls.__new__(cls, *args)


# -- configuration: you act, before anything runs ------------------------------------------------------------


class ConfigurationError(CrossfadeError):
    """A setting is missing or wrong.

    ``where`` names it: ``crossfade.toml:3`` for syntax, ``crossfade.toml: seams."web.search".stage`` for a
    value, ``CROSSFADE_BUS`` for the environment.
    """

    def __init__(self, message: str, *, where: str = "") -> None:
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed; the text is the command that installs it."""

    def __init__(self, extra: str, *, needed_for: str) -> None:
        self.extra = extra
        super().__init__(f'{needed_for} needs an extra: pip install "crossfade[{extra}]"')


class SeamDefinitionError(ConfigurationError):
    """A decorated function cannot be a seam as it stands."""


class WorkflowDefinitionError(ConfigurationError):
    """A workflow cannot be run as it is written."""


class WorkflowRefusedError(ConfigurationError):
    """What was asked of an instance of a workflow cannot be done as it stands; the text says what can."""


class UnknownSeamError(ConfigurationError):
    """No process has declared this seam."""


class UnknownStageError(ConfigurationError):
    """There is no such stage."""


class StageChangeRefusedError(ConfigurationError):
    """The stage table, or the seam's effects, forbid this move."""


class PolicyChangedError(StageChangeRefusedError):
    """Somebody changed the policy since it was looked at: ``actor``, at ``changed`` (ISO); it is at ``actual`` now."""

    def __init__(self, seam: str, *, expected: int, actual: int, actor: str = "", changed: str = "") -> None:
        self.seam = seam
        self.expected = expected
        self.actual = actual
        self.actor = actor
        self.changed = changed
        by = f" ({actor} set it at {changed})" if actor else ""
        super().__init__(
            f"the policy of {seam} is at revision {actual}{by}, not {expected}: look at it again, then decide"
        )


# -- the bus: whoever runs the broker acts -------------------------------------------------------------------


class BusError(CrossfadeError):
    """The bus did not do what was asked."""


class BusUnavailableError(BusError):
    """The broker cannot be reached, and nothing was sent: doing it another way is safe."""


class BusAmbiguousError(BusError):
    """The broker was asked and did not answer: it may or may not have happened.

    Repeat the same publish (same event id): a copy that did land is reported as a duplicate.
    """


class BusFullError(BusError):
    """The stream has reached its size limit and refused the event; nothing was stored."""


class BusRefusedError(BusError):
    """The broker refused: wrong credentials, missing permission, missing stream, or a failing disk."""


class StreamMisconfiguredError(BusRefusedError):
    """A stream exists with settings that would lose events; the text names each setting and its remedy."""


class EventTooLargeError(BusError):
    """Payload and headers together exceed what the broker accepts. ``size`` and ``limit`` are bytes."""

    def __init__(self, *, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"the event takes {size} bytes with its headers, the broker accepts {limit}: "
            "send large data through the object store (dataref)"
        )


class WrongRevisionError(BusError):
    """A compare-and-set lost: the key is at ``actual`` (``None``: absent), not at the revision it was read at."""

    def __init__(self, key: str, *, actual: int | None) -> None:
        self.key = key
        self.actual = actual
        super().__init__(f"{key} changed meanwhile (now at revision {actual}): read it again, then decide")


class WrongPositionError(BusError):
    """A conditional append lost: what lies last under its filter is not what was expected; nothing was stored."""


class ObjectMissingError(BusError):
    """A claim check points at data that is gone or whose sha256 differs."""


# -- events ----------------------------------------------------------------------------------------------------


class MalformedEventError(CrossfadeError):
    """Bytes on the bus are not an event we can read; ``reason`` is a short token for counters."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class UnserialisableError(CrossfadeError):
    """A value cannot cross the bus without change; ``what`` names the parameter or ``return``."""

    def __init__(self, message: str, *, what: str = "") -> None:
        self.what = what
        super().__init__(f"{what}: {message}" if what else message)


# -- calls: the caller of a seam acts --------------------------------------------------------------------------


class CallError(CrossfadeError):
    """A call ended in something other than the body's own value or error; ``callid`` looks it up."""

    def __init__(self, message: str, *, callid: str) -> None:
        self.callid = callid
        super().__init__(message)


class NotConnectedError(CallError):
    """A ``remote`` call site has no body of its own and no bus was connected."""


class NotExecutedError(CallError):
    """The call provably did not run; running it another way is safe. ``reason`` says why it did not."""

    def __init__(self, message: str, *, callid: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message, callid=callid)


class KeyReusedError(CallError):
    """The same idempotency key was used for other arguments: nothing ran. Use a new key for a new intent."""


class OutcomeUnknownError(CallError):
    """The call was sent and no result was found before its deadline: it may have run, or may still.

    Ask again later with ``crossfade.shim.outcome(callid)``. ``deadline`` is the broker's time, ``reason`` a short token
    that says why nobody knows.
    """

    def __init__(self, message: str, *, callid: str, deadline: datetime, reason: str = "") -> None:
        self.deadline = deadline
        self.reason = reason
        super().__init__(message, callid=callid)


class CallMissingError(CallError):
    """No ledger holds this call: its id is wrong, or it is older than commands are kept."""


class InputRequiredError(CallError):
    """A call asks a person, and nobody can answer here; or an answer has no question that waits for it."""


class ResolutionRefusedError(CallError):
    """What an operator says of a call contradicts its ledger, or lacks its proof; the text says what to do."""


class CallCancelledError(CallError):
    """The call was cancelled by its caller before it ended."""


class HandlerOverdueError(CallError):
    """The handler did not end within its call's deadline and the grace, and was told to stop; it may still run."""


class NestedTooDeepError(CallError):
    """Handlers wait for one another deeper than any sound program does: two seams call each other without end?"""


class Retry(CrossfadeError):  # noqa: N818 - what a handler asks for, not what went wrong
    """Raised by a handler to be called again later: with backoff and jitter, or ``after`` so many seconds.

    For seams whose effects are ``none`` or ``idempotent``; after the last delivery the caller gets it as an error.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        self.after = after
        super().__init__(message or "the handler asked to be called again")

    def delay(self, attempt: int) -> float:
        """Seconds until the next delivery: 0.5, 1, 2, 4 ... at most 60, each between half and all of it."""
        if self.after is not None:
            return self.after
        longest: float = min(60.0, 0.5 * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load


class RemoteError(CrossfadeError):
    """The handler raised an error whose class is not registered here.

    ``type_name`` is text from the wire and never resolved; ``remote_traceback`` is text, too. Register the
    class with ``crossfade.shim.register_error`` to have it raised as itself.
    """

    def __init__(self, message: str, *, type_name: str, remote_traceback: str = "") -> None:
        self.type_name = type_name
        self.remote_traceback = remote_traceback
        super().__init__(f"{type_name}: {message}")
