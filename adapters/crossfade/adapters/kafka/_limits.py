"""Room in topics: a full topic refuses instead of forgetting, and commands leave room for claims and results.

A topic's limit is its ``retention.bytes``. Kafka itself never refuses, it deletes the oldest segment once the rest
alone reaches the limit; so senders stop before. The size is asked of the brokers every two seconds while something is
sent to a topic that has a limit, and between looks our own records are added. Observations, verdicts and the UI are
left to Kafka, which forgets their oldest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import BusError, BusFullError

from ._topics import COMMANDS, read_configs
from ._wire import LogDirsRequest

if TYPE_CHECKING:
    from ._cluster import Cluster

_FULL_AT: Final = 0.8  # share of the commands' topic above which no new command is sent
_REFRESH: Final = 2.0  # seconds between looks
_REFUSING: Final = (COMMANDS, "evt", "dlq")


class Limits:
    """What still fits."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self._cluster = cluster
        self._topics = [f"{prefix}.{suffix}" for suffix in _REFUSING]
        self._limits: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._active = asyncio.Event()

    async def refresh(self) -> None:
        """Look at limits and sizes."""
        configs = await read_configs(self._cluster, self._topics)
        limits = {topic: int(config.get("retention.bytes", "-1")) for topic, config in configs.items()}
        self._limits = {topic: limit for topic, limit in limits.items() if limit > 0}
        for topic in self._limits:
            answer = await self._cluster.ask(self._cluster.leader(topic), LogDirsRequest([topic]))
            sizes = [size for _, _, topics in answer.results for _, found in topics for _, size, _, _ in found]
            self._sizes[topic] = max(sizes, default=0)

    async def run(self) -> None:
        """Refresh for ever; while nothing is sent, rest."""
        while True:
            await self._active.wait()
            self._active.clear()
            await asyncio.sleep(_REFRESH)
            try:
                await self.refresh()
            except BusError:
                self._cluster.hooks.count("retried", reason="topic-size")

    def admit(self, topic: str, size: int, *, command: bool) -> None:
        """Count a record of ``size`` bytes; ``BusFullError`` when there is no room for it."""
        self._active.set()
        limit = self._limits.get(topic)
        if limit is None:
            return
        share = _FULL_AT if command else 1.0
        if self._sizes[topic] + size > limit * share:
            self._cluster.hooks.count("refused", reason="full")
            raise BusFullError(
                f"{topic} has reached {share:.0%} of its retention.bytes ({limit}): nothing was sent. Let consumers "
                f"catch up, or raise it (kafka-configs.sh --alter --topic {topic} --add-config retention.bytes=...)"
            )
        self._sizes[topic] += size
