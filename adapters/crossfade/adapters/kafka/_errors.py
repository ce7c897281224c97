"""The one edge where the broker's and the client's words become ours.

Source: the error codes of the Kafka protocol guide.
"""

from __future__ import annotations

import ssl
from typing import Final

from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, UnsupportedSaslMechanismError, for_code

from crossfade.shim.errors import BusAmbiguousError, BusError, BusRefusedError, BusUnavailableError

OUT_OF_RANGE: Final = 1
TOO_LARGE: Final = (10, 18)
TOPIC_EXISTS: Final = 36
UNKNOWN_TOPIC: Final = 3
_PERMISSION: Final = (29, 30, 31, 53, 58, 65)
# Somebody else leads, nobody does, or too few replicas are in sync: the same request may well succeed in a moment.
PASSING: Final = frozenset({5, 6, 7, 9, 13, 14, 15, 19, 20, 56, 74, 75, 76, 77, 78, 100})
UNKNOWN: Final = frozenset({7, 20})  # of those: it may have been stored
# The broker no longer knows our numbers: take new ones.
NEW_PRODUCER: Final = frozenset({45, 47, 59, 90})


def name_of(code: int) -> str:
    """The protocol's name of an error code."""
    return str(getattr(for_code(code), "message", None) or f"error {code}")


def refusal(code: int, what: str, detail: str = "") -> BusError:
    """The ``BusError`` for an answer that says no, with what to do next."""
    text = f"{what}: {name_of(code)} ({detail})" if detail else f"{what}: {name_of(code)}"
    if code in _PERMISSION:
        return BusRefusedError(f"{text}: grant it to this user on the brokers (kafka-acls --add)")
    if code == UNKNOWN_TOPIC:
        return BusRefusedError(f"{text}: the topic is gone; open the bus again to make it, and find who deleted it")
    if code in UNKNOWN:
        return BusAmbiguousError(f"{text}: it may or may not have happened")
    if code in PASSING:
        return BusUnavailableError(f"{text}; nothing was stored, try again")
    return BusRefusedError(f"{text}: the broker refused")


def connect_failure(error: BaseException, server: str) -> BusError:
    """The ``BusError`` for a connection that did not come about."""
    if isinstance(error, BusError):
        return error
    reason = _refusal_of(error)
    if reason is not None:
        return BusRefusedError(f"{server}{reason}")
    if isinstance(error, TimeoutError):
        return BusUnavailableError(f"{server} did not answer in time: check that a Kafka broker listens there")
    if isinstance(error, KafkaConnectionError):
        return BusUnavailableError(f"{server} hung up: if it wants TLS or a password, set tls and sasl in the bus URL")
    return BusUnavailableError(f"{server} cannot be reached: {error or type(error).__name__}")


def _refusal_of(error: BaseException) -> str | None:
    """Why trying again is of no use, and what to do instead."""
    name = type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f": its certificate is not trusted ({error}): check 'ca' in the bus URL"
    if isinstance(error, ssl.SSLError):
        return f": TLS failed ({error}): check tls, ca, cert and key in the bus URL"
    if isinstance(error, UnsupportedSaslMechanismError):
        return " does not take this sasl of the bus URL: choose another, or enable it there (sasl.enabled.mechanisms)"
    if "Authentication" in name or "Sasl" in name or "Authorization" in name:
        return " refused our credentials: check user, password and sasl in the bus URL"
    if isinstance(error, (IncompatibleBrokerVersion, NotImplementedError)):
        return f" cannot be used: {error.args[0] if error.args else error}"
    return None
