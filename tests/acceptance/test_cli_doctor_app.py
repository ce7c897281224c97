"""``crossfade doctor --app``: what an application's seams lack, told without a broker."""

from __future__ import annotations

import sys
import textwrap

import pytest

from crossfade.shim import seam
from support.commands import crossfade

FINE = """
from crossfade import shim

@shim.tool("fine.sum", effects="none")
def total(xs: list[int]) -> int:
    return sum(xs)
"""
BROKEN = """
import threading, time
from collections.abc import Iterable
from crossfade import shim

@shim.tool("broken.charge")
def charge(who: str) -> str:
    return who

@shim.tool("broken.get_price", timeout=5)
def get_price(item, *more, **options):
    time.sleep(10)

@shim.tool("broken.login", effects="none", secret=("password",))
def login(user: str, password: str) -> bool:
    return True

class Cart:
    @shim.tool("broken.cart", effects="none")
    def cart(self, x: int) -> int:
        return x

@shim.tool("broken.lock", effects="none")
def lock(a: threading.Lock) -> int:
    return 1

@shim.tool("broken.load", effects="none")
def load(rows: Iterable[int], n: int) -> int:
    return sum(rows)

@shim.tool("broken.sum", effects="none")
def total(xs: list[int]) -> int:
    return sum(xs)

@shim.handler("broken.sum")
def other(xs: list[str]) -> int:
    return 0

@shim.handler("broken.smu")
def lone(xs: list[str]) -> int:
    return 0
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder for the application, a registry of its own, and a bus that cannot be had."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_BUS", "nats://127.0.0.1:1")
    monkeypatch.setattr(seam.registry, "_seams", {})
    monkeypatch.setattr(seam.registry, "_handlers", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("fine_app", "broken_app", "bad_app", "empty_app"):
            del sys.modules[name]


def write(place, name, text):
    (place / f"{name}.py").write_text(textwrap.dedent(text))


def test_a_sound_application_passes_without_a_broker(place):
    """Exit code 0, one line a seam, and the bus is not asked for."""
    write(place, "fine_app", FINE)

    done = crossfade("doctor", "--app", "fine_app")

    assert done.code == 0, done.out
    assert "seam fine.sum  tool, plain, effects none, at fine_app.py:" in done.out
    assert "bus" not in done.out


def test_every_lack_is_named_with_its_remedy(place):
    """What keeps a worker from starting fails, what costs something later is a warning."""
    write(place, "broken_app", BROKEN)

    done = crossfade("doctor", "--app", "broken_app", "--json")

    assert done.code == 1
    found = {(each["check"], each["status"], each["found"]) for each in done.json}
    remarks = [
        ("broken.charge", "warn", "effects='unsafe'"),
        ("broken.get_price", "warn", "no type: item, more, options, return"),
        ("broken.get_price", "warn", "callers wait 5 s, and line 12 of "),
        ("broken.login", "warn", "secret without a key: password"),
        ("broken.cart", "fail", "self never crosses the bus"),
        ("broken.lock", "fail", "a of lock has no JSON form"),
        ("broken.load", "warn", "may be an iterator: rows"),
        ("broken.sum", "fail", "differs from the body"),
        ("broken.smu", "warn", "of a seam that nothing here declares"),
    ]
    for name, status, text in remarks:
        assert any(f"seam {name}" == check and status == is_ and text in said for check, is_, said in found), text
    assert all(each["remedy"] for each in done.json if each["status"] != "ok")
    reads = [each["remedy"] for each in done.json if each["check"] == "seam broken.get_price"]
    assert any("looks like a read" in remedy for remedy in reads)


def test_the_report_fits_a_narrow_terminal(place):
    """At 80 columns nothing is cut and the count comes last."""
    write(place, "broken_app", BROKEN)

    out = crossfade("doctor", "--app", "broken_app").out

    assert max(map(len, out.splitlines())) <= 80
    assert out.rstrip().splitlines()[-1] == "3 failures, 7 warnings."
    assert "-> annotate them" in out


def test_a_key_ends_the_warning_about_secrets(place, monkeypatch):
    """It is about this process's environment, not about the code."""
    write(place, "broken_app", BROKEN)
    monkeypatch.setenv("CROSSFADE_SEAL_KEY", "k:" + "A" * 43)

    assert "secret without a key" not in crossfade("doctor", "--app", "broken_app").out


SECRETIVE = """
from dataclasses import dataclass
from crossfade import shim

@dataclass
class Session:
    user: str
    access_token: str

@shim.tool("web.sessions", effects="none")
def sessions(user: str) -> list[Session]:
    return []

@shim.tool("web.users", effects="none")
def users(page_token: str = "") -> list[str]:
    return []
"""


def test_answers_that_are_redacted_need_a_key_to_be_compared(place, monkeypatch):
    """Two processes mark the same secret differently without one; a seam without secrets is not in need of it."""
    write(place, "secretive_app", SECRETIVE)

    def warned():
        found = crossfade("doctor", "--app", "secretive_app", "--json").json
        return {each["check"]: each["found"] for each in found if each["status"] == "warn" and "seam" in each["check"]}

    assert warned() == {"seam web.sessions": "redacted in its answers, without a key: access_token"}
    monkeypatch.setenv("CROSSFADE_REDACT_KEY", "the same on both sides")
    assert warned() == {}


def test_the_files_settings_count(place):
    """A timeout raised in crossfade.toml ends the warning that the code waits longer."""
    write(place, "broken_app", BROKEN)
    (place / "crossfade.toml").write_text('[seams."broken.get_price"]\ntimeout = 60\neffects = "none"\n')

    found = [each for each in crossfade("doctor", "--app", "broken_app", "--json").json if "get_price" in each["check"]]

    assert [each["found"] for each in found] == ["no type: item, more, options, return"]


def test_several_modules_at_once(place):
    """Each --app adds its seams."""
    write(place, "fine_app", FINE)
    write(place, "broken_app", BROKEN)

    out = crossfade("doctor", "--app", "fine_app", "--app", "broken_app").out

    assert "fine.sum" in out
    assert "broken.sum" in out


def test_a_module_without_seams_is_a_warning(place):
    """Most likely the wrong module."""
    write(place, "empty_app", "")

    done = crossfade("doctor", "--app", "empty_app")

    assert done.code == 0
    assert "empty_app: none" in done.out


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("nowhere_app", None, "MODULE: there is no module 'nowhere_app'"),
        ("shop.py", None, "'shop.py' is no module name"),
        ("bad_app", "import nothing_like_that\n", "MODULE: bad_app cannot be imported:\n"),
        ("bad_app", "1 / 0\n", "ZeroDivisionError"),
        ("bad_app", "def (\n", "SyntaxError"),
        ("bad_app", FINE + FINE.replace("def total", "def other"), "'fine.sum' is declared twice"),
    ],
)
def test_a_module_that_cannot_be_imported_is_code_2(place, name, text, says):
    """With the user's own lines, and none of ours."""
    if text is not None:
        write(place, name, text)

    done = crossfade("doctor", "--app", name)

    assert done.code == 2
    assert says in done.err
    assert "crossfade/migrations" not in done.err


def test_with_a_bus_it_checks_both(place):
    """A bus named beside --app is looked at, too."""
    write(place, "fine_app", FINE)

    done = crossfade("doctor", "--app", "fine_app", "--bus", "nats://127.0.0.1:1", "--json")

    assert done.code == 1
    assert {"seam fine.sum", "bus"} <= {each["check"] for each in done.json}
