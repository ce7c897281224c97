"""``crossfade bus``: the embedded broker goes up and down, and says so."""

from __future__ import annotations

import re

from crossfade.adapters.embedded import stop
from support.shells import Shell


def test_the_broker_goes_up_and_down(tmp_path):
    """up starts it and status tells of it; down stops it, and says so when there was nothing to stop."""
    shell = Shell(folder=tmp_path, environment={})
    try:
        up = shell.run("bus", "up", "my bus", "--idle", "30")
        status = shell.run("bus", "status", "my bus", "--json").json
        again = shell.run("bus", "up", "my bus", "--idle", "30", "--json").json
        stopped = shell.run("bus", "down", "my bus").out
        missing = shell.run("bus", "down", "my bus").out
        after = shell.run("bus", "status", "my bus", "--json", code=1).json
        text = shell.run("bus", "status", "my bus", code=1).out
    finally:
        stop(tmp_path / "my bus")

    assert f"export CROSSFADE_BUS='embedded://{tmp_path}/my bus'\n" in up.out
    assert status["running"]
    assert status["answering"]
    assert status["idle"] == 30
    assert again["pid"] == status["pid"]
    assert ("is stopped" in stopped, "was not running" in missing) == (True, True)
    assert (after["running"], after["answering"], after["version"]) == (False, False, None)
    assert f"`crossfade bus up '{tmp_path}/my bus'` starts it" in text


def test_a_folder_that_cannot_hold_a_broker_is_a_wrong_setting(tmp_path):
    """Where nothing can be written, bus up says it in one line and exits with 2."""
    shell = Shell(folder=tmp_path, environment={})

    done = shell.run("bus", "up", "/proc/nowhere", code=2)

    assert re.fullmatch(r"crossfade: /proc/nowhere .+\n", done.err)


def test_the_broker_that_is_told_of_is_the_one_that_is_used(tmp_path):
    """Without PATH it is the directory of CROSSFADE_BUS, and .crossfade where that names none."""
    shell = Shell(folder=tmp_path, environment={"CROSSFADE_BUS": f"embedded://{tmp_path}/mine"})

    status = shell.run("bus", "status", "--json", code=1).json
    down = shell.run("bus", "down").out
    elsewhere = shell.run("bus", "status", "--json", code=1, CROSSFADE_BUS="nats://127.0.0.1:1").json

    assert status["path"] == f"{tmp_path}/mine"
    assert down == f"The broker of {tmp_path}/mine was not running.\n"
    assert elsewhere["path"] == f"{tmp_path}/.crossfade"
