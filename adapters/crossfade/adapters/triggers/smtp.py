r"""Mail comes in by SMTP and becomes ``email.received``: ``250`` once that is durable, ``451`` when it cannot be.

    reply     when
    250       the mail, and every attachment, is on the bus
    451       it is not: the sender keeps it and tries again
    550, 553  nobody here has that address; it is no text
    552       it is larger than ``max_bytes``
    530, 535  TLS or a password is wanted first; the password is wrong
    421       too many connections, or this process stops

The raw mail and each attachment lie in the object store, the fact says where (``dataref``, ``sha256``, ``size``).
A line ends with CR LF: a lone ``\n.\n`` ends no mail and begins no other (aiosmtpd 1.4.6), it is part of this one.

A mail is known by its Message-ID, envelope and body: a sender that heard no ``250`` and sends it again, by whatever
way, sends a duplicate. Without a Message-ID the whole content counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import BusError, ConfigurationError, MissingExtraError
from crossfade.shim.hooks import report

from .intake import Arrival
from .mail import read_mail

try:
    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
except ImportError as error:
    raise MissingExtraError("triggers", needed_for="a mail trigger") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from .intake import Intake
    from .mail import Mail

REMEMBERED: Final = 6 * 86_400.0
"""Seconds a mail is known: senders keep trying for five days (RFC 5321, 4.5.4.1)."""

_IDLE: Final = 300.0  # seconds without a command until a connection is ended (RFC 5321, 4.5.3.2.7)
_CONNECTIONS: Final = 50
_RECIPIENTS: Final = 100  # RFC 5321, 4.5.3.1.8
_COMMANDS: Final = 1000  # of a kind in one connection
_GRACE: Final = 10.0  # seconds for mails in hand when asked to stop

_AWAY: Final = "451 4.3.0 Not taken, the bus is away: try again later"
_NO_ADDRESS: Final = "553 5.1.3 This is no address"
_BUSY: Final = b"421 4.3.2 Too many connections, try again later\r\n"
_CLOSING: Final = b"421 4.3.2 Closing, try again later\r\n"

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class MailBox:
    """What is taken, and from whom.

    ``recipients`` are addresses, ``@domain`` for all of a domain, or ``*``; ``users`` are passwords by name, and one of
    them must be shown where there are any; ``certificate`` and ``key`` (PEM) offer STARTTLS, ``require_tls`` wants it.
    """

    recipients: tuple[str, ...]
    listen: tuple[str, int] = ("127.0.0.1", 8025)
    hostname: str = "localhost"
    max_bytes: int = 10 * 1024 * 1024
    certificate: Path | None = None
    key: Path | None = None
    require_tls: bool = False
    users: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    remember: float = REMEMBERED
    tenant: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        for one in self.recipients:
            if one != "*" and not one.partition("@")[2]:
                raise ConfigurationError(
                    f"{one!r} is no recipient: write reports@desk.example, @desk.example or *", where="recipients"
                )
        if not self.recipients:
            raise ConfigurationError("nobody would be written to: name a recipient", where="recipients")
        if self.users and self.certificate is None:
            raise ConfigurationError("passwords need TLS: set `certificate` and `key`", where="users")
        if self.require_tls and self.certificate is None:
            raise ConfigurationError("it needs `certificate` and `key`", where="require_tls")

    def takes(self, address: str) -> bool:
        """Whether mail to ``address`` is taken."""
        wanted = address.lower()
        domain = "@" + wanted.rpartition("@")[2]
        return any(one == "*" or one.lower() in (wanted, domain) for one in self.recipients)


class MailServer:
    """Takes mails for one intake."""

    def __init__(self, settings: MailBox, intake: Intake) -> None:
        self.name = intake.trigger
        self._settings = settings
        self._intake = intake
        self._connections: set[_Connection] = set()
        self._in_hand = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``."""
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd tells every command, with who writes to whom
        context, loop = _context(self._settings), asyncio.get_running_loop()
        host, port = self._settings.listen
        try:
            server = await loop.create_server(lambda: self._connection(context), host, port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {why}; choose another address", where="listen"
            ) from error
        try:
            found = server.sockets[0].getsockname()
            ready(f"smtp://{found[0]}:{found[1]}")
            await stopping.wait()
        finally:
            server.close()
            await self._drain()

    def _connection(self, context: ssl.SSLContext | None) -> asyncio.Protocol:
        if len(self._connections) >= _CONNECTIONS:
            report.count("trigger-refused", seam=self.name, reason="busy")
            return _Busy()
        return _Connection(self, self._settings, context, self._connections)

    async def _drain(self) -> None:
        """Mails in hand get their answer; then nobody is listened to."""
        try:
            await asyncio.wait_for(self._idle.wait(), _GRACE)
        except TimeoutError:
            report.count("trigger-given-up", seam=self.name, n=self._in_hand)
        for connection in list(self._connections):
            if isinstance(connection.transport, asyncio.WriteTransport):
                connection.transport.write(_CLOSING)
                connection.transport.close()

    # -- hooks of aiosmtpd, by their names -------------------------------------------------------------------

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take note of who sends."""
        if not address.isprintable():  # bytes that are no UTF-8 among them
            return _NO_ADDRESS
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Say whether mail to this address is taken."""
        if len(envelope.rcpt_tos) >= _RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        if not address.isprintable():
            return _NO_ADDRESS
        if not self._settings.takes(address):
            report.count("trigger-refused", seam=self.name, reason="recipient")
            return "550 5.1.1 Nobody here has that address"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a mail that is whole."""
        self._in_hand += 1
        self._idle.clear()
        try:
            taken = await self._take(session, envelope)
        except BusError as error:
            report.count("trigger-refused", seam=self.name, reason=type(error).__name__)
            return _AWAY
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()
        return f"250 2.0.0 {taken}"

    async def handle_exception(self, error: Exception) -> str:
        """A mistake of ours is no reason for the sender to give the mail up."""
        report.count("trigger-failed", seam=self.name, reason=type(error).__name__)
        _log.error("trigger %s could not take a mail", self.name, exc_info=error)
        return "451 4.3.0 Not taken: try again later"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, shown: Any
    ) -> AuthResult:
        """Whether name and password belong together; how long it takes does not say which was wrong."""
        login, password = (shown.login, shown.password) if isinstance(shown, LoginPassword) else (b"", b"")
        wanted = self._settings.users.get(login.decode("utf-8", "replace"), b"")
        good = hmac.compare_digest(wanted or os.urandom(16), password)
        if not good:
            report.count("trigger-refused", seam=self.name, reason="password")
        return AuthResult(success=good, handled=False, auth_data=login.decode("utf-8", "replace") if good else None)

    # --------------------------------------------------------------------------------------------------------

    async def _take(self, session: Session, envelope: Envelope) -> str:
        content = bytes(envelope.original_content or b"")
        mail = await asyncio.to_thread(read_mail, content)
        login: Any = session.auth_data
        written = {
            "sender": envelope.mail_from or "",
            "recipients": list(envelope.rcpt_tos),
            "login": login if isinstance(login, str) else "",
            "tls": session.ssl is not None,
        }
        raw = await self._intake.keep(content)
        attachments = [
            {"name": one.name, "type": one.type, **await self._intake.keep(one.data)} for one in mail.attachments
        ]
        arrival = Arrival(
            type="email.received",
            parts=_parts(mail, content, envelope),
            data=_data(mail, written, raw, attachments),
            tenant=self._settings.tenant,
            user=self._settings.user,
        )
        return (await self._intake.take(arrival, remember=self._settings.remember)).id


class _Connection(SMTP):
    """aiosmtpd's session, counted."""

    def __init__(
        self, server: MailServer, settings: MailBox, context: ssl.SSLContext | None, among: set[_Connection]
    ) -> None:
        self._among = among
        super().__init__(
            server,
            data_size_limit=settings.max_bytes,
            enable_SMTPUTF8=True,
            hostname=settings.hostname,
            ident="crossfade",
            tls_context=context,
            require_starttls=settings.require_tls,
            timeout=_IDLE,
            auth_required=bool(settings.users),
            auth_require_tls=True,
            authenticator=server.authenticate,
            command_call_limit=_COMMANDS,
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._among.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._among.discard(self)
        super().connection_lost(error)


class _Busy(asyncio.Protocol):
    """Says that there are too many, and goes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_BUSY)
            transport.close()


def _context(settings: MailBox) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"this certificate or key cannot be used: {error}", where="certificate") from error
    return context


def _parts(mail: Mail, content: bytes, envelope: Envelope) -> tuple[str, ...]:
    to = sorted(one.lower() for one in envelope.rcpt_tos)
    if mail.message_id:
        return "message-id", mail.message_id, mail.body, envelope.mail_from or "", *to
    return "content", hashlib.sha256(content).hexdigest(), envelope.mail_from or "", *to


def _data(mail: Mail, written: Mapping[str, Any], raw: Mapping[str, Any], attachments: list[dict[str, Any]]) -> bytes:
    payload = {
        **written,
        "message_id": mail.message_id,
        "author": mail.author,
        "subject": mail.subject,
        "date": mail.date.isoformat() if mail.date is not None else None,
        "text": mail.text,
        "html": mail.html,
        "headers": mail.headers,
        "attachments": attachments,
        "raw": {"type": "message/rfc822", **raw},
        "defects": mail.defects,
    }
    return json.dumps(payload).encode()
