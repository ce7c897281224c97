"""What the desk refuses, and how it says so."""

import json
import socket
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{}", 400, "missing_question"),
        (b'{"question": "  "}', 400, "missing_question"),
        (b'{"question": 7}', 400, "missing_question"),
        (b'{"question": "x", "request_id": "../../etc"}', 400, "bad_request_id"),
        (b'{"question": ', 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (json.dumps({"question": "x" * 3000}).encode(), 413, "too_large"),
        (json.dumps({"question": "x" * 1_000_000}).encode(), 413, "too_large"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else str(value),
)
def test_bad_question_is_refused_in_json(standing, body, status, code):
    """Whatever is wrong with the body, the answer is a 4xx whose JSON names it, and the service goes on."""
    reply = httpx.post(standing.frontend.url + "/ask", content=body, timeout=10, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["error"]["message"]
    assert standing.frontend.get("/healthz").json() == {"status": "ok"}


def test_client_that_sends_first_and_reads_later_gets_the_refusal(standing):
    """Five megabytes are too much, and a client that writes them all still reads 413, not a broken pipe."""
    parts = urlsplit(standing.frontend.url)
    with closing(HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        connection.request("POST", "/ask", b"x" * 5_000_000)
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "unknown_path"),
        ("POST", "/nowhere", 404, "unknown_path"),
        ("DELETE", "/ask", 405, "wrong_method"),
        ("GET", "/ask", 405, "wrong_method"),
        ("GET", "/static/..%2fhttp.py", 404, "unknown_path"),
        ("GET", "/progress/nobody", 404, "unknown_request"),
    ],
)
def test_unknown_path_or_method_is_refused_in_json(standing, method, path, status, code):
    """There is no way to ask for something that is not there and get anything but a clear 4xx."""
    reply = httpx.request(method, standing.frontend.url + path, timeout=10, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "header", ["Content-Length: nonsense", "Content-Length: -5", "Content-Length: +5", "Transfer-Encoding: chunked"]
)
def test_unreadable_length_ends_the_connection(standing, header):
    """A body of unknown extent is refused and the connection closed, so nothing of it is read as a request."""
    parts = urlsplit(standing.frontend.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"POST /ask HTTP/1.1\r\nHost: desk\r\n{header}\r\n\r\n".encode())
        reply = b""
        while received := connection.recv(65536):
            reply += received
    assert reply.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("path", ["/reports/..%2f..%2fjournal.jsonl", "/reports/none.md", "/passages/none"])
def test_page_of_a_missing_thing_is_a_404_page(standing, path):
    """A name that leads nowhere, or out of the folder, shows a page that says so."""
    reply = standing.frontend.get(path)
    assert (reply.status_code, "That did not work" in reply.text) == (404, True)


def test_markup_in_a_question_stays_text(standing):
    """A question with tags is shown as typed and runs nothing; the policy forbids scripts of others anyway."""
    reply = standing.frontend.get("/?q=%3Cscript%3Ealert(1)%3C/script%3E+list%22%3E")
    assert "<script>alert" not in reply.text
    assert "&lt;script&gt;alert" in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_one_connection_serves_many_requests(standing):
    """Answers and refusals alike leave an HTTP/1.1 connection open for the next request."""
    parts = urlsplit(standing.frontend.url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    first = connection.sock
    for body in ('{"question": "parse JSON"}', "{}", '{"question": "join paths"}'):
        connection.request("POST", "/ask", body)
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()
