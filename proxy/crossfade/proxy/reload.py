"""A new configuration for a running proxy: whole or not at all, and no request notices.

The file is read and checked off the event loop, and everything that can fail (certificates, keys) is done before
anything changes. Then one assignment makes new requests take the new routes; requests under way end where they began. A
file that is wrong changes nothing, is told in the log with its lines, and is counted (``reload``, reason ``refused``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from crossfade.shim.errors import CrossfadeError
from crossfade.shim.hooks import report

from .routing import Routing, serving_of
from .tls import upstream_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.shim.matching import Router

    from .config import Config, Route
    from .route_seams import RouteSeams
    from .serving import DataPlane, Serving

_log = logging.getLogger("crossfade.proxy")


class Reloader:
    """Applies what ``read`` returns to ``plane``, one reload at a time; one asked for meanwhile comes after it."""

    def __init__(self, plane: DataPlane, config: Config, read: Callable[[], Config], seams: RouteSeams) -> None:
        self._plane = plane
        self._seams = seams
        self._config = config
        self._read = read
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Reload soon; for a signal handler."""
        self._wanted = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def wait(self) -> None:
        """Return when no reload is under way."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._reload()
        finally:
            self._task = None

    async def _reload(self) -> None:
        try:
            self._apply(*await asyncio.to_thread(self._prepare))
        except CrossfadeError as error:
            report.count("reload", reason="refused")
            _log.error("reload refused, what was served goes on:\n%s", error)
        except Exception:
            report.count("reload", reason="failed")
            _log.exception("reload failed, what was served goes on")

    def _prepare(self) -> tuple[Config, Serving, Router[Route]]:
        """All that can fail and all that takes time."""
        upstream_context.cache_clear()  # certificates may be new under old names
        config = self._read()
        return config, serving_of(config), config.router()

    def _apply(self, config: Config, serving: Serving, router: Router[Route]) -> None:
        """Nothing of this waits, so no request sees half of it."""
        self._plane.replace(serving)
        self._plane.resolve = Routing(config, router, self._plane.pools, self._seams.declare(config)).resolve
        for name in changes_at_start(self._config, config):
            report.count("reload", reason="restart-needed")
            _log.warning("`%s` has changed: it takes effect when the proxy is started again", name)
        self._config = config
        report.count("reload", reason="applied")
        _log.info("reloaded %s: %d routes, %d upstreams", config.file, len(config.routes), len(config.upstreams))


def tell_refused(error: CrossfadeError) -> None:
    """Log and count a configuration that is not taken."""
    report.count("reload", reason="refused")
    _log.error("reload refused, what was served goes on:\n%s", error)


def changes_at_start(old: Config, new: Config) -> list[str]:
    """The settings that differ and that only a start can change; certificates under their old names are no change."""
    changed = [name for name in ("listen", "access_log") if getattr(old, name) != getattr(new, name)]
    if (old.tls is None) != (new.tls is None) or (
        old.tls and new.tls and bool(old.tls.client_ca) != bool(new.tls.client_ca)
    ):
        changed.append("tls")
    return changed
