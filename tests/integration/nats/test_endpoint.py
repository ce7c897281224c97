"""URLs: what they may say, and that a mistake is named before anything runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from crossfade.adapters.nats import Endpoint, Options
from crossfade.adapters.nats._endpoint import parse_url
from crossfade.shim.errors import ConfigurationError


def test_a_plain_url():
    """Host and port are enough; the port may be left out."""
    assert parse_url("nats://127.0.0.1:4333")[0] == Endpoint(servers=("127.0.0.1:4333",))
    assert parse_url("nats://broker") == (Endpoint(servers=("broker:4222",)), Options())


def test_several_servers():
    """A cluster's servers are listed with commas; an IPv6 address keeps its brackets."""
    endpoint, _ = parse_url("nats://a:1,b:2,[::1]:3")
    assert endpoint.servers == ("a:1", "b:2", "[::1]:3")


def test_user_and_password():
    """Credentials are percent-decoded."""
    endpoint, _ = parse_url("nats://al%40ice:p%3Aw@a:1")
    assert (endpoint.user, endpoint.password, endpoint.token) == ("al@ice", "p:w", None)


def test_a_token():
    """A name without a colon is a token."""
    endpoint, _ = parse_url("nats://s3cret@a:1")
    assert (endpoint.user, endpoint.token) == (None, "s3cret")


def test_secrets_stay_out_of_repr():
    """What logs may show of an endpoint holds no secret."""
    shown = repr(parse_url("nats://u:hidden@a")[0]) + repr(parse_url("nats://hidden@a")[0])
    assert "hidden" not in shown


def test_statements_of_the_operator():
    """sync=always and replicas are taken as stated."""
    assert parse_url("nats://a?sync=always&replicas=3")[1] == Options(replicas=3, synced=True)


def test_an_inbox_of_ones_own():
    """It is a subject without wildcards, since everything this user hears of answers lies below it."""
    assert parse_url("nats://a?inbox=_INBOX_app.one")[0].inbox == "_INBOX_app.one"
    for wrong in ("", "a.*", "a.>", "a b", ".a"):
        with pytest.raises(ConfigurationError, match="'inbox'"):
            parse_url(f"nats://a?inbox={wrong}")


def test_files(tmp_path):
    """ca, cert and key are files that exist."""
    path = tmp_path / "file"
    path.write_text("x")
    endpoint, _ = parse_url(f"tls://a?ca={path}&cert={path}&key={path}")
    assert endpoint.tls
    assert endpoint.ca == endpoint.cert == endpoint.key == Path(path)


@pytest.mark.parametrize("option", ["creds", "nkey"])
def test_signing_needs_its_library(tmp_path, monkeypatch, option):
    """creds and nkey are read when the library that signs is there, else the message is how to get it."""
    path = tmp_path / "file"
    path.write_text("x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install nkeys"):
        parse_url(f"nats://a?{option}={path}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert getattr(parse_url(f"nats://a?{option}={path}")[0], option) == path


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://a", "http"),
        ("nats://", "server"),
        ("nats://a:notaport", "notaport"),
        ("nats://a/path", "path"),
        ("nats://a?colour=red", "colour"),
        ("nats://a?replicas=7", "replicas"),
        ("nats://a?replicas=3&replicas=3", "replicas"),
        ("nats://a?sync=never", "sync"),
        ("nats://a?creds=/does/not/exist", "creds"),
        ("nats://a?cert=/does/not/exist", "cert"),
    ],
)
def test_a_mistake_is_named(url, named):
    """A URL that cannot be used is refused with the part that is wrong."""
    with pytest.raises(ConfigurationError, match=named):
        parse_url(url)


def test_a_certificate_without_its_key(tmp_path):
    """cert and key belong together."""
    (tmp_path / "cert").write_text("x")
    with pytest.raises(ConfigurationError, match="key"):
        parse_url(f"nats://a?cert={tmp_path / 'cert'}")


def test_a_file_that_is_no_pem(tmp_path):
    """A ca file that holds no certificate is refused by name, not at the first reconnect."""
    (tmp_path / "ca").write_text("x")
    endpoint, _ = parse_url(f"nats://a?ca={tmp_path / 'ca'}")
    with pytest.raises(ConfigurationError, match="ca"):
        endpoint.ssl_context()
