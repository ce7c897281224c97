"""Makes the tests forget whose machine they run on."""

from __future__ import annotations

import os
import time

import pytest

# Same words and widths everywhere. Loopback never goes through a proxy; other traffic (the wheel test
# installs packages) keeps the machine's own settings.
NEUTRAL = {
    "COLUMNS": "120",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "TZ": "UTC",
    "no_proxy": "127.0.0.1,localhost,::1",
}
# Rich and click colour their output when one of these is set, whatever NO_COLOR says.
COLOURING = ("CLICOLOR_FORCE", "FORCE_COLOR", "PY_COLORS")


def scrub(patch: pytest.MonkeyPatch) -> None:
    """Remove every ``CROSSFADE_*`` setting and set the neutral ones, for this process and its children."""
    for name in list(os.environ):
        if name.startswith("CROSSFADE_") or name in COLOURING:
            patch.delenv(name)
    for name, value in NEUTRAL.items():
        patch.setenv(name, value)
    _apply_zone()


def _apply_zone() -> None:
    if hasattr(time, "tzset"):  # Windows reads TZ at start only
        time.tzset()


@pytest.fixture(scope="session", autouse=True)
def neutral_environment():
    """No test sees a developer's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        scrub(patch)
        yield
    _apply_zone()
