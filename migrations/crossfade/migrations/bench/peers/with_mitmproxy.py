"""mitmproxy as a reverse proxy: its own log of flows, forwarded headers by an addon, large bodies streamed."""

from __future__ import annotations

import importlib
from typing import Any

SETTING = "mitmdump, large bodies streamed"


def opened(_runner: object, asked: dict[str, Any]) -> Any:
    """In front of 127.0.0.1:upstream."""
    proxying: Any = importlib.import_module("proxying")
    where = ["--mode", f"reverse:http://127.0.0.1:{asked['upstream']}", "--listen-host", "127.0.0.1"]
    options = ["stream_large_bodies=64k", "keep_host_header=true", "flow_detail=1", "store_streamed_bodies=false"]
    told = [word for option in options for word in ("--set", option)]
    port = ["--listen-port", str(asked["port"])]
    return proxying.running(["mitmdump", *where, *port, *told, "--scripts", __file__], asked)


def request(flow: Any) -> None:
    """Say where the request came from, as mitmproxy's addon hook of that name."""
    headers = flow.request.headers
    headers["X-Forwarded-For"] = flow.client_conn.peername[0]
    headers["X-Forwarded-Proto"] = flow.request.scheme
    headers["X-Forwarded-Host"] = flow.request.host_header or ""
    headers["Via"] = "1.1 bench"


def responseheaders(flow: Any) -> None:
    """As above."""
    flow.response.headers["Via"] = "1.1 bench"
