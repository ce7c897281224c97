"""The edge to aiokafka: its connections, requests and record batches, and the requests that it lacks.

Nothing else here imports it. Its producer and consumer stay unused: they retry, buffer and poll on their own account,
where a bus must be able to say what was sent and what was not. Everything in aiokafka is untyped, hence ``Any``.
Source: the Kafka protocol guide; each request was tried on Apache Kafka 4.1.0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import aiokafka.conn
import aiokafka.errors
from aiokafka.protocol import admin, fetch, offset, produce, transaction
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ._endpoint import Endpoint

Headers = list[tuple[str, bytes]]

_TIMEOUT_MS: Final = 30_000  # a connection's own patience; every request here has a shorter one
_IDLE_MS: Final = 9 * 60_000  # below the broker's ten minutes, so that it is never the broker who hangs up
OVERHEAD: Final = 61 + 64  # bytes of a batch's head and of one record beside key, value and headers, at most


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a partition; ``time`` is the broker's, in milliseconds."""

    offset: int
    time: int
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]

    def header(self, name: str) -> str | None:
        """The text of the header ``name``, or ``None``."""
        for found, value in self.headers:
            if found == name:
                return value.decode("utf-8", "replace")
        return None

    @property
    def size(self) -> int:
        """Bytes it takes, about."""
        return record_size(self.key, self.value, self.headers)


def record_size(key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]) -> int:
    """Bytes that a record with its batch takes at most."""
    return OVERHEAD + len(key or b"") + len(value) + sum(len(name) + len(text) + 6 for name, text in headers)


async def connect(
    host: str, port: int, endpoint: Endpoint, client: str, closed: Callable[[Any, Any], None] | None
) -> Any:
    """A connection that has greeted and authenticated, to a broker that knows all our requests.

    Raises aiokafka's and the socket's errors.
    """
    untyped: Any = aiokafka.conn
    made = await untyped.create_conn(
        host,
        port,
        client_id=client,
        request_timeout_ms=_TIMEOUT_MS,
        ssl_context=endpoint.ssl_context(),
        security_protocol=endpoint.security,
        max_idle_ms=_IDLE_MS,
        on_close=closed,
        sasl_mechanism=endpoint.mechanism,
        sasl_plain_username=endpoint.user,
        sasl_plain_password=endpoint.password,
    )
    if lack := _lack(made._versions):  # noqa: SLF001 - not told otherwise
        made.close()
        raise aiokafka.errors.IncompatibleBrokerVersion(lack)
    return made


def _lack(versions: Mapping[int, tuple[int, int]]) -> str:
    """Why a broker that knows these versions (by request: the oldest, the newest) is of no use; empty if it is."""
    for request in _REQUESTS:
        ours = [each.API_VERSION for each in request._CLASSES]  # noqa: SLF001 - not told otherwise
        oldest, newest = versions.get(request.API_KEY, (0, -1))
        name = request.__name__.removesuffix("Request")
        if newest < ours[0]:
            known = f"{name} up to version {newest}" if newest >= 0 else f"no {name}"
            return f"the broker knows {known}, and version {ours[0]} is needed: use Apache Kafka 2.8 or newer"
        if oldest > ours[-1]:
            return f"the broker knows {name} from version {oldest} on, crossfade up to {ours[-1]}: upgrade crossfade"
    return ""


def is_broken(reason: Any) -> bool:
    """Whether a connection ended for a cause that is not ours."""
    broken: set[Any] = {aiokafka.conn.CloseReason.CONNECTION_BROKEN, aiokafka.conn.CloseReason.CONNECTION_TIMEOUT}
    return reason in broken


# -- requests --------------------------------------------------------------------------------------------------


def produce_request(topic: str, batch: bytes, timeout: float) -> Any:
    """Append a batch to partition 0, acknowledged by every replica that is in sync."""
    return produce.ProduceRequest(None, -1, max(1, int(timeout * 1000)), [(topic, [(0, batch)])])


def fetch_request(topic: str, start: int, *, wait: float, most: int) -> Any:
    """Read partition 0 from ``start``; waits up to ``wait`` seconds for the first byte."""
    return fetch.FetchRequest(int(wait * 1000), 1, most, 0, [(topic, [(0, start, most)])])


def offset_request(topic: str, moment: int) -> Any:
    """The first offset at or after ``moment`` (milliseconds; -1: the end, -2: the beginning)."""
    return offset.OffsetRequest(-1, 0, [(topic, [(0, moment)])])


def producer_id_request() -> Any:
    """A producer id, by which the broker recognises a batch that comes twice."""
    untyped: Any = transaction.InitProducerIdRequest
    return untyped(None, 60_000)


def create_topics_request(topics: Sequence[tuple[str, int, int, dict[str, str]]]) -> Any:
    """Make topics: name, partitions, replicas (-1: the broker's default), settings."""
    asked: Any = [(name, count, copies, [], list(settings.items())) for name, count, copies, settings in topics]
    return admin.CreateTopicsRequest(asked, 25_000, validate_only=False)


def configs_request(topics: Sequence[str]) -> Any:
    """The settings of topics."""
    return admin.DescribeConfigsRequest([(2, topic, None) for topic in topics])


def delete_records_request(topic: str, before: int) -> Any:
    """Forget what lies before an offset."""
    return admin.DeleteRecordsRequest([(topic, [(0, before)])], 5_000)


def _response(api: int, version: int, schema: Schema) -> Any:
    """The class of an answer; aiokafka has properties for them, so no checker accepts a class statement."""
    return type("Answer", (Response,), {"API_KEY": api, "API_VERSION": version, "SCHEMA": schema})


class _Uuid(AbstractType[str]):
    """16 bytes, as hex."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return bytes.fromhex(value)

    @classmethod
    def decode(cls, data: Any) -> str:
        raw: bytes = data.read(16)
        return raw.hex()


_MetadataResponse: Final = _response(
    3,
    10,
    Schema(
        ("throttle", Int32),
        (
            "brokers",
            CompactArray(
                ("node", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster", CompactString("utf-8")),
        ("controller", Int32),
        (
            "topics",
            CompactArray(
                ("error", Int16),
                ("name", CompactString("utf-8")),
                ("id", _Uuid),
                ("internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("operations", Int32),
        ("tags", TaggedFields),
    ),
)


class _MetadataRequest10(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("create", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class MetadataRequest(Request[_MetadataRequest10]):
    """Brokers and topics with their ids, which aiokafka's own request (version 5) does not ask for."""

    API_KEY: ClassVar[int] = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics: list[Any] = [("0" * 32, topic, {}) for topic in topics]

    def build(self, request_struct_class: Any) -> Any:
        """See ``Request.build``."""
        return request_struct_class(self._topics, False, False, False, {})


_LogDirsResponse: Final = _response(
    35,
    1,
    Schema(
        ("throttle", Int32),
        (
            "results",
            Array(
                ("error", Int16),
                ("folder", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(("index", Int32), ("size", Int64), ("lag", Int64), ("future", Boolean)),
                        ),
                    ),
                ),
            ),
        ),
    ),
)


class _LogDirsRequest1(RequestStruct):
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _LogDirsResponse
    SCHEMA = Schema(("topics", Array(("name", String("utf-8")), ("partitions", Array(Int32)))))


class LogDirsRequest(Request[_LogDirsRequest1]):
    """How many bytes topics take on a broker's disks, which aiokafka does not ask."""

    API_KEY: ClassVar[int] = 35

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = [(topic, [0]) for topic in topics]

    def build(self, request_struct_class: Any) -> Any:
        """See ``Request.build``."""
        return request_struct_class(self._topics)


_REQUESTS: Final[Sequence[Any]] = (
    MetadataRequest,
    LogDirsRequest,
    admin.CreateTopicsRequest,
    admin.DeleteRecordsRequest,
    admin.DescribeConfigsRequest,
    fetch.FetchRequest,
    offset.OffsetRequest,
    produce.ProduceRequest,
    transaction.InitProducerIdRequest,
)


# -- record batches --------------------------------------------------------------------------------------------


def encode_batch(
    records: Sequence[tuple[bytes | None, bytes, Headers]], producer: int, epoch: int, sequence: int
) -> bytes:
    """Records as one batch, numbered so that the broker stores it once however often it comes."""
    now = int(time.time() * 1000)  # replaced by the broker's own
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=1 << 30,
    )
    for number, (key, value, headers) in enumerate(records):
        builder.append(offset=number, timestamp=now, key=key, value=value, headers=headers)
    return bytes(builder.build())


def decode_batches(data: bytes, start: int) -> Iterator[Record | int]:
    """The records from ``start`` on; an offset for what nobody can read: the next one that may be readable.

    A batch whose last bytes are missing ends it: it is fetched again.
    """
    batches: Any = MemoryRecords(data)
    while batches.has_next():
        batch = batches.next_batch()
        if batch.next_offset <= start:
            continue
        if batch.is_control_batch:
            yield batch.next_offset
            continue
        try:
            records = [
                Record(found.offset, found.timestamp, found.key, found.value or b"", found.headers)
                for found in batch
                if found.offset >= start
            ]
        except (aiokafka.errors.KafkaError, RuntimeError):
            yield batch.next_offset
            continue
        yield from records
        yield batch.next_offset
