"""TLS and SASL, on a real broker with a listener that asks for both and one that asks for a password alone."""

from __future__ import annotations

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from crossfade.shim.errors import BusRefusedError, BusUnavailableError
from crossfade.shim.events import Event
from support.kafka_broker import KafkaBroker, free_ports
from support.needs import needs

pytestmark = [pytest.mark.slow, needs("java"), needs("mvn")]  # a broker of its own
SECRET = "p@ss:w/rd"
_JAAS = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{secret}" '
    'username="alice" password="{secret}";'
)
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


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
    """One that knows alice; by TLS it takes every mechanism, in clear text only one that sends no password."""
    made = KafkaBroker(tmp_path_factory.mktemp("secure"), users={"alice": SECRET})
    (made.clear,) = free_ports(1)
    clients = f"MAIN://127.0.0.1:{made.port},CLEAR://127.0.0.1:{made.clear}"
    made.settings = {
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{made.controller}",
        "advertised.listeners": clients,
        "listener.security.protocol.map": "MAIN:SASL_SSL,CLEAR:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files / "ca.pem"),
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.main.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.main.plain.sasl.jaas.config": _JAAS.format(secret=SECRET),
        "listener.name.main.scram-sha-256.sasl.jaas.config": _SCRAM,
        "listener.name.main.scram-sha-512.sasl.jaas.config": _SCRAM,
        "listener.name.clear.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.clear.scram-sha-256.sasl.jaas.config": _SCRAM,
    }
    with made as running:
        yield running


def url(broker, identity="alice:p%40ss%3Aw%2Frd@", **options):
    """By TLS when a ``ca`` is named, else by the listener without."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"kafka://{identity}127.0.0.1:{broker.port if 'ca' in options else broker.clear}?{query}"


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
async def test_tls_and_a_password(broker, files, opened, subjects, mechanism):
    """With the authority, user and password everything works as without."""
    bus = await opened(url(broker, ca=files / "ca.pem", sasl=mechanism), connect_timeout=20)
    event = Event(type="webhook.received", source="urn:t", data=b"1")
    await bus.publish(subjects.fact("webhook.received"), event, timeout=20)
    assert (await bus.last(subjects.fact("webhook.received"))).event == event


async def test_a_password_without_tls(broker, opened, subjects, monkeypatch):
    """SCRAM proves the password without sending it; user and password come from the environment."""
    monkeypatch.setenv("CROSSFADE_KAFKA_USER", "alice")
    monkeypatch.setenv("CROSSFADE_KAFKA_PASSWORD", SECRET)
    bus = await opened(url(broker, "", sasl="scram-sha-256"), connect_timeout=20)
    event = Event(type="webhook.received", source="urn:t", data=b"1")
    await bus.publish(subjects.fact("webhook.received"), event, timeout=20)
    assert (await bus.last(subjects.fact("webhook.received"))).event == event


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
@pytest.mark.parametrize("identity", ["alice:hunter2@", "mallory:hunter2@"], ids=["password", "user"])
async def test_a_wrong_password(broker, files, opened, mechanism, identity):
    """Refused by name, and the secret is in no text."""
    with pytest.raises(BusRefusedError, match="refused our credentials: check user, password and sasl") as caught:
        await opened(url(broker, identity, ca=files / "ca.pem", sasl=mechanism), connect_timeout=20)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_mechanism_that_is_not_enabled(broker, opened):
    """Refused, with the broker's setting that is in the way."""
    with pytest.raises(BusRefusedError, match=r"does not take this sasl .*\(sasl.enabled.mechanisms\)"):
        await opened(url(broker, sasl="scram-sha-512"), connect_timeout=20)


async def test_another_authority(broker, files, opened):
    """A broker whose certificate somebody else signed is not talked to."""
    with pytest.raises(BusRefusedError, match="certificate is not trusted"):
        await opened(url(broker, ca=files / "stranger.pem"), connect_timeout=20)


async def test_clear_text_to_a_broker_that_wants_tls(broker, opened):
    """Without tls= the connection comes to nothing, in time and without a secret sent."""
    with pytest.raises(BusUnavailableError, match="set tls and sasl"):
        await opened(f"kafka://127.0.0.1:{broker.port}", connect_timeout=5)


async def test_no_password_to_a_broker_that_wants_one(broker, opened):
    """The connection comes to nothing, and the error says what may be missing."""
    with pytest.raises(BusUnavailableError, match="set tls and sasl"):
        await opened(f"kafka://127.0.0.1:{broker.clear}", connect_timeout=5)
