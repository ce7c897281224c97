"""Patterns of MQTT topics: what they match, whose it is, and what is none."""

from __future__ import annotations

import pytest

from crossfade.adapters.triggers.topics import Topics
from crossfade.shim.errors import ConfigurationError


@pytest.mark.parametrize(
    ("pattern", "topic", "found"),
    [
        ("a/b", "a/b", {}),
        ("a/b", "a/b/c", None),
        ("a/b", "a", None),
        ("a/+/c", "a/x/c", {}),
        ("a/#", "a/b/c", {}),
        ("a/#", "a", {}),
        ("a/#", "b/a", None),
        ("#", "a/b", {}),
        ("+", "", {}),
        ("devices/{tenant}/{user}/#", "devices/acme/alice/t/1", {"tenant": "acme", "user": "alice"}),
        ("{user}/x", "/x", {"user": ""}),
    ],
)
def test_a_topic_matches_as_mqtt_has_it(pattern, topic, found):
    """One level for +, the rest (the parent too) for a last #; named levels are given."""
    assert Topics(pattern).match(topic) == found


def test_named_levels_are_wildcards_to_the_broker():
    """The broker knows nothing of tenants."""
    assert Topics("a/{tenant}/+/{user}/#").filter == "a/+/+/+/#"


@pytest.mark.parametrize("pattern", ["", "a/#/b", "a+", "a/{who}", "{tenant}/{tenant}", "$SYS/#", "a/x{user}", "a\x00"])
def test_what_is_no_pattern_is_said(pattern):
    """With the level that is wrong."""
    with pytest.raises(ConfigurationError) as refused:
        Topics(pattern)
    assert refused.value.where == "topics"
