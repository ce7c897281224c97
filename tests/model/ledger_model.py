"""The protocol of ``crossfade.shim.claims`` as a transition system, small enough to try every interleaving.

One call. Its ledger is a log of ``(seq, kind, nonce)``: C the command, O a claim, V a value (errors alike), N
not-executed, U unknown. An append names what must lie last; its answer is clean, or lost after it landed, or it never
landed, or it lands at any later moment. Every actor may stand still between any two steps (a pause is an interleaving
in which it comes late), and processes crash. Time is 0 before the deadline, 1 after it, 2 after the grace.

What is left out: clocks that disagree (a claim decides whatever they say), the broker's own crashes (an append is
durable once acknowledged; DESIGN demands storage for that), and more than one call.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

TERMINALS = "VNU"
WORKER, BUS, LEGACY, REAPER = "worker", "bus caller", "legacy caller", "reaper"
_BEGINS = {WORKER: "idle", BUS: "send", LEGACY: "turn", REAPER: "idle"}


class Entry(NamedTuple):
    """One event of the ledger."""

    seq: int
    kind: str
    nonce: str


class Request(NamedTuple):
    """An append on its way: ``kind`` under the condition that the last event under ``filter`` lies at ``at``."""

    kind: str
    nonce: str
    filter: str
    at: int


class Actor(NamedTuple):
    """One thread of control. ``at`` is the position it claims at, ``claim`` that of its own claim."""

    phase: str
    at: int = 0
    claim: int = 0
    told: str = ""
    sent: int = 0


class State(NamedTuple):
    """Everything that decides what may happen next."""

    log: tuple[Entry, ...]
    seq: int
    time: int
    net: frozenset[Request]
    actors: tuple[Actor, ...]
    wins: tuple[int, ...]
    network: int
    crashes: int
    vanishings: int
    deliveries: int
    acked: bool
    starts: int
    disturbed: bool  # a process died, the command vanished or somebody gave up: now "unknown" may be all there is
    wrong: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Who takes part and what goes wrong. ``actors`` are (role, process); ``keyed`` calls share a key."""

    name: str
    actors: tuple[tuple[str, int], ...]
    keyed: bool = False
    falls_back: bool = True
    network: int = 1
    crashes: int = 1
    vanishings: int = 0
    deliveries: int = 2
    mutants: frozenset[str] = frozenset()

    def first(self) -> State:
        """Nothing has happened."""
        processes = 1 + max(process for _, process in self.actors)
        return State(
            log=(), seq=0, time=0, net=frozenset(), actors=tuple(Actor(_BEGINS[role]) for role, _ in self.actors),
            wins=(0,) * processes, network=self.network, crashes=self.crashes, vanishings=self.vanishings,
            deliveries=self.deliveries, acked=False, starts=0, disturbed=False, wrong="",
        )  # fmt: skip


@dataclass(kw_only=True)
class Checked:
    """What was tried, and the shortest way to what is wrong."""

    states: int = 0
    transitions: int = 0
    wrong: str = ""
    trace: list[str] = field(default_factory=list)
    ends: set[tuple[str, int, tuple[str, ...]]] = field(default_factory=set)


def check(setting: Setting, limit: int = 2_000_000) -> Checked:
    """Try every interleaving, shortest first; stops at the first state in which a promise is broken."""
    model = Model(setting)
    first = setting.first()
    came: dict[State, tuple[State, str] | None] = {first: None}
    queue = deque([first])
    found = Checked()
    while queue:
        state = queue.popleft()
        steps = model.steps(state)
        found.transitions += len(steps)
        wrong = state.wrong or model.broken(state)
        if not wrong and not any(name[0] != "!" for name, _ in steps):
            wrong = model.unfinished(state)
            found.ends.add((terminal(state), state.starts, tuple(actor.told for actor in state.actors)))
        if wrong:
            found.wrong, found.trace = wrong, way_to(state, came)
            break
        for name, following in steps:
            if following not in came:
                came[following] = (state, name)
                queue.append(following)
        assert len(came) < limit, "too many states"
    found.states = len(came)
    return found


def way_to(state: State, came: dict[State, tuple[State, str] | None]) -> list[str]:
    """The steps from the start to ``state``."""
    names: list[str] = []
    while (step := came[state]) is not None:
        state, name = step
        names.append(name)
    return names[::-1]


def last(log: tuple[Entry, ...], kinds: str = "CO" + TERMINALS) -> Entry | None:
    """The last event of these kinds."""
    return next((entry for entry in reversed(log) if entry.kind in kinds), None)


def terminal(state: State) -> str:
    """The kind of the call's terminal: its last event, or there is none."""
    entry = last(state.log)
    return entry.kind if entry and entry.kind in TERMINALS else ""


def stuck(state: State) -> bool:
    """Whether the ledger holds something that has not ended; a command nobody was handed lies in dead letters."""
    entry = last(state.log)
    return entry is not None and entry.kind == "O"


class Model:
    """The steps that are possible; those that begin with ``!`` are faults, which nobody may need."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.mutants = setting.mutants
        self.roles = [role for role, _ in setting.actors]
        self.process = [process for _, process in setting.actors]

    # -- promises ----------------------------------------------------------------------------------------------

    def broken(self, state: State) -> str:
        """The promise that is broken in ``state``, or nothing."""
        if state.starts > 1:
            return "started twice"
        if not self.setting.keyed and state.starts and any(actor.told == "N" for actor in state.actors):
            return "told 'not executed', and it started"
        return ""

    def unfinished(self, state: State) -> str:
        """What is missing in a state in which nothing more can happen by itself."""
        alive = [actor for actor in state.actors if actor.phase != "dead"]
        if stuck(state) and len(alive) > 0:
            return "claimed, and it never ends"
        for role, actor in zip(self.roles, state.actors, strict=True):
            if role in (BUS, LEGACY) and actor.phase != "dead" and not actor.told:
                return "a caller was never told"
        if terminal(state) == "U" and not state.disturbed:
            return "nobody died and nobody knows"
        return ""

    # -- appends -----------------------------------------------------------------------------------------------

    def land(self, state: State, request: Request) -> tuple[State, int]:
        """The state after ``request`` reached the broker, and its position: 0 when the condition did not hold."""
        kind, nonce, under, at = request
        if kind == "O" and "message id" in self.mutants and (there := last(state.log, "O")):
            return state, there.seq  # R3: the loser is told "duplicate", which is success
        if kind in "VN" and (same := next((e for e in state.log if e[1:] == (kind, nonce)), None)):
            return state, same.seq  # idempotent by the event's id
        expected = last(state.log, under)
        holds = (expected.seq if expected else 0) == at
        if kind == "O" and "absence is free" in self.mutants:
            holds = last(state.log, "O") is None
        if kind == "C" and "late command" in self.mutants:
            holds = True
        if kind in "VN" and "unfenced result" in self.mutants:
            holds = True
        if not holds:
            return state, 0
        owner = last(state.log, "O")
        if kind in "VN" and (owner is None or owner.nonce != nonce):
            state = state._replace(wrong="a result of somebody who is not the owner was accepted")
        if kind == "U" and terminal(state) in ("V", "N"):
            state = state._replace(wrong="'unknown' replaced a result")
        seq = state.seq + 1
        return state._replace(log=(*state.log, Entry(seq, kind, nonce)), seq=seq), seq

    def append(self, state: State, i: int, request: Request, answers) -> list[tuple[str, State]]:
        """Every way this append may go: ``answers`` makes the actor of "ok" (with a position), "no" and "?"."""
        name = f"{self.roles[i]} {i} appends {request.kind}"
        after, seq = self.land(state, request)
        clean = answers(after, "ok", seq) if seq else answers(after, "no", 0)
        steps = [(f"{name}: {'stored' if seq else 'refused'}", clean)]
        if state.network:
            worse = state._replace(network=state.network - 1)
            landed, _ = self.land(worse, request)
            steps += [
                (f"!{name}: answer lost", answers(landed, "?", 0)),
                (f"!{name}: lost", answers(worse, "?", 0)),
                (f"!{name}: delayed", answers(worse._replace(net=worse.net | {request}), "?", 0)),
            ]
        return steps

    # -- steps -------------------------------------------------------------------------------------------------

    def steps(self, state: State) -> list[tuple[str, State]]:
        """Every step that is possible in ``state``."""
        if state.wrong:
            return []
        found: list[tuple[str, State]] = []
        for i, role in enumerate(self.roles):
            if state.actors[i].phase not in ("dead", "done"):
                found += self.of_role[role](self, state, i)
        for request in state.net:
            landed, _ = self.land(state._replace(net=state.net - {request}), request)
            found.append((f"a delayed {request.kind} lands", landed))
        if state.time < 2 and state.seq:
            found.append(("time passes", state._replace(time=state.time + 1)))
        return found + self.faults(state)

    def faults(self, state: State) -> list[tuple[str, State]]:
        found: list[tuple[str, State]] = []
        if state.crashes:
            for process in {p for p, role in zip(self.process, self.roles, strict=True) if role != REAPER}:
                mine = [p == process for p in self.process]
                if any(a.phase not in ("dead", "done", "idle") for a, m in zip(state.actors, mine, strict=True) if m):
                    actors = tuple(Actor("dead") if m else a for a, m in zip(state.actors, mine, strict=True))
                    crashed = state._replace(actors=actors, crashes=state.crashes - 1, disturbed=True)
                    found.append((f"!process {process} dies", crashed))
        if state.vanishings and state.log:
            gone = state._replace(vanishings=state.vanishings - 1, disturbed=True)
            rest = tuple(entry for entry in state.log if entry.kind != "C")
            found += [
                ("!the command vanishes", gone._replace(log=rest)),
                ("!the ledger vanishes", gone._replace(log=())),
            ]
        return found

    def put(self, state: State, i: int, actor: Actor, **changes) -> State:
        return state._replace(actors=(*state.actors[:i], actor, *state.actors[i + 1 :]), **changes)

    def nonce(self, state: State, i: int) -> str:
        if "no nonce" in self.mutants:
            return "x"
        return f"{self.process[i]}.{state.wins[self.process[i]]}"

    def my_turn(self, state: State, i: int) -> bool:
        """Whether no other claim of the call is under way in this process."""
        return "no turns" in self.mutants or not any(
            self.process[j] == self.process[i] and actor.phase.startswith(("claim", "read"))
            for j, actor in enumerate(state.actors)
            if j != i
        )

    def claiming(self, state: State, i: int) -> list[tuple[str, State]]:
        """``take``: append the claim until the answer is clean, read whose it is when it is refused."""
        actor = state.actors[i]
        phase, _, nonce = actor.phase.partition(":")
        if phase == "turn":
            drawn = actor._replace(phase=f"claim:{self.nonce(state, i)}")
            return [("takes its turn", self.put(state, i, drawn))] if self.my_turn(state, i) else []
        if phase == "claim":

            def answered(after: State, answer: str, seq: int) -> State:
                if answer == "ok" or (answer == "?" and "ambiguous is won" in self.mutants):
                    return self.won(after, i, nonce, seq or after.seq)
                if answer == "?" and "ambiguous is lost" in self.mutants:
                    return self.put(after, i, actor._replace(phase="held"))
                return self.put(after, i, actor._replace(phase=("read:" if answer == "no" else "claim:") + nonce))

            return self.append(state, i, Request("O", nonce, "CO" + TERMINALS, actor.at), answered)
        owner = last(state.log, "O")
        if owner is None:
            return [("reads that there is no claim", self.put(state, i, actor._replace(phase="vanished")))]
        if owner.nonce == nonce:
            return [("reads its own claim", self.won(state, i, nonce, owner.seq))]
        return [("reads another's claim", self.put(state, i, actor._replace(phase="held")))]

    def won(self, state: State, i: int, nonce: str, claim: int) -> State:
        wins = list(state.wins)
        wins[self.process[i]] += 1
        return self.put(state, i, state.actors[i]._replace(phase=f"won:{nonce}", claim=claim), wins=tuple(wins))

    def logging(self, state: State, i: int, kind: str, nonce: str, then: Actor, **changes) -> list[tuple[str, State]]:
        """``log_result``: fenced by the claim, repeated until the answer is clean."""

        def answered(after: State, answer: str, _: int) -> State:
            return after if answer == "?" else self.put(after, i, then, **changes)

        return self.append(state, i, Request(kind, nonce, "O", state.actors[i].claim), answered)

    def working(self, state: State, i: int) -> list[tuple[str, State]]:
        """A worker's hands: delivery, claim, deadline, start, result, acknowledgement."""
        actor = state.actors[i]
        phase, _, nonce = actor.phase.partition(":")
        if phase == "idle":
            command = last(state.log, "C")
            if command is None or state.acked or not state.deliveries:
                return []
            got = self.put(state, i, Actor("turn", at=command.seq), deliveries=state.deliveries - 1)
            return [(f"worker {i} gets the command", got)]
        if phase in ("turn", "claim", "read"):
            return [(f"worker {i} {name}", after) for name, after in self.claiming(state, i)]
        if phase in ("won", "start", "late", "log"):
            return self.serving(state, i, phase, nonce)
        if phase == "vanished":
            return [(f"worker {i} rejects it", self.put(state, i, Actor("idle"), acked=True))]
        return self.leaving(state, i)

    def serving(self, state: State, i: int, phase: str, nonce: str) -> list[tuple[str, State]]:
        """What an owner does: it looks at the clock, starts or refuses, logs."""
        actor = state.actors[i]
        if phase == "won":
            checked = "late:" if state.time else "start:"
            return [(f"worker {i} looks at the clock", self.put(state, i, actor._replace(phase=checked + nonce)))]
        if phase == "start":
            started = self.put(state, i, actor._replace(phase="log:" + nonce), starts=state.starts + 1)
            return [(f"worker {i} STARTS", started)]
        return self.logging(state, i, "N" if phase == "late" else "V", nonce, Actor("idle"), acked=True)

    def leaving(self, state: State, i: int) -> list[tuple[str, State]]:
        """``_leave_to_owner``."""
        if terminal(state):
            return [(f"worker {i} repeats the answer", self.put(state, i, Actor("idle"), acked=True))]
        if state.time < 2:
            return [(f"worker {i} leaves it", self.put(state, i, Actor("idle")))]
        owner = last(state.log, "O")
        if "take over" in self.mutants and owner:
            return [(f"worker {i} takes it over", self.put(state, i, Actor("start:" + owner.nonce, claim=owner.seq)))]
        return self.unknown(state, i)

    def unknown(self, state: State, i: int) -> list[tuple[str, State]]:
        """``log_unknown``: on the condition that the claim is still the last event."""
        owner, event = last(state.log, "O"), last(state.log)
        if owner is None or (owner != event and "blunt unknown" not in self.mutants):
            return [("nothing to end", self.put(state, i, Actor("idle")))]
        chosen = self.put(state, i, Actor("unknown", at=owner.seq))
        return [("sees a silent owner", chosen)] if state.actors[i].phase != "unknown" else []

    def reaping(self, state: State, i: int) -> list[tuple[str, State]]:
        """Ends silent claims; a worker that gives up an owner goes on like this, too."""
        actor = state.actors[i]
        if actor.phase == "unknown":

            def answered(after: State, answer: str, _: int) -> State:
                return after if answer == "?" else self.put(after, i, Actor("idle"))

            under = "O" if "blunt unknown" in self.mutants else "CO" + TERMINALS
            return self.append(state, i, Request("U", "", under, actor.at), answered)
        event = last(state.log)
        blunt = "blunt unknown" in self.mutants and terminal(state) in ("V", "N")
        if state.time == 2 and event is not None and (event.kind == "O" or blunt):
            return self.unknown(state, i)
        return []

    # -- callers -----------------------------------------------------------------------------------------------

    def calling(self, state: State, i: int) -> list[tuple[str, State]]:
        """A caller: sends (or claims, on the legacy path), waits, claims what nobody started, runs what it won."""
        actor = state.actors[i]
        phase, _, nonce = actor.phase.partition(":")
        if phase in ("send", "doubt"):
            return self.sending(state, i)
        if phase in ("turn", "claim", "read"):
            steps = [(f"caller {i} {name}", after) for name, after in self.claiming(state, i)]
            if phase == "claim" and state.network < self.setting.network:  # patience ends; only doubt makes it long
                steps.append((f"!caller {i} gives up", self.tell(state, i, "U")._replace(disturbed=True)))
            return steps
        if phase == "wait":
            return self.waiting(state, i)
        if phase in ("held", "vanished"):
            return self.losing(state, i)
        return self.owning(state, i, phase, nonce)

    def losing(self, state: State, i: int) -> list[tuple[str, State]]:
        """The call is another's: its answer is ours while there is time to wait for it."""
        joined = (self.roles[i] == LEGACY or self.setting.keyed) and state.time == 0
        if terminal(state) or joined:
            return [(f"caller {i} waits", self.put(state, i, state.actors[i]._replace(phase="wait")))]
        return [(f"caller {i} cannot know", self.tell(state, i, "U"))]

    def owning(self, state: State, i: int, phase: str, nonce: str) -> list[tuple[str, State]]:
        """The body runs here, under a claim or as the only caller of a refused call; or the claim is given back."""
        begun = state.starts + 1
        if phase == "won" and self.setting.falls_back:
            running = state.actors[i]._replace(phase="log:" + nonce)
            return [(f"caller {i} STARTS", self.put(state, i, running, starts=begun))]
        if phase == "fall back":
            started = self.put(state, i, Actor("done", told="V"), starts=begun)
            return [(f"caller {i} STARTS without a claim", started)]
        kind = "N" if phase == "won" else "V"
        return self.logging(state, i, kind, nonce, Actor("done", told=kind))

    def sending(self, state: State, i: int) -> list[tuple[str, State]]:
        actor = state.actors[i]

        def answered(after: State, answer: str, seq: int) -> State:
            if answer == "ok":
                return self.put(after, i, actor._replace(phase="wait", sent=seq))
            if answer == "no":
                command = last(after.log, "C")
                return self.put(after, i, actor._replace(phase="wait", sent=command.seq if command else 0))
            return self.put(after, i, actor._replace(phase="doubt"))

        steps = self.append(state, i, Request("C", "", "CO" + TERMINALS, 0), answered)
        if actor.phase == "doubt" and state.time:
            steps.append((f"caller {i} stops sending", self.put(state, i, actor._replace(phase="wait"))))
        return steps

    def waiting(self, state: State, i: int) -> list[tuple[str, State]]:
        """A look-up, or the deadline."""
        actor, known = state.actors[i], terminal(state)
        if known in ("V", "U"):
            return [(f"caller {i} is told", self.tell(state, i, known))]
        if known == "N":
            return [(f"caller {i} hears a refusal", self.refused(state, i))]
        if state.time == 0:
            return []
        at = actor.sent
        if not at or "forgets where" in self.mutants:
            command = last(state.log, "C")
            at = command.seq if command else 0
        return [(f"caller {i} is out of time", self.put(state, i, actor._replace(phase="turn", at=at)))]

    def refused(self, state: State, i: int) -> State:
        """Not executed: the only caller may run; one of several with a key only under a claim on that terminal."""
        if not self.setting.falls_back:
            return self.tell(state, i, "N")
        event = last(state.log)
        if self.setting.keyed and "unclaimed retry" not in self.mutants and event:
            return self.put(state, i, state.actors[i]._replace(phase="turn", at=event.seq))
        return self.put(state, i, state.actors[i]._replace(phase="fall back"))

    def tell(self, state: State, i: int, kind: str) -> State:
        wrong = "told 'not executed' of a call that had started" if kind == "N" and state.starts else state.wrong
        return self.put(state, i, Actor("done", told=kind), wrong=wrong)

    def working_or_reaping(self, state: State, i: int) -> list[tuple[str, State]]:
        return self.reaping(state, i) if state.actors[i].phase == "unknown" else self.working(state, i)

    of_role = {WORKER: working_or_reaping, BUS: calling, LEGACY: calling, REAPER: reaping}  # noqa: RUF012
