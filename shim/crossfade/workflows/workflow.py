"""How a workflow is written: decorated functions, each a step, whose parameters name what it needs.

    reports = Workflow("report.from.email", on="email.received", where={"data.recipients": ["desk@example.com"]})

    @reports.agent("research")
    def findings(event):
        return {"question": event["subject"]}

    @reports.approval(by="editor", timeout=timedelta(days=7))
    def publish(findings):
        return findings["summary"]

A function is called with values and returns data. It must be pure: it may run again, in another process.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crossfade.shim.errors import WorkflowDefinitionError

from .definition import NOTHING, RUN, Definition, Pattern, Step, Trying, Undo, check_known, parameters, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from crossfade.shim.policy import Effects

    from .definition import Join, Kind

F = TypeVar("F", bound="Callable[..., Any]")


class Workflow:
    """A workflow of one version; its steps are added by its decorators, from the first to the last.

    ``on``: the type of the event that starts an instance, ``where``: path -> value, or a list of values, that it
    must have. ``key``: the path of what tells instances apart; an event with the key of an instance belongs to it.
    Default ``run``: each run has one. ``version``: raise it with every change of the steps; an instance stays on its
    own, so keep the old one beside the new one until all of its instances have ended.

    What steps have in common: ``needs`` names more steps that must be done, beside the function's parameters.
    ``join="any"``: it begins with the first of them, the others are ``None``. ``when``: a function like the step's own;
    where it says no, the step is skipped, and what needs it, too, unless ``otherwise`` is the value it is done with.
    ``if_fails``: the value it is done with when it fails after all its attempts, or nothing came in time.

    Raises ``WorkflowDefinitionError`` for anything wrong, here and in every decorator.
    """

    def __init__(
        self, name: str, *, on: str, where: Mapping[str, Any] | None = None, key: str = RUN, version: int = 1
    ) -> None:
        self.name = name
        self.version = version
        self._trigger = Pattern(type=on, key=key, where=dict(where or {}))
        self._steps: dict[str, Step] = {}
        self._result: Callable[..., Any] | None = None
        self._definition: Definition | None = None
        registry.add(self)

    @property
    def definition(self) -> Definition:
        """The finished workflow; nothing can be added after the first look."""
        if self._definition is None:
            self._definition = Definition(
                name=self.name,
                version=self.version,
                trigger=self._trigger,
                steps=dict(self._steps),
                result=self._result,
            )
        return self._definition

    # -- calls -------------------------------------------------------------------------------------------------

    def tool(
        self,
        seam: str,
        *,
        effects: Effects = "unsafe",
        timeout: float | timedelta = 30.0,
        attempts: int = 1,
        backoff: float | timedelta = 1.0,
        if_fails: Any = NOTHING,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """A call of the tool ``seam`` by a worker on the bus; the function returns its arguments by name.

        ``effects`` as of a seam: ``unsafe`` (the default) starts each attempt at most once. ``timeout``: of an attempt,
        queueing included. ``attempts``: tries in all, the pause between them doubling from ``backoff``; an unsafe call
        whose outcome nobody knows is never repeated. The step's value is what the call returns.
        """
        trying = Trying(timeout=seconds(timeout), attempts=attempts, backoff=seconds(backoff), effects=effects)
        return self._adder(
            "tool",
            target=seam,
            trying=trying,
            if_fails=if_fails,
            needs=needs,
            join=join,
            when=when,
            otherwise=otherwise,
        )

    def agent(
        self,
        seam: str,
        *,
        effects: Effects = "unsafe",
        timeout: float | timedelta = 900.0,
        attempts: int = 1,
        backoff: float | timedelta = 1.0,
        if_fails: Any = NOTHING,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """A call of the agent ``seam``: like ``tool``, for work of minutes."""
        trying = Trying(timeout=seconds(timeout), attempts=attempts, backoff=seconds(backoff), effects=effects)
        return self._adder(
            "agent",
            target=seam,
            trying=trying,
            if_fails=if_fails,
            needs=needs,
            join=join,
            when=when,
            otherwise=otherwise,
        )

    def undo(
        self,
        step: str,
        *,
        tool: str = "",
        agent: str = "",
        effects: Effects = "unsafe",
        timeout: float | timedelta = 30.0,
        attempts: int = 3,
        backoff: float | timedelta = 1.0,
    ) -> Callable[[F], F]:
        """A call that takes back what ``step`` has done, when the workflow fails or is cancelled.

        Steps are undone one by one, the last one done first. The function returns the call's arguments by name.
        """
        self._check_open()
        check_known(self.name, "undo", [step], self._steps)
        if bool(tool) == bool(agent):
            raise WorkflowDefinitionError(f"{self.name}: undo of {step!r} calls one seam: say tool=... or agent=...")
        trying = Trying(timeout=seconds(timeout), attempts=attempts, backoff=seconds(backoff), effects=effects)

        def add(function: F) -> F:
            known = self._steps[step]
            if known.undo is not None:
                raise WorkflowDefinitionError(f"{self.name}: step {step!r} has an undo already")
            check_known(self.name, f"undo of {step}", parameters(function), self._steps)
            undo = Undo(domain="tool" if tool else "agent", seam=tool or agent, make=function, trying=trying)
            self._steps[step] = replace(known, undo=undo)
            return function

        return add

    # -- waits -------------------------------------------------------------------------------------------------

    def wait(
        self,
        event: str,
        *,
        where: Mapping[str, Any] | None = None,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        if_fails: Any = NOTHING,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """Wait for an event of this type that belongs to the instance: what lies at ``key`` is the instance's key.

        ``key``: where the event holds it; default: where the trigger does. ``where`` as of the trigger; what the
        function returns is a ``where``, too, made when the wait begins (``None``: anything). An event that comes before
        the step begins is kept for it. The step's value is the event's data.
        """
        pattern = Pattern(type=event, key=key or self._trigger.key, where=dict(where or {}))
        limit = None if timeout is None else seconds(timeout)
        return self._adder(
            "wait",
            pattern=pattern,
            timeout=limit,
            if_fails=if_fails,
            needs=needs,
            join=join,
            when=when,
            otherwise=otherwise,
        )

    def approval(
        self,
        *,
        by: str | Sequence[str] = (),
        authenticated: bool = False,
        timeout: float | timedelta | None = None,
        if_fails: Any = NOTHING,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """Wait for a person's yes: ``crossfade workflow signal INSTANCE STEP --approve``. A no fails the step.

        The function returns what they are asked. ``by``: who may answer, default anybody. ``authenticated``: only the
        control plane's word counts, which knows who asks by their credential; default: whoever reaches the bus is taken
        at their word. The step's value is ``{"by": ..., "authenticated": ..., "comment": ..., "data": ...}``.
        """
        limit = None if timeout is None else seconds(timeout)
        people = (by,) if isinstance(by, str) else tuple(by)
        return self._adder(
            "approval",
            by=people,
            authenticated=authenticated,
            timeout=limit,
            if_fails=if_fails,
            needs=needs,
            join=join,
            when=when,
            otherwise=otherwise,
        )

    def timer(
        self,
        *,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """Wait for a time: the function returns seconds, a ``timedelta``, or an aware ``datetime``."""
        return self._adder("timer", needs=needs, join=join, when=when, otherwise=otherwise)

    # -- what others see ---------------------------------------------------------------------------------------

    def emit(
        self,
        event: str,
        *,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """Publish an event of this type; the function returns its data, which is the step's value."""
        return self._adder("emit", target=event, needs=needs, join=join, when=when, otherwise=otherwise)

    def show(
        self,
        *,
        needs: Sequence[str] = (),
        join: Join = "all",
        when: Callable[..., Any] | None = None,
        otherwise: Any = NOTHING,
    ) -> Callable[[F], F]:
        """Tell the page of the user whose run this is; the function returns what, which is the step's value."""
        return self._adder("show", needs=needs, join=join, when=when, otherwise=otherwise)

    def result(self, function: F) -> F:
        """What the workflow ends with: the value of its ``workflow.completed``."""
        self._check_open()
        check_known(self.name, "result", parameters(function), self._steps)
        self._result = function
        return function

    # -- adding ------------------------------------------------------------------------------------------------

    def _adder(self, kind: Kind, **options: Any) -> Callable[[F], F]:
        self._check_open()
        if options.get("join") not in ("all", "any"):
            raise WorkflowDefinitionError(f"{options['join']!r} is neither 'all' nor 'any'", where="join")
        if isinstance(options["needs"], str):
            raise WorkflowDefinitionError(f"is a list of steps: say [{options['needs']!r}]", where="needs")

        def add(function: F) -> F:
            step = Step(name=getattr(function, "__name__", ""), kind=kind, make=function, **options)
            if step.name in self._steps:
                raise WorkflowDefinitionError(f"{self.name} has a step {step.name!r} already: rename one")
            check_known(self.name, step.name, step.needed, self._steps)
            self._steps[step.name] = step
            return function

        return add

    def _check_open(self) -> None:
        if self._definition is not None:
            raise WorkflowDefinitionError(f"{self.name} is in use: add steps right where it is made")


class Workflows:
    """The workflows that this process has declared, by name and version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], Workflow] = {}

    def add(self, workflow: Workflow) -> None:
        """Add one; a second of this name and version raises ``WorkflowDefinitionError``."""
        with self._lock:
            if (workflow.name, workflow.version) in self._known:
                raise WorkflowDefinitionError(
                    f"workflow {workflow.name!r} of version {workflow.version} is declared twice: "
                    "raise the version of the new one, or rename it"
                )
            self._known[workflow.name, workflow.version] = workflow

    def all(self) -> list[Workflow]:
        """Every one, in order of declaration."""
        with self._lock:
            return list(self._known.values())

    def clear(self) -> None:
        """Forget all: for tests that declare their own."""
        with self._lock:
            self._known.clear()


registry: Final = Workflows()
