"""Who a request is for: what proves it, what only keeps a user on one path, and what names nobody."""

from __future__ import annotations

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.identity import Identity, IdentityRules, Source, TokenRules
from crossfade.shim.errors import ConfigurationError

SECRET = b"0123456789abcdef0123456789abcdef"
BY_HEADER = IdentityRules(user=Source.parse("header:X-User"), tenant=Source.parse("header:X-Tenant"))
BY_COOKIE = IdentityRules(user=Source.parse("cookie:sid"))


@pytest.fixture(scope="module")
def issuer():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return str(path)


@pytest.fixture
def jwks_file(tmp_path, issuer):
    key = jwt.algorithms.RSAAlgorithm.to_jwk(issuer.public_key(), as_dict=True)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**key, "kid": "a", "alg": "RS256"}]}))
    return str(path)


def by_token(**rules):
    return IdentityRules(user=Source.parse("jwt:sub"), jwt=TokenRules(**rules) if rules else None)


def token(key=SECRET, algorithm="HS256", headers=None, **claims):
    return jwt.encode({"sub": "alice", "exp": time.time() + 60, **claims}, key, algorithm, headers)


def identify(rules, *headers, trusted=False):
    return rules.identify(
        [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers],
        trusted=trusted,
    )


def bearer(text):
    return "Authorization", f"Bearer {text}"


# -- headers ---------------------------------------------------------------------------------------------------


def test_a_trusted_peers_header_is_proof():
    """Names are compared without case, and user and tenant own what they start."""
    found = identify(BY_HEADER, ("x-USER", "alice"), ("X-Tenant", "acme"), trusted=True)

    assert found == Identity(user="alice", tenant="acme", proven=True)
    assert found.owner == ("acme", "alice")


def test_a_strangers_header_names_nobody():
    """The reason is said, and the proxy knows which headers to take out."""
    found = identify(BY_HEADER, ("X-User", "root"))

    assert found == Identity(reason="untrusted")
    assert found.owner is None
    assert BY_HEADER.guarded == {b"x-user", b"x-tenant"}


def test_a_header_there_twice_names_nobody():
    """A peer that appends to what a client sent must not hand us the client's word."""
    found = identify(BY_HEADER, ("X-User", "alice"), ("x-user", "root"), trusted=True)

    assert found == Identity(reason="twice")


@pytest.mark.parametrize("value", [b"", b"\xff", b"a\x85b", "x" * 1025, "a\u202eb"])
def test_a_name_no_event_can_carry_names_nobody(value):
    """Empty, not UTF-8, with controls, too long."""
    assert identify(BY_HEADER, ("X-User", value), trusted=True) == Identity(reason="unreadable")


def test_nothing_given_is_no_fault():
    """A request without any of it is anonymous, without a reason to count."""
    assert identify(BY_HEADER, ("X-Other", "a"), trusted=True) == Identity()
    assert identify(IdentityRules(), ("X-User", "a"), trusted=True) == Identity()


# -- cookies ---------------------------------------------------------------------------------------------------


def test_a_cookie_names_and_never_proves():
    """Not even from a trusted peer: it hands on what the client said."""
    for trusted in (False, True):
        found = identify(BY_COOKIE, ("Cookie", 'a=1; sid="alice"; b=2'), trusted=trusted)

        assert found == Identity(user="alice")
        assert found.owner is None


@pytest.mark.parametrize("headers", [[("Cookie", "sid=a; sid=b")], [("Cookie", "sid=a"), ("Cookie", "sid=a")]])
def test_a_cookie_there_twice_names_nobody(headers):
    """Which one a service reads is its own affair."""
    assert identify(BY_COOKIE, *headers) == Identity(reason="twice")


def test_a_proven_tenant_does_not_prove_the_user():
    """All that is there has to be proven."""
    rules = IdentityRules(user=Source.parse("cookie:sid"), tenant=Source.parse("header:X-Tenant"))

    found = identify(rules, ("Cookie", "sid=alice"), ("X-Tenant", "acme"), trusted=True)

    assert (found.user, found.tenant, found.proven, found.owner) == ("alice", "acme", False, None)


# -- tokens ----------------------------------------------------------------------------------------------------


def test_a_signed_token_is_proof_from_anybody(secret_file, jwks_file, issuer, tmp_path):
    """By a shared secret, by a set of keys, by one public key."""
    public = tmp_path / "public.pem"
    public.write_bytes(
        issuer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = [
        (by_token(algorithm="HS256", key_file=secret_file), token()),
        (by_token(algorithm="RS256", jwks_file=jwks_file), token(issuer, "RS256", {"kid": "a"})),
        (by_token(algorithm="RS256", jwks_file=jwks_file), token(issuer, "RS256")),
        (by_token(algorithm="RS256", key_file=str(public)), token(issuer, "RS256", {"kid": "z"})),
    ]

    for rules, text in signed:
        assert identify(rules, bearer(text)) == Identity(user="alice", proven=True)


def test_a_token_without_rules_proves_nothing():
    """It keeps its user on one path."""
    assert identify(by_token(), bearer(token(b"anything, really, but 32 bytes long"))) == Identity(user="alice")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"nbf": 1e11}, "early"),
        ({"iss": "other"}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"sub": None}, "token"),
    ],
)
def test_a_token_that_does_not_hold_names_nobody(claims, reason, secret_file):
    """Each rule is checked, and the reason is one word."""
    rules = by_token(algorithm="HS256", key_file=secret_file, issuer="login", audience="reports")

    valid = {"iss": "login", "aud": ["reports", "x"]}
    assert identify(rules, bearer(token(**valid))).proven
    assert identify(rules, bearer(token(**{**valid, **claims}))) == Identity(reason=reason)


def test_a_forged_token_names_nobody(secret_file, jwks_file, issuer):
    """Another key, no signature, another algorithm, a public key used as a secret, an unknown key, no expiry."""
    shared = by_token(algorithm="HS256", key_file=secret_file)
    signed = by_token(algorithm="RS256", jwks_file=jwks_file)
    unsigned = jwt.encode({"sub": "root", "exp": time.time() + 60}, None, "none")
    forever = jwt.encode({"sub": "root"}, SECRET, "HS256")

    assert identify(shared, bearer(token(b"another secret of thirty-two bytes"))) == Identity(reason="signature")
    for text in (unsigned, token(issuer, "RS256"), forever, "a.b.c", ""):
        assert identify(shared, bearer(text)).user is None
    for text in (unsigned, token(SECRET), token(SECRET, headers={"kid": "a"})):
        assert identify(signed, bearer(text)) == Identity(reason="token")
    assert identify(signed, bearer(token(issuer, "RS256", {"kid": "z"}))) == Identity(reason="key")


def test_two_credentials_name_nobody(secret_file):
    """Whichever one the service reads, it must not be the other one that we believed."""
    rules = by_token(algorithm="HS256", key_file=secret_file)

    assert identify(rules, bearer(token()), bearer(token())).reason == "twice"
    assert identify(rules, bearer(token()), ("authorization", "Basic YTpi")).reason == "twice"
    assert identify(rules, ("Authorization", "Basic YTpi")) == Identity()


@pytest.mark.parametrize("value", [7, ["a"], "", {"a": 1}])
def test_a_claim_that_is_no_name_names_nobody(value, secret_file):
    """A number, a list, nothing."""
    rules = IdentityRules(user=Source.parse("jwt:uid"), jwt=TokenRules(algorithm="HS256", key_file=secret_file))

    found = identify(rules, bearer(token(uid=value)))

    assert (found.user, found.proven) == (None, False)
    assert found.reason in ("claim", "unreadable")


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"cookie", b"X-User"]), st.binary(max_size=40))))
def test_no_headers_break_it(headers):
    """Whatever clients send is an answer, and only a trusted peer's header proves."""
    for rules in (BY_HEADER, BY_COOKIE, by_token()):
        assert rules.identify(headers, trusted=False).proven is False


# -- what is refused at start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "X-User", "header:", "query:user", "header:X User", "jwt:\u00fc"])
def test_a_source_nobody_can_read_is_refused(text):
    """The message has the three forms."""
    with pytest.raises(ValueError, match="write header:NAME, cookie:NAME or jwt:CLAIM"):
        Source.parse(text)


def test_keys_that_could_check_nothing_are_refused(tmp_path, secret_file, jwks_file):
    """When the file is read, not at the first request; a key is never shown."""
    short = tmp_path / "short"
    short.write_text("hunter2")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    cases = {
        "needs 32": TokenRules(algorithm="HS256", key_file=str(short)),
        "no public key for RS256 in PEM form": TokenRules(algorithm="RS256", key_file=secret_file),
        "no set of keys": TokenRules(algorithm="RS256", jwks_file=str(broken)),
        "none of its keys is for ES256": TokenRules(algorithm="ES256", jwks_file=jwks_file),
        "cannot be read": TokenRules(algorithm="RS256", jwks_file=str(tmp_path / "no")),
    }

    for says, rules in cases.items():
        with pytest.raises(ConfigurationError, match=says) as caught:
            rules.load()
        assert "hunter2" not in str(caught.value)
        assert SECRET.decode() not in str(caught.value)
