"""What the events of a call are called: the one place where a domain becomes event types.

domain   command              answer                                        progress              observation
tool     tool.invoke          tool.result                                   tool.progress         tool.observed
agent    agent.task.started   agent.task.completed / .failed / .cancelled   agent.task.progress   agent.task.observed
http     http.request         http.response                                 http.chunk            http.observed
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Ended = Literal["value", "error", "cancelled", "not-executed", "unknown"]

_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {"tool": "tool.invoke", "agent": "agent.task.started", "http": "http.request"}
)
_PROGRESS: Final[Mapping[str, str]] = MappingProxyType(
    {"tool": "tool.progress", "agent": "agent.task.progress", "http": "http.chunk"}
)
_OBSERVED: Final[Mapping[str, str]] = MappingProxyType(
    {"tool": "tool.observed", "agent": "agent.task.observed", "http": "http.observed"}
)
_ANSWERS: Final[Mapping[str, str]] = MappingProxyType({"tool": "tool.result", "http": "http.response"})
_AGENT_ENDS: Final[Mapping[str, str]] = MappingProxyType(
    {"value": "agent.task.completed", "cancelled": "agent.task.cancelled"}
)


def command_type(domain: str) -> str:
    """The type of a command."""
    return _COMMANDS[domain]


def progress_type(domain: str) -> str:
    """The type of a step of a call, and of a piece of what it streams."""
    return _PROGRESS[domain]


def observed_type(domain: str) -> str:
    """The type of an observation."""
    return _OBSERVED[domain]


def answer_type(domain: str, ended: Ended) -> str:
    """The type of a call's terminal; only an agent's says how it ended."""
    return _ANSWERS.get(domain) or _AGENT_ENDS.get(ended, "agent.task.failed")


def answer_types(domain: str) -> tuple[str, ...]:
    """Every type that a call's terminal may have."""
    ends: tuple[Ended, ...] = ("value", "error", "cancelled")
    return tuple(dict.fromkeys(answer_type(domain, ended) for ended in ends))


def event_types(domain: str) -> tuple[str, ...]:
    """Every type of a call's events, the command first."""
    return (command_type(domain), *answer_types(domain), progress_type(domain), observed_type(domain))
