"""The call site and the bus side of a seam.

Importing this package loads neither pydantic nor nats: what an application pays before it connects is wrapt.
"""

from __future__ import annotations

from .calls import CurrentCall, Progress, current_call, report_progress
from .clock import now
from .connection import Connection, connect, outcome
from .correlate import Correlation, correlate, current_correlation
from .decorators import agent, comparator, handler, remote, tool
from .errors import (
    BusAmbiguousError,
    BusError,
    BusRefusedError,
    BusUnavailableError,
    CallCancelledError,
    CallError,
    ConfigurationError,
    CrossfadeError,
    HandlerOverdueError,
    InputRequiredError,
    KeyReusedError,
    MissingExtraError,
    NestedTooDeepError,
    NotConnectedError,
    NotExecutedError,
    OutcomeUnknownError,
    RemoteError,
    Retry,
    SeamDefinitionError,
    UnserialisableError,
    WorkflowDefinitionError,
    WorkflowRefusedError,
)
from .handles import TaskHandle
from .hooks import Hooks, counters, use_hooks
from .outcomes import register_error
from .seam import Seam
from .stages import Stage

__all__ = [
    "BusAmbiguousError",
    "BusError",
    "BusRefusedError",
    "BusUnavailableError",
    "CallCancelledError",
    "CallError",
    "ConfigurationError",
    "Connection",
    "Correlation",
    "CrossfadeError",
    "CurrentCall",
    "HandlerOverdueError",
    "Hooks",
    "InputRequiredError",
    "KeyReusedError",
    "MissingExtraError",
    "NestedTooDeepError",
    "NotConnectedError",
    "NotExecutedError",
    "OutcomeUnknownError",
    "Progress",
    "RemoteError",
    "Retry",
    "Seam",
    "SeamDefinitionError",
    "Stage",
    "TaskHandle",
    "UnserialisableError",
    "WorkflowDefinitionError",
    "WorkflowRefusedError",
    "agent",
    "comparator",
    "connect",
    "correlate",
    "counters",
    "current_call",
    "current_correlation",
    "handler",
    "now",
    "outcome",
    "register_error",
    "remote",
    "report_progress",
    "tool",
    "use_hooks",
]
