"""The dashboard: may each seam go on, and if not why; served by the control plane, rendered here, no build step."""

from .pages import entrance
from .router import front, router

__all__ = ["entrance", "front", "router"]
