"""What commands that run bodies share: a handler that asks a service by HTTP, and an end despite stuck threads."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import Final

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.watching import flush
from crossfade.shim.worker import BODIES

_LEAVING: Final = 0.5  # seconds for idle threads to end


def answer_by_http(url: str | None, seams: list[str], routes: str | None) -> None:
    """Put the bus in front of a service that is still synchronous; the file says what running a request twice does."""
    if url is None:
        if seams or routes:
            raise ConfigurationError("names routes that are answered by HTTP: say --http URL, too", where="--seam")
        return
    if not seams and routes is None:
        raise ConfigurationError("which routes? Say --routes FILE, or name seams with --seam", where="--http")
    from crossfade.proxy.http_handler import serve_by_http  # noqa: PLC0415 - the extra
    from crossfade.proxy.reading import read_config, service_at  # noqa: PLC0415 - the extra
    from crossfade.proxy.routing import targets  # noqa: PLC0415 - the extra

    known = {route.seam: route.policy for route in read_config(routes).routes} if routes else {}
    if unknown := [name for name in seams if routes and name not in known]:
        raise ConfigurationError(f"{routes} has no route with seam {unknown[0]}", where="--seam")
    (target,) = targets(service_at(url, "--http"))
    serve_by_http({name: known.get(name) for name in seams or known}, target)


def leave_bodies_behind(code: int = 0) -> None:
    """End now, although plain functions that outran the grace still run: Python itself would wait for their threads."""
    end = time.monotonic() + _LEAVING
    for thread in threading.enumerate():
        if thread.name.startswith(BODIES):
            thread.join(max(0.0, end - time.monotonic()))
    running = sum(thread.name.startswith(BODIES) for thread in threading.enumerate())
    if running:
        logging.getLogger("crossfade").warning("ended while %d calls ran on: nobody hears how they end", running)
        flush()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
