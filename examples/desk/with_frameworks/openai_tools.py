"""A model that looks things up at the desk: its function calls are seams, whichever server it runs on.

DESK_MODEL_URL=http://127.0.0.1:11434/v1 python -m with_frameworks.openai_tools "How do I copy a list?"
"""

import argparse
import os
from typing import Any

import openai
from desk import tools
from desk.records import Passage

from crossfade import shim
from crossfade.adapters.openai import FunctionTools

ROUNDS = 8  # answers of the model with tool calls in them, after which it must come to an end


def defined(name: str, description: str, **properties: Any) -> dict[str, Any]:
    """A function tool as chat completions takes it."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


@shim.tool("desk.open", effects="none")
def open_passage(passage_id: str) -> Passage:
    """The passage of this id."""
    return tools.fetch(passage_id)


desk_tools = FunctionTools(
    [
        defined("search", "Passages of Python's documentation, best first.", query={"type": "string"}),
        defined("open_passage", "The text of a passage.", passage_id={"type": "string"}),
    ],
    {"search": tools.search, "open_passage": open_passage},
)


def ask(question: str, *, url: str, model: str) -> str:
    """What the model says in the end, after it has looked up what it wanted to."""
    messages: list[Any] = [
        {"role": "system", "content": "Answer from Python's documentation, which the tools look up."},
        {"role": "user", "content": question},
    ]
    with (
        openai.OpenAI(base_url=url, api_key=os.environ.get("DESK_MODEL_KEY", "none")) as client,
        shim.correlate(user="desk"),
    ):
        for _ in range(ROUNDS):
            said = client.chat.completions.create(model=model, messages=messages, tools=desk_tools.definitions)
            message = said.choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages += [message, *desk_tools.dispatch(message.tool_calls)]
    return f"(no answer within {ROUNDS} rounds)"


def main(arguments: list[str] | None = None) -> None:
    """One question from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--model", default=os.environ.get("DESK_MODEL_NAME", "default"))
    given = parser.parse_args(arguments)
    with shim.connect():
        print(ask(given.question, url=os.environ["DESK_MODEL_URL"], model=given.model))


if __name__ == "__main__":
    main()
