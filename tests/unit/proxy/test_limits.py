"""Limits are read from text, and wrong ones are named."""

from __future__ import annotations

import pytest

from crossfade.proxy.limits import Limits, parse_limits
from crossfade.shim.errors import ConfigurationError


def test_limits_come_from_text():
    """Sizes are whole, times may be fractions."""
    limits = parse_limits({"header_timeout": "1.5", "body_bytes": "10", "uri_bytes": "100"})

    assert (limits.header_timeout, limits.body_bytes, limits.uri_bytes) == (1.5, 10, 100)
    assert limits.keepalive_timeout == Limits().keepalive_timeout


@pytest.mark.parametrize(
    ("name", "text"),
    [("header_timeout", "0"), ("uri_bytes", "-1"), ("uri_bytes", "x"), ("colour", "1"), ("read_timeout", "nan")],
)
def test_a_wrong_limit_is_named(name, text):
    """The message says which."""
    with pytest.raises(ConfigurationError, match=f"limits.{name}"):
        parse_limits({name: text})
