"""Claim checks: data too large for an event, in pieces on a topic of its own, off the hot path."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import ObjectMissingError
from crossfade.shim.events import new_id
from crossfade.shim.ports import ObjectRef

from ._log import Partition

if TYPE_CHECKING:
    from ._cluster import Cluster
    from ._produce import Producer

_SCHEME: Final = "kafka-obj://"
_PLACE: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-([0-9a-f]{32})\Z")
_PIECE: Final = 256 * 1024  # bytes
_TIMEOUT: Final = 60.0
_NAME: Final = "cf_object"
_NUMBER: Final = "cf_piece"


class KafkaObjects:
    """See ``Objects``; where the pieces lie, first and last offset, is part of the claim check."""

    def __init__(self, cluster: Cluster, producer: Producer, topic: str) -> None:
        self._cluster = cluster
        self._producer = producer
        self._topic = topic
        self._partition = Partition(cluster, topic)

    async def put_object(self, data: bytes) -> ObjectRef:
        """See ``Objects.put_object``."""
        self._cluster.check_open()
        name = new_id()
        placed = [
            await self._producer.produce(
                self._topic,
                name.encode(),
                data[start : start + _PIECE],
                [(_NAME, name.encode()), (_NUMBER, str(number).encode())],
                timeout=_TIMEOUT,
            )
            for number, start in enumerate(range(0, max(1, len(data)), _PIECE))
        ]
        uri = f"{_SCHEME}{self._topic}/{placed[0].offset}-{placed[-1].offset}-{name}"
        return ObjectRef(uri=uri, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    async def get_object(self, ref: ObjectRef) -> bytes:
        """See ``Objects.get_object``."""
        self._cluster.check_open()
        place = f"{_SCHEME}{self._topic}/"
        found = _PLACE.match(ref.uri.removeprefix(place)) if ref.uri.startswith(place) else None
        if found is None:
            raise ObjectMissingError(f"{ref.uri} is not in this bus's object store ({place})")
        first, last, name = int(found[1]), int(found[2]), found[3]
        pieces: dict[int, bytes] = {}
        async with asyncio.timeout(_TIMEOUT):
            async for records in self._partition.scan(first, last + 1):
                pieces.update(
                    (int(record.header(_NUMBER) or 0), record.value)
                    for record in records
                    if record.header(_NAME) == name
                )
        if not pieces:
            raise ObjectMissingError(f"{ref.uri} is gone: objects are kept for eight days")
        data = b"".join(pieces[number] for number in sorted(pieces))
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ObjectMissingError(f"{ref.uri} holds other data than was put there (sha256 differs)")
        return data
