"""The programs of examples/frameworks, one for each adapter, against the real libraries and a real broker."""

from __future__ import annotations

import importlib
import re
import secrets
import subprocess
import sys
from base64 import b64encode

import pytest

from integration.frameworks.conftest import counts, put  # noqa: F401 - fixtures
from integration.shim import kit
from support.project import TOP

FOLDER = TOP / "examples" / "frameworks"
GREETED = "hello to alice in run-1 run-1\n"
MCP = """\
['desk.search', 'desk.study']
{'result': ['bees 0', 'bees 1']}
  50% half way
{'result': 'BEES'}
"""
ORDERED = """\
['bees 0', 'bees 1']
call_1 success: Dune is ordered
call_1 success: Dune is ordered
call_2 error: Emma is out of print
"""
ASKED = """\
{'status': 'working', 'node': 'read'}
{'status': 'input-required', 'questions': [{'id': ID, 'value': {'publish': ['bees 0', 'bees 1']}}]}
bees 0 / bees 1
"""
DISPATCHED = """\
c1: Sunday
c2: {"error": {"type": "refused", "message": "day: is missing, and has no default"}}
c3: {"error": {"type": "refused", "message": "there is no tool 'weather'; there are: weekday"}}
"""
PROGRAMS = {  # what each prints, and the seams that it must have asked a worker for
    "langchain_tools": (ORDERED, ["library.search", "library.order"]),
    "langgraph_agent": (ASKED, ["library.research"]),
    "openai_tools": (DISPATCHED, ["calendar.weekday"]),
    "openai_client": ("HELLO\n", ["model.chat"]),
    "mcp_client": ("['search']\n{'result': 'all about bees'}\n", ["mcp.library.search"]),
    "mcp_server": (f"stdio:\n{MCP}streamable HTTP:\n{MCP}", ["desk.search", "desk.study"]),
    "httpx_client": (
        "200 {'city': 'oslo', 'sky': 'clear'}\n200 {'city': 'rome', 'sky': 'clear'}\n404 {'detail': 'no such city'}\n",
        ["weather.by_city"],
    ),
    "requests_client": (
        "201 {'number': 1, 'book': 'Dune'}\n201 {'number': 1, 'book': 'Dune'}\n201 {'number': 2, 'book': 'Emma'}\n",
        ["shop.order"],
    ),
    "fastapi_app": (GREETED, ["library.greet"]),
    "flask_app": (GREETED, ["library.greet"]),
    "django_app": (GREETED, ["library.greet"]),
}
ALONE = ("mcp_server", "django_app")  # the one starts servers of its own, the other's settings are a process' only ones


def settled(printed: str) -> str:
    return re.sub(r"'id': '[0-9a-f]+'", "'id': ID", printed)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ALONE])
def test_a_program_prints_what_a_worker_answered(name, put, counts, monkeypatch, capsys):  # noqa: F811
    """Its ``main`` here, with a worker in this process; each of its seams was served."""
    expected, seams = PROGRAMS[name]
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("CROSSFADE_SEAL_KEY", f"one:{b64encode(secrets.token_bytes(32)).decode()}")
    for module in ("served", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    program = importlib.import_module(name)
    put("bus", *seams)

    program.main()

    assert settled(capsys.readouterr().out) == expected
    kit.until(lambda: all(counts.get("served", seam=seam) for seam in seams), what=f"not all were served: {seams}")
    for module in ("served", name):
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "django_app" else [pytest.mark.slow]) for name in PROGRAMS]
)
def test_a_program_runs_by_one_command(name, tmp_path):
    """As its docstring says, on a broker of its own; nothing is left behind, and nothing is complained about."""
    assert f"python {name}.py" in (FOLDER / f"{name}.py").read_text()
    done = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=FOLDER,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert settled(done.stdout) == PROGRAMS[name][0], done.stderr
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())


def test_every_program_is_tried_and_told():
    """None is in the folder that no test runs, and each is in the folder's README and in a how-to page."""
    assert {path.stem for path in FOLDER.glob("*.py")} == {*PROGRAMS, "served"}
    readme = (FOLDER / "README.md").read_text()
    pages = "".join(path.read_text() for path in (TOP / "docs" / "howto").glob("*.md"))
    assert [name for name in PROGRAMS if f"`{name}.py`" not in readme] == []
    assert [name for name in PROGRAMS if f"examples/frameworks/{name}.py" not in pages] == []
