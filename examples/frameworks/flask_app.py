"""A Flask application whose requests say whose the calls of seams are, and of which run.

python flask_app.py

To serve it: ``gunicorn flask_app:app``, after ``shim.connect()`` at its start.
"""

from flask import Flask
from served import served

from crossfade import shim
from crossfade.adapters.wsgi import CorrelationMiddleware


@shim.tool("library.greet", effects="none", stage="bus")
def greet(word: str) -> str:
    """Run at the worker, which knows whose call it is."""
    here = shim.current_correlation()
    return f"{word} to {here.user} in {here.run}" if here else word


app = Flask(__name__)
app.wsgi_app = CorrelationMiddleware(app.wsgi_app, user="header:X-User", trusted=["127.0.0.1"])


@app.get("/greet/<word>")
def greet_by_http(word: str) -> str:
    """A view that says nothing of users or runs."""
    return greet(word)


def main() -> None:
    """Ask the application as a proxy on this machine would."""
    answer = app.test_client().get("/greet/hello", headers={"X-User": "alice", "X-Correlation-Id": "run-1"})
    print(answer.text, answer.headers["X-Correlation-Id"])


if __name__ == "__main__":
    with served("flask_app"):
        main()
