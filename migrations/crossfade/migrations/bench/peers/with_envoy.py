"""Envoy, of its project's wheel: one worker thread, an access log, forwarded headers and Via as ours."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

proxying: Any = importlib.import_module("proxying")
SETTING = "--concurrency 1"

_TYPE = "type.googleapis.com/envoy.extensions"


def opened(_runner: object, asked: dict[str, Any]) -> Any:
    """In front of 127.0.0.1:upstream."""
    path = Path.cwd() / "envoy.json"
    path.write_text(json.dumps(_config(asked)))
    command = ["envoy", "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    return proxying.running(command, asked)


def _config(asked: dict[str, Any]) -> dict[str, Any]:
    manager = {"name": "http", "typed_config": _manager()}
    listener = {"address": _address(asked["port"]), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(asked["upstream"])]}}


def _manager() -> dict[str, Any]:
    line = {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "milliseconds": "%DURATION%",
        "sent": "%BYTES_SENT%",
    }
    log = {
        "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
        "path": str(Path.cwd() / "access.log"),
        "log_format": {"json_format": line},
    }
    route = {"match": {"prefix": "/bench/"}, "route": {"cluster": "service", "timeout": "60s"}}
    forwarded = [
        {"header": {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"}},
    ]
    return {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": True,
        "generate_request_id": False,  # nobody else here makes one
        "via": "bench",
        "access_log": [{"name": "file", "typed_config": log}],
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        "route_config": {
            "request_headers_to_add": forwarded,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}],
    }


def _cluster(port: int) -> dict[str, Any]:
    return {
        "name": "service",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
