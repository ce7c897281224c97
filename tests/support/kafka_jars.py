"""Apache Kafka's own jars, fetched once by Maven into a cache outside the repository."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

VERSION = "4.1.0"
_POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>crossfade</groupId><artifactId>tests</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
</dependencies></project>
"""
_FETCH = 400.0  # seconds


def jars() -> Path:
    """The folder with the jars; several processes may ask at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade-tests"
    folder = cache / f"kafka-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        Path(work, "pom.xml").write_text(_POM)
        made = Path(work, "jars")
        command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={work}/repository", "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={made}"],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=_FETCH,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"Maven could not fetch Apache Kafka {VERSION}:\n{done.stdout}\n{done.stderr}")
        shutil.move(made, folder)
