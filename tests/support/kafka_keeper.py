"""Runs one broker for all processes of a test run: ``kafka_keeper.py FOLDER``.

Whoever uses it leaves a file of its process id in ``FOLDER/users``; when none of those processes lives any more, the
broker ends. ``FOLDER/ready`` says on which port it listens.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from support.kafka_broker import KafkaBroker


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def keep(folder: Path) -> None:
    with KafkaBroker(folder / "broker") as broker:
        ready = folder / "ready"
        ready.with_suffix(".new").write_text(str(broker.port))
        ready.with_suffix(".new").rename(ready)
        while any(alive(int(user.name)) for user in (folder / "users").iterdir()):
            time.sleep(0.3)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
