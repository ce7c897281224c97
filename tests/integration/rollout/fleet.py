"""Several processes on one broker, each behind a link of its own, and an operator who moves their seam."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crossfade.adapters.nats import open_bus
from crossfade.shim.hooks import Counters
from crossfade.shim.policies import Move, Policies
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from support.tcp_link import TcpLink

if TYPE_CHECKING:
    from crossfade.shim.policies import StageChange
    from crossfade.shim.stages import Stage

SOON = 30.0  # seconds in which something that must happen has happened, on a busy machine


class Member:
    """A process; see ``member.py``."""

    def __init__(self, port: int, folder: Path, name: str, *words: str) -> None:
        self.link = TcpLink(port)
        self.name = name
        self._folder = folder
        with (folder / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("member.py"), self.link.url, folder, name, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                text=True,
            )

    def joined(self) -> None:
        """Wait until it is connected; from then on it has its ``instance``."""
        assert self._process.stdout
        self.instance = self._process.stdout.readline().strip()
        assert self.instance, (self._folder / f"{self.name}.log").read_text()

    def say(self, word: str = "") -> tuple[dict[str, int], dict[str, int]]:
        """``call``, ``pause`` or nothing; returns its answers and its counters by ``name:reason``."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        return said["answers"], said["counts"]

    @property
    def hold(self) -> Path:
        """While this file is there it acts on what it knows."""
        return self._folder / f"hold.{self.name}"

    @property
    def starts(self) -> list[tuple[float, int]]:
        """When it started a command, by ``time.monotonic``, and the command's revision."""
        lines = (self._folder / f"starts.{self.name}").read_text().splitlines()
        return [(float(at), int(revision)) for at, revision in map(str.split, lines)]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self.link.cut()


class Fleet:
    """Its members and the operator, who has a link of nobody's."""

    def __init__(self, port: int, prefix: str, folder: Path, *, callers: int) -> None:
        self.seam = "web.roll"
        self.gate = folder / "gate"
        self.bus = open_bus(f"nats://127.0.0.1:{port}", BusSettings(prefix=prefix), Counters())
        self.policies = Policies(self.bus, Subjects(prefix))
        roles = ["worker", *["caller"] * callers]
        self.members = [
            Member(port, folder, f"{role}{number}", role, prefix, self.seam) for number, role in enumerate(roles)
        ]
        self.worker, *self.callers = self.members

    async def __aenter__(self) -> Self:
        await self.bus.open()
        for member in self.members:
            await asyncio.to_thread(member.joined)
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self.members:
            member.close()
        await self.bus.close()

    async def move(self, target: Stage, **options: Any) -> StageChange:
        """Set the stage; forced, because only the way back is of interest here."""
        wait = options.pop("wait", 0)
        return await self.policies.set_stage(
            self.seam, Move(target=target, actor="test", force=True, **options), wait=wait
        )

    async def followed(self, change: StageChange, members: list[Member]) -> float:
        """Wait until ``members`` report the change applied; the machine's monotonic time."""
        wanted = {member.instance for member in members}
        end = time.monotonic() + SOON
        while wanted:
            assert time.monotonic() < end, f"not within {SOON} s: {wanted}"
            known = {found.instance: found.seams.get(self.seam, 0) for found in await self.policies.instances.known()}
            wanted = {instance for instance in wanted if known.get(instance, 0) < change.revision}
            await asyncio.sleep(0.005)
        return time.monotonic()
