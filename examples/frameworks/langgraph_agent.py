"""A LangGraph graph as an agent at a worker: its progress is followed, its interrupt answered, and it goes on.

python langgraph_agent.py
"""

from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from served import served

from crossfade.adapters.langchain import graph_agent
from crossfade.shim.answers import answer


class State(TypedDict, total=False):
    """What the graph keeps between its steps."""

    topic: str
    notes: list[str]
    report: str


def read(state: State) -> State:
    """Take notes."""
    return {"notes": [f"{state['topic']} {n}" for n in range(2)]}


def publish(state: State) -> State:
    """Ask a person, and publish."""
    approved = interrupt({"publish": state["notes"]})
    return {"report": " / ".join(state["notes"]) if approved else "withheld"}


def asked(topic: str) -> State:
    """The graph's input."""
    return {"topic": topic}


def told(state: Any) -> str:
    """The call's result."""
    return str(state["report"])


builder = StateGraph(State)
builder.add_node("read", read)
builder.add_node("publish", publish)
builder.add_edge(START, "read")
builder.add_edge("read", "publish")
builder.add_edge("publish", END)
graph = builder.compile(checkpointer=InMemorySaver())  # yours keeps the state in a file or a database

research = graph_agent("library.research", graph, input=asked, output=told, effects="idempotent", stage="bus")


def main() -> None:
    """Follow the agent to its question, answer it, and wait for the report."""
    task = research.submit("bees")
    for event in task.events():
        print(event.data)
        if event.data["status"] == "input-required":
            break
    answer(task.callid, value=True, actor="bob")
    print(task.result(timeout=30))


if __name__ == "__main__":
    with served("langgraph_agent"):
        main()
