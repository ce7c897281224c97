"""The run's own settings do what they promise; a silent loss of one would weaken every other test."""

from __future__ import annotations

import tomllib

import pytest

from support.project import TOP


@pytest.fixture
def project(pytester, monkeypatch):
    """An empty project with this repository's pytest settings and a one-second limit."""
    settings = (TOP / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[2].partition("\n[")[0]
    assert tomllib.loads(settings)
    settings = settings.replace("\ntimeout = 120", "\ntimeout = 1")
    pytester.makefile(".toml", pyproject=f"[tool.pytest.ini_options]{settings}")
    (pytester.path / "tests").mkdir()
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # half the time: only the two these settings are for
    return pytester


def run(project, *options: str) -> pytest.RunResult:
    return project.runpytest_subprocess(
        "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "xdist.plugin", "-n", "0", *options
    )


def write(project, path: str, text: str) -> None:
    target = project.path / "tests" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_async_tests_run_and_share_one_loop(project):
    """Unmarked coroutines run, and a session fixture's loop is the tests' own, across files of one name."""
    write(
        project,
        "conftest.py",
        "import asyncio, pytest\n"
        "@pytest.fixture(scope='session')\n"
        "async def loop():\n    return asyncio.get_running_loop()\n",
    )
    for folder in ("unit", "contract"):
        write(
            project,
            f"{folder}/test_same_name.py",
            "import asyncio\nasync def test_loop(loop):\n    assert asyncio.get_running_loop() is loop\n",
        )

    run(project).assert_outcomes(passed=2)


def test_warnings_and_leaks_fail(project):
    """A warning is an error, also one raised where no test can catch it: in a thread, in a finaliser."""
    write(
        project,
        "test_warnings.py",
        "import threading, warnings\n"
        "def test_warns():\n    warnings.warn('old')\n"
        "def test_loses_a_thread():\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n    thread.start()\n    thread.join()\n"
        "def test_leaves_a_file_open():\n    open(__file__)\n",
    )

    result = run(project)

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*UserWarning: old", "*ZeroDivisionError*", "*ResourceWarning*"])


def test_a_hang_fails_its_test_only(project):
    """A test that never ends fails and says where it stood; fixtures are torn down and the next test runs."""
    write(
        project,
        "test_hang.py",
        "import asyncio, pytest, threading\n"
        "@pytest.fixture(scope='session', autouse=True)\n"
        "async def server():\n    yield\n    print('server stopped')\n"
        "async def test_hang():\n    await asyncio.Event().wait()\n"
        "def test_hang_in_a_lock():\n    threading.Event().wait()\n"
        "async def test_next():\n    await asyncio.sleep(0)\n",
    )

    result = run(project, "-s")

    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*server stopped*", "*threading.Event().wait()", "*Failed: Timeout*"])


def test_slow_tests_wait_to_be_asked(project):
    """Minutes-long tests run by ``-m slow`` only."""
    write(
        project,
        "test_marks.py",
        "import pytest\n@pytest.mark.slow\ndef test_slow():\n    pass\ndef test_quick():\n    pass\n",
    )

    run(project).assert_outcomes(passed=1, deselected=1)
    run(project, "-m", "slow").assert_outcomes(passed=1, deselected=1)
