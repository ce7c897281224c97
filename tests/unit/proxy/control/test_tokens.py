"""A token opens one user's stream until it ends, and nothing else ever does."""

from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.control.tokens import Key, Keyring, TokenRefusedError
from crossfade.shim.errors import ConfigurationError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RING = Keyring([Key.new()])


@given(
    user=st.text(min_size=1, max_size=50).filter(str.isprintable), tenant=st.text(max_size=50).filter(str.isprintable)
)
def test_what_was_said_is_what_is_read(user, tenant):
    """Any name that an event can carry, unchanged."""
    read = RING.read(RING.mint(user=user, tenant=tenant, ttl=HOUR, now=NOW), now=NOW)
    assert (read.user, read.tenant, read.expires) == (user, tenant, NOW + HOUR)


@given(at=st.integers(min_value=0, max_value=200), to=st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_with_any_other_character_is_refused(at, to):
    """Wherever it is: in the purpose, the key, the claims or the signature."""
    token = RING.mint(user="alice", ttl=HOUR, now=NOW)
    at %= len(token)
    if token[at] != to:
        with pytest.raises(TokenRefusedError):
            RING.read(token[:at] + to + token[at + 1 :], now=NOW)


@given(st.text(max_size=200))
def test_nonsense_is_refused_by_name(text):
    """Never with another exception."""
    with pytest.raises(TokenRefusedError):
        RING.read(text)


def test_a_token_ends_when_it_says():
    """Not a second later."""
    token = RING.mint(user="alice", ttl=HOUR, now=NOW)
    RING.read(token, now=NOW + HOUR - timedelta(seconds=1))
    with pytest.raises(TokenRefusedError, match="expired"):
        RING.read(token, now=NOW + HOUR)


def test_another_keyrings_token_is_refused():
    """Also under the name of a key of ours."""
    other = Keyring([Key(id=RING.keys[0].id, secret=b"x" * 32)])
    for foreign in (other, Keyring([Key.new()])):
        with pytest.raises(TokenRefusedError, match="signature"):
            RING.read(foreign.mint(user="alice", ttl=HOUR))


def test_a_token_for_one_thing_is_none_for_another():
    """A session is no stream, also when its purpose is written over."""
    session = RING.sign("session", {"u": "alice", "t": "", "i": "1"}, expires=datetime.now(UTC) + HOUR)
    for token in (session, session.replace("session1", "stream1")):
        with pytest.raises(TokenRefusedError):
            RING.read(token)


def test_rotating_throws_nobody_out_and_ends_the_oldest():
    """The key before is still accepted, the one before that is not."""
    old = RING.mint(user="alice", ttl=HOUR)
    once = RING.rotated()
    assert once.read(old).user == "alice"
    assert once.mint(user="a", ttl=HOUR).split(".")[1] == once.keys[0].id != RING.keys[0].id
    with pytest.raises(TokenRefusedError, match="signature"):
        once.rotated().read(old)


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({"user": ""}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"user": "x" * 1025}, "user"),
        ({"tenant": "\x00"}, "tenant"),
        ({"ttl": timedelta(0)}, "ttl"),
        ({"ttl": timedelta(days=8)}, "ttl"),
    ],
)
def test_a_token_nobody_should_have_is_not_made(wish, where):
    """Of nobody, for ever, or for a name no event can carry."""
    with pytest.raises(ConfigurationError, match=where):
        RING.mint(**{"user": "alice", "ttl": HOUR} | wish)


def test_the_keys_are_their_owners(tmp_path):
    """0600 when made; refused when others may read them; the same ones the next time."""
    path = tmp_path / "state" / "stream-keys.json"
    made = Keyring.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Keyring.load(path).keys == made.keys
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keyring.load(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"id": "a"}]}', '{"keys": [{"id": 1, "secret": "!"}]}']
)
def test_a_file_that_holds_no_keys_is_said_to(tmp_path, text):
    """By its name, and nothing is overwritten."""
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        Keyring.load(path)
    assert path.read_text() == text


def test_minting_loads_nothing_heavy(tmp_path):
    """A frontend mints tokens without the web framework."""
    import subprocess
    import sys

    heavy = "('fastapi', 'pydantic', 'nats', 'uvicorn')"
    code = f"import sys, crossfade.proxy.control.tokens; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_claims_hold_no_more_than_they_must():
    """Whoever reads one learns user, tenant, an id and an end."""
    body = RING.mint(user="alice", ttl=HOUR).split(".")[2]
    assert set(json.loads(base64.urlsafe_b64decode(body + "=="))) == {"u", "t", "i", "exp"}
