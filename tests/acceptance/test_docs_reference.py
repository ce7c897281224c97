"""The reference pages know every setting and every command, so that neither can be added without its page."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields

import pytest
import typer

from crossfade.adapters.nats import _endpoint
from crossfade.migrations.cli import _app, _lazy
from crossfade.shim import config, connect, tool
from crossfade.shim.policy import LIVE_ONLY, Policy
from crossfade.shim.stages import TABLE
from support.project import ROOTS, TOP, files

CONFIGURATION = (TOP / "docs" / "reference" / "configuration.md").read_text()
PAGES = (
    "cli.md",
    "cli-contracts.md",
    "cli-operations.md",
    "cli-proxy.md",
    "cli-migrate.md",
    "cli-replay.md",
    "cli-traces.md",
    "cli-triggers.md",
    "cli-workflow.md",
    "control.md",
)
CLI = "".join((TOP / "docs" / "reference" / name).read_text() for name in PAGES)

_VARIABLE = re.compile(r"CROSSFADE_[A-Z]+(?:_[A-Z]+)*")


def commands(group: typer.main.TyperGroup, before: str = "crossfade"):
    """Every command that does something, by the words that a person types."""
    for name, listed in group.commands.items():
        command = _lazy.load(name) if before == "crossfade" else listed
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{before} {name}", command
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


COMMANDS = dict(commands(typer.main.get_command(_app.app)))


def sections(page: str) -> dict[str, str]:
    """A page's text by its second-level headings, without the backticks around them."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return {title.strip("`"): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> set[str]:
    """What the first cells of the tables in ``text`` name in backticks."""
    return {name for cell in re.findall(r"^\| (.+?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)}


def test_every_environment_variable_is_on_the_page():
    """No CROSSFADE_ name of the source is missing from the page, and the page names none that nobody reads."""
    source = "".join((TOP / path).read_text() for path in files(*(f"{root}/**.py" for root in ROOTS)))

    assert rows(sections(CONFIGURATION)["Environment"]) >= set(_VARIABLE.findall(source))
    assert set(_VARIABLE.findall(CONFIGURATION)) <= set(_VARIABLE.findall(source))


def test_every_policy_setting_is_on_the_page():
    """Each field of a policy has its row, except the revision, which no one can set and the text explains."""
    section = sections(CONFIGURATION)["The policy of a seam"]

    assert rows(section) == {field.name for field in fields(Policy)} - LIVE_ONLY
    assert all(f"`{name}`" in section for name in LIVE_ONLY)


def test_the_policys_defaults_are_the_codes():
    """The page's column of defaults is what a policy has when nobody says anything."""
    shown = re.findall(
        r"^\| `(\w+)` \| .+? \| `?([\w.{}]+)`? \|", sections(CONFIGURATION)["The policy of a seam"], re.MULTILINE
    )

    assert dict(shown) == {
        field.name: f"{getattr(Policy(), field.name):g}"
        if field.name in ("timeout", "percent", "sample", "noise")
        else str(getattr(Policy(), field.name))
        for field in fields(Policy)
        if field.name not in LIVE_ONLY
    }


def test_every_key_of_the_file_is_on_the_page():
    """Each top-level key of crossfade.toml has its row."""
    named = {row.partition(".")[0] for row in rows(sections(CONFIGURATION)["crossfade.toml"])}

    assert named == set(config._KEYS)


def test_the_pages_file_is_read_as_shown(tmp_path):
    """The example of crossfade.toml sets what it seems to set."""
    block = re.search(r'```toml title="crossfade.toml"\n(.*?)```', CONFIGURATION, re.DOTALL)
    path = tmp_path / "crossfade.toml"
    path.write_text(block[1])

    read = config.load_config(path, environ={})

    assert (read.bus, read.prefix) == ("embedded://.crossfade", "cf")
    assert set(read.seams["web.search"]) == {field.name for field in fields(Policy)} - LIVE_ONLY


def test_every_decorator_option_is_on_the_page():
    """Each option of the decorator has its row, as a policy setting or its own, and is in the example."""
    page = sections(CONFIGURATION)
    options = set(inspect.signature(tool).parameters) - {"name"}

    live = {"unsafe_storage", "compare", "noise", "repeat"}  # set by file or live state only
    assert rows(page["Decorator options"]) | rows(page["The policy of a seam"]) - live == options
    assert options == set(re.findall(r"(\w+)=", page["Decorator options"].partition("\ndef ")[0]))


def test_every_argument_of_connect_is_on_the_page():
    """Each argument of connect has its row."""
    assert rows(sections(CONFIGURATION)["connect"]) == set(inspect.signature(connect).parameters)


def test_every_option_of_a_nats_url_is_on_the_page():
    """Each option that a nats:// URL takes has its row."""
    named = {row.partition("=")[0] for row in rows(sections(CONFIGURATION)["Bus URLs"]) if "://" not in row}

    assert named == set(_endpoint._OPTIONS)


def test_every_command_has_its_section():
    """The page's sections are the commands there are, no more and no fewer."""
    assert {title for title in sections(CLI) if title.startswith("crossfade")} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_its_commands_section(name):
    """Each option and argument of a command is listed in the command's own section."""
    section = re.sub(r"```.*?```", "", sections(CLI)[name], flags=re.DOTALL)
    listed = rows(section) | set(re.findall(r"`([^`]+)`", "".join(re.findall(r"^Options: .*", section, re.MULTILINE))))
    words = {word for text in listed for word in re.findall(r"--?[a-z][a-z-]*|[A-Z]{4,}", text)}
    parameters = [parameter for parameter in COMMANDS[name].params if parameter.name != "help"]

    missing = [
        option
        for parameter in parameters
        for option in (parameter.opts if parameter.param_type_name == "option" else [parameter.metavar])
        if option not in words
    ]

    assert missing == []


def test_the_help_names_the_stages_that_can_be_set():
    """What `stage set` offers is what the stage table has."""
    stage = next(parameter for parameter in COMMANDS["crossfade stage set"].params if parameter.name == "stage")

    assert stage.help == f"One of {', '.join(TABLE)}."


def test_the_exit_codes_are_the_codes():
    """The page's table has the codes that the command line maps its errors to."""
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}

    assert shown == {0, 1, 2, _app.NO_BUS, _app.REFUSED, 130}
