"""Our own proxy with one fault put in: ``python mutants.py FAULT ARGUMENTS``, where ARGUMENTS are of ``crossfade``.

What the conformance suite asserts is worth what it finds: each of these must fail the cases that ``CAUGHT`` names.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from crossfade.proxy import chunks, exchange, forwarding, framing, headers, heads, pool, reuse, tunnel, upstream
from crossfade.proxy.exchange import Exchange
from crossfade.proxy.forwarding import Forwarding
from crossfade.proxy.framing import Framing
from crossfade.proxy.server import ClientConnection, Server
from crossfade.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS: dict[str, Callable[[], None]] = {}


def fault(function: Callable[[], None]) -> Callable[[], None]:
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


class Also(frozenset[bytes]):
    """A set of marks, and whatever else a rule lets in."""

    rule: Callable[[bytes], bool]

    def __contains__(self, mark: object) -> bool:
        return super().__contains__(mark) or self.rule(mark)


def kept(rule: Callable[[bytes], bool]) -> None:
    """Marked fields of a request that pass ``rule`` are sent on."""
    marks = Also(headers._REQUEST_KEPT)
    marks.rule = rule
    headers._REQUEST_KEPT = marks


def upstream_head(change: Callable[[bytes], bytes]) -> None:
    """What goes upstream is changed on its way out."""
    built = forwarding.to_upstream
    forwarding.to_upstream = lambda *head, **options: change(built(*head, **options))


def client_head(change: Callable[[bytes], bytes]) -> None:
    """What goes to the client is changed on its way out."""
    built = exchange.to_client
    exchange.to_client = lambda *head, **options: change(built(*head, **options))


def lines_of(head: bytes) -> list[bytes]:
    return head.split(b"\r\n")


# -- heads ---------------------------------------------------------------------------------------------------------


@fault
def no_via_to_the_upstream():
    upstream_head(lambda head: re.sub(rb"(?m)^Via: .*\r\n", b"", head))


@fault
def no_via_to_the_client():
    client_head(lambda head: re.sub(rb"(?m)^Via: .*\r\n", b"", head))


@fault
def listed_fields_stay():
    headers._listed = lambda *_: []


@fault
def hop_by_hop_to_the_upstream():
    names = {b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"upgrade"}
    kept(lambda mark: mark in names)


@fault
def hop_by_hop_to_the_client():
    headers._RESPONSE_DROPPED = frozenset({b"connection", b"transfer-encoding"})


@fault
def te_stays():
    kept(lambda mark: mark == b"te")


@fault
def connection_takes_all():
    headers._KEPT = frozenset()


@fault
def underscores_stay():
    kept(lambda mark: b"_" in mark)


@fault
def strangers_are_trusted():
    headers.is_trusted = lambda *_: True


@fault
def nobody_is_trusted():
    headers.is_trusted = lambda *_: False


@fault
def repeated_fields_are_joined():
    def join(head: bytes) -> bytes:
        first, *lines = lines_of(head)[:-2]
        joined: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            joined[name] = joined[name] + b", " + value if name in joined else value
        return b"\r\n".join([first, *(b"%b: %b" % field for field in joined.items()), b"", b""])

    upstream_head(join)
    client_head(join)


@fault
def a_user_agent_is_added():
    upstream_head(lambda head: head[:-2] + b"User-Agent: crossfade\r\n\r\n")


@fault
def names_are_in_lower_case():
    upstream_head(lambda head: re.sub(rb"(?m)^[^ :]+:", lambda name: name[0].lower(), head))


@fault
def a_get_is_framed():
    upstream_head(lambda head: head[:-2] + b"Content-Length: 0\r\n\r\n" if head.startswith(b"GET ") else head)


@fault
def a_loop_is_not_seen():
    headers.LOOP = framing.Refusal("loop", 200, "")


@fault
def the_path_is_tidied():
    upstream_head(lambda head: head.replace(b"//", b"/", 1).replace(b"%2F", b"/", 1).replace(b"/./", b"/", 1))


@fault
def any_host_will_do():
    heads._judge_authority = lambda *_: None


@fault
def the_host_is_the_upstreams():
    upstream_head(lambda head: re.sub(rb"(?mi)^host: .*\r\n", b"Host: upstream\r\n", head))


@fault
def the_expectation_is_not_read():
    heads._read_expectation = lambda *_: None


# -- framing -------------------------------------------------------------------------------------------------------


@fault
def length_and_coding_both_pass():
    def coded(_minor: int, _lengths: Any, _codings: Any) -> Framing:
        return framing.CHUNKED

    framing._coded = coded


@fault
def the_first_length_counts():
    measured = framing._measured
    framing._measured = lambda lengths: measured(lengths[:1])


@fault
def any_length_will_do():
    framing._LENGTH = re.compile(rb"[+]?[0-9_]+")


@fault
def chunk_lines_end_anyhow():
    chunks._SIZE = re.compile(rb"(?:0x|[+ ])?([0-9A-Fa-f]+)[^\n]*\n")


@fault
def forbidden_trailers_pass():
    exchange.allowed_trailers = list


@fault
def trailers_are_lost():
    exchange.allowed_trailers = lambda _: []


@fault
def control_bytes_pass():
    heads._BLOCK = re.compile(rb"((?:[^:\r\n]+:[^\n]*\n)*)\r\n")


@fault
def an_answer_to_head_has_a_body():
    judged = heads.response_framing
    heads.response_framing = lambda method, *rest: judged(b"GET" if method == b"HEAD" else method, *rest)


@fault
def http_1_0_gets_chunks():
    relay = Exchange.relay

    def relayed(self: Exchange, head: Any, body: Framing) -> None:
        self.head.minor = 1
        relay(self, head, body)

    Exchange.relay = relayed


# -- bodies and ends -----------------------------------------------------------------------------------------------


@fault
def the_answer_is_buffered():
    Forwarding.response_flush = lambda _: None


@fault
def the_request_is_buffered():
    end = Forwarding.end

    def data(self: Forwarding, some: bytes) -> None:
        self.__dict__.setdefault("buffered", []).append(some)

    passed = Forwarding.data

    def ended(self: Forwarding, trailers: Any) -> None:
        for some in self.__dict__.pop("buffered", []):
            passed(self, some)
        end(self, trailers)

    Forwarding.data = data
    Forwarding.end = ended


@fault
def half_an_upload_is_completed():
    Forwarding.gone = lambda self: self.end(())


@fault
def a_client_that_leaves_is_not_noticed():
    Forwarding.gone = lambda _: None


@fault
def half_an_answer_is_completed():
    failed = Forwarding.response_failed

    def response_failed(self: Forwarding, failure: upstream.Failure) -> None:
        if failure.phase == "body":
            self._exchange._left = 0
            self.response_end(())
        else:
            failed(self, failure)

    Forwarding.response_failed = response_failed


@fault
def interim_answers_are_final():
    def interim(self: Forwarding, head: Any) -> None:
        self._exchange.relay(head, Framing("length"))
        self._exchange.end()

    Forwarding.response_interim = interim


@fault
def a_100_comes_unasked():
    begin = Forwarding.begin

    def begun(self: Forwarding) -> None:
        self._exchange._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        begin(self)

    Forwarding.begin = begun


@fault
def a_half_close_is_a_close():
    eof = ClientConnection.eof_received

    def eof_received(self: ClientConnection) -> bool:
        eof(self)
        self.transport.abort()
        return False

    ClientConnection.eof_received = eof_received


@fault
def a_slow_client_holds_nobody_back():
    Forwarding._client_writable = lambda *_: None


@fault
def a_slow_upstream_holds_nobody_back():
    Forwarding.upstream_writable = lambda *_: None


# -- the pool and repetition ---------------------------------------------------------------------------------------


@fault
def a_post_is_sent_again():
    forwarding.IDEMPOTENT = reuse.IDEMPOTENT = reuse.IDEMPOTENT | {b"POST"}


@fault
def a_post_is_sent_again_to_anybody():
    forwarding.IDEMPOTENT = reuse.IDEMPOTENT = reuse.IDEMPOTENT | {b"POST"}
    forwarding.may_resend = lambda *, method, reused, written, read, replayable: replayable


@fault
def nothing_is_sent_again():
    forwarding.may_resend = lambda **_: False


@fault
def left_over_bytes_do_not_matter():
    judged = upstream.may_reuse
    upstream.may_reuse = lambda **facts: judged(**{**facts, "left_over": False})


@fault
def logins_are_shared():
    def may_reuse(*, head: Any, request_sent: bool, left_over: bool, logs_in: bool) -> bool:
        return head.framing.kind != "until-close" and head.keep_alive and request_sent and not left_over

    upstream.may_reuse = may_reuse


@fault
def a_busy_upstream_is_a_502():
    pool.POOL_FULL = upstream.Failure(502, "upstream-busy", "queue", "")


@fault
def the_pool_has_no_bound():
    def connect_more(self: pool.Pool) -> None:
        while len(self._connecting) < len(self._waiting):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    pool.Pool._connect_more = connect_more


@fault
def the_second_target_is_never_tried():
    init = pool.Pool.__init__

    def made(self: pool.Pool, name: str, targets: Any, **options: Any) -> None:
        init(self, name, targets[:1], **options)

    pool.Pool.__init__ = made


# -- time ----------------------------------------------------------------------------------------------------------


@fault
def clients_may_take_for_ever():
    ClientConnection.expired = lambda self, now: None


@fault
def upstreams_may_take_for_ever():
    UpstreamConnection.sweep = lambda *_: None


@fault
def a_silent_upstream_is_a_502():
    upstream.HEAD_TIMEOUT = upstream.Failure(502, "upstream-silent", "head", "")


@fault
def a_refused_connection_is_a_503():
    pool.CONNECT_REFUSED = upstream.Failure(503, "upstream-refused", "connect", "")


@fault
def a_drain_cuts():
    Server.drain = Server.abort


@fault
def a_drain_tells_nobody():
    Server.drain = lambda _: None


# -- tunnels -------------------------------------------------------------------------------------------------------


@fault
def any_handshake_will_do():
    forwarding.judge_handshake = lambda *_: None


@fault
def any_101_will_do():
    forwarding.judge_switch = lambda *_: True


@fault
def h2c_goes_on():
    headers.wants_upgrade = forwarding.wants_upgrade = lambda head: bool(head.upgrade)


@fault
def a_tunnel_has_one_end():
    tunnel.Tunnel.eof = lambda self, side: self.close()


@fault
def a_tunnel_never_ends():
    tunnel.Tunnel.sweep = lambda *_: None


@fault
def a_tunnel_forgets_its_first_bytes():
    upgrade = Exchange.upgrade
    Exchange.upgrade = lambda self, head, connection, _: upgrade(self, head, connection, b"")


def main() -> int:
    """Put the fault in, and be the command line."""
    FAULTS[sys.argv.pop(1)]()
    from crossfade.migrations.cli import main as crossfade

    return crossfade()


if __name__ == "__main__":
    sys.exit(main())
