"""Runs each conformance test before every proxy: asserted of ours, observed of the peers, expected to fail on mutants.

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
from support.verdicts import AS_ASSERTED, CAUGHT, OPEN, RESULTS

_CASE = re.compile(r"test_(\d\d)_")
_OBSERVED = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser):
    parser.addoption("--observe", action="store_true", help="write what the peers do (with -n 0 -m slow)")


def pytest_configure(config):
    config.stash[_OBSERVED] = {}


def pytest_generate_tests(metafunc):
    if "proxy" not in metafunc.fixturenames:
        return
    name = metafunc.function.__name__
    kinds = ["ours"]
    if _CASE.match(name):
        kinds += [pytest.param(kind, marks=_peer(kind)) for kind in PEERS]
    for mutant, caught in CAUGHT.items():
        if name in caught:
            strict = pytest.mark.xfail(strict=True, raises=AssertionError, reason=f"{mutant}: the bug is found")
            kinds += [pytest.param(mutant, marks=strict), "mended"]
    metafunc.parametrize("proxy", kinds, indirect=True)


def pytest_collection_modifyitems(items):
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
def ours(_proxies):
    """Ours alone, for what the other proxies cannot be asked."""
    running = _proxies("ours")
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
    variant = "-".join(part for part in callspec._idlist if part not in ("ours", *PEERS)) if callspec else ""
    return f"{name}[{variant}]" if variant else name


def pytest_sessionfinish(session):
    observed = session.config.stash[_OBSERVED]
    if observed:
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        stored["versions"] = {kind: KINDS[kind].version() for kind in PEERS}
        for key, outcomes in observed.items():
            stored[key] = {**stored.get(key, {}), **outcomes}
        RESULTS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
