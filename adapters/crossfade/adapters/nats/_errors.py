"""The one edge where the broker's and the client's words become ours.

Three answers to "did it happen?": ``BusUnavailableError`` (no, nothing was sent), ``BusRefusedError`` and its kin
(no, the broker said so), ``BusAmbiguousError`` (it was asked and did not answer). Codes: nats-server's
``server/errors.json``, each tried against 2.15.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import nats.errors

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusFullError,
    BusRefusedError,
    BusUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_MESSAGE: Final = 10037
CONSUMER_MISSING: Final = 10014
STREAM_MISSING: Final = 10059
STREAM_EXISTS: Final = 10058
WRONG_LAST: Final = 10071
WRONG_LAST_UNCLEAR: Final = 10164  # R3: another write of this subject is in flight

_FULL: Final = {
    10002: "the account's storage limit",
    10028: "the server's memory limit",
    10047: "the server's storage limit",
    10054: "the stream's limit on one message",
    10077: "the stream's limit",
}
_DISK: Final = 10023  # 'insufficient resources': a failing or full disk below the store
_NO_JETSTREAM: Final = (10039, 10076)
# A leader is being elected, or the server is starting: nothing was stored, ask again.
_PASSING: Final = (10004, 10008, 10009)


class ApiError(Exception):
    """The broker answered a request with an error; stays inside this package."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.status = int(error.get("code", 0))
        self.code = int(error.get("err_code", 0))
        self.description = str(error.get("description", ""))
        super().__init__(f"{self.description} (JetStream error {self.code})")

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed in a moment, and this one changed nothing."""
        return self.code in _PASSING


class NoRespondersError(Exception):
    """Nobody listens on the subject: no such stream, or its leader is being elected. Nothing was stored."""


class PlaintextServerError(Exception):
    """The URL asks for TLS and the server does not offer it; nothing but our greeting was sent."""


def refusal(error: ApiError, what: str) -> BusError:
    """The ``BusError`` for an answer that says no, with what to do next."""
    if error.code in _FULL:
        return BusFullError(
            f"{what}: {_FULL[error.code]} is reached ({error.description}); nothing was stored. "
            "Let consumers catch up, or raise the limit (nats stream edit --max-bytes)"
        )
    if error.code == _DISK:
        return BusFullError(
            f"{what}: the broker's disk is full or failing ({error.description}); nothing was stored. "
            "Free space in its store_dir"
        )
    if error.passing:
        return BusUnavailableError(f"{what}: {error.description}; nothing was stored, try again")
    if error.code in _NO_JETSTREAM:
        return BusRefusedError(f"{what}: {error.description}. Enable JetStream on the server and for this account")
    if error.code == STREAM_MISSING:
        return BusRefusedError(f"{what}: the stream is gone; open the bus again to create it, and find who deleted it")
    return BusRefusedError(f"{what}: the broker refused: {error.description} (JetStream error {error.code})")


def connect_failure(error: BaseException, servers: str) -> BusError:
    """The ``BusError`` for a connection that did not come about."""
    if isinstance(error, PlaintextServerError):
        return BusRefusedError(
            f"{servers} does not offer TLS, and the bus URL asks for it: nothing was sent. Configure tls {{}} on the "
            "server, or say nats:// if clear text is meant"
        )
    text = str(error).lower()
    if isinstance(error, nats.errors.AuthorizationError) or "authorization" in text or "authentication" in text:
        return BusRefusedError(
            f"{servers} refused our credentials: check user, password, token, creds or nkey in the bus URL"
        )
    if isinstance(error, TimeoutError):
        return BusUnavailableError(f"{servers} did not answer in time: check that a NATS server listens there")
    return BusUnavailableError(f"{servers} cannot be reached: {error or type(error).__name__}")


def client_failure(error: Exception, what: str) -> BusError:
    """The ``BusError`` for an exception of the client library while something was under way."""
    if isinstance(error, BusError):
        return error
    if isinstance(error, ApiError):
        return refusal(error, what)
    if isinstance(error, (NoRespondersError, nats.errors.NoRespondersError)):
        return BusUnavailableError(f"{what}: no server answers for it now; nothing was stored")
    if isinstance(error, (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError)):
        return BusUnavailableError(f"{what}: not connected, nothing was sent")
    return BusAmbiguousError(f"{what}: no answer ({error or type(error).__name__}); it may or may not have happened")
