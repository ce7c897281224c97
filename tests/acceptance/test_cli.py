"""The command line as people and scripts have it: its words and exit codes, with any command and any broker."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import time
from importlib.metadata import version

import pytest

from support.nats_server import NatsServer
from support.shells import CROSSFADE, Shell


def test_the_version_is_the_packages(declared):
    """A report can name the version with one command."""
    assert declared.process("--version").out == f"crossfade {version('crossfade')}\n"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["stage", "set"], ["worker"], ["bus", "up", "--idle", "-1"]], ids=" ".join
)
def test_wrong_usage_is_exit_code_2(declared, words):
    """A word that is no command, a missing argument and a number out of range are wrong usage, said on stderr."""
    done = declared.run(*words, code=2)

    assert "Usage:" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "words", [["--help"], ["stage", "list"], ["events", "tail", "--json"], ["doctor"]], ids=" ".join
)
def test_a_reader_that_goes_away_is_no_error_to_shout_about(declared, words):
    """`crossfade ... | head -1` leaves no traceback, even when head has gone before the first line."""
    process = declared.start(*words)
    process.stdout.close()

    assert process.stderr.read() == ""
    assert process.wait(30) in (0, 1)


def test_wrong_credentials_are_told_and_not_shown(declared):
    """A broker that refuses us is exit code 3; the password we tried is nowhere in the output."""
    config = "authorization { user: anna, password: right-horse }"
    with NatsServer(config=config) as server:
        address = f"anna:wrong-horse@127.0.0.1:{server.port}"
        done = declared.run("stage", "list", "--bus", f"nats://{address}", code=3)
        began = time.monotonic()
        worker = declared.process("worker", "shop", "--bus", f"nats://{address}", code=3)
        seconds = time.monotonic() - began
        good = declared.run("doctor", "--bus", f"nats://anna:right-horse@127.0.0.1:{server.port}")

    assert re.fullmatch(r"crossfade: .*refused our credentials.+\n", done.err)
    assert "refused our credentials" in worker.err
    assert seconds < 10
    assert not [text for text in (done.err, worker.err, good.out) if "horse" in text]


def test_a_broker_that_never_answers_is_given_up_in_time(declared):
    """Something that listens and says nothing does not hang a command: exit code 3 within ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        worker = declared.start("worker", "shop", "--wait", "3", "--bus", url)
        for words, code in ((["stage", "list"], 3), (["events", "tail", "-f"], 3), (["doctor"], 1)):
            asked = time.monotonic()
            declared.run(*words, "--bus", url, code=code)
            assert time.monotonic() - asked < 10, words
        assert worker.wait(30) == 3, worker.stderr.read()
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("columns", ["30", "80"])
def test_names_and_paths_are_whole_at_any_width(declared, columns):
    """Seams, stages and paths can be copied from a terminal of any width."""
    listed = declared.run("stage", "list", COLUMNS=columns).out
    status = declared.run("bus", "status", "nowhere", code=1, COLUMNS=columns).out

    assert "\N{HORIZONTAL ELLIPSIS}" not in listed
    assert re.search(r"^shop\.quote  legacy .* shop\.py:6$", listed, re.MULTILINE)
    assert f"`crossfade bus up {declared.folder}/nowhere`" in status


def in_terminal(shell: Shell, *words, **environment) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [CROSSFADE, *words],
        cwd=shell.folder,
        env=clean | shell.environment | {"TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not read:
            break
        written += read
    os.close(ours)
    assert process.wait(10) == 0
    return written.decode()


def test_colours_are_for_terminals_and_no_color_is_heeded(declared):
    """doctor is coloured in a terminal, and not with NO_COLOR."""
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-7]m")

    assert coloured.search(in_terminal(declared, "doctor"))
    assert not coloured.search(in_terminal(declared, "doctor", NO_COLOR="1"))
