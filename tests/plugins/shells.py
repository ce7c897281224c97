"""Installations in which commands are typed, on one embedded broker that syncs every write."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from crossfade.adapters.embedded import ensure_server, stop
from support.shells import Shell, write_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOTE = "import noting; c = shim.connect(required=True); noting.note(['one']); c.close()"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL; it goes by itself should this process be killed."""
    path = tmp_path_factory.mktemp("broker") / "bus"
    ensure_server(path, idle=120)
    yield f"embedded://{path}"
    stop(path)


@pytest.fixture(scope="session")
def installed(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Shell]]:
    """Makes an installation by its name: a folder with the shop's modules, and a prefix on the broker."""
    shells: list[Shell] = []

    def install(name: str) -> Shell:
        folder = write_modules(tmp_path_factory.mktemp(name))
        shells.append(Shell(folder=folder, environment={"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": name}))
        return shells[-1]

    yield install
    for shell in shells:
        shell.close()


@pytest.fixture
def shell(broker: str, tmp_path: Path) -> Iterator[Shell]:
    """An installation of the test's own, in which no seam is declared."""
    prefix = f"t{os.getpid()}_{tmp_path.name[-12:]}".lower()[:32]
    environment = {"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": re.sub("[^a-z0-9_]", "_", prefix)}
    shell = Shell(folder=write_modules(tmp_path), environment=environment)
    yield shell
    shell.close()


@pytest.fixture(scope="session")
def declared(installed: Callable[[str], Shell]) -> Shell:
    """One installation whose seams are declared, for tests that change nothing in it."""
    shell = installed("shop")
    shell.declare()
    return shell


@pytest.fixture(scope="session")
def blocked(installed: Callable[[str], Shell]) -> Shell:
    """An installation with a seam at shadow that has a blocker: its body was seen to change its arguments."""
    shell = installed("blocked")
    shell.declare(NOTE)
    shell.run("stage", "set", "shop.note", "observe")
    shell.declare(NOTE)
    shell.run("stage", "set", "shop.note", "shadow")
    return shell


@pytest.fixture(scope="session")
def told(installed: Callable[[str], Shell]) -> Shell:
    """An installation with some events: a move, three observations of one run, one of another, a secret among them."""
    shell = installed("told")
    shell.declare()
    shell.run("stage", "set", "shop.quote", "observe")
    shell.declare(
        "c = shim.connect(required=True)\n"
        "with shim.correlate(user='alice'):\n"
        "    for item in ('apple', 'pear', 'plum'): shop.quote(item, api_key='hunter2-' + item)\n"
        "shop.quote('fig')\n"
        "c.close()"
    )
    return shell
