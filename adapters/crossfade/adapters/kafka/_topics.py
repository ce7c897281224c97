"""Which topics there are, with what settings, and whether those that exist are safe to use.

Rules
- One topic per fate, as on NATS, with ONE partition each: the order of a partition is what decides who has won, and
  what a reader is shown. A topic with more partitions is refused.
- ``cleanup.policy=delete`` everywhere: compaction would keep the last record of a key, which may be a loser's.
- ``message.timestamp.type=LogAppendTime``: all times are the brokers' own.
- A topic that exists is never changed: settings that would lose events refuse the start, others are warnings.
- Journals (``grp``: who was handed what; ``kv``: state) have no age: snapshots allow to forget what lies before them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusRefusedError, StreamMisconfiguredError

from ._errors import TOPIC_EXISTS, refusal
from ._wire import configs_request, create_topics_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._cluster import Cluster
    from ._endpoint import Options

_HOUR: Final = 3_600_000  # milliseconds
_DAY: Final = 24 * _HOUR

_PAUSE: Final = 0.05

COMMANDS: Final = "cmd"
# What follows the prefix in a subject's first token -> the topic's suffix.
FAMILIES: Final[Mapping[str, str]] = {"": COMMANDS, "o": "obs", "v": "ver", "ui": "ui", "e": "evt", "dlq": "dlq"}
GROUPS, STATE, REPLIES, OBJECTS, CLOCK = "grp", "kv", "rep", "obj", "clk"

# Suffix -> how long it is kept, in milliseconds; -1: for ever.
_AGES: Final[Mapping[str, int]] = {
    COMMANDS: 7 * _DAY,  # there is no second copy for the log: a topic here costs nothing per subject
    "obs": 7 * _DAY,
    "ver": 30 * _DAY,
    "ui": 2 * _HOUR,
    "evt": 90 * _DAY,
    "dlq": 90 * _DAY,
    GROUPS: -1,
    STATE: -1,
    REPLIES: _HOUR,
    OBJECTS: 8 * _DAY,  # a day longer than the commands that name them
    CLOCK: _HOUR,
}


def topic_names(prefix: str) -> dict[str, str]:
    """First subject token -> topic, for every subject that is stored."""
    return {prefix + family: f"{prefix}.{suffix}" for family, suffix in FAMILIES.items()}


def all_topics(prefix: str) -> list[str]:
    """Every topic of an installation."""
    return [f"{prefix}.{suffix}" for suffix in _AGES]


def definitions(prefix: str, options: Options) -> dict[str, dict[str, str]]:
    """Topic -> the settings it is made with."""
    made: dict[str, dict[str, str]] = {}
    for suffix, age in _AGES.items():
        settings = {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(age),
            "retention.bytes": "-1",
            "unclean.leader.election.enable": "false",
            **({"segment.ms": str(max(_HOUR // 2, min(age // 4, _DAY)))} if age > 0 else {}),
            **({"flush.messages": "1"} if options.synced and suffix in (COMMANDS, STATE, GROUPS) else {}),
        }
        made[f"{prefix}.{suffix}"] = settings
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What was found. ``max_bytes``: of one record; ``synced``: whether commands are on disk before their ack."""

    max_bytes: int
    synced: bool | None
    replicas: int
    warnings: tuple[str, ...]


async def prepare(cluster: Cluster, prefix: str, options: Options) -> Prepared:
    """Make what is missing and check what is there.

    Raises ``StreamMisconfiguredError`` with a line per setting, ``BusRefusedError`` when topics may not be made.
    """
    wanted = definitions(prefix, options)
    await cluster.refresh(list(wanted))
    missing = [name for name in wanted if cluster.topics[name].error]
    if missing:
        await _create(cluster, {name: wanted[name] for name in missing}, options)
        await _led(cluster, wanted)
    configs = await read_configs(cluster, list(wanted))
    problems = [line for name in wanted for line in _dangers(cluster, name, configs.get(name, {}))]
    if problems:
        raise StreamMisconfiguredError("these topics would lose events:\n" + "\n".join(problems))
    return _prepared(cluster, f"{prefix}.{COMMANDS}", configs)


async def _create(cluster: Cluster, missing: Mapping[str, Mapping[str, str]], options: Options) -> None:
    copies = options.replicas or -1
    asked = [(name, 1, copies, dict(settings)) for name, settings in missing.items()]
    answer = await cluster.ask(cluster.controller, create_topics_request(asked), timeout=30.0)
    for name, code, detail in answer.topic_errors:
        if code not in (0, TOPIC_EXISTS):
            error = refusal(code, f"making topic {name}", detail or "")
            if isinstance(error, BusRefusedError):
                raise BusRefusedError(f"{error}\n{_remedy(missing, copies)}")
            raise error


def _remedy(missing: Mapping[str, Mapping[str, str]], copies: int) -> str:
    """The commands by which an operator makes the topics."""
    lines = ["let us make topics, or make them yourself:"]
    for name, settings in missing.items():
        configs = " ".join(f"--config {key}={value}" for key, value in settings.items())
        factor = f"--replication-factor {copies} " if copies > 0 else ""
        lines.append(f"  kafka-topics.sh --create --topic {name} --partitions 1 {factor}{configs}")
    return "\n".join(lines)


async def _led(cluster: Cluster, names: Mapping[str, object]) -> None:
    """Wait until every broker has heard of every topic and its leader; the caller bounds the time."""
    for node in cluster.nodes:
        while True:
            await cluster.refresh(node=node)
            if all(not cluster.topics[name].error and -1 not in cluster.topics[name].leaders for name in names):
                break
            await asyncio.sleep(_PAUSE)


async def read_configs(cluster: Cluster, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic -> its settings, as the brokers tell them."""
    answer = await cluster.ask(cluster.controller, configs_request(names))
    found: dict[str, dict[str, str]] = {}
    for code, detail, _, name, entries in answer.resources:
        if code:
            raise refusal(code, f"reading the settings of {name}", detail or "")
        found[name] = {entry[0]: entry[1] or "" for entry in entries}
    return found


def _dangers(cluster: Cluster, name: str, config: Mapping[str, str]) -> list[str]:
    """What would lose events, one line per setting with its remedy."""
    lines: list[str] = []
    count = len(cluster.topics[name].leaders)
    if count != 1:
        lines.append(f"- {name} has {count} partitions, must have 1: their order would decide nothing; make it anew")
    wanted = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    lines += [
        f"- {name}: {setting} is {config.get(setting)!r}, must be {value!r}: "
        f"kafka-configs.sh --alter --topic {name} --add-config {setting}={value}"
        for setting, value in wanted.items()
        if config.get(setting) != value
    ]
    age = config.get("retention.ms", "-1")
    if name.endswith((f".{GROUPS}", f".{STATE}")) and age != "-1":
        lines.append(f"- {name}: retention.ms is {age}, must be -1: what nobody changed for so long would be forgotten")
    return lines


def _prepared(cluster: Cluster, command: str, configs: Mapping[str, Mapping[str, str]]) -> Prepared:
    config = configs[command]
    copies, acks = cluster.topics[command].replicas, int(config.get("min.insync.replicas", "1"))
    warnings: list[str] = []
    if copies < 2:
        warnings.append(f"{command} has one replica: a lost disk loses it, and while its broker is away nothing works")
    elif acks < 2:
        warnings.append(f"{command}: min.insync.replicas is 1, so one broker alone may acknowledge: set it to 2")
    if config.get("unclean.leader.election.enable") == "true":
        warnings.append(f"{command}: unclean.leader.election.enable is true: acknowledged events may vanish")
    safe = acks >= 2 and config.get("unclean.leader.election.enable") != "true"
    return Prepared(
        max_bytes=min(int(found.get("max.message.bytes", "1048588")) for found in configs.values()),
        synced=True if config.get("flush.messages") == "1" else None,
        replicas=copies if safe else 1,
        warnings=tuple(warnings),
    )
