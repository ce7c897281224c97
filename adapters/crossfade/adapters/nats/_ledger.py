"""Conditional appends: the claims and results of calls that must not start twice.

Measured: with a message id a loser on R3 is told ``duplicate``, which is success; so there is none unless asked
for. A lost answer is not repeated here: the caller reads what lies there and decides.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossfade.shim.errors import BusAmbiguousError, BusUnavailableError, WrongPositionError

from ._errors import WRONG_LAST, WRONG_LAST_UNCLEAR, ApiError, NoRespondersError, refusal
from ._wire import position

if TYPE_CHECKING:
    from crossfade.shim.events import Event
    from crossfade.shim.ports import Position

    from ._connection import Connection
    from ._publish import Publishing


class NatsLedger:
    """See ``crossfade.shim.ports.Ledger``."""

    def __init__(self, connection: Connection, publishing: Publishing) -> None:
        self._connection = connection
        self._publishing = publishing

    async def append(
        self, subject: str, event: Event, *, last: str, at: Position | None, unique: bool, timeout: float
    ) -> Position:
        """See ``Ledger.append``."""
        headers, data = self._publishing.encode(subject, event)
        if not unique:
            del headers["Nats-Msg-Id"]
        headers["Nats-Expected-Last-Subject-Sequence"] = "0" if at is None else at
        headers["Nats-Expected-Last-Subject-Sequence-Subject"] = last
        try:
            message = await self._connection.request(subject, data, headers, timeout=timeout)
        except NoRespondersError as error:
            raise BusUnavailableError(f"{subject}: nobody leads its stream now; nothing was stored") from error
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            raise _refused(ApiError(answer["error"]), last)
        return position(answer["seq"])


def _refused(error: ApiError, last: str) -> Exception:
    if error.code == WRONG_LAST:
        return WrongPositionError(f"something else lies last under {last}: read it, then decide")
    if error.code == WRONG_LAST_UNCLEAR:
        return BusAmbiguousError(f"another write under {last} is in flight: repeat")
    return refusal(error, last)
