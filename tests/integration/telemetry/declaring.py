"""Code that declares seams, as a module of this process, apart from what other tests have declared and counted."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from crossfade.shim import hooks, seam

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def declared(code: str) -> Iterator[tuple[ModuleType, dict[str, Any]]]:
    """The module, and settings that have every seam of it at bus, but ``desk.compared`` at shadow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks.report, "hooks", hooks.Counters())
        patch.setattr(seam.registry, "_seams", {})
        app = ModuleType("desk")
        exec(textwrap.dedent(code), app.__dict__)
        yield app, {name: {"stage": "bus"} for name in seam.registry.names()} | {"desk.compared": {"stage": "shadow"}}
