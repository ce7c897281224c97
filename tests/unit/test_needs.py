"""A test that drives a program says so, and an absent program is never a silent pass."""

from __future__ import annotations

import pytest

from support import needs

USES_IT = """
    import pytest

    @pytest.mark.needs("{binary}")
    def test_that_drives_a_program():
        pass
"""


@pytest.fixture
def run(pytester, monkeypatch, tmp_path):
    """Run one test that needs ``binary`` in a project whose list knows ``sh`` and a program nobody has."""
    listed = tmp_path / "debian-packages.txt"
    listed.write_text("dash sh # everywhere\nno-such-package no-such-binary # nowhere\n")
    monkeypatch.setattr(needs, "PACKAGES", listed)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # four times faster, and only this plugin acts
    pytester.makeini("[pytest]\nmarkers =\n    needs(binary): drives a program\n")

    def run(binary: str, *, ci: str) -> pytest.RunResult:
        monkeypatch.setenv("CI", ci)
        pytester.makepyfile(USES_IT.format(binary=binary))
        return pytester.runpytest_inprocess("-p", "plugins.needs", "-ra", "--strict-markers")

    return run


def test_an_absent_program_skips_at_home_and_says_what_to_install(run):
    """A person without the program sees the line that brings it, and the run passes."""
    result = run("no-such-binary", ci="")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*test_an_absent*.py:*apt-get install no-such-package"])


def test_an_absent_program_fails_under_ci(run):
    """CI cannot be green because a program was missing."""
    result = run("no-such-binary", ci="true")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*apt-get install no-such-package*"])
    assert result.ret != 0


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_present_program_runs_the_test(run, ci):
    """Where the program is installed the mark changes nothing."""
    run("sh", ci=ci).assert_outcomes(passed=1)


def test_an_unlisted_program_stops_the_run(run):
    """A program that CI would not install is refused before any test runs."""
    result = run("unlisted", ci="true")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs unlisted: name its package in *debian-packages.txt"])


def test_servers_are_found_off_the_path(monkeypatch, tmp_path):
    """Debian's /usr/sbin is searched although a person's PATH lacks it."""
    server = tmp_path / "server"
    server.touch(mode=0o755)
    monkeypatch.setattr(needs, "SYSTEM_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nowhere")

    assert needs.locate("server") == str(server)


def test_the_list_reads_as_binary_to_package():
    """Every line of the real list names a package, a binary and a reason."""
    lines = [line for line in needs.PACKAGES.read_text().splitlines() if line.strip() and not line.startswith("#")]

    assert len(needs.packages()) == len(lines)
    assert [line for line in lines if not line.partition("#")[2].strip()] == []


def test_the_mark_is_the_one_pytest_knows():
    """``needs("sh")`` is the registered mark, so --strict-markers accepts it."""
    assert needs.needs("sh").mark == pytest.mark.needs("sh").mark
