"""Every interleaving of the ledger's protocol: what is promised holds, and each rule left out breaks it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from model.ledger_model import BUS, LEGACY, REAPER, WORKER, Setting, check

TWO_WORKERS = Setting(name="a caller, two workers", actors=((BUS, 0), (WORKER, 1), (WORKER, 2), (REAPER, 3)))
SETTINGS = [
    TWO_WORKERS,
    replace(TWO_WORKERS, name="... that never falls back", falls_back=False),
    replace(TWO_WORKERS, name="... and what is stored vanishes", vanishings=1, network=0),
    Setting(name="two hands of one worker", actors=((BUS, 0), (WORKER, 1), (WORKER, 1), (REAPER, 2)), crashes=0),
    Setting(name="a retry on the legacy path", actors=((BUS, 0), (LEGACY, 1), (WORKER, 2), (REAPER, 3)), keyed=True),
    Setting(
        name="two retries on the bus", actors=((BUS, 0), (BUS, 1), (WORKER, 2), (REAPER, 3)), keyed=True, crashes=0
    ),
    Setting(name="two retries in one process", actors=((LEGACY, 0), (LEGACY, 0), (REAPER, 1)), keyed=True, network=2),
]


# Ten seconds of CPU for a caller that does less than the first one
QUICK = [pytest.param(each, marks=pytest.mark.slow) if each is SETTINGS[1] else each for each in SETTINGS]


@pytest.mark.parametrize("setting", QUICK, ids=lambda setting: setting.name)
def test_every_interleaving(setting, note):
    """At most one start, results of owners only, no false "not executed", and every call ends while somebody lives."""
    began = time.perf_counter()
    found = check(setting)
    took = time.perf_counter() - began
    note(f"ledger model, {setting.name}: {found.states} states, {found.transitions} steps, {took:.1f} s")
    assert not found.wrong, f"{found.wrong}:\n" + "\n".join(found.trace)
    assert {starts for _, starts, _ in found.ends} >= {0, 1}


SAME_WORKER, KEYED = SETTINGS[3], SETTINGS[4]
MUTANTS = [
    ("no nonce", TWO_WORKERS),
    ("ambiguous is won", TWO_WORKERS),
    ("ambiguous is lost", TWO_WORKERS),
    ("absence is free", SETTINGS[2]),
    ("forgets where", SETTINGS[2]),
    ("take over", TWO_WORKERS),
    ("message id", TWO_WORKERS),
    ("late command", TWO_WORKERS),
    ("unfenced result", SETTINGS[2]),
    ("blunt unknown", TWO_WORKERS),
    ("no turns", SAME_WORKER),
    ("no turns", SETTINGS[6]),
    ("unclaimed retry", KEYED),
]


@pytest.mark.parametrize(("mutant", "setting"), MUTANTS, ids=lambda value: getattr(value, "name", value))
def test_each_rule_is_needed(mutant, setting, note):
    """Without this rule the model finds a way to break a promise, and shows the shortest one."""
    found = check(replace(setting, crashes=0, mutants=frozenset([mutant])))
    note(f"ledger model without its rule ({mutant}): {found.wrong} after {len(found.trace)} steps")
    assert found.wrong
