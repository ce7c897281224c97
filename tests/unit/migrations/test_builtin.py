"""The playbooks that come along are playbooks, and become a user's own."""

from __future__ import annotations

import pytest

from crossfade.migrations.builtin import builtins, write_builtin
from crossfade.migrations.playbook import read_playbook
from crossfade.shim import ConfigurationError
from crossfade.shim.stages import TABLE, Stage


def test_the_designs_five_are_there():
    """Pick a bus, long-running first, tools, the UI, retire; each goes to the bus and has a way back."""
    assert set(builtins()) == {"pilot", "long-running", "tool-calls", "ui-subscriber", "retire"}
    for playbook in builtins().values():
        assert playbook.steps[-1].to is Stage.BUS
        assert playbook.title
        assert playbook.about
        assert all(step.abort.errors and step.abort.unknown for step in playbook.steps if TABLE[step.to].commands)


@pytest.mark.parametrize("name", builtins())
def test_it_becomes_the_users_with_nothing_else_changed(name):
    """The seams are the user's, the rest of the text with its comments is the file's."""
    text = write_builtin(name, ["shop.quote", "shop.pay"])
    found = read_playbook("mine.yaml", text=text.encode())
    assert found.seams == ("shop.quote", "shop.pay")
    assert found.steps == builtins()[name].steps
    assert text.startswith("# ")


@pytest.mark.parametrize(
    ("name", "seams", "message"),
    [
        ("pilott", ["a"], "--playbook: there is no playbook 'pilott': did you mean pilot\\?"),
        ("pilot", [], "--seam: name the seams it moves"),
        ("pilot", ["a, b]\nsteps: []"], "is no seam name"),
        ("pilot", ["a", "a"], "a is here twice"),
    ],
)
def test_what_names_none_is_refused(name, seams, message):
    """Nothing is written for it."""
    with pytest.raises(ConfigurationError, match=message):
        write_builtin(name, seams)
