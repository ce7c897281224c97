"""What ``submit`` returns, whichever side the task runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .calls import Progress

R_co = TypeVar("R_co", covariant=True)


class TaskHandle(Protocol[R_co]):
    """A submitted call. ``durable``: it survives this process."""

    callid: str
    durable: bool

    def done(self) -> bool:
        """Whether the result is known in this process."""
        ...

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the result; raises what the body raised, ``TimeoutError`` after ``timeout`` seconds."""
        ...

    async def aresult(self, timeout: float | None = None) -> R_co:
        """See ``result``."""
        ...

    def events(self) -> Iterator[Progress]:
        """The call's progress from the start until it ends."""
        ...

    def aevents(self) -> AsyncIterator[Progress]:
        """See ``events``."""
        ...

    def cancel(self) -> bool:
        """Give the call up. ``True``: it had not started and never will; ``False``: it runs, and was told."""
        ...

    async def acancel(self) -> bool:
        """See ``cancel``."""
        ...
