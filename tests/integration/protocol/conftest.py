"""Seams of the test's own, and programs in another language that serve them."""

from __future__ import annotations

from integration.shim.conftest import broker, connect, counts, own_server, work

__all__ = ["broker", "connect", "counts", "own_server", "work"]
