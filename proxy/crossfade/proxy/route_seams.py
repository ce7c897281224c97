"""The seams of a configuration's routes in one process, and its connection to the bus.

A route's seam is declared once and kept over reloads, so that no request finds it without its stage. Without a bus, or
while it cannot be reached, every route passes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from crossfade.shim.connection import connect
from crossfade.shim.http import HttpSeam
from crossfade.shim.seam import registry

from .circuits import Circuits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from crossfade.shim.config import Config as Settings
    from crossfade.shim.connection import Connection

    from .config import Config, Route
    from .serving import DataPlane

_WAIT = 2.0  # seconds at start; a broker that is away must not keep the proxy from serving


class RouteSeam(HttpSeam):
    """A route's seam in this process, with the breakers of its bus path."""

    def __init__(self, route: Route, *, where: str) -> None:
        super().__init__(route.seam, policy=route.policy, where=where)
        self.circuits = Circuits(route.seam)


class RouteSeams:
    """The seams of this process. ``bus`` is its address, ``None``: there is none; a context, around serving."""

    def __init__(self, bus: str | None = None, settings: Settings | None = None) -> None:
        self._bus = bus
        self._settings = settings
        self._seams: dict[str, RouteSeam] = {}
        self._connection: Connection | None = None

    def declare(self, config: Config) -> Mapping[str, RouteSeam]:
        """The seams of ``config``'s routes by name; a route whose settings changed keeps its seam, and its stage."""
        for route in config.routes:
            known = self._seams.get(route.seam)
            if known is None:
                where = f"{config.file}: {route.pattern.text}"
                self._seams[route.seam] = RouteSeam(route, where=where)
                registry.add(self._seams[route.seam])
            elif known.policy != route.policy:
                known.policy = route.policy
                if self._connection is not None:
                    self._connection.runtime.declared(known)
            self._seams[route.seam].circuits.settle(route.breaker)
        return {route.seam: self._seams[route.seam] for route in config.routes}

    def tell_of(self, plane: DataPlane) -> None:
        """Have the bus told, now and then, of the requests of ``plane``; without a bus nobody counts them."""
        if self._connection is not None:
            self._connection.runtime.requests = plane.count()

    def __enter__(self) -> Self:
        if self._bus is not None:
            self._connection = connect(self._bus, config=self._settings, wait=_WAIT)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
