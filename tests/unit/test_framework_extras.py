"""The adapters of frameworks are extras: what is missing is said by its install command, and nobody else loads them."""

from __future__ import annotations

import builtins
import importlib
import subprocess
import sys

import pytest

from crossfade.shim.errors import MissingExtraError

NEEDED = {"langchain": "langgraph", "mcp": "mcp", "openai": "openai", "prometheus": "prometheus_client"}


@pytest.mark.parametrize("extra", NEEDED)
def test_without_its_extra_it_says_what_to_install(monkeypatch, extra):
    """The command, not an import error."""
    real = builtins.__import__

    def absent(name, globals_=None, locals_=None, fromlist=(), level=0):
        if level == 0 and name.partition(".")[0] == NEEDED[extra]:
            raise ImportError(name)
        return real(name, globals_, locals_, fromlist, level)

    name = f"crossfade.adapters.{extra}"
    for loaded in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=rf"crossfade\[{extra}\]"):
        importlib.import_module(name)


def test_nobody_who_did_not_ask_pays_for_them():
    """Neither the shim nor the command line imports a framework, or what measures."""
    code = (
        "import sys, crossfade.shim, crossfade.shim.connection, crossfade.migrations.cli._lazy as lazy\n"
        "lazy.load('mcp'), lazy.load('calls'), lazy.load('worker')\n"
        "print({'langchain_core', 'langgraph', 'mcp', 'openai', 'prometheus_client'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
