"""Which streams there are, with what settings, and whether those that exist are safe to use.

Rules
- One stream per fate: one full stream was measured to refuse commands *and* results. All keep messages by limits,
  on disk; byte caps are reserved by the server when the stream is made.
- ``discard=new`` where a loss would be a lie (commands, facts, dead letters): full means refused. ``discard=old``
  where only the newest matters (observations, verdicts, the UI) and for ``LOG``, see below.
- Verdicts come with every compared call, so they would fill the facts' stream until it refused the decisions made of
  them; among observations, many times their size, they would be gone first. A lost one lowers coverage, no more.
- ``LOG`` is fed by the server from ``CMD`` with run and call tokens dropped (subjects cost memory). Measured: when a
  ``discard=new`` LOG is full, the source stalls and retries while CMD goes on, so what CMD's age limit removes
  meanwhile never reaches the log, without a word. ``discard=old`` forgets the oldest history instead, which is what
  its age limit does anyway.
- A stream that exists is never changed: settings that would lose events refuse the start, others are warnings;
  a cap or an age the operator chose is theirs. One exception: the advisories' stream of an older version is given the
  subjects of streams that came later, which takes nothing away.

Sources: nats-server 2.15.1; the pitfalls are those of ``docs`` on NATS.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import BusRefusedError, StreamMisconfiguredError

from ._errors import STREAM_EXISTS, STREAM_MISSING, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._connection import Connection

_SECOND: Final = 1_000_000_000  # JetStream counts in nanoseconds
_HOUR: Final = 3600 * _SECOND
_DAY: Final = 24 * _HOUR
_MIB: Final = 1024 * 1024

COMMAND_AGE: Final = _DAY
DUPLICATES: Final = 600 * _SECOND

OLDEST_SERVER: Final = (2, 12)

_ADVISORY: Final = "$JS.EVENT.ADVISORY.CONSUMER"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream's name and the configuration it is created with."""

    name: str
    config: Mapping[str, Any]


def stream_names(prefix: str) -> dict[str, str]:
    """First subject token -> stream, for every subject that is stored."""
    upper = prefix.upper()
    return {
        prefix: f"{upper}_CMD",
        f"{prefix}log": f"{upper}_LOG",
        f"{prefix}o": f"{upper}_OBS",
        f"{prefix}v": f"{upper}_VER",
        f"{prefix}ui": f"{upper}_UI",
        f"{prefix}e": f"{upper}_EVT",
        f"{prefix}dlq": f"{upper}_DLQ",
    }


def advisory_stream(prefix: str) -> str:
    """The stream of the broker's own notes about deliveries that ran out."""
    return f"{prefix.upper()}_ADV"


def definitions(prefix: str, replicas: int) -> list[Stream]:
    """Every stream of an installation; ``LOG`` after ``CMD``, which it is fed from."""
    names = stream_names(prefix)
    command, log = names[prefix], names[f"{prefix}log"]
    consumed = [command, *(names[f"{prefix}{family}"] for family in ("o", "v", "ui", "e")), log]

    def stream(name: str, subjects: Sequence[str], *, mib: int, age: int, discard: str = "new", **more: Any) -> Stream:
        config = {
            "name": name,
            "subjects": list(subjects),
            "retention": "limits",
            "storage": "file",
            "discard": discard,
            "max_bytes": mib * _MIB,
            "max_age": age,
            "duplicate_window": DUPLICATES,
            "num_replicas": replicas,
            "allow_direct": True,
            **more,
        }
        return Stream(name, config)

    return [
        stream(command, [f"{prefix}.>"], mib=1024, age=COMMAND_AGE, allow_msg_ttl=True, allow_atomic=True),
        stream(log, [], mib=2048, age=30 * _DAY, discard="old", sources=[_log_source(prefix, command)]),
        stream(names[f"{prefix}o"], [f"{prefix}o.>"], mib=512, age=7 * _DAY, discard="old"),
        stream(names[f"{prefix}v"], [f"{prefix}v.>"], mib=256, age=7 * _DAY, discard="old"),
        stream(names[f"{prefix}ui"], [f"{prefix}ui.>"], mib=256, age=_HOUR, discard="old"),
        stream(names[f"{prefix}e"], [f"{prefix}e.>"], mib=256, age=7 * _DAY),
        stream(names[f"{prefix}dlq"], [f"{prefix}dlq.>"], mib=256, age=30 * _DAY),
        stream(
            advisory_stream(prefix),
            [f"{_ADVISORY}.{kind}.{name}.>" for name in consumed for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")],
            mib=16,
            age=7 * _DAY,
            discard="old",
        ),
    ]


def state_stream(bucket: str, replicas: int) -> Stream:
    """The stream of a key-value bucket, as ``nats kv add`` makes it, with TTLs per key."""
    name = f"KV_{bucket}"
    config = {
        "name": name,
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": 256 * _MIB,
        "max_msgs_per_subject": 1,
        "num_replicas": replicas,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": _SECOND,
    }
    return Stream(name, config)


def _log_source(prefix: str, command: str) -> dict[str, Any]:
    """``{p}.{shard}.{tenant}.{user}.{domain}.{seam}.{run}.{callid}.{kind}`` without user, run and callid."""
    kept = ".".join(f"{{{{wildcard({index})}}}}" for index in (1, 2, 4, 5, 8))
    transform = {"src": f"{prefix}{'.*' * 8}", "dest": f"{prefix}log.{kept}"}
    return {"name": command, "subject_transforms": [transform]}


async def prepare(connection: Connection, prefix: str, replicas: int) -> list[str]:
    """Create what is missing, check what is there, set no trap; returns warnings.

    Raises ``BusRefusedError`` (server too old), ``StreamMisconfiguredError``.
    """
    _check_version(connection)
    warnings = _replica_warnings(replicas)
    command, *others = definitions(prefix, replicas)
    first = await ensure(connection, command)
    rest = await asyncio.gather(*(ensure(connection, stream) for stream in others))
    rest[-1] = await _widened(connection, others[-1], rest[-1])
    problems: list[str] = []
    for stream, found in zip((command, *others), (first, *rest), strict=True):
        problems += dangers(stream, found)
        warnings += deviations(stream, found)
    problems += await _reply_traps(connection, prefix)
    if problems:
        raise StreamMisconfiguredError("the broker's streams would lose events:\n" + "\n".join(problems))
    return warnings


def _check_version(connection: Connection) -> None:
    _, version = connection.server_info()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise BusRefusedError(f"nats-server {version} is too old: crossfade needs 2.12 or newer, upgrade the server")


def _replica_warnings(replicas: int) -> list[str]:
    return (
        [f"replicas={replicas}: an even number survives no more failures than one less"] if replicas in (2, 4) else []
    )


async def ensure(connection: Connection, stream: Stream) -> dict[str, Any]:
    """The configuration of ``stream`` as it is on the broker, made if it was missing."""
    try:
        found = await connection.api(f"STREAM.INFO.{stream.name}")
    except ApiError as error:
        if error.code != STREAM_MISSING:
            raise
        found = await _create(connection, stream)
    config: dict[str, Any] = found["config"]
    return config


async def _widened(connection: Connection, stream: Stream, found: dict[str, Any]) -> dict[str, Any]:
    """``found`` with the subjects that ``stream`` has and it lacks; where the broker forbids that, as it was."""
    subjects = [*found["subjects"], *(set(stream.config["subjects"]) - set(found["subjects"]))]
    if len(subjects) == len(found["subjects"]):
        return found
    try:
        config: dict[str, Any] = (
            await connection.api(f"STREAM.UPDATE.{stream.name}", {**found, "subjects": subjects})
        )["config"]
    except ApiError:  # named by ``dangers``, with the remedy
        return found
    return config


async def _create(connection: Connection, stream: Stream) -> dict[str, Any]:
    try:
        made: dict[str, Any] = await connection.api(f"STREAM.CREATE.{stream.name}", stream.config)
    except ApiError as error:
        if error.code != STREAM_EXISTS:
            raise
        # Somebody else made it meanwhile, with other settings than ours.
        made = await connection.api(f"STREAM.INFO.{stream.name}")
    return made


async def _reply_traps(connection: Connection, prefix: str) -> list[str]:
    """A stream that captures reply addresses would answer a caller with its own acknowledgement."""
    traps = await connection.api("STREAM.NAMES", {"subject": f"{prefix}r.>"})
    return [
        f"- stream {name} captures {prefix}r.> (replies): remove that subject (nats stream edit {name})"
        for name in traps["streams"] or ()
    ]


_EXACT: Final[Mapping[str, str]] = {
    "retention": "messages would be removed once consumed; it cannot be edited, recreate the stream",
    "storage": "a restart would lose everything; it cannot be edited, recreate the stream",
    "discard": "a full stream would do the opposite of what callers were told; nats stream edit --discard",
}
_FORBIDDEN: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "no_ack": (bool, "publishers would never be told that an event is stored; nats stream edit --ack"),
    "sealed": (bool, "nothing can be stored; recreate the stream"),
    "max_msgs": (lambda value: value > 0, "events are limited by count; nats stream edit --max-msgs=-1"),
}


def dangers(stream: Stream, found: Mapping[str, Any]) -> list[str]:
    """What would lose events, one line per setting with its remedy."""
    wanted = stream.config
    lines = [
        f"- {stream.name}: {name} is {found.get(name)!r}, must be {wanted[name]!r}: {remedy}"
        for name, remedy in _EXACT.items()
        if found.get(name) != wanted[name]
    ]
    lines += [
        f"- {stream.name}: {name} is {found[name]!r}: {remedy}"
        for name, (is_bad, remedy) in _FORBIDDEN.items()
        if name in found and is_bad(found[name])
    ]
    per_subject = wanted.get("max_msgs_per_subject", -1)
    if found.get("max_msgs_per_subject", -1) != per_subject:
        lines.append(
            f"- {stream.name}: max_msgs_per_subject is {found['max_msgs_per_subject']}, must be {per_subject}: "
            "older events of a subject would vanish; nats stream edit --max-msgs-per-subject"
        )
    return lines + _subject_dangers(stream, found) + _window_dangers(stream, found)


def _subject_dangers(stream: Stream, found: Mapping[str, Any]) -> list[str]:
    wanted, there = set(stream.config["subjects"]), set(found.get("subjects") or ())
    if "sources" in stream.config and not found.get("sources"):
        return [f"- {stream.name}: it has no source: recreate it, or the log stays empty"]
    if not wanted <= there:
        missing = ", ".join(sorted(wanted - there))
        return [f"- {stream.name}: subjects lack {missing}: nats stream edit {stream.name} --subjects"]
    return []


def _window_dangers(stream: Stream, found: Mapping[str, Any]) -> list[str]:
    window = found.get("duplicate_window", 0)
    if "duplicate_window" not in stream.config or window >= stream.config["duplicate_window"]:
        return []
    wanted = stream.config["duplicate_window"] / _SECOND
    line = (
        f"- {stream.name}: duplicate_window is {window / _SECOND:g} s, must be at least {wanted:g} s: "
        f"a repeated publish would be stored twice; nats stream edit {stream.name} --dupe-window=10m"
    )
    return [line]


def deviations(stream: Stream, found: Mapping[str, Any]) -> list[str]:
    """What differs from our settings without losing events."""
    lines: list[str] = []
    if found.get("num_replicas") != stream.config["num_replicas"]:
        lines.append(f"{stream.name}: {found.get('num_replicas')} replicas, {stream.config['num_replicas']} asked for")
    if 0 < found.get("max_age", 0) < stream.config.get("max_age", 0):
        lines.append(f"{stream.name}: events are kept {found['max_age'] / _SECOND:g} s, less than the default")
    if found.get("max_bytes", -1) <= 0 and stream.config.get("max_bytes", -1) > 0:
        lines.append(f"{stream.name}: no byte limit, it may fill the disk")
    return lines
