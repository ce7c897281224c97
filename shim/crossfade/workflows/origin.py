"""Which workflow, instance and step a dead letter belongs to: its own commands, and what its engines gave up."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import MalformedEventError
from crossfade.shim.subjects import seam_from_token

from . import naming
from .reducer import call_ids
from .store import Store

if TYPE_CHECKING:
    from crossfade.shim.ports import Bus, DeadLetter

_GROUP: Final = re.compile(r"workflow-(.+)-ON-.+")
_NAMED: Final = re.compile(r"\binstance ([0-9a-f]{32})\b")  # as the engine's own reasons have it


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where it belongs; ``instance`` and ``step`` are empty where nothing tells."""

    workflow: str
    instance: str = ""
    step: str = ""


async def origin(bus: Bus, letter: DeadLetter) -> Origin | None:
    """Where ``letter`` belongs, ``None`` when to no workflow. Raises ``BusError``."""
    workflow = _workflow(letter)
    if workflow is None:
        return None
    said = _signal(letter)
    named = _NAMED.search(letter.detail)
    call = letter.event if letter.event and letter.event.get("callid") else None  # a fact may have another's partition
    instance = said.get("instance") or (call.get("partitionkey") if call else None) or (named[1] if named else "")
    step = said.get("step") or ""
    if instance and call:
        step = await _calling(bus, str(instance), call.get("callid") or "")
    return Origin(workflow=workflow, instance=str(instance), step=str(step))


def _workflow(letter: DeadLetter) -> str | None:
    if group := _GROUP.fullmatch(letter.group):
        return seam_from_token(group[1])
    shard = letter.subject.split(".")[1:2]
    return naming.of_shard(shard[0]) if shard else None


def _signal(letter: DeadLetter) -> dict[str, Any]:
    """What a person said, as far as it can be read: it may be dead because it cannot."""
    if letter.event is None or letter.event.type != naming.SIGNALLED:
        return {}
    try:
        found: Any = json.loads(letter.event.data or b"")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


async def _calling(bus: Bus, instance: str, callid: str) -> str:
    """The step whose call this was, at any of its attempts."""
    try:
        found = await Store(bus).find(instance)
    except MalformedEventError:
        return ""
    return call_ids(found).get(callid, "") if found else ""
