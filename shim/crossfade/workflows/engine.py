"""Runs workflows over a connected bus: hears events, applies the reducer, stores the state, publishes the outbox.

Any engine may process any instance; compare-and-set decides, and the loser looks again. An input is acknowledged once
its transition is stored and what it sends is published. Whoever meets an instance whose outbox nobody is known to have
published does that first: a redelivery, the next event, a timer, or the look at every instance when an engine starts
and when another one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from pydantic import ValidationError

from crossfade.shim.claimcheck import load_data
from crossfade.shim.claims import CallPlace
from crossfade.shim.errors import (
    BusError,
    ConfigurationError,
    EventTooLargeError,
    MalformedEventError,
    WorkflowDefinitionError,
    WrongRevisionError,
)
from crossfade.shim.hooks import report
from crossfade.shim.policies import storage_holds_claims
from crossfade.shim.policy import Policy
from crossfade.shim.ports import ConsumeOptions
from crossfade.shim.schemas import WorkflowSignalled

from . import naming
from .definition import fits, pick
from .inputs import Answered, Arrived, Fired, Signalled, Started, Stopped, carried, view
from .instance import read_instance
from .outbox import Outbox, read
from .reducer import call_item, instance_id, reduce
from .serving import is_engine
from .store import Held, Store
from .timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from crossfade.shim._runtime import Runtime
    from crossfade.shim.ports import Deliveries, Delivery, Stored

    from .definition import Definition
    from .inputs import Input
    from .instance import Instance
    from .workflow import Workflows

KEEP: Final = 7 * 86400.0
"""Seconds that ended instances are kept: as long as the events that could start them again."""

_DELIVERIES: Final = 20  # of an event until it is a dead letter: five minutes of what passes
_AGAIN: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0)  # seconds between them
_MISSING: Final = 15.0  # seconds between them while the instance's version is not here
_TIDY: Final = 2.0  # seconds after which an instance at rest is marked as sent, or moved where it expires
_LOOK: Final = 5.0  # seconds between looks at who else runs workflows
_REMEMBERED: Final = 2000  # instances whose state is kept in memory, to be read less often
_TRIES: Final = 20  # writes of one instance that others may win in a row

_log = logging.getLogger("crossfade")


class VersionMissingError(ConfigurationError):
    """An instance's own version of its workflow is not among those that this process has."""


class _Rejected(Exception):  # noqa: N818 - a decision
    """An event that belongs in dead letters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How an engine runs.

    Attributes:
        concurrency: Events in hand at once, of each type. Default 64.
        ack_wait: Seconds after which a dead engine's events go to another, 1 at least. Default 10.
        keep: Seconds that ended instances can be looked at, and that an event with their key starts none again.
            Default 7 days. Danger: shorter than facts are kept, an old event that is delivered again starts anew.
    """

    concurrency: int = 64
    ack_wait: float = 10.0
    keep: float = KEEP

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigurationError("must be 1 at least", where="concurrency")
        if not 1 <= self.ack_wait < math.inf:
            raise ConfigurationError("must be 1 second at least", where="ack_wait")
        if self.keep < 1:
            raise ConfigurationError("must be 1 second at least", where="keep")


class Engine:
    """Runs the workflows of ``workflows`` until ``stop``. Several may run, in as many processes.

    Raises ``WorkflowDefinitionError`` for a workflow that cannot be run as it is written.
    """

    def __init__(self, runtime: Runtime, workflows: Workflows, options: EngineOptions | None = None) -> None:
        self._runtime = runtime
        self._options = options or EngineOptions()
        self.definitions: dict[str, dict[int, Definition]] = {}
        for workflow in workflows.all():
            self.definitions.setdefault(workflow.name, {})[workflow.version] = workflow.definition
        if not self.definitions:
            raise WorkflowDefinitionError("nothing to run: the modules named declare no workflow")
        self._store = Store(runtime.bus)
        self._outbox = Outbox(runtime)
        self._timers = Timers()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._resting: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unjoined = 0
        self._when_ready: Callable[[], None] = lambda: None
        runtime.run_workflows({name: sorted(versions) for name, versions in self.definitions.items()})

    def run(self, *, when_ready: Callable[[], None] | None = None) -> None:
        """Run until ``stop`` is called, from any thread; ``when_ready`` is called when nothing is missed any more."""
        self._when_ready = when_ready or self._when_ready
        self._runtime.thread.run(self.serve())

    def stop(self) -> None:
        """Take nothing more, finish what is in hand, return from ``run``."""
        self._runtime.thread.loop.call_soon_threadsafe(self._stopping.set)

    async def serve(self) -> None:
        """``run`` on the connection's own loop."""
        await self._warn_of_storage()
        sources = [
            (naming.group(name, what), pattern, handle)
            for name, versions in self.definitions.items()
            for what, pattern, handle in self._sources(name, versions)
        ]
        self._unjoined = len(sources)
        helpers = [asyncio.create_task(self._keep_time()), asyncio.create_task(self._keep_watch())]
        try:
            async with asyncio.TaskGroup() as group:
                for name, pattern, handle in sources:
                    group.create_task(self._consume(name, pattern, handle))
        finally:
            for resting in self._resting.values():
                resting.cancel()
            ending = [*helpers, *self._tasks]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _warn_of_storage(self) -> None:
        """Say it once when the broker may forget in a power cut that an unsafe call was started."""
        definitions = [found for versions in self.definitions.values() for found in versions.values()]
        unsafe = sorted({call for found in definitions for call in found.unsafe})
        if unsafe and not storage_holds_claims(Policy(), await self._runtime.bus.info()):
            report.count("warned", seam="workflows", reason="storage")
            _log.warning(
                "%s: unsafe, and this broker could lose a claim in a power cut: they might start twice; "
                "let it sync always, or say what running them twice does (effects=)",
                ", ".join(unsafe),
            )

    def _sources(
        self, name: str, versions: Mapping[int, Definition]
    ) -> list[tuple[str, str, Callable[[Stored], Awaitable[None]]]]:
        subjects = self._runtime.subjects
        types = {pattern.type for definition in versions.values() for pattern in definition.patterns}
        facts = [
            (kind, naming.any_of(subjects.fact(kind), subjects), partial(self._on_fact, name)) for kind in sorted(types)
        ]
        signals = naming.any_of(naming.signals(subjects, name), subjects)
        asks = any(step.kind == "approval" for definition in versions.values() for step in definition.steps.values())
        answers = naming.any_of(naming.answers(subjects), subjects)
        return [
            *facts,
            *([("answers", answers, partial(self._on_signal, name, authenticated=True))] if asks else []),
            ("results", naming.results(subjects, name), partial(self._on_result, name)),
            ("signals", signals, partial(self._on_signal, name)),
        ]

    # -- consuming ---------------------------------------------------------------------------------------------

    async def _consume(self, group: str, pattern: str, handle: Callable[[Stored], Awaitable[None]]) -> None:
        options = ConsumeOptions(
            ack_wait=self._options.ack_wait, max_deliver=_DELIVERIES, max_in_flight=1000, start="new"
        )
        working: set[asyncio.Task[None]] = set()
        async with self._runtime.bus.consume(group, [pattern], options) as deliveries:
            deliveries.want(self._options.concurrency)
            self._joined()
            taking = asyncio.create_task(self._take(deliveries, handle, working))
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking
            if working:
                await asyncio.wait(working, timeout=self._options.ack_wait)

    def _joined(self) -> None:
        self._unjoined -= 1
        if self._unjoined == 0:
            self._when_ready()

    async def _take(
        self,
        deliveries: Deliveries,
        handle: Callable[[Stored], Awaitable[None]],
        working: set[asyncio.Task[None]],
    ) -> None:
        while True:
            delivery = await deliveries.next()
            if delivery is not None:
                task = asyncio.create_task(self._settle(delivery, handle))
                working.add(task)
                task.add_done_callback(working.discard)

    async def _settle(self, delivery: Delivery, handle: Callable[[Stored], Awaitable[None]]) -> None:
        """One delivery from hand-out to its end; what goes wrong concerns this event alone."""
        try:
            await self._decide(delivery, handle)
        except BusError as error:  # it comes again
            report.count("unsettled", seam="workflows", reason=type(error).__name__)

    async def _decide(self, delivery: Delivery, handle: Callable[[Stored], Awaitable[None]]) -> None:
        last = delivery.attempt >= _DELIVERIES
        pause = _AGAIN[min(delivery.attempt, len(_AGAIN)) - 1]
        try:
            await handle(delivery.stored)
        except _Rejected as rejected:
            await delivery.reject(rejected.reason, detail=rejected.detail)
        except MalformedEventError as error:
            await delivery.reject(error.reason, detail=str(error))
        except VersionMissingError as error:
            await (
                delivery.reject("version", detail=str(error)) if last else delivery.retry(_MISSING, reason="version")
            )
        except BusError as error:
            await delivery.retry(pause, reason=type(error).__name__)
        except Exception as error:
            _log.exception("an event for a workflow could not be processed (delivery %d)", delivery.attempt)
            detail = f"{type(error).__name__}: {error}"
            await (delivery.reject("workflow", detail=detail) if last else delivery.retry(pause, reason="workflow"))
        else:
            await delivery.ack()

    # -- what comes in -----------------------------------------------------------------------------------------

    async def _on_fact(self, name: str, stored: Stored) -> None:
        event = stored.event
        seen = view(event, await load_data(self._runtime.bus, event))
        versions = self.definitions[name]
        newest = versions[max(versions)]
        trigger, taken = newest.trigger, False
        if trigger.type == event.type and fits(seen, trigger.where):
            key = _key(seen, trigger.key)
            if key is None:
                raise _Rejected(
                    "key", f"{name} is started by {event.type}, and this one has nothing at {trigger.key!r}"
                )
            taken = True
            await self.apply(instance_id(name, key), Started(event=seen, key=key, correlation=carried(event)))
        started = instance_id(name, _key(seen, trigger.key) or "") if taken else ""
        waits = [step.pattern for definition in versions.values() for step in definition.steps.values() if step.pattern]
        keys = {_key(seen, wait.key) for wait in waits if wait.type == event.type and fits(seen, wait.where)}
        for key in sorted(key for key in keys if key is not None):
            if instance_id(name, key) != started:
                await self.apply(instance_id(name, key), Arrived(event=seen))

    async def _on_result(self, name: str, stored: Stored) -> None:
        event = stored.event
        instance = event.get("partitionkey") or ""
        if not instance:  # written by somebody else than the call's worker
            command = await self._runtime.bus.last(CallPlace.of(stored.subject).invoke)
            instance = (command.event.get("partitionkey") if command else None) or ""
        if not instance:
            raise _Rejected("instance", f"a call of {name} ended, and nothing says whose it was")
        answer = await self._runtime.calls.read_result(event)
        await self.apply(instance, read(event.get("callid") or "", answer))

    async def _on_signal(self, name: str, stored: Stored, *, authenticated: bool = False) -> None:
        event = stored.event
        try:
            given = WorkflowSignalled.model_validate_json(event.data or b"")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise _Rejected("payload", f"this is no signal to {name}: {first['loc']}: {first['msg']}") from None
        if authenticated and given.workflow != name:  # these come on one subject: another workflow's engines hear it
            return
        signal = Signalled(
            id=event.id,
            action=given.action,
            step=given.step,
            by=given.by,
            comment=given.comment,
            data=given.data,
            authenticated=authenticated,
        )
        await self.apply(given.instance, signal)

    # -- applying ----------------------------------------------------------------------------------------------

    async def apply(self, instance: str, given: Input) -> str:
        """Apply ``given`` to an instance, durably, and send what comes of it; why it had no effect, or empty.

        Raises ``BusError``, ``MalformedEventError``, ``VersionMissingError``.
        """
        lock = self._locks.setdefault(instance, asyncio.Lock())
        async with lock:
            for _ in range(_TRIES):
                try:
                    known = instance in self._held
                    ignored = await self._apply(instance, given)
                    if ignored and known:  # by what was known here, and another engine may have gone on with it
                        self._held.pop(instance, None)
                        ignored = await self._apply(instance, given)
                    if ignored:
                        report.count("ignored", seam=self._name(instance), reason=ignored)
                    if isinstance(given, Started):
                        await self._take_early(instance)
                except WrongRevisionError:
                    report.count("raced", seam="workflows")
                    self._held.pop(instance, None)
                except BusError:
                    self._held.pop(instance, None)
                    raise
                else:
                    return ignored
        raise BusError(f"instance {instance} is changed by others all the time")

    async def _apply(self, instance: str, given: Input) -> str:
        held = await self._hold(instance)
        if held is None and await self._store.was(instance):
            return "ended"
        if held is None and isinstance(given, Arrived):
            held = await self._keep_early(instance, given)
        if held is None and not isinstance(given, Started):
            return "no-instance"
        started: Any = given
        definition = self._definition(held.instance) if held else self._newest(started, instance)
        if held is not None and not held.sent:
            await self._send(held)
            held = await self._hold(instance)
            if held is None:
                return "ended"
        now = self._now
        turn = reduce(definition, held.instance if held else None, given, now=now)
        if turn.ignored:
            self._rest(instance)
            return turn.ignored
        await self._commit(definition, held, turn.instance, given)
        return ""

    async def _keep_early(self, instance: str, given: Arrived) -> Held | None:
        """Keep an event whose instance has not begun, if it ever will; the instance, when it has begun meanwhile."""
        if not await self._store.keep_early(instance, given.event):
            raise _Rejected("too-early", f"too many events came for instance {instance}, which has not begun")
        return await self._hold(instance)

    async def _take_early(self, instance: str) -> None:
        """Apply what came before the instance began."""
        for event in await self._store.early(instance):
            await self._apply(instance, Arrived(event=event))

    async def _commit(self, definition: Definition, held: Held | None, instance: Instance, given: Input) -> None:
        """Store a transition, then send what it sends."""
        revision = held.revision if held else None
        try:
            stored = await self._store.write(instance, revision=revision)
        except EventTooLargeError as error:
            message = f"its state would take {error.size} bytes, {error.limit} at most: pass references, not contents"
            if held is None or isinstance(given, Arrived | Signalled):  # without it the instance is as well as before
                raise _Rejected("too-large", message) from None
            smaller = self._without(definition, held.instance, given, {"type": "too-large", "message": message})
            stored = await self._store.write(smaller, revision=revision)
        self._remember(stored)
        await self._send(stored)

    def _without(self, definition: Definition, instance: Instance, given: Input, error: dict[str, str]) -> Instance:
        """The instance failed, and, where ``given`` is a call's end, without what that returned."""
        instance = reduce(definition, instance, Stopped(error=error), now=self._now).instance
        if not isinstance(given, Answered):
            return instance
        ended = Answered(callid=given.callid, kind="error", error=error)
        turn = reduce(definition, instance, ended, now=self._now).instance
        turn.outbox = [*instance.outbox, *turn.outbox]
        return turn

    async def _send(self, held: Held) -> None:
        """Publish the outbox; calls that ended by not being sent are applied at once."""
        ended = await self._outbox.send(held.instance) if held.instance.outbox else []
        held.sent = True
        self._set_timer(held.instance)
        self._rest(held.instance.id)
        definition = self._definition(held.instance)
        for answer in ended:
            current = await self._hold(held.instance.id)
            turn = reduce(definition, current.instance, answer, now=self._now) if current else None
            if current and turn and not turn.ignored:
                await self._commit(definition, current, turn.instance, answer)

    async def _hold(self, instance: str) -> Held | None:
        """The instance as it was last seen here, or as it lies in the bucket."""
        held = self._held.get(instance)
        if held is None:
            held = await self._store.get(instance)
            if held is None:
                return None
            held.sent = not held.instance.outbox
            self._remember(held)
        return held

    def _remember(self, held: Held) -> None:
        self._held[held.instance.id] = held
        self._held.move_to_end(held.instance.id)
        while len(self._held) > _REMEMBERED:
            self._held.popitem(last=False)

    def _definition(self, instance: Instance) -> Definition:
        versions = self.definitions.get(instance.workflow, {})
        if instance.version not in versions:
            here = ", ".join(map(str, sorted(versions))) or "none"
            raise VersionMissingError(
                f"instance {instance.id} of {instance.workflow} is of version {instance.version}, and this process has "
                f"{here}: run the module that declares it beside the new one until its instances have ended"
            )
        return versions[instance.version]

    def _name(self, instance: str) -> str:
        held = self._held.get(instance)
        return held.instance.workflow if held else "workflows"

    def _newest(self, started: Started, instance: str) -> Definition:
        for versions in self.definitions.values():
            newest = versions[max(versions)]
            if instance_id(newest.name, started.key) == instance:
                return newest
        raise ConfigurationError(f"no workflow here has the instance {instance}")

    @property
    def _now(self) -> float:
        return self._runtime.bus.now().timestamp()

    # -- at rest -----------------------------------------------------------------------------------------------

    def _rest(self, instance: str) -> None:
        """Tidy up when it has been left alone for a while."""
        known = self._resting.pop(instance, None)
        if known is not None:
            known.cancel()
        loop = asyncio.get_running_loop()
        self._resting[instance] = loop.call_later(_TIDY, lambda: self._spawn(self._tidy(instance)))

    async def _tidy(self, instance: str) -> None:
        """Mark the outbox as sent, so that nobody sends it again later; move an ended one to where it expires."""
        self._resting.pop(instance, None)
        lock = self._locks.setdefault(instance, asyncio.Lock())
        async with lock:
            held = self._held.get(instance)
            if held is None or not held.sent:
                return
            try:
                if held.instance.ended:
                    await self._store.retire(held.instance, keep=self._options.keep)
                    self._held.pop(instance, None)
                elif held.instance.outbox:
                    held.instance.outbox = []
                    stored = await self._store.write(held.instance, revision=held.revision)
                    stored.sent = True
                    self._remember(stored)
            except BusError as error:  # somebody else went on with it, or the next one to meet it sends it again
                self._held.pop(instance, None)
                report.count("untidy", seam=held.instance.workflow, reason=type(error).__name__)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- time --------------------------------------------------------------------------------------------------

    def _set_timer(self, instance: Instance) -> None:
        if self._timers.set(instance.id, instance.due):
            self._woken.set()

    async def _keep_time(self) -> None:
        while True:
            self._woken.clear()
            due = self._timers.next()
            wait = None if due is None else max(0.0, min(due - self._now, 60.0))  # the broker's clock may be stepped
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                for instance in self._timers.take(self._now):
                    self._spawn(self._fire(instance))

    async def _fire(self, instance: str) -> None:
        try:
            await self._ask_ledgers(instance)
            await self.apply(instance, Fired())
            held = self._held.get(instance)
            if held is not None:
                self._set_timer(held.instance)
        except VersionMissingError:
            report.count("skipped", seam="workflows", reason="version")  # who has it has its timers, too
        except Exception as error:
            report.count("retried", seam="workflows", reason=f"timer-{type(error).__name__}")
            if not isinstance(error, BusError):
                _log.exception("instance %s: what was due could not be done, trying again", instance)
            self._timers.set(instance, self._now + 1.0)
            self._woken.set()

    async def _ask_ledgers(self, instance: str) -> None:
        """Say how calls ended whose time is over and of which nobody has said so."""
        held = await self._hold(instance)
        if held is None:
            return
        definition = self._definition(held.instance)
        for undo, states in ((False, held.instance.steps), (True, held.instance.undos)):
            for name, state in list(states.items()):
                if state.status == "calling" and state.due is not None and state.due <= self._now:
                    item = call_item(definition, held.instance, name, undo=undo)
                    await self.apply(instance, await self._outbox.last_word(held.instance, item))

    # -- every instance ----------------------------------------------------------------------------------------

    async def _keep_watch(self) -> None:
        """Look at every instance at the start, and again when another engine is gone, whose timers nobody else has."""
        known: set[str] | None = None
        while True:
            try:
                now = await self._others()
                if known is None or known - now:
                    await self.recover()
                known = now
            except BusError as error:
                report.count("retried", seam="workflows", reason=f"watch-{type(error).__name__}")
            await asyncio.sleep(_LOOK)

    async def _others(self) -> set[str]:
        live = await self._runtime.policies.instances.live()
        return {found.instance for found in live if is_engine(found) and found.instance != self._runtime.instance}

    async def recover(self) -> None:
        """Publish what others left unpublished, and know every timer."""
        began, missing = time.monotonic(), OrderedDict[tuple[str, int], int]()
        for key, value, revision in await self._store.live():
            try:
                instance = read_instance(value)
            except MalformedEventError as error:
                report.count("skipped", seam="workflows", reason="state")
                _log.error("instance %s cannot be read, and is left alone: %s", key, error)
                continue
            versions = self.definitions.get(instance.workflow)
            if versions is None:
                continue
            if instance.version not in versions:
                which = instance.workflow, instance.version
                missing[which] = missing.get(which, 0) + 1
                continue
            await self._adopt(Held(instance, revision))
        for awaited in await self._store.awaited():
            await self._recover_early(awaited)
        for (name, version), n in missing.items():
            report.count("skipped", seam=name, reason="version", n=n)
            _log.warning("%s v%d is not here; instances that wait until it is: %d", name, version, n)
        _log.debug("looked at every instance in %.3f s", time.monotonic() - began)

    async def _recover_early(self, instance: str) -> None:
        try:
            async with self._locks.setdefault(instance, asyncio.Lock()):
                if await self._hold(instance) is not None:
                    await self._take_early(instance)
        except (BusError, VersionMissingError, MalformedEventError) as error:
            self._held.pop(instance, None)
            report.count("retried", seam="workflows", reason=f"recover-{type(error).__name__}")

    async def _adopt(self, found: Held) -> None:
        instance = found.instance
        if self._timers.hint(instance.id, instance.due):  # an event may have come since it was read
            self._woken.set()
        if instance.outbox or instance.ended:
            try:
                lock = self._locks.setdefault(instance.id, asyncio.Lock())
                async with lock:
                    held = await self._hold(instance.id)
                    if held is not None and not held.sent:
                        await self._send(held)
                    elif held is not None:
                        self._rest(instance.id)
            except BusError as error:
                self._held.pop(instance.id, None)
                report.count("retried", seam=instance.workflow, reason=f"recover-{type(error).__name__}")
                self._timers.set(instance.id, self._now + 1.0)  # whoever meets it sends it
                self._woken.set()


def _key(event: Mapping[str, Any], path: str) -> str | None:
    """What tells instances apart; ``None`` where there is nothing that could."""
    found = pick(event, path)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return str(found) or None
