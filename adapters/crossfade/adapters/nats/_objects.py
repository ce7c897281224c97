"""Claim checks: data too large for an event, in the broker's object store, off the hot path."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final

import nats.errors
import nats.js.api
import nats.js.errors

from crossfade.shim.errors import BusUnavailableError, ObjectMissingError
from crossfade.shim.events import new_id
from crossfade.shim.ports import ObjectRef

from ._errors import ApiError, client_failure
from ._streams import COMMAND_AGE

if TYPE_CHECKING:
    from crossfade.shim.errors import BusError

    from ._connection import Connection

_SCHEME: Final = "nats-obj://"
_TIMEOUT: Final = 60.0
_AFTER: Final = 3600  # seconds an object outlives the last command that may name it
_CAP: Final = 2 * 1024**3


def objects_bucket(prefix: str) -> str:
    """The object store of an installation."""
    return f"{prefix}_objects"


class NatsObjects:
    """See ``Objects``; objects are named by their digest and a fresh id, so none replaces another."""

    def __init__(self, connection: Connection, prefix: str, replicas: int) -> None:
        self._connection = connection
        self._bucket = objects_bucket(prefix)
        self._replicas = replicas

    async def put_object(self, data: bytes) -> ObjectRef:
        """See ``Objects.put_object``."""
        digest = hashlib.sha256(data).hexdigest()
        name = f"{digest[:16]}-{new_id()}"
        try:
            async with asyncio.timeout(_TIMEOUT):
                await (await self._store()).put(name, data)
        except (nats.errors.Error, TimeoutError) as error:
            raise _translated(error) from error
        return ObjectRef(uri=f"{_SCHEME}{self._bucket}/{name}", sha256=digest, size=len(data))

    async def get_object(self, ref: ObjectRef) -> bytes:
        """See ``Objects.get_object``."""
        place = f"{_SCHEME}{self._bucket}/"
        if not ref.uri.startswith(place):
            raise ObjectMissingError(f"{ref.uri} is not in this bus's object store ({place})")
        try:
            async with asyncio.timeout(_TIMEOUT):
                client = self._connection.client()
                found = await (await self._store()).get(ref.uri.removeprefix(place))
                # When the connection breaks, nats-py returns what came so far as if it were all.
                lost = not client.is_connected
        except (nats.js.errors.NotFoundError, nats.js.errors.DigestMismatchError) as error:
            raise ObjectMissingError(f"{ref.uri}: {error}") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise _translated(error) from error
        if lost:
            raise BusUnavailableError(f"{ref.uri}: the connection was lost while it was read: read it again")
        data: bytes = found.data or b""
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ObjectMissingError(f"{ref.uri} holds other data than was put there (sha256 differs)")
        return data

    async def prepare(self) -> None:
        """Make the store, so that who may not make one can use it."""
        try:
            await self._store()
        except nats.errors.Error as error:
            raise _translated(error) from error

    async def _store(self) -> Any:
        """nats-py's object store of our bucket, made at its first use."""
        client: Any = self._connection.client()
        context: Any = client.jetstream()
        try:
            return await context.object_store(self._bucket)
        except nats.js.errors.BucketNotFoundError:
            return await context.create_object_store(
                self._bucket,
                config=nats.js.api.ObjectStoreConfig(
                    bucket=self._bucket,
                    ttl=COMMAND_AGE // 1_000_000_000 + _AFTER,
                    max_bytes=_CAP,
                    replicas=self._replicas,
                ),
            )


def _translated(error: Exception) -> BusError:
    if isinstance(error, nats.js.errors.APIError):
        code = {"code": error.code or 0, "err_code": error.err_code or 0, "description": error.description or ""}
        return client_failure(ApiError(code), "the object store")
    return client_failure(error, "the object store")
