"""A secret is nowhere in clear: not in a stream, a bucket, the object store, the spool, a log or the server's trace.

The server traces every byte it reads and writes, so its log is the wire. A canary that is no secret travels beside
every secret, and each place must hold it: a search that finds nothing anywhere would prove nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nats
import pytest
from pydantic import BaseModel, SecretStr

from crossfade.shim import NotExecutedError, RemoteError, current_call, execution, tool
from crossfade.shim.events import new_id
from integration.shim import kit
from support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture
def token():
    """What must not be found."""
    return "tiger-" + secrets.token_urlsafe(24)


@pytest.fixture
def canary():
    """What must be found."""
    return "canary" + secrets.token_hex(12)


@pytest.fixture
def keys(monkeypatch):
    """A key to seal with; the search looks for it, too."""
    key = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("CROSSFADE_SEAL_KEY", f"k1:{key}")
    monkeypatch.setenv("CROSSFADE_REDACT_KEY", "the same on both sides")
    return key


@pytest.fixture
def tracing_server(tmp_path):
    """A server that writes every message, headers and payload, into its log."""
    with NatsServer(tmp_path / "nats", config="debug: true\ntrace: true\nmax_traced_msg_len: 0") as server:
        yield server


class Credentials(BaseModel):
    user: str
    token: SecretStr


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


async def everything_stored(url):
    """Every raw message of every stream, by stream: commands, observations, dead letters, buckets, objects."""
    client = await nats.connect(url)
    manager = client.jetstream()
    found: dict[str, bytes] = {}
    for info in await manager.streams_info():
        found[info.config.name] = await whole_stream(manager, info)
    await client.close()
    return found


async def whole_stream(manager, info):
    parts = []
    for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
        try:
            message = await manager.get_msg(info.config.name, sequence)
        except nats.js.errors.NotFoundError:
            continue  # replaced by a later value of its subject
        parts += [message.subject.encode(), json.dumps(message.headers or {}).encode(), message.data or b""]
    return b"\n".join(parts)


def traced(server):
    """The server's log; a traced payload shows its bytes escaped as Go prints them."""
    return server.log().encode()


def spellings(secret):
    """The secret as it might lie about: plain, base64 at each alignment, hex, quoted."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4:-4] for n in range(3)]
    return [raw, raw.hex().encode(), json.dumps(secret)[1:-1].encode(), secret[::-1].encode(), *shifted]


def assert_hidden(secret, places):
    hits = [(name, spelling) for name, text in places.items() for spelling in spellings(secret) if spelling in text]
    assert not hits


def declare(token, canary):
    """One seam for each way a secret takes."""

    @tool("bus.named", effects="none", stage="bus", timeout=5, fallback="raise", secret=("password", "headers"))
    def named(note: str, password: str, headers: dict[str, str]) -> str:
        assert current_call() is not None
        return digest(password + headers["Authorization"])

    @tool("bus.typed", effects="none", stage="bus", timeout=5, fallback="raise")
    async def typed(note: str, key: SecretStr, also: SecretStr | None = None) -> str:
        return digest(key.get_secret_value() + (also.get_secret_value() if also else ""))

    @tool("bus.large", effects="none", stage="bus", timeout=10, fallback="raise", secret=("password",))
    def large(note: str, password: str) -> str:
        return note

    @tool("bus.fails", effects="none", stage="bus", timeout=5, fallback="raise", secret=("password",))
    def fails(note: str, password: str) -> None:
        url = f"https://ann:{password}@example.com/?api_key={password}"
        raise ConnectionError(
            f"{note}: GET {url} sent 'Authorization: Bearer {password}' and {{'token': '{password}'}}"
        )

    @tool("seen.many", stage="observe")
    def seen(note: str, headers: dict[str, str], body: dict, api_key: str, url: str) -> dict:
        return {"note": note, "access_token": api_key, "nested": [{"password": api_key}], "said": f"Bearer {api_key}"}

    @tool("seen.typed", stage="observe", secret=("pin",))
    def seen_typed(note: str, who: Credentials, pin: str, key: SecretStr) -> None: ...

    @tool("seen.fails", stage="observe")
    def seen_fails(note: str) -> None:
        cause = PermissionError(f"{note} password={token}")
        cause.add_note(f"{note} cookie: session={token}")
        raise RuntimeError(f"{note} Authorization: Bearer {token}") from cause

    return named, typed, large, fails, seen, seen_typed, seen_fails


def test_a_token_is_found_nowhere(tracing_server, connect, work, token, canary, keys, caplog, capfd, tmp_path):  # noqa: PLR0917
    """Sealed, typed, named, in a header, a URL, an error, a traceback, a result: 0 hits, and the canary everywhere."""
    caplog.set_level(logging.DEBUG)
    named, typed, large, fails, seen, seen_typed, seen_fails = declare(token, canary)
    connection = connect(tracing_server.url)
    work(connection, named, typed, large, fails)

    headers = {"Authorization": f"Bearer {token}", "X-Api-Key": token}
    assert named(canary, token, headers) == digest(token + headers["Authorization"])
    assert asyncio.run(typed(canary, SecretStr(token), also=SecretStr(token))) == digest(token * 2)
    note = canary + "x" * 300_000
    assert large(note, token) == note
    with pytest.raises(ConnectionError) as caught:
        fails(canary, token)
    assert token not in str(caught.value) + "".join(caught.value.__notes__)

    body = {"user": {"password": token}, "headers": [["Cookie", f"sid={token}"]], "text": f"Bearer {token}"}
    value = seen(canary, headers, body, token, f"https://ann:{token}@example.com/{canary}")
    assert value["access_token"] == token
    seen_typed(canary, Credentials(user="ann", token=SecretStr(token)), token, SecretStr(token))
    with pytest.raises(RuntimeError, match=token):
        seen_fails(canary)
    assert len(kit.observed(connection, 3)) == 3
    named(canary, token, headers)  # twice, for equality

    logging.getLogger("app").warning("the application's own words: %s", canary)
    streams = asyncio.run(everything_stored(tracing_server.url))
    places = {**streams, "server": traced(tracing_server), "log": caplog.text.encode()}
    out, err = capfd.readouterr()
    places |= {"stdout": out.encode(), "stderr": err.encode()}
    assert_hidden(token, places)
    assert_hidden(keys, places)

    with pytest.raises(AssertionError):
        assert_hidden(canary, places)
    holding = {name.rpartition("_")[2] for name, text in places.items() if canary.encode() in text}
    assert holding >= {"server", "log", "CMD", "OBS", "objects"}


def test_a_sealed_value_opens_only_for_its_call(connect, work, token):
    """A sealed argument copied into another call is refused, and neither refusal nor dead letter shows it."""
    got = []

    @tool("bus.named", effects="none", stage="bus", timeout=5, fallback="raise", secret=("password",))
    def named(password: str) -> None:
        got.append(password)

    connection = connect()
    work(connection, named)
    named(token)
    (command,) = (event for event in kit.read(connection, "{p}.>") if event.type == "tool.invoke")
    callid = new_id()
    replayed = replace(command.with_extensions(callid=callid), id=callid)
    subject = connection.runtime.subjects.call("invoke", domain="tool", seam="bus.named", run=callid, callid=callid)
    kit.on_loop(connection, connection.runtime.bus.publish(subject, replayed))
    (letter,) = kit.until(lambda: kit.dead_letters(connection))
    assert letter.reason == "seal"
    assert token not in letter.detail
    assert got == [token]


def test_without_a_key_the_seam_stays_legacy(connect, token, monkeypatch, counts, caplog):
    """No key, no journey: counted, one warning, the body answers."""
    monkeypatch.delenv("CROSSFADE_SEAL_KEY")

    @tool("bus.named", effects="none", stage="bus", timeout=5, secret=("password",))
    def named(password: str) -> bool:
        return current_call() is None

    connection = connect()
    assert named(token)
    assert named(token)
    assert kit.read(connection, "{p}.>") == []
    assert counts.get("skipped", seam="bus.named", reason="secret") == 2
    assert caplog.text.count("CROSSFADE_SEAL_KEY") == 1
    assert token not in caplog.text


def test_a_worker_without_the_key_refuses_and_shows_nothing(connect, work, token, monkeypatch):
    """The command ends not-executed; its dead letter holds the sealed value only."""

    @tool("bus.named", effects="none", stage="bus", timeout=5, fallback="raise", secret=("password",))
    def named(password: str) -> None: ...

    connection = connect()
    sealer = connection.runtime.sealer
    work(connection, named)

    decode = execution.Execution.decode

    async def without_key(self, event, callid):
        monkeypatch.setattr(connection.runtime, "sealer", None)
        try:
            return await decode(self, event, callid)
        finally:
            monkeypatch.setattr(connection.runtime, "sealer", sealer)

    monkeypatch.setattr(execution.Execution, "decode", without_key)
    with pytest.raises(NotExecutedError) as caught:
        named(token)
    assert caught.value.reason == "secret"
    (letter,) = kit.until(lambda: kit.dead_letters(connection))
    assert_hidden(token, {"letter": letter.data, "detail": letter.detail.encode()})


def test_a_spooled_error_shows_no_token(connect, work, broker, token, tmp_path):
    """The bus is away when the handler fails: what lies on disk is redacted, and only its owner may read it."""

    @tool("bus.fails", effects="none", stage="bus", timeout=10, fallback="raise")
    def fails() -> None:
        broker.stop()
        raise KeyError(f"canary Authorization: Bearer {token}")

    connection = connect()
    work(connection, fails, spool=tmp_path / "spool")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(fails)
        (file,) = kit.until(lambda: list((tmp_path / "spool").glob("*.json")))
        spooled = json.loads(file.read_text())
        mode = file.stat().st_mode & 0o077
        broker.start()
        with pytest.raises(KeyError):
            call.result(kit.SOON)
    data = base64.b64decode(spooled["data"])
    assert b"canary" in data
    assert_hidden(token, {"data": data, "headers": json.dumps(spooled["headers"]).encode()})
    assert mode == 0


def test_complaints_about_arguments_show_no_token(connect, counts, caplog, token, work):
    """What a type's own serialiser says goes to the log redacted; a foreign error's text does, too."""

    class Leaky(BaseModel):
        token: SecretStr

        def __eq__(self, other):
            raise ValueError(f"Bearer {token}")

        __hash__ = None

    @tool("leaky.any", effects="none", stage="bus", timeout=5)
    def leaky(x) -> None:
        raise RemoteError(f"Bearer {token}", type_name="x") if current_call() else ValueError("legacy")

    connection = connect()
    work(connection, leaky)
    with pytest.raises(ValueError, match="legacy"):
        leaky(Leaky(token=SecretStr(token)))
    assert token not in caplog.text
    assert "leaky.any" in caplog.text


def test_a_credential_that_nobody_declared_is_not_sent(connect, work, token, counts, caplog):
    """A header in a dict, a password in a URL: the body answers, no stream holds it, and the log says what to do."""

    @tool("bus.careless", effects="none", stage="bus", timeout=5)
    def careless(headers: dict[str, str], url: str = "") -> str:
        return "bus" if current_call() else "body"

    connection = connect()
    work(connection, careless)
    assert careless({"Authorization": f"Bearer {token}"}) == "body"
    assert careless({}, url=f"https://ann:{token}@example.com/") == "body"
    assert careless({"Accept": "text/html"}, url="https://example.com/?page_token=3") == "bus"
    assert counts.get("skipped", seam="bus.careless", reason="secret") == 2
    assert "secret=" in caplog.text
    assert token not in caplog.text
    assert all(token not in str(event) for event in kit.read(connection, "{p}.>"))
