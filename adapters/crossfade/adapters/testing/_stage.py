"""The fixture ``stage``: moves a seam at once, and serves it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import BusUnavailableError, ConfigurationError
from crossfade.shim.policies import Move
from crossfade.shim.stages import TABLE, Stage, parse_stage
from crossfade.shim.worker import Worker, WorkerOptions

if TYPE_CHECKING:
    from pathlib import Path

    from crossfade.adapters.memory import MemoryBroker
    from crossfade.shim.connection import Connection
    from crossfade.shim.seam import Handler, Seam

_PATIENCE: Final = 5.0  # seconds in which what must happen has happened, on a busy machine
_GRACE: Final = 1.0  # seconds that calls in progress get at the end of a test


class StageFixture:
    """Moves seams of one test: ``stage("web.search", "canary", percent=50)``."""

    def __init__(self, connection: Connection, workers: Workers, reason: str) -> None:
        self._runtime = connection.runtime
        self._workers = workers
        self._reason = reason

    def __call__(self, seam: str, stage: str, *, percent: float | None = None, **settings: Any) -> None:
        """Move ``seam`` to ``stage`` and return when the next call takes that way, and is served.

        ``settings`` are further ones of the seam's ``Policy``: ``timeout``, ``fallback``, ``sample``, ``compare``...
        Every move is allowed, whatever the stage table says; a move back is obeyed at once. Handlers of the seam
        must be declared before. The end of the test undoes it all.

        Raises ``UnknownSeamError``, ``UnknownStageError``, ``ConfigurationError`` for a wrong setting, and
        ``SeamDefinitionError`` for a seam that cannot be served.
        """
        target = parse_stage(stage)
        declared = self._runtime.registry.get(seam)
        if percent is not None:
            settings["percent"] = percent
        if TABLE[target].commands or target is Stage.SHADOW:
            self._workers.serve(declared)
        move = Move(
            target=target,
            actor="test",
            reason=self._reason,
            force=True,
            mode="abort",
            settings=settings,
            unsafe_storage=True,  # nothing here survives the process, the ledger of unsafe calls least of all
        )
        self._runtime.thread.run(self._move(declared, move), timeout=_PATIENCE)

    async def _move(self, seam: Seam, move: Move) -> None:
        """Not by the followers' reports, as ``set_stage`` would wait: this process is the only one, and faster."""
        policies = self._runtime.policies
        await policies.announce(seam, self._runtime.config.policy(seam.name, seam.policy))
        change = await policies.set_stage(seam.name, move, wait=0)
        while self._runtime.policy(seam.name, seam.policy).revision < change.revision:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)


class Workers:
    """One worker per seam that is served, so that one that cannot be served is in nobody's way."""

    def __init__(self, connection: Connection, broker: MemoryBroker, spool: Path) -> None:
        self._runtime = connection.runtime
        self._broker = broker
        self._options = WorkerOptions(spool=spool, grace=_GRACE)
        self._running: dict[str, tuple[Worker, threading.Thread]] = {}
        self._handlers: dict[str, Handler | None] = {}
        self._failures: list[BaseException] = []

    def serve_staged(self) -> None:
        """Serve what calls the bus without being staged: seams whose code says so, remote ones with a handler."""
        for seam in self._runtime.registry.all():
            stage = seam.policy.stage
            served_here = seam.has_body or self._runtime.registry.handler(seam.name)
            if served_here and (TABLE[stage].commands or stage is Stage.SHADOW):
                self.serve(seam)

    def serve(self, seam: Seam) -> None:
        """Serve ``seam`` until ``stop``; returns when calls and shadow runs reach the worker."""
        handler = self._runtime.registry.handler(seam.name)
        if seam.name in self._running:
            if self._handlers[seam.name] is not handler:
                raise ConfigurationError(f"{seam.name} is served already: declare its handler before the first stage()")
            return
        if not seam.has_body and not handler:
            raise ConfigurationError(
                f"{seam.name} is remote, and nothing serves it here: declare a handler in the test"
            )
        worker = Worker(self._runtime, self._options, only=[seam.name])
        thread = threading.Thread(target=self._run, args=(worker,), name=f"crossfade worker {seam.name}", daemon=True)
        thread.start()
        self._running[seam.name] = worker, thread
        self._handlers[seam.name] = handler
        self._wait_until_joined(worker, thread)

    def stop(self) -> None:
        """Let calls in progress end within a second, stop every worker; raises what ended one before."""
        for worker, thread in self._running.values():
            if thread.is_alive():
                worker.stop()
        for _, thread in self._running.values():
            thread.join(_GRACE + _PATIENCE)
        if self._failures:
            raise self._failures[0]

    def _run(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:
            self._failures.append(error)

    def _wait_until_joined(self, worker: Worker, thread: threading.Thread) -> None:
        """A shadow group begins with what comes after it: a call made before would never be compared."""
        wanted = {group for service in worker.services for group in (service.group, f"shadow-{service.group}")}
        end = time.monotonic() + _PATIENCE
        while not wanted <= self._groups():
            if not thread.is_alive():
                raise self._failures.pop()
            if time.monotonic() > end:
                raise BusUnavailableError("the worker did not start: is the broker stopped?")
            time.sleep(0.001)

    def _groups(self) -> set[str]:
        with self._broker.lock:
            return {name for name, _ in self._broker.groups(self._runtime.config.prefix)}
