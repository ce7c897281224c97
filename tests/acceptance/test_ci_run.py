"""The script that judges every change: each step runs, and one failure is enough."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from support.project import TOP

# Stands for every tool: writes down what it was asked, and fails where told to.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE_LOG"
case "$*" in *"uv run pytest") echo "CI=$CI"; echo "==== 3 passed in 0.01s ====";; esac
case "$(basename "$0") $*" in *"$FAKE_FAILURE") exit 3;; esac
case "$FAKE_ONCE$FAKE_FAILURE: $*" in once*) ;; *pytest*": "*--last-failed*) exit 3;; esac
"""
STEPS = [
    "python3 -m uv run pytest",
    "python3 -m uv run --no-sync pytest -m alone and not slow -n 0",
    "python3 -m uv run --no-sync ruff check",
    "python3 -m uv run --no-sync ruff format --check",
    "python3 -m uv run --no-sync mypy",
    "python3 -m uv run --no-sync basedpyright",
    "python3 -m uv run --no-sync lint-imports --no-logo",
]


@pytest.fixture
def ci(tmp_path):
    """Run the script in a copy of ``.ci``, every tool faked; returns the result and what the tools were asked."""
    shutil.copytree(TOP / ".ci", tmp_path / ".ci")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name in ("python3", "apt-get", "dpkg-query"):
        (fakes / name).write_text(FAKE)
        (fakes / name).chmod(0o755)
    log = tmp_path / "log"

    def run(
        *, failure: str = "nothing", packages: str = "", once: str = ""
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        (tmp_path / ".ci" / "debian-packages.txt").write_text(packages)
        environment = os.environ | {
            "PATH": f"{fakes}:{os.environ['PATH']}",
            "CI": "",
            "FAKE_LOG": str(log),
            "FAKE_FAILURE": failure,
            "FAKE_ONCE": once,
        }
        result = subprocess.run(
            [tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
        )
        return result, log.read_text().splitlines()

    return run


def test_every_step_runs_and_the_counts_come_last(ci):
    """All steps pass: the script exits 0 and ends with pytest's closing line, run under CI=true."""
    result, asked = ci()

    assert result.returncode == 0, result.stdout + result.stderr
    assert [line for line in asked if line in STEPS] == STEPS
    assert "CI=true" in result.stdout
    assert result.stdout.splitlines()[-1] == "==== 3 passed in 0.01s ===="


@pytest.mark.parametrize("failure", STEPS)
def test_one_failing_step_fails_the_run(ci, failure):
    """Whichever step fails, the others still run and the script fails."""
    result, asked = ci(failure=failure)

    assert result.returncode == 1
    assert [line for line in asked if line in STEPS] == STEPS
    assert result.stdout.count("FAILED (3)") == 1


@pytest.mark.parametrize("failure", STEPS[:2])
def test_what_fails_once_is_tried_again_alone(ci, failure):
    """A test that only minds a busy machine does not fail the run, and the log shows that it had to be asked twice."""
    result, asked = ci(failure=failure, once="once ")

    assert result.returncode == 0, result.stdout + result.stderr
    assert any("--last-failed" in line for line in asked)
    assert "again, alone" in result.stdout


def test_missing_packages_are_installed(ci):
    """A listed package that is absent is installed before the tests run."""
    result, asked = ci(packages="# reasons\nsome-server  some-server  # a reason\n")

    assert result.returncode == 0, result.stdout + result.stderr
    installed = "apt-get install --quiet --yes --no-install-recommends some-server"
    assert asked.index(installed) < asked.index(STEPS[0])


def test_an_empty_list_calls_no_package_manager(ci):
    """Without packages to install, root is not needed."""
    _, asked = ci(packages="# none\n")

    assert [line for line in asked if line.startswith(("apt-get", "dpkg-query"))] == []


def test_a_python_that_refuses_installs_gets_an_environment(ci):
    """Where pip refuses (externally managed), the tests run from an environment of the script's own."""
    _, asked = ci(failure="pip install --dry-run --quiet uv")

    assert any(line.startswith("python3 -m venv ") for line in asked)
