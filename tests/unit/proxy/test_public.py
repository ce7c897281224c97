"""Which paths below ``/_crossfade/`` the world may ask the control plane for."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.public import is_ours, is_public


@pytest.mark.parametrize(
    "path", [b"/_crossfade/stream", b"/_crossfade/tasks/01ab", b"/_crossfade/tasks/01ab/result", b"/_crossfade/tasks/a"]
)
def test_streams_and_tasks_are(path):
    """The four paths of the control plane's public application."""
    assert is_public(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/_crossfade",
        b"/_crossfade/",
        b"//_crossfade/stream",
        b"/\\_crossfade/stream",
        b"/_crossfade%2fstream",
        b"/%5Fcrossfade/stream",
        b"/%5fcro%73sfade",
        b"/%255fcrossfade/stream",
        b"/%2f_crossfade/stream",
        b"/_Crossfade/stream",
        b"/_crossfade;a=b/stream",
        b"/_crossfade%00",
        b"/_crossfade.",
        b"/./_crossfade/stream",
        b"/a/../_crossfade/stream",
        b"/a/%2e%2e/%5fcrossfade/stream",
        b"/a/..;/_crossfade/stream",
        b"/a/..\\_crossfade/stream",
        b"/_crossfade/tasks",
        b"/_crossfade/tasks/",
        b"/_crossfade/stream/",
        b"/_crossfade/stream/../api",
        b"/_crossfade/streams",
        b"/_crossfade/STREAM",
        b"/_crossfade/%73tream",
        b"/_crossfade//stream",
        b"/_crossfade/api/v1/seams",
        b"/_crossfade/tasks/../api",
        b"/_crossfade/tasks/a/../../../api/v1/seams",
        b"/_crossfade/tasks/%2e%2e/%2e%2e/api",
        b"/_crossfade/tasks/..%2f..%2fapi",
        b"/_crossfade/tasks/..;/api",
        b"/_crossfade/tasks/..\\api",
        b"/_crossfade/tasks/a/..",
        b"/_crossfade/../api",
    ],
)
def test_nothing_else_is(path):
    """No spelling, dot segment or neighbour of them; and the service does not see it either."""
    assert not is_public(path)
    assert is_ours(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/a",
        b"/_crossfades",
        b"/_crossfade-docs/x",
        b"/a/_crossfade/stream",
        b"/a%2f_crossfade",
        b"/crossfade",
        b"*",
    ],
)
def test_a_path_that_nobody_reads_as_ours_is_the_services(path):
    """A neighbour of the name, and the name further down."""
    assert not is_ours(path)


@given(st.lists(st.sampled_from(["/", "..", ".", "%2e", "%2F", "\\", "%5c", ";", "tasks", "stream", "api", "a"])))
def test_no_public_path_leads_anywhere_else_whoever_resolves_it(parts):
    """Decoded and resolved as the laxest server would, what is let through still is below the two prefixes."""
    path = "/_crossfade/tasks/" + "".join(parts)
    if is_public(path.encode()):
        plain = path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/")
        assert not {".", ".."} & {part.partition(";")[0] for part in plain.split("/")}


@given(
    st.lists(
        st.sampled_from(["/", "..", ".", "%2e", "%2F", "\\", "%5c", ";", "a", "_crossfade", "%5fCROSSfade", "%255f"])
    )
)
def test_no_path_of_the_services_leads_to_ours_whoever_resolves_it(parts):
    """Decoded twice, merged and resolved as the laxest server would, what the service sees is nothing of ours."""
    path = "/" + "".join(parts)
    plain = unquote(unquote(path)).lower().replace("\\", "/")
    resolved = []
    for part in (part.partition(";")[0] for part in plain.split("/")):
        if part == "..":
            resolved = resolved[:-1]
        elif part not in ("", "."):
            resolved.append(part)
    if resolved[:1] == ["_crossfade"]:
        assert is_ours(path.encode())
