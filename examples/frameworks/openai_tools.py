"""The function calls of a model's answer, run at a worker, and the messages that answer them. No model is asked here.

python openai_tools.py
"""

from datetime import date

from openai.types.chat import ChatCompletionMessage
from served import served

from crossfade.adapters.openai import FunctionTools

DEFINITIONS = [
    {
        "type": "function",
        "function": {
            "name": "weekday",
            "description": "The weekday of a date.",
            "parameters": {
                "type": "object",
                "properties": {"day": {"type": "string", "format": "date"}},
                "required": ["day"],
            },
        },
    }
]

# As `client.chat.completions.create(..., tools=tools.definitions)` has it in `choices[0].message`.
SAID = ChatCompletionMessage.model_validate(
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weekday", "arguments": '{"day": "2026-11-22"}'}},
            {"id": "c2", "type": "function", "function": {"name": "weekday", "arguments": "{}"}},
            {"id": "c3", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        ],
    }
)


def weekday(day: date) -> str:
    """The weekday of a date."""
    return day.strftime("%A")


tools = FunctionTools(DEFINITIONS, {"weekday": weekday}, prefix="calendar", effects="none", stage="bus")


def main() -> None:
    """One round of the loop between program and model."""
    for message in tools.dispatch(SAID.tool_calls or []):
        print(f"{message['tool_call_id']}: {message['content']}")


if __name__ == "__main__":
    with served("openai_tools"):
        main()
