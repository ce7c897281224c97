"""The port of an exporter, and the ones there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from .nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.proxy.config import Config


class Exporter(Protocol):
    """Writes the configuration of another proxy that stands in front of this one."""

    def export(self, config: Config, *, listen: str) -> str:
        """The text: requests that a route could match go to ``config.listen``, all others to the default upstream.

        It may send more to crossfade than the routes match, never less: what passes by a seam is neither observed nor
        moved. ``listen`` is the front's own address. Raises ``ConfigurationError`` for what cannot be written.
        """
        ...


EXPORTERS: Final[Mapping[str, Exporter]] = {"nginx": Nginx()}
