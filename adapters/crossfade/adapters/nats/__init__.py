"""The bus on NATS JetStream."""

from __future__ import annotations

from ._endpoint import Endpoint, Options
from .bus import NatsBus, open_bus

__all__ = ["Endpoint", "NatsBus", "Options", "open_bus"]
