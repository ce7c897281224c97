"""What a configuration makes of the data plane: its targets, and who answers a request. A reload replaces it whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .forwarding import PassThrough
from .pool import Target
from .public import POOL, Public
from .seams import SeamRoute
from .serving import Serving
from .tls import server_context, upstream_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.matching import Router

    from .config import Config, Route, Upstream
    from .exchange import Answering, Exchange
    from .pool import Pool
    from .route_seams import RouteSeam


class Routing:
    """Finds who answers a request: the most specific route, else the default upstream."""

    def __init__(
        self, config: Config, router: Router[Route], pools: Mapping[str, Pool], seams: Mapping[str, RouteSeam]
    ) -> None:
        self._router = router
        self._default = PassThrough(pools[config.default.name], seam=config.default.name)
        self._answering: dict[str, Answering] = {
            route.seam: SeamRoute(
                route,
                seams[route.seam],
                pools[route.upstream.name],
                config.identity,
                monitored=config.control is not None,
            )
            for route in config.routes
        }
        self._public: Public | None = None
        if config.control is not None:
            control = pools[POOL]
            # A stream holds its connection for as long as a page is open: as many as there may be clients.
            control.limits = replace(config.limits, upstream_connections=config.limits.connections)
            self._public = Public(control)

    def resolve(self, exchange: Exchange) -> Answering:
        """Who answers ``exchange``; its route, where it has one, is noted in it."""
        ours = self._public.resolve(exchange.head.path) if self._public is not None else None
        if ours is not None:
            return ours
        route = self._router.find(exchange.head)
        if route is None:
            return self._default
        exchange.route = route
        return self._answering[route.seam]


def serving_of(config: Config, *, name: str = "", reuse_port: bool = False) -> Serving:
    """What a data plane needs of ``config``. Raises ``ConfigurationError`` for a certificate that cannot be used."""
    tls = config.tls
    upstreams = {upstream.name: targets(upstream) for upstream in config.upstreams.values()}
    if config.control is not None:
        upstreams[POOL] = targets(config.control)
    return Serving(
        listen=(config.listen.host, config.listen.port),
        upstreams=upstreams,
        limits=config.limits,
        name=name,
        trusted=config.trust,
        guarded=config.identity.guarded,
        tls=server_context(tls.cert, tls.key, client_ca=tls.client_ca or "") if tls is not None else None,
        access_log=config.access_log or "",
        reuse_port=reuse_port,
    )


def targets(upstream: Upstream) -> tuple[Target, ...]:
    """Where its connections go, one per address, with the TLS it asks for."""
    addresses, tls = (upstream.address, *upstream.also), upstream.tls
    if upstream.scheme == "http":
        return tuple(Target(each.host, each.port) for each in addresses)
    context = upstream_context(tls.ca or "", tls.cert or "", tls.key or "") if tls is not None else upstream_context()
    return tuple(Target(each.host, each.port, context, (tls and tls.server_name) or each.host) for each in addresses)
