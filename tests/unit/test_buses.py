"""Finding a bus by its scheme, and never showing a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.memory import MemoryBus
from crossfade.shim.buses import hide_credentials, open_bus
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings

secrets = st.text("abcXYZ019:/?#@[]%&=", min_size=8)


def open_url(url):
    return open_bus(url, BusSettings(), Counters())


def test_a_bus_is_found_by_its_scheme():
    """Through the entry points, not connected yet."""
    bus = open_url("memory://x")
    assert isinstance(bus, MemoryBus)
    assert not bus.connected


@pytest.mark.parametrize("url", ["", "nowhere", "kafkaesque://x", "http://x", "://", "NATS", "nats", "nats:/x"])
def test_an_unknown_scheme_is_refused_with_those_known(url):
    """The remedy is in the text."""
    with pytest.raises(ConfigurationError, match=r"memory:// or nats://"):
        open_url(url)


@pytest.mark.parametrize("url", ["nats://[::1", "nats://host:port", "memory://[", "memory://x/y?z"])
def test_a_broken_url_is_refused_by_name(url):
    """No other exception."""
    with pytest.raises(ConfigurationError):
        open_url(url)


@given(secrets)
def test_a_password_is_never_shown(password):
    """Whatever characters it has, in the text for people and in the refusal."""
    url = f"nope://ann:{password}@host:4222"
    assert hide_credentials(url) == "nope://***@" + url.rpartition("@")[2]
    with pytest.raises(ConfigurationError) as caught:
        open_url(url)
    assert f"ann:{password}" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://host", "nats://host"),
        ("nats://tok@host", "nats://***@host"),
        ("nats://a:b@one,c:d@two", "nats://***@two"),
        ("embedded:///var/x", "embedded:///var/x"),
        ("no url", "no url"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    """The place without the credentials."""
    assert hide_credentials(url) == shown
