"""What users install: the built wheel in fresh environments, far from the source tree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.project import PARTS, PYPROJECT, ROOTS, TOP, files

TARGET = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
REMEDY = 'crossfade: the command line needs an extra: pip install "crossfade[cli]"'


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this tree, built once."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="session")
def listing(wheel):
    """The paths in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(Path(name) for name in archive.namelist())


def find_uv() -> list[str]:
    """How to call uv: ``uv run`` says where it is, else PATH, else this Python's own."""
    if path := os.environ.get("UV") or shutil.which("uv"):
        return [path]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise pytest.UsageError("the wheel is installed with uv: python3 -m pip install uv")


def install(wheel: Path, folder: Path, *, extra: str = "") -> Path:
    """A fresh environment with the wheel, resolved as of the project's own date; returns its ``bin``."""
    uv = find_uv()
    python = folder / "venv" / "bin" / "python"
    date = PYPROJECT["tool"]["uv"]["exclude-newer"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], cwd=folder, check=True)
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", python, "--exclude-newer", date, f"{wheel}{extra}"],
        cwd=folder,
        check=True,
    )
    return python.parent


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def base(wheel, tmp_path_factory):
    """An environment with the base install: what a legacy application must swallow."""
    return install(wheel, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def with_cli(wheel, tmp_path_factory):
    """An environment with the extra ``cli``."""
    return install(wheel, tmp_path_factory.mktemp("cli"), extra="[cli]")


# -- what is in it ---------------------------------------------------------------------------------------------


def test_the_wheel_holds_what_it_should_and_nothing_else(listing):
    """Every file of the roots, and the example the demo copies, is under ``crossfade``; no tests, no docs."""
    info = f"crossfade-{PYPROJECT['project']['version']}.dist-info"
    expected = {path.relative_to(path.parts[0]) for root in ROOTS for path in files(root)}
    for source, target in TARGET["force-include"].items():
        expected |= {target / path.relative_to(source) for path in files(source)}

    assert {path.parts[0] for path in listing} == {"crossfade", info}
    assert {path for path in listing if path.parts[0] == "crossfade"} == expected
    assert {path.relative_to(info) for path in listing if path.parts[0] == info} == {
        Path(name) for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def test_each_part_is_a_typed_package_of_a_namespace(listing):
    """One ``__init__.py`` and one ``py.typed`` per part, none above them."""
    markers = {path for path in listing if path.name == "py.typed"}
    packages = {path for path in listing if path.name == "__init__.py" and len(path.parts) <= 3}

    assert markers == {Path("crossfade", part, "py.typed") for part in PARTS}
    assert packages == {Path("crossfade", part, "__init__.py") for part in PARTS}


# -- what it does ----------------------------------------------------------------------------------------------


def test_the_base_install_imports_the_shim(base, tmp_path):
    """A legacy application's base install imports ``crossfade.shim`` from the wheel, without any extra."""
    result = run(base / "python", "-c", "import crossfade.shim; print(crossfade.shim.__file__)", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(base.parent))


@pytest.mark.parametrize("command", [["crossfade"], ["python", "-m", "crossfade"]], ids=" ".join)
def test_without_its_extra_the_command_line_says_the_remedy(base, tmp_path, command):
    """``crossfade --help`` on a base install prints one line, what to install, and exits 2."""
    result = run(base / command[0], *command[1:], "--help", cwd=tmp_path)

    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"{REMEDY}\n")


@pytest.mark.parametrize("command", [["crossfade"], ["python", "-m", "crossfade"]], ids=" ".join)
def test_the_command_line_works_with_its_extra(with_cli, tmp_path, command):
    """``crossfade --help`` shows the usage with only the extra ``cli`` installed."""
    result = run(with_cli / command[0], *command[1:], "--help", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert f"Usage: {' '.join(command)}" in result.stdout


def test_a_mistyped_command_is_one_clear_error(with_cli, tmp_path):
    """With only the extra ``cli`` installed a wrong command is a usage error, not a traceback."""
    result = run(with_cli / "crossfade", "no-such-command", cwd=tmp_path)

    assert result.returncode == 2
    assert "no-such-command" in result.stderr
    assert "Traceback" not in result.stderr
