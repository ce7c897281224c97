"""Finding a bus by its URL's scheme, through the entry points ``crossfade.bus``: shim never imports adapters."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .hooks import Hooks
    from .ports import Bus, BusSettings

GROUP: Final = "crossfade.bus"


def open_bus(url: str, settings: BusSettings, hooks: Hooks) -> Bus:
    """The bus at ``url``, not connected yet.

    Raises ``ConfigurationError`` for a URL without a scheme we know, ``MissingExtraError`` when its adapter
    needs an extra that is not installed.
    """
    scheme, separator, _ = url.partition("://")
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme not in found or not separator:
        known = " or ".join(f"{name}://" for name in sorted(found))
        raise ConfigurationError(f"{hide_credentials(url)!r} names no bus we know: start it with {known}", where="bus")
    factory = found[scheme].load()
    try:
        bus: Bus = factory(url, settings, hooks)
    except ValueError as error:
        raise ConfigurationError(f"{hide_credentials(url)!r} is no URL: {error}", where="bus") from None
    return bus


def hide_credentials(url: str) -> str:
    """``url`` without what may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
