"""Runs each conformance test before every proxy: asserted of ours, observed of the peers, expected to fail on faults.

A peer's outcome is compared with ``tests/conformance/peers.json``; ``--observe -n 0 -m slow`` writes it.
"""

from __future__ import annotations

import contextlib
import json
import re

import pytest

from support.fronts import KINDS, PEERS
from support.needs import needs
from support.proxied import proxied
from support.verdicts import AS_ASSERTED, CAUGHT, FAULTS, OPEN, RESULTS

_CASE = re.compile(r"test_(\d\d)_")
_OBSERVED = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser):
    parser.addoption("--observe", action="store_true", help="write what the peers do (with -n 0 -m slow)")


def pytest_configure(config):
    config.stash[_OBSERVED] = {}


def pytest_generate_tests(metafunc):
    name = metafunc.function.__name__
    faults = [
        pytest.param(fault, marks=_caught(fault)) for fault, caught in FAULTS.items() if name in map(_test, caught)
    ]
    if faults and "ours" in metafunc.fixturenames:
        metafunc.parametrize("ours", ["ours", *faults], indirect=True)
    if "proxy" not in metafunc.fixturenames:
        return
    kinds = ["ours"]
    if _CASE.match(name):
        kinds += [pytest.param(kind, marks=_peer(kind)) for kind in PEERS]
    for mutant, caught in CAUGHT.items():
        if name in caught:
            strict = pytest.mark.xfail(strict=True, raises=AssertionError, reason=f"{mutant}: the bug is found")
            kinds += [pytest.param(mutant, marks=strict), "mended"]
    metafunc.parametrize("proxy", [*kinds, *faults], indirect=True)


def _test(case):
    """The test of which ``case`` is a variant, or all."""
    return case.partition("[")[0]


def _caught(fault):
    reason = f"{fault}: the fault is found"
    return [pytest.mark.slow, pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)]


def _is_spared(item):
    """Whether it is a variant that need not find the fault in its proxy."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    caught = FAULTS.get(params.get("proxy") or params.get("ours"))
    return caught is not None and not {item.originalname, case_key(item.originalname, item.callspec)} & caught


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if not _is_spared(item)]
    for item in items:
        callspec = getattr(item, "callspec", None)
        if "ours" in getattr(item, "fixturenames", ()) or (callspec and callspec.params.get("proxy") == "ours"):
            reason = OPEN.get(case_key(item.originalname, callspec))
            if reason:
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def _peer(kind):
    return [pytest.mark.slow, *([] if kind == "envoy" else [needs(kind)])]


@pytest.fixture(scope="session")
def _proxies():
    with contextlib.ExitStack() as stack:
        started = {}

        def start(kind):
            if kind not in started:
                started[kind] = stack.enter_context(proxied(kind))
            return started[kind]

        yield start


@pytest.fixture
def proxy(request, _proxies):
    """A proxy between the raw client (``proxy.connect()``) and the nasty upstream (``proxy.upstream``)."""
    running = _proxies(request.param)
    running.reset()
    yield running
    running.reset()
    assert running.front.alive(), running.front.log.read_text()


@pytest.fixture
def ours(request, _proxies):
    """Ours alone, for what the other proxies cannot be asked."""
    running = _proxies(getattr(request, "param", "ours"))
    running.reset()
    yield running
    running.reset()
    assert running.front.alive(), running.front.log.read_text()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    kind = pyfuncitem.callspec.params.get("proxy") if hasattr(pyfuncitem, "callspec") else None
    if kind not in PEERS:
        return (yield)
    try:
        yield
    except AssertionError as error:
        outcome = str(error).partition("\n")[0]
    else:
        outcome = AS_ASSERTED
    _judge(pyfuncitem, kind, outcome)
    return True


def _judge(item, kind, outcome):
    key = case_key(item.originalname, item.callspec)
    if item.config.option.observe:
        item.config.stash[_OBSERVED].setdefault(key, {})[kind] = outcome
        return
    recorded = json.loads(RESULTS.read_text()).get(key, {}).get(kind, "nothing recorded")
    if outcome != recorded:
        pytest.fail(f"{kind} was recorded as: {recorded}\nnow: {outcome}\n--observe writes it anew", pytrace=False)


def case_key(name, callspec):
    """A test and its variant, without the proxy."""
    variant = "-".join(part for part in callspec._idlist if part not in ("ours", *PEERS, *FAULTS)) if callspec else ""
    return f"{name}[{variant}]" if variant else name


def pytest_sessionfinish(session):
    observed = session.config.stash[_OBSERVED]
    if observed:
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        stored["versions"] = {kind: KINDS[kind].version() for kind in PEERS}
        for key, outcomes in observed.items():
            stored[key] = {**stored.get(key, {}), **outcomes}
        RESULTS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
