"""Every setting of ``routes.yaml``: the reader, the JSON Schema and the check of the reference page use this table."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, get_args

from crossfade.shim.http import CAPTURE
from crossfade.shim.policy import Effects

from .breaker import Rule
from .config import LISTEN, Mode
from .identity import ALGORITHMS
from .limits import Limits
from .shapes import Choice, Key, ListOf, MapOf, Number, Section, Text, json_schema

_MOST_CAPTURED: Final = 1024 * 1024  # bytes
_LONGEST: Final = 86_400  # seconds; see Policy.timeout


def _limits_shape() -> Section:
    """The limits are described where they are defined; here are their types only."""
    return Section(
        keys={
            limit.name: Key(shape=Number(least=0, most=2**53, whole=limit.type != "float"), what="")
            for limit in fields(Limits)
        }
    )


_HOST_PORT: Final = Text(like=LISTEN)
_FILE: Final = Text(like="tls/cert.pem")

_UPSTREAM: Final = Section(
    short="url",
    keys={
        "url": Key(
            shape=Text(like="http://127.0.0.1:9000"),
            what="Scheme, host and port of the service; paths go on as they came.",
            danger="Requests with everything in them go there: name only services of yours.",
            required=True,
        ),
        "also": Key(
            shape=ListOf(item=Text(like="127.0.0.1:9001")),
            what="Further HOST:PORT of the same service: new connections go to each in turn, past one that refuses.",
            default="none",
            danger="A request may reach any of them: they must share their state.",
        ),
        "tls": Key(
            shape=Section(
                keys={
                    "ca": Key(
                        shape=_FILE,
                        what="PEM authorities to trust instead of the machine's own.",
                        default="the machine's",
                    ),
                    "cert": Key(shape=_FILE, what="Certificate to show, PEM; needs `key`.", default="none is shown"),
                    "key": Key(shape=_FILE, what="Key of `cert`, PEM.", danger="Keep it readable to the proxy alone."),
                    "server_name": Key(
                        shape=Text(like="reports.internal"),
                        what="Name the certificate must bear.",
                        default="the host of `url`",
                        danger="Who holds a certificate of that name is believed.",
                    ),
                }
            ),
            what="How an https service is checked. Its certificate is always checked.",
            default="the machine's authorities",
        ),
    },
)

_CONTROL: Final = Section(
    short="url",
    keys={
        "url": Key(
            shape=Text(like="127.0.0.1:8081"),
            what="HOST:PORT, or the URL that `crossfade control` prints; `https://` where it has a certificate.",
            danger="Without TLS tokens and events pass in clear there.",
            required=True,
        ),
        "tls": _UPSTREAM.keys["tls"],
    },
)

_IDENTITY: Final = Section(
    keys={
        "user": Key(
            shape=Text(like="header:X-User"),
            what="Where a request's user comes from: `header:NAME`, `cookie:NAME` or `jwt:CLAIM`.",
            default="nobody",
            danger="Only a header from a trusted peer and a JWT with `jwt` rules prove anything; the rest keeps a user "
            "on one path and owns no stream or task.",
        ),
        "tenant": Key(shape=Text(like="jwt:org"), what="Where its tenant comes from, likewise.", default="none"),
        "jwt": Key(
            shape=Section(
                keys={
                    "algorithm": Key(
                        shape=Choice(options=ALGORITHMS),
                        what="The one algorithm that is accepted.",
                        required=True,
                    ),
                    "key_file": Key(
                        shape=Text(like="keys/issuer.pem"),
                        what="The secret (HS256, 32 bytes or more) or the public key in PEM.",
                        danger="With HS256 whoever checks tokens can make them.",
                    ),
                    "jwks_file": Key(
                        shape=Text(like="keys/jwks.json"),
                        what="A set of keys (RFC 7517) instead; a token's `kid` chooses.",
                        danger="It is read at start and on reload: rotate the keys with a SIGHUP.",
                    ),
                    "issuer": Key(
                        shape=Text(like="https://login.example.com"),
                        what="The `iss` a token must have.",
                        default="any",
                        danger="Without it any token of that key will do.",
                    ),
                    "audience": Key(
                        shape=Text(like="reports"),
                        what="The `aud` a token must name.",
                        default="any",
                        danger="Without it a token meant for another service will do.",
                    ),
                }
            ),
            what="What makes a JWT proof.",
            default="JWTs prove nothing",
        ),
    }
)

_BYTES: Final = Number(least=0, most=_MOST_CAPTURED, whole=True)

_ROUTE: Final = Section(
    keys={
        "seam": Key(
            shape=Text(like="http.reports"),
            what="The route's name: words of a-z, 0-9 and _ joined by dots, used once.",
            danger="Stage, evidence and history hang on it: a new name starts from nothing.",
            required=True,
        ),
        "match": Key(
            shape=Text(like="POST /v1/reports"),
            what="`METHOD[,METHOD] [HOST]/path/{one}/{rest...}`, as it travels: nothing is decoded.",
            danger="What matches no route passes through to `default`.",
            required=True,
        ),
        "headers": Key(
            shape=MapOf(item=Text(like="v2"), of="header names and values"),
            what="Headers a request must have, each on one line with exactly this value.",
            default="none",
        ),
        "upstream": Key(shape=Text(like="legacy"), what="The legacy service, by name.", default="`default`"),
        "mode": Key(
            shape=Choice(options=get_args(Mode)),
            what="On the bus, `call` answers when the answer is there, `task` at once with 202 and a monitor.",
            default="call",
            danger="With `task` clients must know how to follow a monitor.",
        ),
        "effects": Key(
            shape=Choice(options=get_args(Effects)),
            what="What running a request twice does.",
            default="by method: GET, HEAD, OPTIONS none; PUT, DELETE idempotent; others unsafe",
            danger="`none` on a route that writes lets it write twice.",
        ),
        "timeout": Key(
            shape=Number(least=0.01, most=_LONGEST),
            what="Seconds a request may take on the bus, queueing included.",
            default="30",
            danger="Shorter than the service takes, every request ends late.",
        ),
        "capture": Key(
            shape=Section(
                keys={
                    "request": Key(shape=_BYTES, what="Bytes of a request's body kept.", default=str(CAPTURE)),
                    "response": Key(shape=_BYTES, what="Bytes of an answer's body kept.", default=str(CAPTURE)),
                }
            ),
            what="How much of a body an observation keeps; a longer one is observed without it.",
            default=str(CAPTURE),
            danger="Bodies that are not kept are not compared.",
        ),
        "breaker": Key(
            shape=Section(
                keys={
                    "failures": Key(
                        shape=Number(least=1, most=1000, whole=True),
                        what="Failures of the bus path in a row that open it.",
                        default=str(Rule().failures),
                        danger="Each may cost a caller the whole `timeout`; at 1 one lost answer is an outage.",
                    ),
                    "open": Key(
                        shape=Number(least=0.1, most=_LONGEST),
                        what="Seconds until one request tries the bus again, and up to a quarter more by chance.",
                        default=f"{Rule().open:g}",
                        danger="The one that tries may wait the whole `timeout`.",
                    ),
                }
            ),
            what="When the bus is not asked any more, and the upstream answers at once where that is legal.",
            default="as below",
        ),
    }
)

SHAPE: Final = Section(
    keys={
        "listen": Key(
            shape=_HOST_PORT,
            what="Where the proxy listens.",
            default=LISTEN,
            danger="Beyond 127.0.0.1 whoever reaches it reaches every upstream.",
        ),
        "tls": Key(
            shape=Section(
                keys={
                    "cert": Key(shape=_FILE, what="Certificate with its chain, PEM.", required=True),
                    "key": Key(
                        shape=_FILE,
                        what="Its key, PEM.",
                        danger="Keep it readable to the proxy alone.",
                        required=True,
                    ),
                    "client_ca": Key(
                        shape=_FILE,
                        what="Authorities of the certificates clients must show.",
                        default="clients show none",
                    ),
                }
            ),
            what="The certificate to listen with.",
            default="plain HTTP",
            danger="Read at start and on reload.",
        ),
        "upstreams": Key(
            shape=MapOf(item=_UPSTREAM, of="upstreams by name"),
            what="The services behind the proxy, by names of your own.",
            required=True,
        ),
        "default": Key(
            shape=Text(like="legacy"),
            what="The upstream of everything no route matches, by name.",
            default="the first upstream, where it is the only one or named `legacy`",
        ),
        "identity": Key(shape=_IDENTITY, what="Who a request is for.", default="nobody"),
        "trust": Key(
            shape=ListOf(item=Text(like="10.0.0.0/8")),
            what="Addresses and networks of the proxies in front, whose Forwarded, X-Forwarded-* and identity headers "
            "are believed.",
            default="none",
            danger="Who can connect from there can be anybody.",
        ),
        "limits": Key(
            shape=_limits_shape(),
            what="What the proxy is willing to spend; each limit is on the reference page.",
            default="see there",
        ),
        "control": Key(
            shape=_CONTROL,
            what="Where `crossfade control` listens. `/_crossfade/stream` and `/_crossfade/tasks/` go there, and "
            "nothing else does.",
            default="none",
            danger="Keep it off the network that `listen` serves.",
        ),
        "access_log": Key(
            shape=Text(like="/var/log/crossfade/access.jsonl"),
            what="File that gets one JSON line a request; `-` is stdout.",
            default="none",
        ),
        "routes": Key(shape=ListOf(item=_ROUTE), what="The seams.", default="none: everything passes through"),
    }
)


def schema() -> dict[str, Any]:
    """The JSON Schema of ``routes.yaml``, as docs/reference/routes.schema.json publishes it for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routes.yaml of crossfade proxy",
        **json_schema(SHAPE),
    }
