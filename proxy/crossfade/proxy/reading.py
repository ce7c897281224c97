"""From ``routes.yaml``, or a command line, to a ``Config``: all mistakes at once, each at file:line:column."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.parse import urlsplit

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.http import default_effects
from crossfade.shim.matching import Pattern, parse_header
from crossfade.shim.policy import Policy
from crossfade.shim.subjects import check_seam

from .breaker import Rule
from .config import LISTEN, Address, Capture, Config, Route, Scheme, ServerTls, Upstream, UpstreamTls
from .documents import Document, read_document
from .identity import IdentityRules, Source, TokenRules
from .limits import Limits, parse_limits
from .public import POOL
from .settings import SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .documents import Keys
    from .headers import Network

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?\Z")


def read_config(
    file: str,
    *,
    text: bytes | None = None,
    listen: str | None = None,
    limits: Mapping[str, str] | None = None,
    access_log: str | None = None,
) -> Config:
    """Read ``file`` (or ``text`` in its name); the other arguments, a command line's, win over the file's.

    Raises ``FileError`` with every mistake found, ``ConfigurationError`` for a file that cannot be read and
    ``MissingExtraError`` without pyyaml. Reads no other file but the keys it names.
    """
    document = read_document(file, SHAPE, text=text)
    options = {"listen": listen and str(_option("--listen", Address.parse, listen)), "access_log": access_log}
    if document.values:
        _mapping(document.values).update({name: text for name, text in options.items() if text is not None})
    config = _Building(document).config()
    document.check()
    assert config is not None, "without a mistake there is a configuration"  # noqa: S101 - for the type checkers
    return _with_limits(config, limits or {})


def config_for(
    upstream: str,
    *,
    listen: str | None = None,
    limits: Mapping[str, str] | None = None,
    access_log: str | None = None,
) -> Config:
    """The plain proxy in front of one service. Raises ``ConfigurationError`` naming the option that is wrong."""
    service = service_at(upstream, "--upstream")
    address = _option("--listen", Address.parse, listen or LISTEN)
    if service.address.is_served_by(address):
        raise ConfigurationError(f"{upstream} is the proxy itself: name the service behind it", where="--upstream")
    config = Config(listen=address, upstreams={service.name: service}, default=service, access_log=access_log)
    return _with_limits(config, limits or {})


def _with_limits(config: Config, given: Mapping[str, str]) -> Config:
    parsed = parse_limits(dict(given))
    return replace(config, limits=replace(config.limits, **{name: getattr(parsed, name) for name in given}))


def service_at(url: str, option: str) -> Upstream:
    """The service that an option names by its URL. Raises ``ConfigurationError`` naming the option."""
    return Upstream(name="upstream", **_option(option, _parse_url, url))


def _option(option: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error), where=option) from None


class _Building:
    """Makes a configuration of a document, reporting what looks right and is wrong. ``None``: already reported."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = cast("dict[str, Any]", document.values or {})
        self._folder = Path(document.file).parent
        self._upstreams: dict[str, Upstream | None] = {}

    def config(self) -> Config | None:
        listen = self._parsed(("listen",), Address.parse, self._values.get("listen") or LISTEN)
        control = None
        if self._values.get("control") is not None:
            control = self._upstream(("control",), _mapping(self._values["control"]), _parse_control)
        for name, given in _mapping(self._values.get("upstreams")).items():
            self._upstreams[name] = self._upstream(("upstreams", name), _mapping(given), _parse_url)
        self._check_listeners(listen, control.address if control else None)
        default = self._default()
        limits = self._limits()
        identity, trust = self._identity(), self._trust()
        if identity and identity.guarded and trust == ():
            self._document.mistake(
                ("identity",),
                "a header names users only when its peer is trusted, and nobody is: add `trust: [ADDRESS]` with "
                "the address of the proxy that sets it",
            )
        routes = [
            self._route(at, _mapping(given), default) for at, given in enumerate(_items(self._values.get("routes")))
        ]
        self._check_seams(routes)
        self._check_conflicts(routes)
        tls = self._server_tls()
        if self._document.mistakes or listen is None or default is None or identity is None or trust is None:
            return None
        return Config(
            listen=listen,
            tls=tls,
            upstreams={name: upstream for name, upstream in self._upstreams.items() if upstream},
            default=default,
            identity=identity,
            trust=trust,
            limits=limits,
            control=control,
            access_log=self._values.get("access_log"),
            routes=tuple(route for route in routes if route),
            file=self._document.file,
        )

    def _parsed(self, keys: Keys, parse: Callable[[str], Any], text: str | None) -> Any:
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, ConfigurationError) as error:
            self._document.mistake(keys, str(error))
            return None

    # -- upstreams ---------------------------------------------------------------------------------------------

    def _upstream(
        self, keys: tuple[str, ...], given: dict[str, Any], parse: Callable[[str], dict[str, Any]]
    ) -> Upstream | None:
        name = keys[-1]
        if name == POOL:
            self._document.mistake(keys, f"`{POOL}` is the control plane's own name: choose another")
        parsed = self._parsed((*keys, "url"), parse, given.get("url"))
        also = [
            self._parsed((*keys, "also", at), _parse_target, text) for at, text in enumerate(_items(given.get("also")))
        ]
        tls = self._tls_files((*keys, "tls"), given.get("tls"))
        if parsed is None:
            return None
        if tls is not None and parsed["scheme"] != "https":
            self._document.mistake((*keys, "tls"), "`tls` is for https upstreams: write https:// or remove it")
        further = tuple(address for address in also if address)
        return Upstream(name=name, **parsed, also=further, tls=UpstreamTls(**tls) if tls is not None else None)

    def _server_tls(self) -> ServerTls | None:
        given = self._tls_files(("tls",), self._values.get("tls"))
        return ServerTls(**given) if given and "cert" in given and "key" in given else None

    def _tls_files(self, keys: Keys, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if given is None:
            return None
        files = {name: self._file((*keys, name), value) for name, value in given.items() if name != "server_name"}
        if ("cert" in given) != ("key" in given) and keys != ("tls",):
            self._document.mistake(keys, "`cert` and `key` belong together: give both or neither")
        return {**given, **files}

    def _file(self, keys: Keys, name: str | None) -> str | None:
        """A file's path, from the folder that this file is in."""
        if name is None:
            return None
        path = self._folder / name
        if not path.is_file():
            self._document.mistake(keys, f"there is no file {path}: paths start at the folder of this file")
        return str(path)

    def _check_listeners(self, listen: Address | None, control: Address | None) -> None:
        for name, upstream in self._upstreams.items():
            for listener, what in ((listen, "the proxy itself"), (control, "the control API")):
                if upstream and listener and upstream.address.is_served_by(listener):
                    self._document.mistake(
                        ("upstreams", name, "url"), f"{upstream.url} is {what}: name the service behind the proxy"
                    )
                for at, further in enumerate(upstream.also if upstream else ()):
                    if listener and further.is_served_by(listener):
                        self._document.mistake(("upstreams", name, "also", at), f"{further} is {what}")
        if listen and control and control.is_served_by(listen):
            self._document.mistake(("control",), f"{control} is `listen`, too: give the control API another port")

    def _default(self) -> Upstream | None:
        name = self._values.get("default")
        if name is not None:
            return self._named(("default",), name)
        if "default" in self._values or not self._upstreams:
            if self._values.get("upstreams") == {}:
                self._document.mistake(("upstreams",), "name at least one upstream, like legacy: http://127.0.0.1:9000")
            return None
        if len(self._upstreams) == 1 or "legacy" in self._upstreams:
            return self._upstreams.get("legacy", next(iter(self._upstreams.values())))
        self._document.mistake(
            ("upstreams",),
            f"say with `default:` which one takes what no route matches: {' or '.join(self._upstreams)}",
        )
        return None

    def _named(self, keys: Keys, name: str | None) -> Upstream | None:
        if name is not None and name not in self._upstreams:
            known = ", ".join(self._upstreams) or "none"
            self._document.mistake(keys, f"there is no upstream `{name}`; known: {known}")
        return self._upstreams.get(name or "")

    def _limits(self) -> Limits:
        """One by one, so that each wrong one is told."""
        given = {name: value for name, value in _mapping(self._values.get("limits")).items() if value is not None}
        for name, value in given.items():
            self._parsed(("limits", name), partial(_one_limit, value), name)
        return Limits() if self._document.mistakes else Limits(**given)

    # -- identity ----------------------------------------------------------------------------------------------

    def _trust(self) -> tuple[Network, ...] | None:
        given = enumerate(_items(self._values.get("trust")))
        found = [self._parsed(("trust", at), _parse_network, text) for at, text in given]
        return None if None in found else tuple(found)

    def _identity(self) -> IdentityRules | None:
        given = _mapping(self._values.get("identity"))
        user, tenant = (self._parsed(("identity", key), Source.parse, given.get(key)) for key in ("user", "tenant"))
        rules = self._token_rules(given.get("jwt"))
        if rules is not None and "jwt" not in {source.kind for source in (user, tenant) if source}:
            self._document.mistake(
                ("identity", "jwt"), "no identity comes from a JWT: add `user: jwt:sub` or remove it"
            )
        return IdentityRules(user=user, tenant=tenant, jwt=rules)

    def _token_rules(self, given: dict[str, Any] | None) -> TokenRules | None:
        keys = ("identity", "jwt")
        if given is None or given.get("algorithm") is None:
            return None
        files = [name for name in ("key_file", "jwks_file") if given.get(name)]
        if len(files) != 1:
            self._document.mistake(keys, "give `key_file` or `jwks_file`, one of them")
            return None
        mistakes = len(self._document.mistakes)
        settings: dict[str, Any] = {**given, files[0]: self._file((*keys, files[0]), given[files[0]])}
        rules = TokenRules(**settings)
        if len(self._document.mistakes) == mistakes:
            self._parsed((*keys, files[0]), lambda _: rules.load(), "")
        return rules

    # -- routes ------------------------------------------------------------------------------------------------

    def _route(self, at: int, given: dict[str, Any], default: Upstream | None) -> Route | None:
        keys = ("routes", at)
        seam = self._parsed((*keys, "seam"), check_seam, given.get("seam"))
        headers = self._headers((*keys, "headers"), _mapping(given.get("headers")))
        pattern = self._parsed((*keys, "match"), lambda text: Pattern.parse(text, headers), given.get("match"))
        upstream = self._named((*keys, "upstream"), given.get("upstream")) if "upstream" in given else default
        capture, breaker = (
            {name: value for name, value in _mapping(given.get(key)).items() if value is not None}
            for key in ("capture", "breaker")
        )
        if seam is None or pattern is None or upstream is None:
            return None
        return Route(
            seam=seam,
            pattern=pattern,
            upstream=upstream,
            mode=given.get("mode") or "call",
            effects=given.get("effects") or default_effects(pattern.methods),
            timeout=given.get("timeout") or Policy().timeout,
            capture=Capture(**capture),
            breaker=Rule(**breaker),
        )

    def _headers(self, keys: Keys, given: dict[str, Any]) -> dict[str, str]:
        """Those that a request can have; the others are reported."""
        parsed = {
            name: self._parsed((*keys, name), partial(parse_header, name), value) for name, value in given.items()
        }
        return {name: given[name] for name, header in parsed.items() if header is not None}

    def _check_seams(self, routes: list[Route | None]) -> None:
        first = dict[str, int]()
        for at, route in enumerate(routes):
            if route is not None and route.seam in first:
                line, _ = self._document.place(("routes", first[route.seam], "seam"))
                self._document.mistake(
                    ("routes", at, "seam"), f"`{route.seam}` is a route already, in line {line}: a seam is one route"
                )
            elif route is not None:
                first[route.seam] = at

    def _check_conflicts(self, routes: list[Route | None]) -> None:
        """Compares routes of one path only, so that a thousand routes are no million pairs."""
        by_path = dict[tuple[bytes, tuple[bytes, ...]], list[tuple[int, Route]]]()
        for at, route in enumerate(routes):
            if route is not None:
                alike = by_path.setdefault((route.pattern.host, route.pattern.segments), [])
                for other_at, other in alike:
                    if route.pattern.conflicts_with(other.pattern):
                        line, _ = self._document.place(("routes", other_at, "match"))
                        self._document.mistake(
                            ("routes", at, "match"),
                            f"takes the same requests as `{other.seam}` in line {line}, and neither is more specific: "
                            "change methods, path or headers of one",
                        )
                alike.append((at, route))


def _one_limit(value: Any, name: str) -> Limits:
    return Limits(**{name: value})


def _mapping(given: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", given or {})


def _items(given: Any) -> list[Any]:
    return cast("list[Any]", given or [])


# -- what texts mean -------------------------------------------------------------------------------------


def _parse_url(text: str) -> dict[str, Any]:
    """Scheme and address. Raises ``ValueError``, whose text says what to write instead."""
    like = "write one like http://127.0.0.1:9000"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(f"{text!r} is no URL: {like}") from None
    if url.scheme not in get_args(Scheme) or not url.hostname:
        raise ValueError(f"{text!r} is no URL of a service: {like}")
    if not _is_host(url.hostname):
        raise ValueError(f"{url.hostname!r} is no host name or address: {like}")
    if url.username or url.password:
        raise ValueError("an upstream's URL holds no password: send credentials in headers, or use tls.cert")
    if url.path not in ("", "/") or url.query or url.fragment or any(c.isspace() for c in text):
        raise ValueError(f"{text!r}: leave out what follows the port, paths go on as they came")
    if port == 0:
        raise ValueError(f"{text!r}: nothing listens on port 0; {like}")
    port = port or (443 if url.scheme == "https" else 80)
    return {"scheme": cast("Scheme", url.scheme), "address": Address(host=url.hostname, port=port)}


def _parse_control(text: str) -> dict[str, Any]:
    """As ``_parse_url``; HOST:PORT alone is plain HTTP."""
    return _parse_url(text if "://" in text else f"http://{Address.parse(text)}")


def _parse_target(text: str) -> Address:
    """Where to connect. Raises ``ValueError``, whose text says what to write instead."""
    address = Address.parse(text)
    if not address.port or not _is_host(address.host):
        raise ValueError(f"{text!r} is no HOST:PORT of a service: write one like 127.0.0.1:9001")
    return address


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST.match(text) is not None
    return True


def _parse_network(text: str) -> Network:
    """An address or a CIDR network. Raises ``ValueError``, whose text says what to write instead."""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text!r} has bits beyond its prefix: write {ip_network(text, strict=False)}") from None
        raise ValueError(f"{text!r} is no address or network: write one like 10.0.0.0/8 or 127.0.0.1") from None
