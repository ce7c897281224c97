"""What a seam does in a forked child until that process has a connection of its own.

Servers that fork after loading the application (gunicorn --preload, Celery's prefork pool, multiprocessing) would
otherwise leave every worker at legacy for ever, in silence. A child that calls no seam never connects.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

from .errors import NotConnectedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

    from .seam import Route, Seam


class Rejoining:
    """The route of every seam in a child whose parent was connected: the first call of any of them connects.

    ``join`` connects and returns within a second or so; when the broker cannot be reached by then the body answers,
    as in any process that is not connected yet.
    """

    def __init__(self, join: Callable[[], None]) -> None:
        self.join = join

    def call(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        self.join()
        route = _route(seam)
        return body(*args, **kwargs) if route is None else route.call(seam, body, args, kwargs)

    async def acall(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See ``seam.Route``."""
        await asyncio.to_thread(self.join)
        route = _route(seam)
        return await (body(*args, **kwargs) if route is None else route.acall(seam, body, args, kwargs))

    def stream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._stream(seam, body, args, kwargs)

    def _stream(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Generator[Any, Any, Any]:
        self.join()
        route = _route(seam)
        items: Any = body(*args, **kwargs) if route is None else route.stream(seam, body, args, kwargs)
        return (yield from cast("Generator[Any, Any, Any]", items))

    def astream(self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See ``seam.Route``."""
        return self._astream(seam, body, args, kwargs)

    async def _astream(
        self, seam: Seam, body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        await asyncio.to_thread(self.join)
        route = _route(seam)
        items = body(*args, **kwargs) if route is None else route.astream(seam, body, args, kwargs)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item


def _route(seam: Seam) -> Route | None:
    """The route after joining. Raises ``NotConnectedError`` where there is neither a route nor a body."""
    route = seam.unwatched
    if route is None and not seam.has_body:
        raise NotConnectedError(f"{seam.name} is served elsewhere and this process is not connected", callid="-")
    return route
