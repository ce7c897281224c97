"""What a route's stage costs its callers: the same proxy at legacy and at observe or shadow, in turns on one core.

Shadows are taken of every request while nobody can keep up with them: the candidate is slow or dead, the broker gone.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import CrossfadeError

from . import fronts
from .brokers import one_nats
from .measuring import Row, Unmeasured
from .processes import free_port, on_core, ours
from .windows import cpu, in_turns, latency, rate

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from .brokers import Broker
    from .fronts import Front
    from .windows import Cores, Taken
    from .wrk import Load

_BESIDE: Final = "the same at legacy"
_PASSING: Final = "http.passing"
_OBSERVED: Final = "http.observed"
_SHADOWED: Final = "http.shadowed"
_SLOW: Final = 0.2  # seconds that a slow candidate takes
_CONNECTIONS: Final = 64  # so that half of saturation is many callers with pauses, not few that wait
_MEDIAN: Final = 1.05
_TAIL: Final = 1.15


def observe(cases: Mapping[str, Load], service: int, on: Cores, *, rounds: int) -> Iterator[Row | Unmeasured]:
    """The route at observe beside itself at legacy; both proxies are connected."""
    with _broker(on) as broker, ExitStack() as stack:
        passing, observed = (_front(stack, service, on, broker, seam) for seam in (_PASSING, _OBSERVED))
        _move(broker, _OBSERVED, "observe")
        for what, load in cases.items():
            taken = in_turns([observed, passing], load, on, rounds=rounds)
            yield from costs(f"{what}, at observe", taken[observed.name], taken[passing.name])


def shadow(what: str, service: int, load: Load, on: Cores, *, rounds: int) -> Iterator[Row | Unmeasured]:
    """The route at shadow, every request, beside itself at legacy; half of saturation is legacy's."""
    for state in ("candidate slow", "candidate dead", "broker stopped"):
        with _broker(on) as broker, ExitStack() as stack:
            passing, shadowed = (_front(stack, service, on, broker, seam) for seam in (_PASSING, _SHADOWED))
            _move(broker, _SHADOWED, "shadow")
            with on_core(on.load):
                _candidate(stack, broker, slow=state == "candidate slow")
            if state == "broker stopped":
                os.kill(broker.pids[0], signal.SIGTERM)
            full = in_turns([shadowed, passing], load, on, rounds=rounds)
            yield from costs(f"{what}, at shadow, {state}", full[shadowed.name], full[passing.name])
            saturated = full[passing.name]
            if isinstance(saturated, str):
                continue
            half = half_of(load, statistics.median(one.seen.rate for one in saturated))
            taken = in_turns([shadowed, passing], half, on, rounds=rounds)
            yield from waits(f"half load, at shadow, {state}", taken[shadowed.name], taken[passing.name])


def half_of(load: Load, rate: float) -> Load:
    """The load that asks half as often as ``rate``, by more connections that pause; answers are taken to be quick."""
    return replace(load, connections=_CONNECTIONS, pause=_CONNECTIONS / (rate / 2) * 1e3)


def costs(what: str, ours: Sequence[Taken] | str, theirs: Sequence[Taken] | str) -> Iterator[Row | Unmeasured]:
    """What is used, and how much capacity is left."""
    if isinstance(ours, str) or isinstance(theirs, str):
        yield Unmeasured(what=what, beside=_BESIDE, reason=ours if isinstance(ours, str) else str(theirs))
        return
    yield Row(what=f"{what}: CPU per request", beside=_BESIDE, unit="us", ours=cpu(ours), theirs=cpu(theirs))
    yield Row(what=f"{what}: requests", beside=_BESIDE, unit="/s", ours=rate(ours), theirs=rate(theirs))


def waits(what: str, ours: Sequence[Taken] | str, theirs: Sequence[Taken] | str) -> Iterator[Row | Unmeasured]:
    """How long callers wait, by median and by 99th percentile."""
    if isinstance(ours, str) or isinstance(theirs, str):
        yield Unmeasured(what=what, beside=_BESIDE, reason=ours if isinstance(ours, str) else str(theirs))
        return
    a, b = latency(ours), latency(theirs)
    yield Row(what=f"{what}: median", beside=_BESIDE, unit="ms", ours=a, theirs=b, goal=_MEDIAN)
    yield Row(what=f"{what}: 99th", beside=_BESIDE, unit="ms", ours=a, theirs=b, goal=_TAIL, tail=True, median=False)


@contextmanager
def _broker(on: Cores) -> Generator[Broker]:
    with on_core(on.load), one_nats() as broker:
        yield broker


def _front(stack: ExitStack, service: int, on: Cores, broker: Broker, seam: str) -> Front:
    return stack.enter_context(fronts.crossfade(service, core=on.proxy, seam=seam, bus=broker.url))


def _candidate(stack: ExitStack, broker: Broker, *, slow: bool) -> None:
    """A worker that asks a service which takes its time, or nobody."""
    port = free_port()
    if slow:
        stack.enter_context(ours("-m", "crossfade.migrations.bench.candidate", str(port), str(_SLOW)))
    asked = ("--http", f"http://127.0.0.1:{port}", "--seam", _SHADOWED)
    stack.enter_context(ours("-m", "crossfade", "worker", *asked, "--bus", broker.url))


def _move(broker: Broker, seam: str, stage: str) -> None:
    """As a person does. Raises ``CrossfadeError``."""
    command = [sys.executable, "-m", "crossfade", "stage", "set", seam, stage, "--force", "--bus", broker.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - ours
    if done.returncode:
        raise CrossfadeError(f"{seam} cannot go to {stage}: {(done.stderr or done.stdout).strip()[-600:]}")
