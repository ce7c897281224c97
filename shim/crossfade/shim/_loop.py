"""The one background event loop of a process, on a daemon thread of its own.

Everything that touches the bus runs there, so that sync code, async code and threads share one connection and
a handler that blocks its own loop cannot stop heartbeats.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

T = TypeVar("T")

THREAD_NAME = "crossfade"

_LOOK = 1.0  # seconds between looks of whoever waits without a limit


def wait_for(future: Future[T], timeout: float | None = None) -> T:
    """The future's result; whoever is interrupted while waiting (Ctrl-C) gives the work up.

    Without a timeout it looks now and then: a thread that waits for ever was seen to sleep on though its future was
    done, and a worker that was told to stop stayed (twice, on a machine with fifteen times its load).
    """
    try:
        while timeout is None:
            try:
                return future.result(_LOOK)
            except TimeoutError:
                if future.done():  # its own, or it ended just now
                    break
        return future.result(timeout)
    except BaseException:
        future.cancel()
        raise


class LoopThread:
    """Starts with the first coroutine handed to it and ends with ``stop``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._gate = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run ``coroutine`` there; the future may be waited for from any other thread.

        Raises ``BusUnavailableError`` after ``stop``: one that came too late would never end.
        """
        with self._gate:
            if not self._stopped:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        raise BusUnavailableError("the connection is closed, nothing was sent")

    def run(self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
        """Run ``coroutine`` there and wait for it. Never call this from the loop's own thread."""
        return wait_for(self.spawn(coroutine), timeout)

    def is_current(self) -> bool:
        """Whether the calling thread is the loop's own, which must never wait for itself."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancel what still runs, end the thread and close the loop."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            self.loop.close()
