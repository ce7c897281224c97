"""Tests see no setting of the machine they run on."""

from __future__ import annotations

import os
import time

import pytest

from plugins.environment import scrub


def test_a_developers_settings_are_gone():
    """A CROSSFADE_BUS exported in a shell cannot reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSFADE_BUS", "nats://production:4222")
        patch.setenv("CROSSFADE_OFF", "1")
        patch.setenv("FORCE_COLOR", "1")

        scrub(patch)

        assert [name for name in os.environ if name.startswith("CROSSFADE_")] == []
        assert "FORCE_COLOR" not in os.environ


def test_the_run_itself_is_scrubbed():
    """The session runs in UTC with plain words, and nothing of ours is set."""
    assert [name for name in os.environ if name.startswith("CROSSFADE_")] == []
    assert time.localtime().tm_zone == "UTC"
    assert os.environ["LC_ALL"] == "C.UTF-8"
