"""Who may use the API."""

from __future__ import annotations

import stat

import pytest

from crossfade.proxy.control.auth import COOKIE, Credentials, Gatekeeper, needed_role, needs
from crossfade.proxy.control.tokens import Key, Keyring
from crossfade.shim.errors import ConfigurationError

RING = Keyring([Key.new()])


@pytest.fixture
def known():
    """Olga operates, Viktor looks; and what they were shown."""
    credentials, operate = Credentials().with_new("olga", "operate")
    credentials, view = credentials.with_new("viktor", "view")
    return credentials, operate, view


def test_the_file_holds_no_secret(known, tmp_path):
    """Hashes, for its owner only; the same people when it is read again."""
    credentials, operate, view = known
    path = tmp_path / "state" / "credentials.json"
    credentials.save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert operate not in path.read_text()
    again = Credentials.load(path)
    assert (again.find(operate).name, again.find(view).role) == ("olga", "view")


def test_a_secret_that_was_replaced_is_none_any_more(known):
    """One credential per name."""
    credentials, operate, _ = known
    changed, secret = credentials.with_new("olga", "view")
    assert changed.find(operate) is None
    assert changed.find(secret).role == "view"
    assert len(changed.known) == 2


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic {}", "{}", "Bearer {}x", "Bearer  {} {}"]
)
def test_what_is_no_bearer_of_ours_is_nobody(known, header):
    """Whatever the scheme, whatever surrounds it."""
    credentials, operate, _ = known
    headers = {"authorization": header.replace("{}", operate)}
    assert Gatekeeper(credentials, RING).identify(headers) is None


def test_a_scheme_is_told_in_any_case(known):
    """RFC 9110: it is case-insensitive."""
    credentials, operate, _ = known
    assert Gatekeeper(credentials, RING).identify({"authorization": f"bearer {operate}"}).name == "olga"


def test_a_session_ends_with_its_owners_credential(known):
    """Whoever is removed, or may less than before, is out with every browser."""
    credentials, operate, view = known
    keeper = Gatekeeper(credentials, RING)
    cookie, csrf = keeper.open_session(credentials.find(operate))
    headers = {"cookie": f"a=b; {COOKIE}={cookie}"}
    assert keeper.identify(headers).csrf == csrf

    less, _ = credentials.with_new("olga", "view")
    assert Gatekeeper(less, RING).identify(headers) is None
    assert Gatekeeper(credentials, Keyring([Key.new()])).identify(headers) is None
    assert Gatekeeper(credentials, RING).identify(headers | {"authorization": "Bearer x"}) is None
    assert keeper.identify({"authorization": f"Bearer {view}", **headers}).name == "viktor"


@pytest.mark.parametrize("cookie", ["", ";", "crossfade_session", "crossfade_session=", "crossfade_session=x", 'a="'])
def test_a_cookie_that_is_none_is_nobody(known, cookie):
    """Never an exception."""
    assert Gatekeeper(known[0], RING).identify({"cookie": cookie}) is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\n", "x" * 65, "\u00e9", "controller"])
def test_a_name_is_one_that_can_be_recorded(name):
    """It becomes the actor of changes."""
    with pytest.raises(ConfigurationError, match="name"):
        Credentials().with_new(name, "view")


@pytest.mark.parametrize("role", ["", "admin", "View", None])
def test_there_are_two_roles(role):
    """Said by name."""
    with pytest.raises(ConfigurationError, match="view or operate"):
        Credentials().with_new("a", role)


def test_what_is_no_read_needs_to_operate_unless_it_says_otherwise():
    """A route that forgets is closed."""

    def route():
        pass

    assert [needed_role(route, method) for method in ("GET", "HEAD", "POST", "DELETE", "MOVE")] == [
        "view",
        "view",
        "operate",
        "operate",
        "operate",
    ]
    assert needed_role(needs("view")(route), "POST") == "view"
