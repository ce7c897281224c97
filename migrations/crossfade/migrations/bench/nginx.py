"""nginx twice: as the service behind every proxy, and as a proxy itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .environments import PeerUnavailableError, numbers
from .processes import free_port, on_core, server

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

LEAST: Final = "1.22"

_HEAD: Final = """{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000; keepalive_timeout 300s;
"""
# Every answer has a head of its own, as a real service's has: a date alone would be the same for a second.
_SERVICE: Final = """
  access_log off; sendfile on; default_type application/json;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}; add_header X-Request-Id $http_x_request_id; }}
}}
"""
_PROXY: Final = """
  log_format line escape=json '{{"time": "$time_iso8601", "client": "$remote_addr", "method": "$request_method", '
    '"path": "$uri", "status": $status, "seconds": $request_time, "sent": $body_bytes_sent}}';
  access_log {folder}/access.log line buffer=64k flush=1s;
  upstream service {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /bench/ {{
      proxy_pass http://service; proxy_http_version 1.1; proxy_max_temp_file_size 0;
      proxy_set_header Host $http_host; proxy_set_header Connection ""; proxy_set_header Via "1.1 bench";
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host; add_header Via "1.1 bench";
    }}
  }}
}}
"""


@contextmanager
def service(bodies: Mapping[str, int], *, core: int) -> Generator[int]:
    """The port of a service that answers ``/bench/NAME`` with a body of ``bodies``' bytes. ``PeerUnavailableError``."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        (Path(folder) / "bench").mkdir()
        for name, size in bodies.items():
            (Path(folder) / "bench" / name).write_bytes(b"x" * size)
        port = free_port()
        with _nginx(Path(folder), port, _SERVICE.format(folder=folder, port=port), core=core):
            yield port


@contextmanager
def proxy(upstream: int, *, core: int) -> Generator[tuple[str, int, int]]:
    """Version, port and pid of nginx in front of 127.0.0.1:``upstream``. Raises ``PeerUnavailableError``."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        port = free_port()
        settings = _PROXY.format(folder=folder, port=port, upstream=upstream)
        with _nginx(Path(folder), port, settings, core=core) as pid:
            yield version(), port, pid


def version() -> str:
    """The installed one. Raises ``PeerUnavailableError`` when there is none, or none that counts."""
    told = subprocess.run([_binary(), "-v"], capture_output=True, text=True, check=False).stderr  # noqa: S603 - nginx
    found = re.search(r"nginx/([0-9.]+)", told)
    if found is None or numbers(found[1]) < numbers(LEAST):
        raise PeerUnavailableError(f"{told.strip()} was found, and {LEAST} is the least that counts: upgrade nginx")
    return found[1]


@contextmanager
def _nginx(folder: Path, port: int, settings: str, *, core: int) -> Generator[int]:
    user = "user root;" if os.geteuid() == 0 else ""
    path = folder / "nginx.conf"
    path.write_text(_HEAD.format(user=user, folder=folder) + settings)
    with on_core(core), server([_binary(), "-c", str(path), "-p", str(folder)], port, folder) as pid:
        yield pid


def _binary() -> str:
    """Debian keeps it where only root's PATH looks."""
    path = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if path is None:
        raise PeerUnavailableError("nginx is missing: apt-get install nginx-light, or brew install nginx")
    return path
