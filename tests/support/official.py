"""Documents that others publish, fetched once from a package of theirs and kept beside other caches."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

_PACKAGE = "@asyncapi/specs@6.11.1"  # pinned: the document must not change under the tests
_MEMBER = "package/schemas/3.0.0.json"
_SHA256 = "d4571a420e6ffb7fcc7066c95a6db1202f299a3c51daa103d0706bf30f95e626"


def asyncapi_schema() -> dict[str, Any]:
    """The JSON Schema of AsyncAPI 3.0.0, as its authors publish it."""
    kept = _cache() / f"asyncapi-{_SHA256[:12]}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            _fetch(Path(folder)).replace(kept)
    return json.loads(kept.read_text())


def _fetch(folder: Path) -> Path:
    command = ["npm", "pack", "--silent", _PACKAGE]
    name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=100).stdout.split()
    with tarfile.open(folder / name[-1]) as packed:
        data = packed.extractfile(_MEMBER).read()
    assert hashlib.sha256(data).hexdigest() == _SHA256, f"{_PACKAGE} holds another {_MEMBER}"
    (folder / "schema.json").write_bytes(data)
    return folder / "schema.json"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade-tests"
