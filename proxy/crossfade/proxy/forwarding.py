"""The pass-through: an exchange on one side, an upstream connection on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.shim.hooks import report

from .chunks import encode, last
from .framing import CHUNKED, NO_BODY, RefusedError
from .headers import to_upstream, wants_upgrade
from .reuse import IDEMPOTENT, may_resend
from .tunnel import judge_handshake, judge_switch
from .upstream import UPGRADE_REFUSED, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .exchange import Exchange
    from .heads import Field, ResponseHead
    from .pool import Pool
    from .upstream import UpstreamConnection


class PassThrough:
    """Answers every exchange with what the upstream of ``pool`` says; ``seam`` names it in problems and logs."""

    def __init__(self, pool: Pool, *, seam: str = "-", path: str = "legacy") -> None:
        self._pool = pool
        self._seam = seam
        self._path = path

    def begin(self, exchange: Exchange) -> None:
        """See ``Answering``."""
        exchange.seam = self._seam
        forward(exchange, self._pool, path=self._path)


def forward(exchange: Exchange, pool: Pool, *, added: bytes = b"", path: str = "legacy") -> Forwarding | None:
    """Send ``exchange`` to ``pool``'s upstream and its answer back; nobody may have taken the exchange's body.

    ``added`` are whole field lines that the upstream gets besides. ``None``: it was refused here.
    """
    try:
        if exchange.head.upgrade:
            judge_handshake(exchange.head)
        head = to_upstream(exchange.head, peer=exchange.peer, authority=pool.authority)
    except RefusedError as refused:
        exchange.refuse(refused.refusal)
        return None
    exchange.path = path
    if added:
        head = head[:-2] + added + b"\r\n"
    forwarding = Forwarding(exchange, pool, head)
    forwarding.begin()
    return forwarding


class Forwarding:
    """One exchange on its way: it seeks a connection, asks it, and repeats the request where that is legal."""

    _connection: UpstreamConnection | None = None
    _written = False
    _reused = False
    _ended = False
    _trailers: Sequence[Field] = ()
    # What came before there was a connection, or may have to be sent again; None once that is out of question.
    _kept: list[bytes] | None
    _kept_size = 0

    def __init__(self, exchange: Exchange, pool: Pool, head: bytes) -> None:
        self._exchange = exchange
        self._pool = pool
        self._head = head
        self._chunked = exchange.head.framing is CHUNKED
        self._kept = []

    def begin(self) -> None:
        """Take an idle connection, or wait for one; and take the body."""
        connection = self._pool.idle()
        self._exchange.writable = self._client_writable
        if connection is not None:
            self.connected(connection)
        self._exchange.body_to(self)
        if connection is None:
            self._pool.seek(self)

    @property
    def sent(self) -> bool:
        """Whether some of the request went out, on any connection."""
        return self._written

    # -- Seeker --------------------------------------------------------------------------------------------------

    def connected(self, connection: UpstreamConnection) -> None:
        """See ``Seeker``."""
        head = self._exchange.head
        self._connection = connection
        self._written = True
        self._reused = connection.used
        upgrade = bool(head.upgrade) and wants_upgrade(head)
        # The head of a body that is at hand leaves with its first bytes.
        hold = self._exchange.body_follows and not self._chunked
        whole = head.framing is NO_BODY
        connection.ask(
            self, self._head, method=head.method, upgrade=upgrade, logs_in=head.logs_in, hold=hold, whole=whole
        )
        kept = self._kept
        if not (self._reused and head.method in IDEMPOTENT):
            self._kept = None
        if kept:
            for data in kept:
                self._send(connection, data)
            if not self._ended:
                self._exchange.resume()
        if self._ended and not whole:
            self._send_end(connection)
        elif head.expects_continue and not kept:
            connection.await_answer()

    def unconnected(self, failure: Failure) -> None:
        """See ``Seeker``."""
        self._fail(failure)

    # -- BodySink ------------------------------------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """See ``BodySink``."""
        connection = self._connection
        if self._kept is not None:
            self._kept.append(data)
            self._kept_size += len(data)
            if self._kept_size > self._pool.limits.replay_bytes:
                if connection is None:
                    self._exchange.pause()
                else:
                    self._kept = None
        if connection is not None:
            self._send(connection, data)

    def end(self, trailers: Sequence[Field]) -> None:
        """See ``BodySink``."""
        self._ended = True
        self._trailers = trailers
        connection = self._connection
        if connection is not None and not connection.sent_all:
            self._send_end(connection)

    def gone(self) -> None:
        """See ``BodySink``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        else:
            self._pool.withdraw(self)

    # -- Asker ---------------------------------------------------------------------------------------------------

    def response_interim(self, head: ResponseHead) -> None:
        """See ``Asker``."""
        if head.status != 100 or self._exchange.head.expects_continue:
            self._exchange.interim(head)

    def response_head(self, head: ResponseHead) -> None:
        """See ``Asker``."""
        self._exchange.cork()
        self._exchange.relay(head, head.framing)

    def response_whole(self, head: ResponseHead, body: bytes) -> None:
        """See ``Asker``."""
        self._connection = None
        self._exchange.answer(head, body)

    def response_data(self, data: bytes) -> None:
        """See ``Asker``."""
        self._exchange.write(data)

    def response_flush(self) -> None:
        """See ``Asker``."""
        self._exchange.flush()

    def response_end(self, trailers: Sequence[Field]) -> None:
        """See ``Asker``."""
        self._connection = None
        self._exchange.end(trailers)

    def response_tunnel(self, head: ResponseHead, rest: bytes) -> None:
        """See ``Asker``."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not judge_switch(self._exchange.head, head):
            connection.drop()
            self._fail(UPGRADE_REFUSED)
            return
        self._exchange.upgrade(head, connection, rest)

    def response_failed(self, failure: Failure) -> None:
        """See ``Asker``."""
        connection, self._connection = self._connection, None
        method = self._exchange.head.method
        read = connection is not None and connection.read
        if failure.name == "upstream-closed" and may_resend(
            method=method, reused=self._reused, written=self._written, read=read, replayable=self._kept is not None
        ):
            report.count("resent", seam=self._exchange.seam, reason="reuse-race")
            self._pool.seek(self)
            return
        self._fail(failure)

    def upstream_writable(self, writable: bool) -> None:
        """See ``Asker``."""
        if writable:
            self._exchange.resume()
        else:
            self._exchange.pause()

    # -- inside --------------------------------------------------------------------------------------------------

    def _send(self, connection: UpstreamConnection, data: bytes) -> None:
        if self._chunked:
            connection.writelines(encode(data))
        else:
            connection.write(data)

    def _send_end(self, connection: UpstreamConnection) -> None:
        if self._chunked:
            connection.write(last(self._trailers))
        connection.sent()

    def _client_writable(self, writable: bool) -> None:
        if self._connection is not None:
            self._connection.set_reading(writable)

    def _fail(self, failure: Failure) -> None:
        report.count("failed", seam=self._exchange.seam, reason=failure.name)
        self._exchange.failure = failure.name
        self._exchange.problem(failure.status, name=failure.name, phase=failure.phase, detail=failure.detail)
