"""nginx in front: what is no seam's goes straight to the default upstream, the rest to crossfade.

``location`` would compare decoded and normalised paths, and crossfade compares what travels. So one ``map`` looks at
``$request_uri``, the target as it came, by method and path. Hosts and headers are left to crossfade, which passes
through what its routes do not match: nginx may send it more, never less.

``proxy_pass`` with a variable and no path sends the target on as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from crossfade.proxy.config import Address
from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from crossfade.proxy.config import Config, Route, Upstream

_SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
_LISTEN: Final = re.compile(r"(?:\[[0-9A-Fa-f:]+\]:|[A-Za-z0-9.*-]+:)?[0-9]{1,5}(?: ssl)?\Z")

_PUBLIC: Final = (
    '    "~*^[^ ]+ [^?]*_crossfade" crossfade_proxy; # it answers streams and tasks, and refuses their likes\n'
)

_TEMPLATE: Final = """\
# Written by `crossfade proxy export --to nginx {file}`: write it again when that file changes.
# It belongs into the http block. crossfade must trust this nginx: `trust: [127.0.0.1]`, or its address.

upstream crossfade_proxy {{
    server {proxy};
    keepalive 64;
}}

upstream crossfade_direct {{
    server {direct};
    keepalive 64;
}}

# Seams, by method and target as they came.
map "$request_method $request_uri" $crossfade_backend {{
    default crossfade_direct;
{seams}}}

map $crossfade_backend $crossfade_scheme {{
    default http;
    crossfade_direct {scheme};
}}

map $http_upgrade $crossfade_connection {{
    default upgrade;
    ""      "";
}}

server {{
    listen {listen};
    client_max_body_size {body};
    client_body_timeout {body_timeout};
    keepalive_timeout {keepalive_timeout};

    location / {{
        proxy_pass $crossfade_scheme://$crossfade_backend;

        # Streams, event streams and uploads pass as they come.
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_cache off;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $crossfade_connection;

        proxy_connect_timeout {connect_timeout};
        proxy_send_timeout {send_timeout};
        proxy_read_timeout {read_timeout};

        # Nobody in front of this nginx is believed.
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "";
        proxy_set_header X-Real-IP "";
{identity}{tls}
        # Answers pass as they are.
        proxy_redirect off;
        proxy_pass_header Server;
        proxy_pass_header Date;
        proxy_ignore_headers X-Accel-Redirect;
    }}
}}
"""


class Nginx:
    """Writes a file for nginx's ``conf.d``; see ``Exporter``."""

    def export(self, config: Config, *, listen: str) -> str:
        """See ``Exporter``; ``listen`` is what follows nginx's own word, like ``80`` or ``127.0.0.1:8443 ssl``."""
        if not _LISTEN.match(listen):
            raise ConfigurationError(f"{listen!r} is nothing to listen on: write PORT or HOST:PORT", where="--listen")
        if config.listen.port == 0:
            raise ConfigurationError("port 0 is chosen at start: write the port that nginx shall use", where="listen")
        limits = config.limits
        return _TEMPLATE.format(
            file=_comment(config.file),
            proxy=_reachable(config.listen),
            direct=config.default.address,
            scheme=config.default.scheme,
            seams=_PUBLIC * (config.control is not None) + "".join(_seam(route) for route in config.routes),
            listen=listen,
            body=limits.body_bytes or 0,
            body_timeout=_time(limits.body_timeout),
            keepalive_timeout=_time(limits.keepalive_timeout),
            connect_timeout=_time(limits.connect_timeout),
            send_timeout=_time(limits.send_timeout),
            # One directive bounds the wait for the head, silence inside an answer and a silent WebSocket.
            read_timeout=_time(max(limits.read_timeout, limits.response_timeout, limits.tunnel_timeout)),
            identity=_identity(config),
            tls=_tls(config),
        )


def _seam(route: Route) -> str:
    methods = "|".join(sorted(re.escape(method.decode()) for method in route.pattern.methods)) or "[^ ]+"
    parts = [_segment(segment.decode()) for segment in route.pattern.segments]
    return f'    "~^(?:{methods}) /{"/".join(parts)}(?:[?#]|$)" crossfade_proxy; # {route.seam}\n'


def _segment(segment: str) -> str:
    if segment == "{...}":
        return "[^?#]*"
    return "[^/?#]+" if segment == "{}" else re.escape(segment)


def _reachable(listen: Address) -> Address:
    """Where nginx on the same machine finds a listener on every address."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return Address(host=anywhere.get(listen.host, listen.host), port=listen.port)


def _identity(config: Config) -> str:
    """What names a user to crossfade and the services must not come from a client."""
    if not config.identity.guarded:
        return ""
    lines = [f'        proxy_set_header {name.decode()} "";\n' for name in sorted(config.identity.guarded)]
    return "        # Who a request is for is never a client's word: set these where this nginx knows.\n" + "".join(
        lines
    )


def _tls(config: Config) -> str:
    """Certificates are checked; crossfade's own listener may have TLS, too."""
    if config.tls is not None:
        raise ConfigurationError(
            "nginx takes the clients' TLS here: let crossfade listen in plain on a loopback address", where="tls"
        )
    settings = _tls_of(config.default) if config.default.scheme == "https" else []
    return "".join(f"        {name} {value};\n" for name, value in settings)


def _tls_of(upstream: Upstream) -> list[tuple[str, str]]:
    tls = upstream.tls
    settings = [
        ("proxy_ssl_verify", "on"),
        ("proxy_ssl_server_name", "on"),
        ("proxy_ssl_name", _quoted((tls and tls.server_name) or upstream.address.host)),
        ("proxy_ssl_trusted_certificate", _quoted((tls and tls.ca) or _SYSTEM_CA)),
        ("proxy_ssl_verify_depth", "3"),
    ]
    if tls is not None and tls.cert and tls.key:
        settings += [
            ("proxy_ssl_certificate", _quoted(tls.cert)),
            ("proxy_ssl_certificate_key", _quoted(tls.key)),
        ]
    return settings


def _quoted(text: str) -> str:
    if "$" in text:
        raise ConfigurationError(f"{text!r} has a $, which nginx takes for a variable: give it another name")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _time(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
