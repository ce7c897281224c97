"""The desk as processes that talk plain HTTP: a frontend, an agent and one service per tool."""
