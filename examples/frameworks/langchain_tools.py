"""LangChain tools whose functions run at a worker, called as an agent calls them.

python langchain_tools.py
"""

from langchain_core.tools import ToolException, tool
from served import served

from crossfade import shim
from crossfade.adapters.langchain import seam_tool


@tool
def search(query: str, limit: int = 2) -> list[str]:
    """Search the library."""
    return [f"{query} {n}" for n in range(limit)]


@tool
def order(book: str) -> str:
    """Order a book."""
    if book == "Emma":
        raise ToolException("Emma is out of print")
    return f"{book} is ordered"


search = seam_tool("library.search", search, effects="none", stage="bus")
order = seam_tool("library.order", order, effects="idempotent", stage="bus")
order.handle_tool_error = True


def main() -> None:
    """What a model's answer with tool calls makes an agent do."""
    print(search.invoke({"query": "bees"}))
    with shim.correlate(user="alice", run="run-1"):  # a tool call that is repeated in a run is the same call
        for book, number in (("Dune", 1), ("Dune", 1), ("Emma", 2)):
            call = {"name": "order", "args": {"book": book}, "id": f"call_{number}", "type": "tool_call"}
            said = order.invoke(call)
            print(f"{said.tool_call_id} {said.status}: {said.content}")


if __name__ == "__main__":
    with served("langchain_tools"):
        main()
