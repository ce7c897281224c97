"""What a kafka:// URL says, and what is no such URL."""

from __future__ import annotations

import pytest

from crossfade.adapters.kafka._endpoint import Options, parse_url
from crossfade.shim.errors import ConfigurationError


def test_brokers():
    """Several brokers, ports as given or 9092, an IPv6 address in brackets."""
    endpoint, options = parse_url("kafka://one,two:9093,[::1]:9094")
    assert endpoint.servers == ("one:9092", "two:9093", "[::1]:9094")
    assert (endpoint.security, options) == ("PLAINTEXT", Options())


def test_options():
    """How topics are made, and TLS with the machine's authorities."""
    endpoint, options = parse_url("kafka://one?replicas=3&sync=always&tls=on")
    assert endpoint.security == "SSL"
    assert options == Options(replicas=3, synced=True)


def test_credentials_of_the_url():
    """A user means SASL, percent-decoded; the password is in no repr."""
    endpoint, _ = parse_url("kafka://al%40ice:p%3Aw@one?sasl=scram-sha-512")
    assert (endpoint.mechanism, endpoint.user, endpoint.password) == ("SCRAM-SHA-512", "al@ice", "p:w")
    assert endpoint.security == "SASL_PLAINTEXT"
    assert "p:w" not in repr(endpoint)


def test_credentials_of_the_environment(monkeypatch):
    """A password need not be in the URL; without sasl= the environment changes nothing."""
    monkeypatch.setenv("CROSSFADE_KAFKA_USER", "alice")
    monkeypatch.setenv("CROSSFADE_KAFKA_PASSWORD", "secret")
    endpoint, _ = parse_url("kafka://one?sasl=plain&tls=on")
    assert (endpoint.mechanism, endpoint.user, endpoint.password) == ("PLAIN", "alice", "secret")
    assert endpoint.security == "SASL_SSL"
    assert parse_url("kafka://one")[0].mechanism is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats://one", "use kafka://"),
        ("kafka://", "no server"),
        ("kafka://one:x", "no server"),
        ("kafka://one/path", "no path"),
        ("kafka://one?acks=1", "unknown option 'acks'"),
        ("kafka://one?tls=on&tls=on", "twice"),
        ("kafka://one?tls=yes", "tls=on"),
        ("kafka://one?replicas=0", "1 to 9"),
        ("kafka://one?sasl=gssapi", "scram-sha-256"),
        ("kafka://one?sasl=plain", "CROSSFADE_KAFKA_USER"),
        ("kafka://one?ca=/nowhere.pem", "no file"),
    ],
)
def test_what_is_wrong_is_named(url, says):
    """A mistake is refused before anything is sent, and its text says what to write instead."""
    with pytest.raises(ConfigurationError, match=says):
        parse_url(url)
