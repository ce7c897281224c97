"""``crossfade doctor``: what it finds wrong with settings and broker, and the remedy it names."""

from __future__ import annotations

import re
import time

import pytest

from support.nats_server import free_port


def findings(done):
    return {finding["check"]: finding for finding in done.json}


def test_the_doctor_finds_nothing_wrong_with_a_good_setup(declared):
    """Everything is ok, and the text for people has a line per check."""
    found = findings(declared.run("doctor", "--json"))
    text = declared.run("doctor").out

    assert {finding["status"] for finding in found.values()} == {"ok"}
    assert {"python", "bus", "streams", "clock", "event size", "durability", "seams"} <= found.keys()
    assert found["seams"]["found"] == "shop.pay, shop.quote, shop.slow"
    assert all(check in text for check in found)
    assert "\x1b" not in text


def test_the_doctor_says_what_to_do_when_the_broker_is_absent(declared):
    """Exit code 1, the address, and a remedy, well within ten seconds."""
    began = time.monotonic()
    done = declared.run("doctor", "--json", "--bus", f"nats://127.0.0.1:{free_port()}", code=1)
    seconds = time.monotonic() - began
    bus = findings(done)["bus"]

    assert (bus["status"], "127.0.0.1" in bus["found"]) == ("fail", True)
    assert "start that broker" in bus["remedy"]
    assert seconds < 10


def test_the_doctor_names_the_line_of_a_broken_file(shell):
    """A syntax error in crossfade.toml is a failed check that names file and line."""
    (shell.folder / "crossfade.toml").write_text('prefix = "cf"\nbus = \n')

    settings = findings(shell.run("doctor", "--json", code=1))["settings"]

    assert settings["found"].startswith("crossfade.toml:2: ")
    assert settings["remedy"]


def test_other_commands_name_the_line_of_a_broken_file(shell):
    """Elsewhere the same mistake is exit code 2 and one line."""
    (shell.folder / "crossfade.toml").write_text('prefix = "cf"\nbus = \n')

    assert re.fullmatch(r"crossfade: crossfade.toml:2: .+\n", shell.run("stage", "list", code=2).err)


@pytest.mark.parametrize(
    ("name", "value", "code", "status"),
    [
        ("CROSSFADE_OFF", "maybe", 1, "fail"),
        ("CROSSFADE_OFF", "1", 0, "warn"),
        ("CROSSFADE_REDACT_KEY", "short", 1, "fail"),
        ("CROSSFADE_SEAL_KEY", "short", 1, "fail"),
    ],
)
def test_the_doctor_looks_at_the_environment(declared, name, value, code, status):
    """A kill switch that is on is a warning; one that means nothing and keys that cannot be used are failures."""
    found = declared.run("doctor", "--json", code=code, **{name: value}).json

    assert [finding["status"] for finding in found if name in finding["found"]] == [status]


def test_the_doctor_warns_of_settings_nobody_uses(declared, tmp_path):
    """A seam in crossfade.toml that no process declares is probably a typing error."""
    file = tmp_path / "other.toml"
    file.write_text('[seams."shop.qoute"]\nstage = "observe"\n')

    settings = findings(declared.run("doctor", "--json", "--config", str(file)))["settings"]

    assert settings["status"] == "warn"
    assert "shop.qoute" in settings["found"]
