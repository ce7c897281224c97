"""LangChain tools as seams, and LangGraph graphs as agents.

    search = seam_tool("web.search", search, effects="none")   # the same tool, for whoever binds or calls it
    research = graph_agent("research", graph, effects="idempotent")   # await research({"topic": "bees"}), or submit it

A tool keeps what a model and an agent see of it: name, description, schemas, callbacks, errors and artifacts.
"""

from __future__ import annotations

from crossfade.shim.errors import MissingExtraError

try:
    import langgraph as _  # noqa: F401 - asked before ours, whose errors are not for want of an extra
except ImportError as error:
    raise MissingExtraError("langchain", needed_for="crossfade.adapters.langchain") from error

from ._graphs import graph_agent
from ._tools import seam_tool

__all__ = ["graph_agent", "seam_tool"]
