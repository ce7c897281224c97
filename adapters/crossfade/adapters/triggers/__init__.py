"""Ways in: webhooks, mail, schedules, files and MQTT become facts on the bus. Needs the extra ``triggers``.

Each module is one way in and imports its own library only; ``supervising`` runs several in one process.
"""

from __future__ import annotations

from .intake import Arrival, Intake, Taken
from .supervising import Trigger, Triggers, TriggersHealth

__all__ = ["Arrival", "Intake", "Taken", "Trigger", "Triggers", "TriggersHealth"]
