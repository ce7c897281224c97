"""The call site and the bus side of a seam.

Importing this package loads neither pydantic nor nats: what an application pays before it connects is wrapt.
"""

from __future__ import annotations

from .calls import CurrentCall, current_call
from .connection import Connection, connect
from .correlate import Correlation, correlate, current_correlation
from .errors import (
    BusError,
    CallError,
    ConfigurationError,
    CrossfadeError,
    NotExecutedError,
    OutcomeUnknownError,
    RemoteError,
    SeamDefinitionError,
    UnserialisableError,
)
from .hooks import Hooks, counters, use_hooks
from .outcomes import register_error
from .seam import Seam, tool
from .stages import Stage

__all__ = [
    "BusError",
    "CallError",
    "ConfigurationError",
    "Connection",
    "Correlation",
    "CrossfadeError",
    "CurrentCall",
    "Hooks",
    "NotExecutedError",
    "OutcomeUnknownError",
    "RemoteError",
    "Seam",
    "SeamDefinitionError",
    "Stage",
    "UnserialisableError",
    "connect",
    "correlate",
    "counters",
    "current_call",
    "current_correlation",
    "register_error",
    "tool",
    "use_hooks",
]
