"""The connection: made within a bound, watched, and built anew whenever it is lost.

The client's own reconnecting is off, because it goes on where it must not (it buffers publishes while
disconnected, dies for good on an oversize message, waits for ever on a stuck socket) and knows one address only.
Every loss, whatever its cause, takes one path here: the dead client is let go, requests under way end as
"unknown", ``locate`` is asked again, and a new client gets every subscription before anyone may use it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
from typing import TYPE_CHECKING, Any, Final, Protocol

import nats.errors

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusRefusedError,
    BusUnavailableError,
)

from ._client import QuickClient, write_headers
from ._errors import ApiError, NoRespondersError, connect_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import BusSettings

    from ._endpoint import Endpoint

_log = logging.getLogger("crossfade.nats")

MARGIN: Final = 4096  # bytes kept free of max_payload for headers the broker or we add (dead letters, fences)
API_TIMEOUT: Final = 5.0

_ATTEMPT: Final = 2.0  # seconds for one connection attempt: a listener that never greets
_PAUSES: Final = (0.0, 0.1, 0.2, 0.5)  # seconds before each further attempt; the last one repeats, with jitter
_PROBE_EVERY: Final = 4.0  # seconds between pings of ours; two missed in a row and the connection is given up
_PROBE_TIMEOUT: Final = 3.0
_LOOK: Final = 0.5  # seconds between looks at whether the client is closed
_LET_GO: Final = 1.0  # seconds a dead client may take to close before its socket is cut
# Bytes waiting for the socket. Ours is reached first, so the client's own (where publish would block) never is.
_BUFFER: Final = 8 * 1024 * 1024
_CLIENT_BUFFER: Final = 4 * _BUFFER


_ECHO: Final = "echo"  # in place of the subject of a message to ourselves


class Message(Protocol):
    """What arrives."""

    subject: str
    reply: str
    data: bytes

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers as they came, or ``None``."""
        ...


class Subscription:
    """Interest in a subject that outlives the client it was made with."""

    def __init__(self, subject: str, receive: Callable[[Message], None]) -> None:
        self.subject = subject
        self.receive = receive
        self.handle: Any = None  # nats-py's, of the current client


class Connection:
    """One logical connection over a row of clients.

    ``locate`` says where to connect; it is asked before each attempt, so a server that comes back elsewhere or
    with another token is found. All methods belong to one event loop.
    """

    def __init__(self, locate: Callable[[], Awaitable[Endpoint]], settings: BusSettings, hooks: Hooks) -> None:
        self.hooks = hooks
        self._locate = locate
        self._settings = settings
        self._client: QuickClient | None = None
        self._subscriptions: set[Subscription] = set()
        self._waiting: dict[str, tuple[asyncio.Future[Message], str]] = {}
        self._inboxes = ""  # what all of this user's begin with
        self._inbox = ""
        self._inbox_prefix = ""
        self._requests = 0
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._refusal: BusError | None = None
        self._discovered: tuple[str, ...] = ()
        self._supervisor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        # Called at once when a new client is in place, and when the connection is closed for good.
        self.listeners: set[Callable[[], None]] = set()
        self._closed = False

    # -- life cycle --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect within ``connect_timeout``; from then on stay connected. May be repeated after a failure."""
        if self._supervisor is not None:
            return
        self._closed = False
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._connect_patiently()
        except TimeoutError as error:
            raise self._refusal or connect_failure(error, "the NATS server") from error
        self._supervisor = asyncio.create_task(self._supervise())

    async def _connect_patiently(self) -> None:
        """Try every server; on refusal or when none listens say so at once, on silence try until cancelled."""
        while True:
            try:
                await self._connect_once()
            except BusError as error:
                self._refusal = error
                if not isinstance(error.__cause__, TimeoutError):
                    raise
            else:
                return

    async def close(self) -> None:
        """Flush (briefly) and disconnect; idempotent."""
        self._closed = True
        self._notify()
        supervisor, self._supervisor = self._supervisor, None
        await end([*self._tasks, *([supervisor] if supervisor else ())])
        await self._let_go()

    @property
    def closed(self) -> bool:
        """Whether the bus was closed by its owner."""
        return self._closed

    def check_open(self) -> None:
        """Raise ``BusUnavailableError`` once the bus is closed; who waits asks this when woken."""
        if self._closed:
            raise BusUnavailableError("the bus is closed")

    def _notify(self) -> None:
        for listener in list(self.listeners):
            listener()

    @property
    def connected(self) -> bool:
        """Whether a client is up, as far as we know."""
        return self._up.is_set() and self._client is not None and self._client.is_connected

    async def wait_connected(self, timeout: float) -> bool:
        """Wait until connected, at most ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run ``callback`` after each reconnect, beside everything else."""
        self._callbacks.append(callback)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` until it ends or the connection is closed; its failure is counted and logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.hooks.count("failed", reason=type(error).__name__)
            _log.error("background work on the bus failed", exc_info=error)

    # -- building a client -------------------------------------------------------------------------------------

    async def _connect_once(self) -> None:
        """One attempt at each server, in random order."""
        endpoint = await self._locate()
        candidates = [*endpoint.servers, *(name for name in self._discovered if name not in endpoint.servers)]
        random.shuffle(candidates)
        failure: BusError | None = None
        for server in candidates:
            try:
                await self._connect_to(endpoint, server)
            except BusError as error:
                # A refusal says more than a dead neighbour does.
                failure = error if not isinstance(failure, BusRefusedError) else failure
            else:
                return
        raise failure or BusUnavailableError("no server to connect to")

    async def _connect_to(self, endpoint: Endpoint, server: str) -> None:
        client = QuickClient()
        try:
            async with asyncio.timeout(_ATTEMPT):
                await client.connect(**self._client_options(endpoint, server))
                await self._adopt(client, endpoint.inbox)
        except (asyncio.CancelledError, BusRefusedError):
            await _abandon(client)
            raise
        except Exception as error:
            seen = client.last_error or error
            await _abandon(client)
            raise connect_failure(seen if "no servers" in str(error) else error, server) from error

    def _client_options(self, endpoint: Endpoint, server: str) -> dict[str, Any]:
        return {
            "servers": [f"nats://{server}"],
            "name": self._settings.client_name,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": _ATTEMPT,
            "ping_interval": 3600,  # ours is stricter, see _probe
            "pending_size": _CLIENT_BUFFER,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
            "user": endpoint.user,
            "password": endpoint.password,
            "token": endpoint.token,
            "user_credentials": str(endpoint.creds) if endpoint.creds else None,
            "nkeys_seed": str(endpoint.nkey) if endpoint.nkey else None,
            "inbox_prefix": endpoint.inbox,  # for what nats-py asks on its own: objects
            "tls": endpoint.ssl_context(),
            # A server a cluster told us about is an address; certificates name what the operator wrote.
            "tls_hostname": _host(server if server in endpoint.servers else endpoint.servers[0]),
        }

    async def _adopt(self, client: QuickClient, inboxes: str) -> None:
        """Give a new client every subscription, then let others use it."""
        if not client.is_connected:
            raise client.last_error or OSError("the server closed the connection")
        # A new inbox per client: answers to requests of a lost one must not arrive here.
        self._inboxes = inboxes
        self._inbox = self.new_inbox()
        self._inbox_prefix = f"{self._inbox}."
        replies = Subscription(f"{self._inbox}.*", self._on_reply)
        for subscription in (replies, *self._subscriptions):
            await self._subscribe_on(client, subscription)
        await self._echo(client)
        self._client = client
        self._discovered = tuple(_netloc(uri) for uri in client.servers)
        self._refusal = None
        self._lost.clear()
        self._up.set()

    @staticmethod
    async def _subscribe_on(client: QuickClient, subscription: Subscription) -> None:
        subscription.handle = await client.listen(subscription.subject, subscription.receive)

    # -- watching it -------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            await self._watch()
            await self._let_go()
            await self._reconnect()
            self.hooks.count("reconnected")
            self._notify()
            for callback in self._callbacks:
                self.spawn(_run(callback))

    async def _watch(self) -> None:
        """Return when the client is lost: it is closed, or two pings in a row went unanswered."""
        missed = 0
        while missed < 2:
            if await self._loses(_PROBE_EVERY):
                return
            missed = 0 if await self._probe() else missed + 1

    async def _loses(self, seconds: float) -> bool:
        """Whether the client closes within so long; it was seen to be closed without a call of its ``closed_cb``."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(left, _LOOK)):
                    await self._lost.wait()
            except TimeoutError:
                if self._client is None or not self._client.is_connected:
                    return True
            else:
                return True
        return False

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._echo(self.client())
        except Exception as error:
            _log.warning("the NATS server did not answer a ping: %r", error)
            return False
        return True

    def new_inbox(self) -> str:
        """A subject that nobody else knows, under what this user's begin with."""
        return f"{self._inboxes}.{secrets.token_hex(11)}"

    async def _echo(self, client: QuickClient) -> None:
        """A message to ourselves and back: all we sent was received, and all they sent is here.

        The client's own ping answers "fine" once its reading has ended.
        """
        token = secrets.token_hex(4)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (future, _ECHO)
        try:
            client.hand_over(self._inbox_prefix + token, "", b"", b"", limit=_BUFFER, now=True)
            await future
        finally:
            self._waiting.pop(token, None)

    async def _reconnect(self) -> None:
        attempt = 0
        while True:
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 - spreads a herd
            attempt += 1
            try:
                await self._connect_once()
            except Exception as error:
                if self._refusal is None or type(self._refusal) is not type(error):
                    _log.warning("not connected to the bus: %s", error)
                self._refusal = error if isinstance(error, BusError) else connect_failure(error, "the NATS server")
            else:
                return

    async def _let_go(self) -> None:
        """End the current client; whoever waits for an answer learns that none will come."""
        client, self._client = self._client, None
        self._up.clear()
        for future, subject in list(self._waiting.values()):
            if not future.done():
                future.set_exception(BusAmbiguousError(f"{subject}: the connection was lost before an answer came"))
        self._waiting.clear()
        if client is not None:
            await _abandon(client)

    async def _on_closed(self) -> None:
        self._lost.set()

    async def _on_error(self, error: Exception) -> None:
        text = str(error).lower()
        if "permissions violation" in text:
            self._refuse(text, error)
            return
        _log.debug("nats client: %r", error)

    def _refuse(self, text: str, error: Exception) -> None:
        """A permission was missing: the request that wanted it gets the answer, which names no request."""
        self.hooks.count("refused", reason="permission")
        _log.warning("the NATS server refused: %s", error)
        for future, subject in list(self._waiting.values()):
            if subject == _ECHO and f'"{self._inbox_prefix.lower()}' in text and not future.done():
                future.set_exception(
                    BusRefusedError(
                        f"no permission for the inbox {self._inboxes}.>: grant it to this user on the server, or name "
                        "the one it has in the bus URL (?inbox=...)"
                    )
                )
            if f'"{subject.lower()}"' in text and not future.done():
                future.set_exception(
                    BusRefusedError(f"no permission to publish to {subject}: grant it to this user on the server")
                )

    # -- using it ----------------------------------------------------------------------------------------------

    def client(self) -> QuickClient:
        """The current client, or the reason why there is none: refused credentials, else unreachable."""
        client = self._client
        if client is None or not client.is_connected:
            if isinstance(self._refusal, BusRefusedError):
                raise BusRefusedError(f"{self._refusal} (nothing was sent)")
            raise BusUnavailableError("not connected to the bus, nothing was sent")
        return client

    @property
    def max_message(self) -> int:
        """Bytes of payload and headers together that may be sent."""
        return (self._client.max_payload if self._client else 1024 * 1024) - MARGIN

    def server_info(self) -> tuple[str, str]:
        """``host:port`` and version of the server."""
        client = self.client()
        version = client.connected_server_version
        url = client.connected_url
        return (_netloc(url) if url else "", f"{version.major}.{version.minor}.{version.patch}")

    def send(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | bytes | None = None,
        reply: str = "",
        *,
        now: bool = True,
    ) -> None:
        """Hand a message to the socket without waiting; not ``now``: together with others of this turn of the loop.

        ``headers`` that are bytes are a ``header_block``.
        Raises ``BusUnavailableError`` (not connected, or the buffer is full), ``EventTooLargeError``.
        """
        block = headers if isinstance(headers, bytes) else write_headers(headers)
        self.client().hand_over(subject, reply, block, data, limit=_BUFFER, now=now)

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, timeout: float = API_TIMEOUT
    ) -> Message:
        """Send and wait for the one answer.

        Raises ``BusUnavailableError``, ``BusAmbiguousError`` (no answer in time, connection lost),
        ``BusRefusedError`` (permission), ``NoRespondersError``.
        """
        loop = asyncio.get_running_loop()
        self._requests += 1
        token = str(self._requests)
        future: asyncio.Future[Message] = loop.create_future()
        self._waiting[token] = (future, subject)
        timer = loop.call_later(timeout, _give_up, future, subject, timeout)
        try:
            self.send(subject, data, headers, self._inbox_prefix + token)
            message = await future
        finally:
            timer.cancel()
            self._waiting.pop(token, None)
        if message.headers and message.headers.get("Status") == "503" and not message.data:
            raise NoRespondersError
        return message

    async def api(self, subject: str, body: Mapping[str, Any] | None = None, *, timeout: float = API_TIMEOUT) -> Any:
        """Ask the JetStream API ``$JS.API.{subject}``; raises ``ApiError`` when it says no."""
        data = b"" if body is None else json.dumps(body).encode()
        answer = json.loads((await self.request(f"$JS.API.{subject}", data, timeout=timeout)).data)
        if "error" in answer:
            raise ApiError(answer["error"])
        return answer

    def _on_reply(self, message: Message) -> None:
        waiting = self._waiting.get(message.subject[len(self._inbox_prefix) :])
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(message)

    async def subscribe(self, subject: str, receive: Callable[[Message], None]) -> Subscription:
        """Call ``receive`` for each message on ``subject``, now and after every reconnect."""
        subscription = Subscription(subject, receive)
        await self._subscribe_on(self.client(), subscription)
        self._subscriptions.add(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End it after what is already under way has arrived."""
        self._subscriptions.discard(subscription)
        client, handle = self._client, subscription.handle
        if self._closed or client is None or not client.is_connected or handle is None:
            return
        try:
            async with asyncio.timeout(_LET_GO):
                await client.end(handle)
        except (TimeoutError, nats.errors.Error) as error:
            # The connection broke meanwhile: then the subscription is gone with it.
            _log.debug("a subscription did not drain: %r", error)


def header_size(headers: Mapping[str, str] | None) -> int:
    """Bytes of ``headers`` on the wire: a status line, then ``name: value`` lines."""
    if not headers:
        return 0
    return 12 + sum(len(name) + len(value) + 4 for name, value in headers.items())


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel ``tasks`` until they have ended: ``asyncio.wait_for`` of Python 3.11 may swallow a cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_LET_GO)


def _give_up(future: asyncio.Future[Message], subject: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(
            BusAmbiguousError(f"{subject}: no answer within {timeout:g} s; it may or may not have happened")
        )


async def _run(callback: Callable[[], Awaitable[None]]) -> None:
    await callback()


async def _abandon(client: QuickClient) -> None:
    """Close a client, sending what it still holds; one whose socket is stuck (nats-py waits for ever) is cut off."""
    try:
        async with asyncio.timeout(_LET_GO):
            await client.close()
    except Exception as error:
        _log.debug("a client did not close: %r", error)
        _cut(client)


def _cut(client: QuickClient) -> None:
    untyped: Any = client
    writer = getattr(untyped._transport, "_io_writer", None)  # noqa: SLF001 - nats-py offers no way to abort
    if writer is not None:
        writer.transport.abort()


def _netloc(uri: Any) -> str:
    return f"[{uri.hostname}]:{uri.port}" if ":" in uri.hostname else f"{uri.hostname}:{uri.port}"


def _host(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")
