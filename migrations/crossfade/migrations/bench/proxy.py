"""``crossfade bench proxy``: the proxy beside nginx, Envoy, Caddy, mitmproxy and the plain one of FastAPI and httpx.

All stand on one core in front of one service; callers and service are on another. They take turns, window by window.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from . import fronts, nginx, proxy_stages, wrk
from .environments import PeerUnavailableError
from .measuring import Row, Unmeasured
from .windows import cores, cpu, in_turns, latency, rate
from .wrk import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .fronts import Front
    from .measuring import Figures, Unit
    from .windows import Cores, Taken

BODIES: Final = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000}
CONNECTIONS: Final = (1, 16, 256)
QUICK: Final = ("1 KB", 16)
# Ours by theirs, CPU time per request; what is not here is only reported.
CPU_GOALS: Final = {"nginx": 2.5, "Envoy": 0.75, "Caddy": 0.45}
# Whose requests per second and latency ours shall reach.
PACE: Final = "Envoy"


def run(*, full: bool = False) -> Iterator[Row | Unmeasured]:
    """Every row as it is measured. ``full``: all sizes of bodies with all numbers of connections, and more."""
    on = cores()
    with ExitStack() as stack:
        try:
            wrk.find()
            service = stack.enter_context(nginx.service(_files(), core=on.load))
        except PeerUnavailableError as error:
            yield from (Unmeasured(what=what, beside="everything", reason=str(error)) for what in cases(full=full))
            return
        running, missing = _start(stack, service, on)
        for what, load in cases(full=full).items():
            yield from _compared(what, running, load, on, rounds=3 if full else 5)
            yield from (Unmeasured(what=what, beside=name, reason=reason) for name, reason in missing.items())
        if full:
            yield from proxy_stages.observe(cases(full=True), service, on, rounds=3)
            yield from proxy_stages.shadow(_what(*QUICK), service, _load(*QUICK), on, rounds=5)


def cases(*, full: bool) -> dict[str, Load]:
    """What is asked of every proxy, by its name in the table."""
    quick, connections = QUICK
    if not full:
        return {_what(quick, connections): _load(quick, connections)}
    matrix = {_what(body, count): _load(body, count) for body in BODIES for count in CONNECTIONS}
    # Fields that repeat to the byte are not read twice by ours; tracing headers, which never repeat, are the rule here.
    return matrix | {f"{_what(quick, connections)}, one request again and again": _load(quick, connections, same=True)}


def _files() -> dict[str, int]:
    return {_target(body).rpartition("/")[2]: size for body, size in BODIES.items()}


def _target(body: str) -> str:
    return f"/bench/{body.replace(' ', '').lower()}"


def _load(body: str, count: int, *, same: bool = False) -> Load:
    return Load(target=_target(body), size=BODIES[body], connections=count, same=same)


def _what(body: str, count: int) -> str:
    return f"{body}, {count} connection{'s' * (count > 1)}"


def _start(stack: ExitStack, service: int, on: Cores) -> tuple[list[Front], dict[str, str]]:
    """Ours and all others that can be had, and why the rest cannot."""
    running = [stack.enter_context(fronts.crossfade(service, core=on.proxy))]
    missing: dict[str, str] = {}
    starts = {"nginx": fronts.nginx_front(service, core=on.proxy)} | {
        peer.name: fronts.peer_front(peer, service, core=on.proxy, probe=_target(QUICK[0])) for peer in fronts.PEERS
    }
    for name, start in starts.items():
        try:
            running.append(stack.enter_context(start))
        except PeerUnavailableError as error:
            missing[name] = str(error)
    return running, missing


# -- rows ------------------------------------------------------------------------------------------------------


def _compared(what: str, running: Sequence[Front], load: Load, on: Cores, *, rounds: int) -> Iterator[Row | Unmeasured]:
    taken = in_turns(running, load, on, rounds=rounds)
    ours = taken[running[0].name]
    for front in running[1:]:
        theirs = taken[front.name]
        if isinstance(ours, str) or isinstance(theirs, str):
            reason = f"{running[0].name}: {ours}" if isinstance(ours, str) else str(theirs)
            yield Unmeasured(what=what, beside=front.name, reason=reason)
        else:
            yield from rows(what, front, ours, theirs)


def rows(what: str, front: Front, ours: Sequence[Taken], theirs: Sequence[Taken]) -> Iterator[Row]:
    """CPU time per request, requests per second, latency: medians over the windows."""
    pace = 1.0 if front.name == PACE else None
    seen: tuple[tuple[str, Unit, Callable[[Sequence[Taken]], Figures], float | None], ...] = (
        ("CPU per request", "us", cpu, CPU_GOALS.get(front.name)),
        ("requests", "/s", rate, pace),
        ("latency", "ms", latency, pace),
    )
    for name, unit, of, goal in seen:
        yield Row(
            what=f"{what}: {name}",
            beside=front.title,
            unit=unit,
            ours=of(ours),
            theirs=of(theirs),
            goal=goal,
            tail=of is latency,
            median=of is not latency,
        )
