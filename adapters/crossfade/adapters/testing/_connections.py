"""What ``shim.connect()`` returns while tests run."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final, NoReturn

from crossfade.shim.connection import Connection
from crossfade.shim.errors import BusUnavailableError, ConfigurationError

if TYPE_CHECKING:
    from crossfade.shim.connection import StandIn

_REMEDY: Final = "tests run without a broker: ask for the fixture `bus`"

_log = logging.getLogger("crossfade")


class Unconnected(Connection):
    """The connection of a test without ``bus``: there is none, and every seam is legacy."""

    def __init__(self) -> None:
        self._runtime = None

    @property
    def runtime(self) -> NoReturn:
        """Raises ``ConfigurationError`` that says what to ask for."""
        raise ConfigurationError(_REMEDY)


class Lent(Connection):
    """The connection of a test with ``bus``: code under test may close it, the test goes on."""

    def close(self) -> None:
        """Do nothing: the fixture closes it."""


def unconnected(bus: str | None, *, required: bool) -> Connection:
    """Connect nobody. Raises ``BusUnavailableError`` when a bus is ``required``."""
    if required:
        raise BusUnavailableError(_REMEDY)
    _log.info("connect(%s) connects to nothing: %s", bus or "", _REMEDY)
    return Unconnected()


def lend(connection: Connection) -> StandIn:
    """Answer every ``connect`` of this process, whatever bus it names, with ``connection``."""
    owner = os.getpid()

    def connect(bus: str | None, *, required: bool) -> Connection:
        if os.getpid() != owner:  # a forked child has neither our threads nor our broker
            return unconnected(bus, required=required)
        return Lent(connection.runtime)

    return connect
