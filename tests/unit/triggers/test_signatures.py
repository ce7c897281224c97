"""Webhook signatures: the providers' own examples, and every way in which a delivery is not its sender's."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.triggers.signatures import (
    SCHEMES,
    SignatureError,
    delivery_parts,
    read_json,
    read_secret,
    verify,
)
from crossfade.shim.errors import ConfigurationError

NOW = 1_614_265_330


def signed(scheme, body, secret=b"key", *, at=NOW, ident="msg_1"):
    """The headers of a delivery as its sender makes them, by the providers' descriptions."""

    def mac(content):
        return hmac.new(secret, content, hashlib.sha256)

    time = str(at).encode()
    return {
        "github": lambda: {
            "x-hub-signature-256": f"sha256={mac(body).hexdigest()}",
            "x-github-delivery": ident,
            "x-github-event": "push",
        },
        "stripe": lambda: {"stripe-signature": f"t={at},v1={mac(time + b'.' + body).hexdigest()},v0=feed"},
        "slack": lambda: {
            "x-slack-request-timestamp": str(at),
            "x-slack-signature": f"v0={mac(b'v0:' + time + b':' + body).hexdigest()}",
        },
        "standard": lambda: {
            "webhook-id": ident,
            "webhook-timestamp": str(at),
            "webhook-signature": "v1,"
            + base64.b64encode(mac(ident.encode() + b"." + time + b"." + body).digest()).decode(),
        },
        "bearer": lambda: {"authorization": f"Bearer {secret.decode()}", "ce-id": ident, "ce-source": "/s"},
    }[scheme]()


def test_githubs_own_example_verifies():
    """docs.github.com, "Validating webhook deliveries", testing: this secret, payload and signature."""
    headers = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}

    verify("github", headers, b"Hello, World!", (b"It's a Secret to Everybody",), now=0)


def test_slacks_own_example_verifies():
    """api.slack.com, "Verifying requests from Slack": this secret, time, body and signature."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }

    verify("slack", headers, body, (b"8f742231b10e8888abcd99yyyzzz85a5",), now=1531420618)


def test_standard_webhooks_own_example_verifies():
    """The test vector of the Standard Webhooks libraries: this secret, id, time, payload and signature."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = read_secret("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signed = verify("standard", headers, b'{"test": 2432232314}', (secret,), now=NOW)

    assert (signed.id, signed.time) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_either_secret_is_good_while_it_is_rotated(scheme):
    """A delivery signed with the old or with the new secret verifies, one of a third does not."""
    headers = signed(scheme, b"{}", b"new")

    verify(scheme, headers, b"{}", (b"old", b"new"), now=NOW)
    verify(scheme, headers, b"{}", (b"new",), now=NOW)
    with pytest.raises(SignatureError) as refused:
        verify(scheme, headers, b"{}", (b"old",), now=NOW)
    assert refused.value.reason == "mismatch"


@pytest.mark.parametrize("scheme", ["stripe", "standard"])
def test_a_sender_that_rotates_sends_two_signatures(scheme):
    """Either of several signatures in the header is enough."""
    one, other = signed(scheme, b"{}", b"old"), signed(scheme, b"{}", b"new")
    name = next(name for name in one if "signature" in name)
    glue = "," if scheme == "stripe" else " "
    both = other[name] if scheme == "standard" else other[name].partition(",")[2]
    headers = {**one, name: f"{one[name]}{glue}{both}"}

    verify(scheme, headers, b"{}", (b"new",), now=NOW)


@pytest.mark.parametrize("scheme", ["stripe", "slack", "standard"])
@pytest.mark.parametrize("off", [-301, 301])
def test_what_was_signed_long_ago_is_stale(scheme, off):
    """Beyond the window, before or after, a good signature is refused; within it, not."""
    headers = signed(scheme, b"{}")

    verify(scheme, headers, b"{}", (b"key",), now=NOW + off - off // 300)
    with pytest.raises(SignatureError) as refused:
        verify(scheme, headers, b"{}", (b"key",), now=NOW + off)
    assert refused.value.reason == "stale"


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "bearer"])
@given(body=st.binary(max_size=64), at=st.integers(0, 63), bit=st.integers(0, 7))
def test_one_changed_bit_is_another_body(scheme, body, at, bit):
    """Whatever bit of the body changes on its way, the signature does not fit."""
    if not body:
        return
    headers = signed(scheme, body)
    changed = bytearray(body)
    changed[at % len(body)] ^= 1 << bit

    verify(scheme, headers, body, (b"key",), now=NOW)
    with pytest.raises(SignatureError):
        verify(scheme, headers, bytes(changed), (b"key",), now=NOW)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_signature_is_missing(scheme):
    """A delivery without the header that its scheme wants is refused for that reason."""
    with pytest.raises(SignatureError) as refused:
        verify(scheme, {}, b"{}", (b"key",), now=NOW)
    assert refused.value.reason == "missing"


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        ("github", {"x-hub-signature-256": "sha1=00"}),
        ("github", {"x-hub-signature-256": "sha256=zz"}),
        ("github", {"x-hub-signature-256": "sha256=\xb2"}),
        ("stripe", {"stripe-signature": "t=1"}),
        ("stripe", {"stripe-signature": "t=1,t=2,v1=00"}),
        ("stripe", {"stripe-signature": "t=\u0661,v1=00"}),
        ("stripe", {"stripe-signature": "t=-1,v1=00"}),
        ("stripe", {"stripe-signature": "t=1," + ",".join(["v1=00"] * 17)}),
        ("slack", {"x-slack-request-timestamp": "soon"}),
        ("slack", {"x-slack-request-timestamp": "9" * 4000}),
        ("standard", {"webhook-signature": "v1a,AAAA"}),
        ("standard", {"webhook-signature": "v1,?"}),
        ("standard", {"webhook-timestamp": "1e9"}),
        ("bearer", {"authorization": "Basic a2V5"}),
        ("bearer", {"authorization": "Bearer "}),
    ],
)
def test_what_cannot_be_read_is_malformed(scheme, changes):
    """Hostile headers end in one named reason, never in another exception."""
    with pytest.raises(SignatureError) as refused:
        verify(scheme, {**signed(scheme, b"{}"), **changes}, b"{}", (b"key",), now=NOW)
    assert refused.value.reason == "malformed"


@given(
    scheme=st.sampled_from(SCHEMES),
    values=st.lists(st.text(st.characters(max_codepoint=255), max_size=40), min_size=3, max_size=3),
    body=st.binary(max_size=20),
)
def test_no_header_makes_it_fail_in_another_way(scheme, values, body):
    """Whatever a client can put in the headers, it is a refusal."""
    headers = dict(zip(signed(scheme, b"{}"), values, strict=False))
    with pytest.raises(SignatureError):
        verify(scheme, headers, body, (b"key",), now=NOW)


@pytest.mark.parametrize(
    ("scheme", "body", "parts"),
    [
        ("github", b"{}", ("github", "msg_1")),
        ("standard", b"{}", ("standard", "msg_1")),
        ("stripe", b'{"id": "evt_1"}', ("stripe", "evt_1")),
        ("slack", b'{"event_id": "Ev1"}', ("slack", "Ev1")),
        ("bearer", b"{}", ("bearer", "/s", "msg_1")),
    ],
)
def test_the_senders_id_is_the_deliverys(scheme, body, parts):
    """A retry, signed anew at another time, has the same parts."""
    for at in (NOW, NOW + 60):
        headers = signed(scheme, body, at=at)
        found = verify(scheme, headers, body, (b"key",), now=NOW)
        assert delivery_parts(scheme, found, headers, body) == parts


@pytest.mark.parametrize("body", [b"[]", b'{"id": 7}', b'{"id": ""}', b"{", b'{"id": "a"' + b"," * 9, b"[" * 100_000])
def test_without_an_id_the_body_and_its_time_are_one(body):
    """What says no id is known by its body and the time it was signed at: another time is another delivery."""
    one, same, other = (
        delivery_parts("stripe", verify("stripe", headers, body, (b"key",), now=NOW), headers, body)
        for headers in (signed("stripe", body), signed("stripe", body), signed("stripe", body, at=NOW + 1))
    )

    assert one == same != other


def test_nan_is_no_json():
    """What only Python reads would be unreadable to everybody else on the bus."""
    assert read_json(b'{"a": NaN}') is None
    assert read_json(b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(("scheme", "text"), [("standard", "whsec_no base64"), ("github", "")])
def test_a_secret_that_is_none_is_said_without_showing_it(scheme, text):
    """The error says what a secret looks like and does not repeat it."""
    with pytest.raises(ConfigurationError) as refused:
        read_secret(scheme, text)
    assert not text or text not in str(refused.value)
