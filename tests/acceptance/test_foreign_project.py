"""A stranger's project, its tests written from docs/howto/test-your-code.md alone, against the built wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.project import TOP

PROJECT = Path(__file__).with_name("foreign_project")
# What a developer's shell may hold; nobody answers there, and the rest makes connecting fail.
SHELL = {
    "CROSSFADE_BUS": "nats://127.0.0.1:9",
    "CROSSFADE_CONFIG": "/nowhere/crossfade.toml",
    "CROSSFADE_OFF": "1",
    "CROSSFADE_SEAL_KEY": "not a key",
}
# The pytest plugins that the project uses; loading all that this repository installs takes most of a run.
PLUGINS = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "pytest_asyncio.plugin,anyio.pytest_plugin,xdist.plugin",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this tree, unpacked as an installer does; it comes before the editable install."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    (wheel,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def suite(tmp_path, installed):
    """Runs pytest in a copy of the project; returns its output, which must be of a passing run, and what passed."""
    project = tmp_path / "helpdesk"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str, **shell: str) -> tuple[str, int]:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=project,
            env={**os.environ, **PLUGINS, "PYTHONPATH": str(installed), **shell},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        output = result.stdout + result.stderr
        assert result.returncode == 0, output
        assert f"crossfade from {installed}" in output or "-n" in arguments, output
        passed = re.search(r"(\d+) passed", output)
        assert passed, output
        assert not re.search(r"\d+ (skipped|deselected|xfailed|warning)", output), output
        return output, int(passed[1])

    return run


def count_tests(*folders: str) -> int:
    """How many tests the project has there."""
    return sum(
        len(re.findall(r"^(?:async )?def test_", file.read_text(), re.MULTILINE))
        for folder in folders
        for file in PROJECT.glob(f"tests/{folder}/test_*.py")
    )


def test_without_the_plugin_everything_is_legacy(suite):
    """Tests from before the bus pass unchanged, with an application that connects, nobody answering, no plugin."""
    _, passed = suite("-p", "no:crossfade.adapters.testing", "tests/plain", CROSSFADE_BUS=SHELL["CROSSFADE_BUS"])

    assert passed == count_tests("plain") > 5


def test_with_the_plugin(suite, note):
    """All of its tests pass: sync, pytest-asyncio, anyio; no thread left, every warning an error, a hostile shell."""
    output, passed = suite(**SHELL, PYTHONDEVMODE="1")

    assert "ResourceWarning" not in output
    assert passed == count_tests("plain", "on_the_bus") > 30
    note(f"a foreign project's suite on the bus: {output.strip().splitlines()[-1].strip('= ')}")


def test_with_xdist_and_without_a_cache(suite):
    """The same in two processes, each test with a bus of its own."""
    _, passed = suite("-n", "2", "-p", "no:cacheprovider", **SHELL)

    assert passed == count_tests("plain", "on_the_bus")


def test_its_suite_can_fail(suite, tmp_path):
    """A seam whose values do not survive the trip fails the stranger's test, and his run."""
    tools = tmp_path / "helpdesk" / "helpdesk" / "tools.py"
    tools.write_text(tools.read_text().replace("-> list[Ticket]:", "-> list:"))

    with pytest.raises(AssertionError, match=r"FAILED .*test_tools_on_the_bus\.py::test_search "):
        suite("tests/on_the_bus/test_tools_on_the_bus.py", "-k", "test_search")
