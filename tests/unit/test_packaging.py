"""The layout's traps, each as a guard: one namespace over four roots, arrows, extras, reasons, no hosts."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import pytest

from support.project import PARTS, PYPROJECT, ROOTS, TOP, files

BIN = Path(sys.executable).parent
CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# What a legacy application's start must not pay for.
HEAVY = ("asyncio", "cryptography", "nats", "pydantic")


# -- the namespace ---------------------------------------------------------------------------------------------


def test_crossfade_is_a_namespace():
    """One regular ``crossfade/__init__.py`` anywhere on the path would hide every other root."""
    spec = importlib.util.find_spec("crossfade")

    assert spec is not None
    assert spec.origin is None
    assert [path for path in files() if path.parts[-2:] == ("crossfade", "__init__.py")] == []


def test_an_editable_install_holds_every_root():
    """Each part imports from its own root; a root missing in dev-mode-dirs would fail here."""
    assert sorted(PYPROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]) == ROOTS
    for part, root in PARTS.items():
        module = importlib.import_module(f"crossfade.{part}")

        assert module.__file__ == str(TOP / root / "crossfade" / part / "__init__.py")


def test_every_part_is_typed_and_nothing_else_is_a_part():
    """Each part has ``__init__.py`` and ``py.typed``; beside the parts the namespace holds ``__main__.py`` only."""
    inside = [path.parts[2:] for root in ROOTS for path in files(f"{root}/crossfade")]

    assert {parts[0] for parts in inside} == {*PARTS, "__main__.py"}
    for part in PARTS:
        assert {(part, "__init__.py"), (part, "py.typed")} <= set(inside)


def test_a_root_holds_its_namespace_only():
    """A whole root is on ``sys.path``: ``shim/utils.py`` would be a global module ``utils``."""
    assert [path for path in files(*ROOTS) if path.parts[1] != "crossfade"] == []


@pytest.mark.parametrize("name", [*ROOTS, "pickle"])
def test_banned_imports_are_caught(name):
    """``import shim`` would make a second module object of each class, and pickle runs what it reads."""
    command = [BIN / "ruff", "check", "--no-cache", "--output-format=concise", "--stdin-filename=tests/x.py", "-"]
    found = subprocess.run(
        command, cwd=TOP, input=f"import {name}\n", capture_output=True, text=True, check=False
    ).stdout

    assert "TID251" in found


# -- the arrows ------------------------------------------------------------------------------------------------


def lint_imports(top: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of ``top``'s pyproject.toml over ``top``'s own roots."""
    path = os.pathsep.join(str(top / root) for root in ROOTS)
    return subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--no-logo"],
        cwd=top,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path):
    """A copy of the roots and their contracts."""
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    for path in files(*(f"{root}/**.py" for root in ROOTS)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / path, tmp_path / path)
    return tmp_path


def forbidden_pairs(contract: dict) -> list[tuple[str, str]]:
    """The (importer, imported) packages a contract forbids."""
    if contract["type"] == "independence":
        return list(permutations(contract["modules"], 2))
    return list(product(contract["source_modules"], contract["forbidden_modules"]))


def test_every_part_is_under_contract():
    """No part is outside the linter's sight, and each pair of parts is either allowed by design or forbidden."""
    assert sorted(PYPROJECT["tool"]["importlinter"]["root_packages"]) == [f"crossfade.{part}" for part in sorted(PARTS)]

    forbidden = {pair for contract in CONTRACTS for pair in forbidden_pairs(contract)}
    allowed = {pair for pair in permutations(PARTS, 2) if tuple(f"crossfade.{part}" for part in pair) not in forbidden}
    assert allowed == {
        ("adapters", "shim"),
        ("proxy", "shim"),
        ("workflows", "shim"),
        *(("migrations", part) for part in PARTS if part != "migrations"),
    }


def test_the_arrows_hold():
    """The tree breaks no contract."""
    result = lint_imports(TOP)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_a_planted_breach_is_caught(contract, tree):
    """Each import a contract forbids, planted in a copy of the tree, is named as its breach."""
    planted = []
    for importer, imported in forbidden_pairs(contract):
        name = f"breach_{imported.rpartition('.')[2]}"
        part = importer.rpartition(".")[2]
        (tree / PARTS[part] / "crossfade" / part / f"{name}.py").write_text(f"import {imported}\n")
        planted.append(f"{importer}.{name} -> {imported} (l.1)")

    result = lint_imports(tree)

    assert result.returncode == 1, result.stderr
    assert f"{contract['name']} BROKEN" in result.stdout
    assert [breach for breach in planted if breach not in result.stdout] == []


# -- what importing costs --------------------------------------------------------------------------------------


def test_importing_the_shim_stays_light(note):
    """A fresh interpreter that imports the shim has loaded no client, no model library and no event loop.

    Except what wrapt itself loads: its releases from 2.2 on import asyncio, those before do not (measured).
    """
    program = (
        "import sys; from time import perf_counter as now\n"
        "began = now(); import wrapt; wrapped = now(); given = set(sys.modules)\n"
        "import crossfade.shim; ended = now()\n"
        f"print(wrapped - began, ended - wrapped, *sorted(set({HEAVY}) & sys.modules.keys() - given))"
    )
    wrapt, ours, *loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    milliseconds = [round(float(seconds) * 1000) for seconds in (ours, wrapt)]
    note("import crossfade.shim in a fresh interpreter: {} ms, after wrapt's {} ms".format(*milliseconds))
    assert loaded == []


# -- extras and dependencies -----------------------------------------------------------------------------------


def test_all_names_every_other_extra():
    """``crossfade[all]`` means all."""
    assert EXTRAS["all"] == [f"crossfade[{','.join(sorted(EXTRAS.keys() - {'all'}))}]"]


def test_every_extra_a_message_names_exists():
    """Each ``crossfade[...]`` in code and docs, and each ``MissingExtraError("...")``, can be installed."""
    named = set()
    for path in files("*.py", "*.md"):
        text = (TOP / path).read_text()
        named |= {(path, extra) for names in re.findall(r"crossfade\[([a-z,]+)\]", text) for extra in names.split(",")}
        if path.suffix == ".py":
            named |= {(path, extra) for extra in extras_raised(text)}

    assert {(str(path), extra) for path, extra in named if extra not in EXTRAS} == set()


def extras_raised(source: str) -> list[str]:
    """The literal extras of ``MissingExtraError("EXTRA", ...)`` calls."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call.args[0].value
        for call in calls
        if ast.unparse(call.func).endswith("MissingExtraError") and call.args and isinstance(call.args[0], ast.Constant)
    ]


def test_an_invented_extra_would_be_seen():
    """The reader of ``MissingExtraError`` calls sees qualified and plain ones."""
    assert extras_raised('raise errors.MissingExtraError("a")\nMissingExtraError("b", needed_for="x")') == ["a", "b"]


def requirements() -> list[str]:
    """Every requirement of the project: build, base, extras and groups."""
    project = PYPROJECT["project"]
    lists = [PYPROJECT["build-system"]["requires"], project["dependencies"]]
    lists += project["optional-dependencies"].values()
    lists += PYPROJECT["dependency-groups"].values()
    return [requirement for requirements in lists for requirement in requirements]


def test_every_dependency_has_a_reason():
    """Each requirement stands on a line with a comment that says why it, or its bound, is there."""
    lines = (TOP / "pyproject.toml").read_text().splitlines()
    explained = {text for line in lines if "#" in line for text in re.findall(r'"([^"]+)"', line.partition("#")[0])}

    assert [requirement for requirement in requirements() if requirement not in explained] == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(target, id=f"{group} {name}")
        for group, entries in {
            "scripts": PYPROJECT["project"]["scripts"],
            **PYPROJECT["project"]["entry-points"],
        }.items()
        for name, target in entries.items()
    ],
)
def test_entry_points_resolve(target):
    """Each script and plug-in that the wheel announces is there and can be called."""
    module, _, attribute = target.partition(":")

    assert callable(getattr(importlib.import_module(module), attribute))


# -- what no file may hold -------------------------------------------------------------------------------------


def test_no_tracked_file_names_a_registry_host():
    """Where packages come from is the machine's business; a lock file would pin it. Joined, so this file passes."""
    hosts = [
        ".".join(parts)
        for parts in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("crates", "io"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("yarnpkg", "com"),
            ("golang", "org"),
            ("maven", "org"),
            ("maven", "apache", "org"),
            ("deb", "debian", "org"),
        ]
    ]
    patterns = [option for host in hosts for option in ("-e", host)]
    found = subprocess.run(
        ["git", "grep", "--ignore-case", "--line-number", "-I", "--fixed-strings", *patterns],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.stdout, found.returncode) == ("", 1)  # 1: searched and found nothing


def test_no_lock_file_is_tracked():
    """Versions are fixed by [tool.uv] exclude-newer; lock files name download addresses."""
    assert files("*.lock", "*-lock.json", "*-lock.yaml") == []
