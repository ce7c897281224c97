"""Which route takes a request: the rules at the top of matching.py, and that a thousand routes cost what ten do."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfade.shim.matching import Pattern, Router


@dataclass
class Head:
    method: bytes = b"GET"
    path: bytes = b"/"
    host: bytes = b"example.com"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def router(*routes):
    """Routes named after their match, or (match, headers) pairs."""
    pairs = [(route, {}) if isinstance(route, str) else route for route in routes]
    return Router((Pattern.parse(text, headers), text if not headers else (text, headers)) for text, headers in pairs)


def find(routes, method, path, host=b"example.com", headers=()):
    return routes.find(Head(method, path, host, tuple(headers)))


# -- what matches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "method", "path", "matches"),
    [
        ("POST /v1/reports", b"POST", b"/v1/reports", True),
        ("POST /v1/reports", b"GET", b"/v1/reports", False),
        ("POST /v1/reports", b"post", b"/v1/reports", False),
        ("POST /v1/reports", b"POST", b"/v1/reports/", False),
        ("GET,HEAD /a", b"HEAD", b"/a", True),
        ("GET /a", b"HEAD", b"/a", False),
        ("/a", b"BREW", b"/a", True),
        ("GET /", b"GET", b"/", True),
        ("GET /", b"GET", b"/a", False),
        ("GET /users/{id}", b"GET", b"/users/7", True),
        ("GET /users/{id}", b"GET", b"/users/", False),
        ("GET /users/{id}", b"GET", b"/users/7/x", False),
        ("GET /users/{id}/x", b"GET", b"/users/7/x", True),
        ("GET /files/{rest...}", b"GET", b"/files/a/b//c/", True),
        ("GET /files/{rest...}", b"GET", b"/files/", True),
        ("GET /files/{rest...}", b"GET", b"/files", False),
        ("GET /{rest...}", b"GET", b"/", True),
        ("OPTIONS /{rest...}", b"OPTIONS", b"*", False),
        ("GET /a//b", b"GET", b"/a//b", True),
        ("GET /a//b", b"GET", b"/a/b", False),
    ],
)
def test_a_pattern_matches_what_it_says(pattern, method, path, matches):
    """Method, literal and parameter segments, and the rest, each byte for byte."""
    assert (find(router(pattern), method, path) is not None) is matches


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        (b"/a/b", b"/a%2Fb"),
        (b"/a/b", b"/%61/b"),
        (b"/a/b", b"//a/b"),
        (b"/a/b", b"/a//b"),
        (b"/a/b", b"/A/b"),
        (b"/a%2fb", b"/a%2Fb"),
    ],
)
def test_nothing_is_decoded_or_folded(pattern, path):
    """A path that only decoding, merging or folding would make equal is another path: the upstream gets its bytes."""
    assert find(router(pattern.decode()), b"GET", path) is None
    assert find(router(path.decode()), b"GET", path) is not None


def test_an_encoded_slash_stays_within_its_segment():
    """``a%2Fb`` is one segment, as it is on the wire, and reaches whoever asks for the parameter undecoded."""
    pattern = Pattern.parse("GET /files/{name}")

    assert Router([(pattern, 1)]).find(Head(path=b"/files/a%2Fb")) == 1
    assert pattern.path_parameters(b"/files/a%2Fb") == {"name": b"a%2Fb"}


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/..",
        b"/v1/../admin",
        b"/v1/./x",
        b"/v1/.",
        b"/v1/%2e%2e/admin",
        b"/v1/.%2E/admin",
        b"/v1/x%2f..%2fadmin",
        b"/v1/..%2fadmin",
        b"/v1/..%5cadmin",
        b"/v1/..\\admin",
        b"/v1/..;/admin",
        b"/v1/..;x=y/admin",
        b"/v1/%2e%2e%3b/admin",
    ],
)
def test_a_path_with_a_dot_segment_matches_no_route(path):
    """Whoever reads such a path may read another one, so it takes no seam's path and passes through as it is."""
    assert find(router("/v1/{rest...}", "/{rest...}", "/v1/{one}", "/v1/{one}/{two}"), b"GET", path) is None


@pytest.mark.parametrize("path", [b"/v1/..x", b"/v1/x..", b"/v1/.well-known", b"/v1/a.b", b"/v1/%2e%2ex", b"/v1/..."])
def test_dots_within_a_name_are_just_dots(path):
    """Only whole dot segments are suspicious."""
    assert find(router("/v1/{one}"), b"GET", path) is not None


def test_parameters_are_raw():
    """Each parameter is the path's own bytes; the rest keeps its slashes."""
    pattern = Pattern.parse("GET /a/{one}/b/{rest...}")

    assert pattern.path_parameters(b"/a/%41/b/c//d/") == {"one": b"%41", "rest": b"c//d/"}


@pytest.mark.parametrize("host", [b"api.example.com", b"API.Example.COM", b"api.example.com:8443", b"api.example.com."])
def test_hosts_are_compared_without_case_port_and_final_dot(host):
    """One host however it is written; another one, or a part of it, is not."""
    routes = router("GET api.example.com/a")

    assert find(routes, b"GET", b"/a", host) is not None
    assert find(routes, b"GET", b"/a", b"example.com") is None
    assert find(routes, b"GET", b"/a", b"x-" + host) is None
    assert find(routes, b"GET", b"/a", b"") is None


def test_a_header_counts_when_it_is_there_once_with_that_value():
    """Names without case, values exactly; two lines are ambiguous and match nothing."""
    routes = router(("GET /a", {"Mcp-Name": "search"}))

    assert find(routes, b"GET", b"/a", headers=[(b"mcp-NAME", b"search")]) is not None
    assert find(routes, b"GET", b"/a", headers=[(b"Mcp-Name", b"Search")]) is None
    assert find(routes, b"GET", b"/a", headers=[(b"Mcp-Name", b"search"), (b"mcp-name", b"search")]) is None
    assert find(routes, b"GET", b"/a") is None


# -- which one wins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("winner", "loser", "request_"),
    [
        ("GET example.com/{rest...}", "GET /a", (b"GET", b"/a")),
        ("GET /a/{x}", "GET /{x}/b", (b"GET", b"/a/b")),
        ("/a/b", "GET /a/{x}", (b"GET", b"/a/b")),
        ("/a/{x}", "GET /a/{rest...}", (b"GET", b"/a/b")),
        ("GET /a", "GET,HEAD /a", (b"GET", b"/a")),
        ("GET,HEAD /a", "/a", (b"GET", b"/a")),
        ("GET /a", ("/a", {"X-A": "1"}), (b"GET", b"/a")),
        (("GET /a", {"X-A": "1"}), "GET /a", (b"GET", b"/a")),
        (("GET /a", {"X-A": "1", "X-B": "2"}), ("GET /a", {"X-A": "1"}), (b"GET", b"/a")),
    ],
)
def test_the_most_specific_wins_in_either_order(winner, loser, request_):
    """Host, then path from the left, then methods, then headers; the order of the routes is nothing."""
    expected = winner
    headers = [(b"X-A", b"1"), (b"X-B", b"2")]

    for routes in (router(winner, loser), router(loser, winner)):
        assert find(routes, *request_, headers=headers) == expected


def test_the_next_specific_takes_what_the_first_does_not():
    """A route whose path matches and whose method does not leaves the request to the others."""
    routes = router("POST /a/b", "GET /a/{x}", "/{rest...}", "DELETE example.com/a/b")

    assert find(routes, b"POST", b"/a/b") == "POST /a/b"
    assert find(routes, b"GET", b"/a/b") == "GET /a/{x}"
    assert find(routes, b"PUT", b"/a/b") == "/{rest...}"
    assert find(routes, b"DELETE", b"/a/b") == "DELETE example.com/a/b"


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (("GET /a/{x}", {}), ("GET /a/{y}", {}), True),
        (("GET,POST /a", {}), ("POST,PUT /a", {}), True),
        (("/a", {}), ("/a", {}), True),
        (("GET /a", {"X-A": "1"}), ("GET /a", {"X-B": "1"}), True),
        (("GET /a", {"X-A": "1"}), ("GET /a", {"x-a": "2"}), False),
        (("GET /a", {"X-A": "1"}), ("GET /a", {}), False),
        (("GET /a", {}), ("POST /a", {}), False),
        (("GET /a", {}), ("GET h/a", {}), False),
        (("GET /{x}", {}), ("GET /{x...}", {}), False),
        (("GET /a", {}), ("GET /b", {}), False),
    ],
)
def test_a_conflict_is_a_request_that_two_could_take(one, other, conflict):
    """Equal rank and a common request, whichever way round; header values that exclude each other do not conflict."""
    first, second = Pattern.parse(*one), Pattern.parse(*other)

    assert first.conflicts_with(second) is second.conflicts_with(first) is conflict


# -- the laws --------------------------------------------------------------------------------------------------

_LITERALS = st.sampled_from(["a", "b", "c", "", "a%2Fb"])
_SEGMENTS = st.one_of(_LITERALS, st.just("{}"))


@st.composite
def patterns(draw):
    parts = [part if part != "{}" else f"{{p{at}}}" for at, part in enumerate(draw(st.lists(_SEGMENTS, max_size=4)))]
    parts += ["{rest...}"] if draw(st.booleans()) else []
    methods = draw(st.sampled_from(["", "GET ", "POST ", "GET,POST ", "POST,PUT "]))
    host = draw(st.sampled_from(["", "", "h.example"]))
    headers = draw(st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from(["1", "2"]), max_size=2))
    return Pattern.parse(f"{methods}{host}/{'/'.join(parts)}", headers)


@st.composite
def route_lists(draw):
    kept = []
    for pattern in draw(st.lists(patterns(), max_size=8)):
        if not any(pattern.conflicts_with(other) for other in kept):
            kept.append(pattern)
    return kept


@st.composite
def heads(draw):
    parts = draw(st.lists(st.sampled_from([b"a", b"b", b"c", b"z", b"", b"a%2Fb", b".."]), max_size=5))
    headers = draw(st.lists(st.tuples(st.sampled_from([b"X-A", b"x-b"]), st.sampled_from([b"1", b"2"])), max_size=3))
    return Head(
        draw(st.sampled_from([b"GET", b"POST", b"PUT"])),
        b"/" + b"/".join(parts),
        draw(st.sampled_from([b"h.example", b"other"])),
        tuple(headers),
    )


def table(kept):
    return Router((pattern, pattern) for pattern in kept)


@given(route_lists(), heads(), st.randoms(use_true_random=False))
def test_the_order_of_routes_is_nothing(kept, head, shuffled):
    """Any order of the same routes finds the same one."""
    other = list(kept)
    shuffled.shuffle(other)

    assert table(kept).find(head) == table(other).find(head)


@given(route_lists(), patterns(), heads())
def test_a_new_route_changes_nothing_for_what_it_does_not_match(kept, new, head):
    """Alone it finds nothing for this request, so beside others it does not matter."""
    assume(not any(new.conflicts_with(pattern) for pattern in kept))
    assume(table([new]).find(head) is None)

    assert table([*kept, new]).find(head) == table(kept).find(head)


@given(route_lists(), heads())
def test_what_is_found_matches_alone(kept, head):
    """The winner is one that matches by itself, and nothing is found only when none does."""
    alone = [pattern for pattern in kept if table([pattern]).find(head) is not None]

    found = table(kept).find(head)

    assert found in alone if alone else found is None


@given(patterns(), st.lists(st.sampled_from([b"z", b"a%2Fb", b"%zz"]), min_size=5, max_size=5))
def test_parameters_are_what_was_put_in(pattern, values):
    """A path made of a pattern and raw values is matched, and gives these values back."""
    path = b"/" + pattern.text.encode().partition(b"/")[2]
    given_ = dict(zip([name for _, name in pattern.parameters], values, strict=False))
    for name, value in given_.items():
        path = path.replace(b"{%b}" % name.encode(), value).replace(b"{%b...}" % name.encode(), value)

    head = Head(min(pattern.methods, default=b"GET"), path, b"h.example", tuple(pattern.headers))

    assert table([pattern]).find(head) == pattern
    assert pattern.path_parameters(path) == given_


@given(st.lists(patterns(), max_size=6), heads())
def test_two_that_match_one_request_conflict_or_have_a_winner(kept, head):
    """No pair of patterns is both equal in rank and unnoticed: in either order the same one is found."""
    for one in kept:
        for other in kept:
            if not one.conflicts_with(other) and one != other:
                assert table([one, other]).find(head) == table([other, one]).find(head)


# -- what a pattern may not be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write METHOD /path"),
        ("POST", "write METHOD /path"),
        ("POST /a b", "write METHOD /path"),
        ("POST, GET /a", "write METHOD /path"),
        ("GET,,POST /a", "no method"),
        ("get /a", "write GET"),
        ("GET /a?b=1", "percent-encode"),
        ("GET /a#b", "percent-encode"),
        ("GET /ü", "percent-encode"),
        ("GET /%zz", "percent-encode"),
        ("GET /a/../b", "dot segment"),
        ("GET /a/%2e%2E/b", "dot segment"),
        ("GET /{a}.json", "whole segment"),
        ("GET /{}", "whole segment"),
        ("GET /{a-b}", "whole segment"),
        ("GET /{a...}/b", "nothing can follow"),
        ("GET /{a}/{a}", "twice"),
        ("GET example.com:80/a", "leave the port out"),
        ("GET *.example.com/a", "without wildcards"),
        ("GET http://example.com/a", "leave the port out"),
    ],
)
def test_a_pattern_that_could_not_match_is_refused(text, says):
    """The message says what to write instead."""
    with pytest.raises(ValueError, match=says):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("headers", "says"), [({"X A": "1"}, "no header name"), ({"X": "1 "}, "value"), ({"X": "é"}, "value")]
)
def test_a_header_that_could_not_match_is_refused(headers, says):
    """A name or value that no request can have is a mistake."""
    with pytest.raises(ValueError, match=says):
        Pattern.parse("GET /a", headers)


# -- cost ------------------------------------------------------------------------------------------------------


def routes_of(count):
    shapes = [
        "GET /api/s{n}/items",
        "POST /api/s{n}/items/{{id}}",
        "GET /s{n}/{{a}}/x/{{rest...}}",
        "PUT /v1/{{a}}/s{n}",
    ]
    return table([Pattern.parse(shapes[n % 4].format(n=n)) for n in range(count)])


def lines_for(routes, paths):
    """The lines of Python run to find them: work that is counted is the same on a busy machine."""
    lines = 0

    def count(_frame, event, _argument):
        nonlocal lines
        lines += event == "line"
        return count

    heads = [Head(method, path) for method, path in paths]
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for head in heads:
            routes.find(head)
    finally:
        sys.settrace(before)
    return lines


def test_a_thousand_routes_cost_what_ten_do():
    """Over hits and misses, as many lines of Python are run."""
    few, many = routes_of(12), routes_of(1000)
    templates = [
        (b"GET", b"/api/s%d/items"),
        (b"POST", b"/api/s%d/items/9"),
        (b"GET", b"/s%d/q/x/y/z"),
        (b"PUT", b"/v1/q/s%d"),
    ]
    paths = [(method, path % n) for n in range(12) for method, path in templates]

    assert lines_for(many, paths) == lines_for(few, paths)


def test_the_worst_path_stays_linear():
    """Every segment may be a literal or a parameter, at each depth, and nothing matches: each node is entered once."""
    source = random.Random(7)
    texts = {"/" + "/".join(source.choice(["a", f"{{p{at}}}"]) for at in range(12)) + "/end" for _ in range(600)}
    routes = table([Pattern.parse(f"GET {text}") for text in texts])

    lines = {size: lines_for(routes, [(b"GET", b"/a" * size)]) for size in (13, 4000)}

    assert lines[4000] == lines[13] < 50_000
