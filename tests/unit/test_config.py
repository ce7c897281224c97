"""Where settings come from, which wins, and how a mistake is said."""

from __future__ import annotations

import pytest

from crossfade.shim.config import Config, load_config, switched_off
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.policy import Policy


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "crossfade.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_nothing_said_is_nothing_set(tmp_path, monkeypatch):
    """No file, no environment."""
    monkeypatch.chdir(tmp_path)
    assert load_config(environ={}) == Config()


def test_the_environment_wins_over_the_file(write):
    """Variable by variable."""
    path = write('bus = "nats://file"\nprefix = "file"\nbuild = "1"\n')
    assert load_config(path, {}).bus == "nats://file"
    named = {"CROSSFADE_BUS": "nats://env", "CROSSFADE_PREFIX": "env", "CROSSFADE_BUILD": "2"}
    both = load_config(path, named)
    assert (both.bus, both.prefix, both.build) == ("nats://env", "env", "2")


def test_the_file_is_found_by_variable_and_in_the_folder(write, monkeypatch):
    """A named file must exist; ./crossfade.toml need not."""
    path = write('prefix = "here"\n')
    assert load_config(environ={"CROSSFADE_CONFIG": str(path)}).prefix == "here"
    monkeypatch.chdir(path.parent)
    assert load_config(environ={}).prefix == "here"
    with pytest.raises(ConfigurationError, match="no such file"):
        load_config(path.parent / "absent.toml", {})


def test_the_file_overrides_code(write):
    """What it does not name stays as the code says."""
    config = load_config(write('[seams."web.search"]\nstage = "observe"\ntimeout = 5\n'), {})
    assert config.policy("web.search", Policy(effects="none")) == Policy(stage="observe", timeout=5, effects="none")
    assert config.policy("web.other", Policy()) == Policy()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("bus = ]", ":1"),
        ("\n\nbus = nats\n", ":3"),
        (b"\xff\xfe", "cannot be read"),
        ("buss = 'x'", ": buss: unknown setting"),
        ("bus = 7", ": bus: must be a str"),
        ("seams = 7", ": seams: must be a dict"),
        ('[seams."Web"]', 'seams."Web"'),
        ("[seams]\nx = 3", 'seams."x"'),
        ("[seams.web.search]\nstage = 'bus'", r"\[seams.\"web.search\"\]"),
        ('[seams."web.search"]\nstage = "warp"', 'seams."web.search".stage'),
        ('[seams."web.search"]\nstage = ["bus"]', 'seams."web.search".stage'),
        ('[seams."web.search"]\ntimeout = 0', 'seams."web.search".timeout'),
        ('[seams."web.search"]\ntimeout = 1e999', 'seams."web.search".timeout'),
        ('[seams."web.search"]\ntimeout = 1' + "0" * 400, 'seams."web.search".timeout'),
        ('[seams."web.search"]\ntimeout = 1' + "0" * 5000, "crossfade.toml"),
        ('[seams."web.search"]\ntimeout = 1979-05-27', 'seams."web.search".timeout'),
        ("x = " + "[" * 5000, "crossfade.toml"),
        ('prefix = "Up"', "prefix"),
        ('prefix = ""', "prefix"),
        ('build = "a\\nb"', ": build: 'a"),
        (f'build = "{"9" * 65}"', ": build: '999"),
    ],
)
def test_a_mistake_is_said_with_its_place(write, text, where):
    """File and line for syntax, file and key for a value; never another exception."""
    with pytest.raises(ConfigurationError, match=where):
        load_config(write(text), {})


def test_a_folder_is_no_file(tmp_path):
    """Said as such."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(("value", "off"), [("1", True), ("On", True), ("", False), ("0", False), (" no ", False)])
def test_the_kill_switch_reads_plain_words(value, off):
    """Upper case and blanks do not matter."""
    assert switched_off({"CROSSFADE_OFF": value}) is off
    assert not switched_off({})


@pytest.mark.parametrize("value", ["2", "off please", "ja", "None"])
def test_an_unclear_kill_switch_is_refused(value):
    """Neither guessed off nor on."""
    with pytest.raises(ConfigurationError, match="CROSSFADE_OFF"):
        switched_off({"CROSSFADE_OFF": value})
