"""TLS and SASL, on a real broker that asks for both."""

from __future__ import annotations

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from crossfade.shim.errors import BusRefusedError, BusUnavailableError
from crossfade.shim.events import Event
from support.kafka_broker import KafkaBroker
from support.needs import needs

pytestmark = [pytest.mark.slow, needs("java"), needs("mvn")]  # a broker of its own
SECRET = "p@ss:w/rd"
_JAAS = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{secret}" '
    'username="alice" password="{secret}";'
)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
    leaf = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None)  # Kafka reads PKCS #8 alone
    chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
    (folder / "broker.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    return folder


@pytest.fixture(scope="module")
def broker(files, tmp_path_factory):
    """One that takes clients by TLS only, and by a password."""
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files / "ca.pem"),
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.main.plain.sasl.jaas.config": _JAAS.format(secret=SECRET),
        "listener.security.protocol.map": "MAIN:SASL_SSL,CONTROLLER:PLAINTEXT",
    }
    with KafkaBroker(tmp_path_factory.mktemp("secure"), settings=settings) as running:
        yield running


def url(broker, identity="alice:p%40ss%3Aw%2Frd@", **options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"kafka://{identity}127.0.0.1:{broker.port}?{query}"


async def test_tls_and_a_password(broker, files, opened, subjects):
    """With the authority, user and password everything works as without."""
    bus = await opened(url(broker, ca=files / "ca.pem"), connect_timeout=20)
    event = Event(type="webhook.received", source="urn:t", data=b"1")
    await bus.publish(subjects.fact("webhook.received"), event, timeout=20)
    assert (await bus.last(subjects.fact("webhook.received"))).event == event


async def test_a_wrong_password(broker, files, opened):
    """Refused by name, and the secret is in no text."""
    with pytest.raises(BusRefusedError, match="refused our credentials") as caught:
        await opened(url(broker, "alice:hunter2@", ca=files / "ca.pem"), connect_timeout=20)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_another_authority(broker, files, opened):
    """A broker whose certificate somebody else signed is not talked to."""
    with pytest.raises(BusRefusedError, match="certificate is not trusted"):
        await opened(url(broker, ca=files / "stranger.pem"), connect_timeout=20)


async def test_clear_text_to_a_broker_that_wants_tls(broker, opened):
    """Without tls= the connection comes to nothing, in time and without a secret sent."""
    with pytest.raises(BusUnavailableError):
        await opened(url(broker, identity=""), connect_timeout=5)
