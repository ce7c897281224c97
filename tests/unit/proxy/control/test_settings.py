"""What a control process refuses to do without being told why."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.proxy.control.settings import ControlSettings, parse_listen
from crossfade.proxy.control.stream import StreamLimits
from crossfade.shim.errors import ConfigurationError

CERTIFICATE = {"certificate": Path("c.pem"), "key": Path("k.pem")}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com"])
def test_beyond_this_machine_it_wants_tls_or_a_reason(host):
    """And says both ways out."""
    with pytest.raises(ConfigurationError, match=r"--tls-certificate.*--plain-because"):
        ControlSettings(host=host)
    with pytest.raises(ConfigurationError):
        ControlSettings(host=host, plain_because="  ")
    assert ControlSettings(host=host, plain_because="TLS ends at the ingress").url(1).startswith("http://")
    assert ControlSettings(host=host, **CERTIFICATE).url(1).startswith("https://")


@pytest.mark.parametrize(
    "wrong",
    [
        {"certificate": Path("c.pem")},
        {"key": Path("k.pem")},
        {"client_ca": Path("ca.pem")},
        {"origins": frozenset({"app.example"})},
        {"origins": frozenset({"https://app.example/"})},
        {"origins": frozenset({"*"})},
        {"origins": frozenset({"null"})},
    ],
)
def test_half_a_setting_is_refused(wrong):
    """Before anything listens."""
    with pytest.raises(ConfigurationError):
        ControlSettings(**wrong)


@pytest.mark.parametrize("name", ["heartbeat", "send_timeout", "streams", "per_user"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_one(name, value):
    """More than nothing, less than for ever."""
    with pytest.raises(ConfigurationError, match=name):
        StreamLimits(**{name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:8081", ("127.0.0.1", 8081)), ("[::1]:0", ("::1", 0)), ("localhost:1", ("localhost", 1))],
)
def test_where_to_listen(text, expected):
    """As people write addresses."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "8081", ":8081", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_what_is_no_address_is_refused(text):
    """With an example."""
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        parse_listen(text)


def test_the_names_it_is_asked_by():
    """On loopback every name of loopback, else its own and those that were allowed; ports do not matter."""
    local = ControlSettings(hosts=frozenset({"Control.internal"}))
    assert all(
        map(local.allows, ["127.0.0.1:8081", "localhost", "LOCALHOST:1", "[::1]:3", "127.0.0.2", "control.INTERNAL:9"])
    )
    assert not any(
        map(local.allows, ["", "evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "[::", "10.0.0.1"])
    )
    wide = ControlSettings(host="10.0.0.1", plain_because="x")
    assert wide.allows("10.0.0.1:8081")
    assert not wide.allows("localhost")
