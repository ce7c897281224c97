"""Messages of an MQTT 5 broker become ``device.reported``; each is acknowledged once its fact is durable.

Rules
- One session that outlives connections, with QoS 1: what comes in while this process is away is kept by the broker, and
  what was not acknowledged is sent again. While the bus is away nothing is acknowledged, and the broker holds the rest.
- What a repetition is depends on what the sender says. With a user property ``id``: a message of the same topic and id.
  Without: only the broker's own repetition of one message (the same packet of the same session), since a device that
  reports the same value twice reports twice. A device that repeats by itself must say ``id``.
- A retained message is one by topic and content; it comes when a subscription is new.
- QoS 0 is what it is: such a message may be lost, and is, when more than ``_WAITING`` wait for the bus.

One process at a time per client id: a second one takes the session over, as MQTT has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from crossfade.shim.errors import (
    BusError,
    ConfigurationError,
    CrossfadeError,
    EventTooLargeError,
    MissingExtraError,
)
from crossfade.shim.events import new_id
from crossfade.shim.hooks import report

from .bodies import carried
from .intake import BUCKET, Arrival

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError as error:
    raise MissingExtraError("triggers", needed_for="an MQTT trigger") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

    from .intake import Intake
    from .topics import Topics

_KEPT: Final = 7 * 86_400  # seconds the broker keeps the session while nobody is there
_AT_ONCE: Final = 64  # messages handed over and not acknowledged
_WAITING: Final = 1000
_PATIENCE: Final = 10.0  # seconds for the broker's answers
_KEEPALIVE: Final = 20  # seconds
_AGAIN: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds until a fact is published again
_TYPE: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\Z")

_log = logging.getLogger("crossfade")


class MqttLostError(CrossfadeError):
    """The connection to the MQTT broker is gone; it is made again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """A broker (``mqtt://HOST:PORT`` or ``mqtts://``), topics, and the session's ``client_id``.

    ``type`` is that of the facts; ``ca`` (PEM) is trusted in place of the machine's authorities.
    """

    url: str
    topics: tuple[Topics, ...]
    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    ca: Path | None = None
    type: str = "device.reported"
    tenant: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        self.address()
        if not self.topics:
            raise ConfigurationError("name the topics to read", where="topics")
        if not _TYPE.match(self.type) or len(self.type) > 64:
            raise ConfigurationError(f"{self.type!r} is no type: use words of a-z joined by dots", where="type")
        if self.password is not None and self.username is None:
            raise ConfigurationError("a password needs its `username`", where="password")

    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether by TLS."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.username:
            raise ConfigurationError(
                "this is no broker: write mqtt://HOST:PORT or mqtts://HOST:PORT, and who you are as `username` and "
                "`password`",
                where="url",
            )
        tls = parts.scheme == "mqtts"
        return parts.hostname, port or (8883 if tls else 1883), tls


class MqttReader:
    """Reads one broker's topics; ``run`` ends with its connection and is started again."""

    def __init__(self, settings: Subscription, intake: Intake) -> None:
        self.name = intake.trigger
        self._settings = settings
        self._intake = intake

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``. Raises ``MqttLostError`` when the connection ends, ``ConfigurationError`` when refused."""
        line = _Line(self._settings, self.name)
        try:
            session = await line.connect(self._intake)
            await line.subscribe()
            ready(self._settings.url)
            await self._read(line, session, stopping)
        finally:
            await line.close()

    async def _read(self, line: _Line, session: str, stopping: asyncio.Event) -> None:
        ending = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                getting = asyncio.create_task(line.messages.get())
                waited: set[asyncio.Future[Any]] = {ending, getting, line.lost}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    await self._take(line, session, getting.result(), stopping)
                    continue
                getting.cancel()
                if line.lost.done():
                    raise MqttLostError(f"{self._settings.url} is gone: {line.lost.result()}")
        finally:
            ending.cancel()

    async def _take(self, line: _Line, session: str, message: paho.MQTTMessage, stopping: asyncio.Event) -> None:
        """Publish until it is durable, then acknowledge; given up unacknowledged when asked to stop."""
        arrival = self._arrival(session, message)
        tries = 0
        while arrival is not None:
            try:
                await self._intake.take(arrival)
                break
            except EventTooLargeError as error:  # no try will do
                report.count("trigger-refused", seam=self.name, reason="size")
                _log.error("trigger %s: a message of %s is lost: %s", self.name, message.topic, error)
                break
            except BusError as error:
                report.count("mqtt-delayed", seam=self.name, reason=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _AGAIN[min(tries, len(_AGAIN) - 1)])
                tries += 1
                if stopping.is_set() or line.lost.done():
                    return
        if message.qos:
            line.ack(message)

    def _arrival(self, session: str, message: paho.MQTTMessage) -> Arrival | None:
        """What a message says, ``None`` for one of a topic nobody asks for any more; that is counted."""
        found = next(
            (one for topics in self._settings.topics if (one := topics.match(message.topic)) is not None), None
        )
        if found is None:
            report.count("trigger-refused", seam=self.name, reason="topic")
            return None
        properties = _user_properties(message)
        payload = {
            "topic": message.topic,
            "qos": message.qos,
            "retained": message.retain,
            "properties": properties,
            **carried(bytes(message.payload)),
        }
        return Arrival(
            type=self._settings.type,
            parts=_parts(session, message, properties.get("id")),
            data=json.dumps(payload).encode(),
            subject=message.topic if message.topic.isprintable() else None,
            tenant=found.get("tenant") or self._settings.tenant,
            user=found.get("user") or self._settings.user,
        )


class _Line:
    """One connection. paho's thread reads it and hands over to the loop."""

    def __init__(self, settings: Subscription, trigger: str) -> None:
        self._settings = settings
        self._trigger = trigger
        self._loop = asyncio.get_running_loop()
        self.messages: asyncio.Queue[paho.MQTTMessage] = asyncio.Queue()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._connected: asyncio.Future[tuple[ReasonCode, bool]] = self._loop.create_future()
        self._subscribed: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._client = self._made()

    def _made(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if self._settings.username is not None:
            password = self._settings.password
            client.username_pw_set(self._settings.username, password.decode() if password is not None else None)
        if self._settings.address()[2]:
            try:
                client.tls_set_context(  # pyright: ignore[reportUnknownMemberType] - paho's is untyped
                    ssl.create_default_context(cafile=self._settings.ca)
                )
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"this authority cannot be used: {error}", where="ca") from error
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    async def connect(self, intake: Intake) -> str:
        """Open the connection; the session's id, which is another one when the broker knew of none."""
        host, port, _ = self._settings.address()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _KEPT
        properties.ReceiveMaximum = _AT_ONCE
        try:
            await asyncio.to_thread(
                self._client.connect, host, port, _KEEPALIVE, clean_start=False, properties=properties
            )
        except (OSError, ValueError) as error:
            raise MqttLostError(f"{self._settings.url} cannot be reached: {error}") from error
        self._client.loop_start()
        code, known = await self._answer(self._connected)
        if code.is_failure:
            raise ConfigurationError(f"{self._settings.url} refuses us: {code}", where="url")
        return await _session(intake, self._trigger, known=known)

    async def subscribe(self) -> None:
        """Ask for the topics; those the session has already bring no retained messages again."""
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        result, _ = self._client.subscribe([(topics.filter, options) for topics in self._settings.topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise MqttLostError(f"{self._settings.url} is gone: {paho.error_string(result)}")
        for topics, code in zip(self._settings.topics, await self._answer(self._subscribed), strict=True):
            if code.is_failure:
                raise ConfigurationError(f"{self._settings.url} refuses {topics.filter!r}: {code}", where="topics")

    def ack(self, message: paho.MQTTMessage) -> None:
        """Tell the broker that it can forget the message; when it does not hear that, it sends it again."""
        self._client.ack(message.mid, message.qos)

    async def close(self) -> None:
        """Disconnect; the session stays."""
        await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    async def _answer(self, answer: asyncio.Future[Any]) -> Any:
        await asyncio.wait({answer, self.lost}, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        why = self.lost.result() if self.lost.done() else "it does not answer"
        raise MqttLostError(f"{self._settings.url}: {why}")

    # -- called by paho's thread -----------------------------------------------------------------------------

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(call, *args)

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._tell(_set, self._connected, (code, bool(flags.session_present)))

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._tell(_set, self._subscribed, codes)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._tell(self._received, message)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._tell(_set, self.lost, str(code))

    def _received(self, message: paho.MQTTMessage) -> None:
        if not message.qos and self.messages.qsize() >= _WAITING:
            report.count("dropped", seam=self._trigger, reason="qos0")
            return
        self.messages.put_nowait(message)


def _set(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


async def _session(intake: Intake, trigger: str, *, known: bool) -> str:
    """What tells this session's packets from those of another one, which counts from 1 again."""
    state, key = intake.bus.state(BUCKET), f"mqtt.{trigger}"
    entry = await state.get(key) if known else None
    if entry is not None:
        return entry.value.decode()
    session = new_id()
    await state.put(key, session.encode())
    return session


def _user_properties(message: paho.MQTTMessage) -> dict[str, str]:
    found: list[tuple[str, str]] = getattr(message.properties, "UserProperty", [])
    return dict(found)


def _parts(session: str, message: paho.MQTTMessage, ident: str | None) -> tuple[str, ...]:
    content = hashlib.sha256(message.payload).hexdigest()
    if ident:
        return "id", message.topic, ident
    if message.retain:
        return "retained", message.topic, content
    if message.qos:
        return "packet", session, str(message.mid), message.topic, content
    return "once", new_id()
