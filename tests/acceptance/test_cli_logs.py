"""How the commands that serve log: one option and one setting for all of them."""

from __future__ import annotations

import json
import logging
import os
import signal

import pytest
import typer.main

from crossfade.migrations.cli._app import app
from crossfade.shim.logs import Correlating, JsonFormatter
from support.commands import Process, crossfade, until

# Each ends with an error after it has set up its logging: nothing is served.
SERVING = (
    "worker",
    "control --listen nowhere",
    "proxy --upstream nowhere",
    "workflow run no_such_module",
    "mcp serve no_such_module",
    "trigger run no-such-file.yaml",
    "trigger webhook shop --scheme none --secret env:X",
    "trigger schedule nightly --cron never",
    "trigger files inbox no-such-folder",
    "trigger smtp mail --recipient * --listen nowhere",
    "trigger mqtt plant nowhere --topic t",
)


@pytest.fixture
def configured(monkeypatch):
    """What logging was configured with; the process' own logging stays as it is."""
    found = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: found.extend(options["handlers"]))
    return found


@pytest.mark.parametrize("line", SERVING)
@pytest.mark.parametrize("by", ["option", "setting"])
def test_every_command_that_serves_logs_json_when_told_to(line, by, configured, monkeypatch, tmp_path):
    """By ``--log-format json``, and by ``CROSSFADE_LOG_FORMAT``; each record gets the ids of its call."""
    monkeypatch.chdir(tmp_path)
    if by == "setting":
        monkeypatch.setenv("CROSSFADE_LOG_FORMAT", "json")
    done = crossfade(*line.split(), *(["--log-format", "json"] if by == "option" else []))
    assert done.code != 0
    (handler,) = configured
    assert isinstance(handler.formatter, JsonFormatter), done.err
    assert isinstance(handler.filters[0], Correlating)


def test_no_command_that_serves_is_forgotten():
    """Whatever stops with standard input serves, and logs."""

    def walk(command, name=()):
        for each, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*name, each))
        yield " ".join(name), {option for parameter in command.params for option in parameter.opts}

    serving = {name for name, options in walk(typer.main.get_command(app)) if "--stop-with-stdin" in options}
    assert serving <= {line for line in serving for one in SERVING if one.startswith(line)}


def test_an_unknown_format_is_refused(monkeypatch, tmp_path):
    """With the two that there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_LOG_FORMAT", "xml")
    done = crossfade("worker", "no_such_module")
    assert done.code == 2
    assert "text" in done.err
    assert "json" in done.err


def test_a_proxy_logs_json_lines(tmp_path):
    """A real one, told to read its file again."""
    routes = tmp_path / "routes.yaml"
    routes.write_text("listen: 127.0.0.1:0\nupstreams: {legacy: http://127.0.0.1:9}\n")
    with Process("proxy", "--config", str(routes), "--log-format", "json", "--json", folder=tmp_path) as proxy:
        proxy.ready()
        os.kill(proxy.process.pid, signal.SIGHUP)
        until(lambda: "reloaded" in proxy.log.read_text())
    assert {line["level"] for line in map(json.loads, proxy.log.read_text().splitlines())} == {"INFO"}
