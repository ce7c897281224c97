"""LangChain tools as seams, and LangGraph graphs as agents.

    search = seam_tool("web.search", search, effects="none")   # the same tool, for whoever binds or calls it

A tool keeps what a model and an agent see of it: name, description, schemas, callbacks, errors and artifacts.
"""

from __future__ import annotations

from crossfade.shim.errors import MissingExtraError

try:
    import langchain_core as _  # noqa: F401 - asked before ours, whose errors are not for want of an extra
except ImportError as error:
    raise MissingExtraError("langchain", needed_for="crossfade.adapters.langchain") from error

from ._tools import seam_tool

__all__ = ["seam_tool"]
