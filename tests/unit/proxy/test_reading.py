"""From routes.yaml to a configuration: what it means, and every mistake at its line and column with a remedy."""

from __future__ import annotations

from ipaddress import ip_network
from textwrap import dedent

import pytest

from crossfade.proxy.config import Address, Capture, UpstreamTls
from crossfade.proxy.documents import FileError
from crossfade.proxy.reading import config_for, read_config
from crossfade.proxy.routing import serving_of
from crossfade.shim.errors import ConfigurationError

DESIGN = """\
upstreams: {legacy: http://127.0.0.1:9000}
identity: {user: header:X-User}
trust: [127.0.0.1]
routes:
  - seam: http.reports
    match: POST /v1/reports
    upstream: legacy
    mode: task
"""


def read(text, **options):
    return read_config("routes.yaml", text=dedent(text).encode(), **options)


def mistakes(text):
    """``line:column: message`` of each."""
    with pytest.raises(FileError) as caught:
        read(text)
    return [f"{one.line}:{one.column}: {one.message}" for one in caught.value.mistakes]


# -- what a file means -----------------------------------------------------------------------------------------


def test_the_smallest_file_is_a_plain_proxy():
    """One upstream is enough: it takes everything, on the loopback address, and nobody is trusted."""
    config = read("upstreams: {legacy: 'http://127.0.0.1:9000'}")

    assert (str(config.listen), config.default.url, config.routes) == ("127.0.0.1:8080", "http://127.0.0.1:9000", ())
    assert (config.trust, config.tls, config.access_log, config.control) == ((), None, None, None)


def test_a_route_is_read_with_its_defaults():
    """The design's own example."""
    config = read(DESIGN)
    (route,) = config.routes

    assert (route.seam, route.pattern.text, route.upstream.name, route.mode) == (
        "http.reports",
        "POST /v1/reports",
        "legacy",
        "task",
    )
    assert (route.effects, route.timeout, route.capture) == ("unsafe", 30.0, Capture())
    assert config.trust == (ip_network("127.0.0.1"),)
    assert config.identity.guarded == {b"x-user"}


def test_every_setting_arrives(tmp_path):
    """A file with all of them, whose file names start at its own folder."""
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).touch()
    file = tmp_path / "routes.yaml"
    file.write_text(
        dedent("""
        listen: "[::1]:8443"
        tls: {cert: cert.pem, key: key.pem, client_ca: ca.pem}
        upstreams:
          old: http://Old.Internal
          new:
            url: https://new.internal:8443/
            tls: {ca: ca.pem, cert: cert.pem, key: key.pem, server_name: new}
        default: old
        identity: {user: "header:X-User", tenant: "cookie:org"}
        trust: [10.0.0.0/8, "::1"]
        limits: {connections: 7, header_timeout: 2.5}
        control: 127.0.0.1:8081
        access_log: "-"
        routes:
          - seam: http.users
            match: GET,HEAD api.example.com/users/{id}
            headers: {X-Version: 2}
            upstream: old
            effects: idempotent
            timeout: 5
            capture: {request: 0, response: 10}
        """)
    )

    config = read_config(str(file))
    (route,) = config.routes

    assert config.listen == Address(host="::1", port=8443)
    assert config.control is not None
    assert (config.control.url, config.control.tls) == ("http://127.0.0.1:8081", None)
    assert str(config.listen) == "[::1]:8443"
    assert config.tls is not None
    assert config.tls.client_ca == str(tmp_path / "ca.pem")
    assert [upstream.url for upstream in config.upstreams.values()] == [
        "http://old.internal:80",
        "https://new.internal:8443",
    ]
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    assert config.upstreams["new"].tls == UpstreamTls(**paths, server_name="new")
    assert (config.limits.connections, config.limits.header_timeout, config.access_log) == (7, 2.5, "-")
    assert route.pattern.headers == {(b"x-version", b"2")}
    assert (route.effects, route.timeout, route.capture) == ("idempotent", 5, Capture(request=0, response=10))
    assert (route.policy.stage, route.policy.effects, route.policy.timeout) == ("legacy", "idempotent", 5)


@pytest.mark.parametrize(
    ("methods", "effects"),
    [
        ("GET", "none"),
        ("GET,HEAD,OPTIONS", "none"),
        ("PUT", "idempotent"),
        ("GET,DELETE", "idempotent"),
        ("POST", "unsafe"),
        ("PATCH", "unsafe"),
        ("GET,POST", "unsafe"),
        ("FOO", "unsafe"),
        ("", "unsafe"),
    ],
)
def test_effects_follow_the_worst_method(methods, effects):
    """Reads are none, PUT and DELETE idempotent, anything else and any method unsafe."""
    config = read(f"upstreams: {{a: 'http://h'}}\nroutes: [{{seam: a, match: '{methods} /x'}}]")

    assert config.routes[0].effects == effects


def test_the_command_lines_word_wins():
    """Address and limits from options replace the file's, and the file's other limits stay."""
    config = read(
        "listen: 127.0.0.1:1\nupstreams: {a: 'http://h'}\nlimits: {connections: 7, uri_bytes: 99}",
        listen="127.0.0.1:2",
        limits={"connections": "8"},
    )

    assert (config.listen.port, config.limits.connections, config.limits.uri_bytes) == (2, 8, 99)


def test_no_file_is_needed():
    """One URL makes the plain proxy."""
    config = config_for("http://127.0.0.1:9000", listen="127.0.0.1:0", limits={"body_bytes": "5"})

    assert (config.default.url, config.listen.port, config.limits.body_bytes) == ("http://127.0.0.1:9000", 0, 5)


def test_further_addresses_of_a_service_are_targets_of_its_pool():
    """Each of `also` is one more target, checked by the same certificate rules."""
    config = read("upstreams: {a: {url: 'https://h', also: ['h2:444']}}")

    assert [(each.host, each.port, each.server_name) for each in serving_of(config).upstreams["a"]] == [
        ("h", 443, "h"),
        ("h2", 444, "h2"),
    ]


@pytest.mark.parametrize("name", ["legacy", "old"])
def test_what_no_route_matches_has_one_upstream(name):
    """The only one, or the one called legacy; else the file has to say."""
    assert read(f"upstreams: {{{name}: 'http://a'}}").default.name == name
    assert read("upstreams: {next: 'http://b', legacy: 'http://a'}").default.name == "legacy"
    assert mistakes("upstreams: {next: 'http://b', old: 'http://a'}") == [
        "1:12: say with `default:` which one takes what no route matches: next or old"
    ]


# -- mistakes --------------------------------------------------------------------------------------------------

UP = "upstreams: {legacy: 'http://127.0.0.1:9000', next: 'http://127.0.0.1:9001'}\n"


def route(**settings):
    lines = {"seam": "a", "match": "GET /a", **settings}
    return UP + "routes:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in lines.items()) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1:1: the file is empty: it must be a mapping with keys of"),
        ("# nothing\n", "1:1: the file is empty"),
        ("[]", "1:1: the file must be a mapping with keys of listen,"),
        ("listen: 127.0.0.1:80", "1:1: `upstreams` is missing: the services behind the proxy"),
        ("upstreams: {}", "1:12: name at least one upstream"),
        (UP + "rout: []", "2:1: unknown key `rout`; did you mean `routes`?"),
        (UP + "xyzzy: 1", "2:1: unknown key `xyzzy`; known here: listen, tls,"),
        (UP + "listen: 8080", "2:9: '8080' is no HOST:PORT: write one like 127.0.0.1:8080"),
        (UP + "listen: 127.0.0.1:99999", "2:9: '127.0.0.1:99999' is no HOST:PORT"),
        (UP + "listen: ::1:80", "2:9: '::1:80': write an IPv6 address in brackets, [::1]:80"),
        (UP + "listen: [127.0.0.1]", "2:9: `listen` must be text like 127.0.0.1:8080, not a list"),
        (UP + "listen:", "2:8: `listen` must be text like 127.0.0.1:8080, not an empty value"),
        (UP + "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", "3:1: `listen` is here twice, first in line 2: keep one"),
        (UP + "? [a]\n: b", "1:1: a key must be a word"),
        ("upstreams: {a: 127.0.0.1:9000}", "1:16: '127.0.0.1:9000' is no URL of a service: write one like http://"),
        ("upstreams: {a: 'ftp://h'}", "1:16: 'ftp://h' is no URL of a service"),
        ("upstreams: {a: 'http://h:0'}", "1:16: 'http://h:0': nothing listens on port 0"),
        ("upstreams: {a: 'http://h:99999'}", "1:16: 'http://h:99999' is no URL"),
        ("upstreams: {a: 'http://[::1'}", "1:16: 'http://[::1' is no URL"),
        ("upstreams: {a: 'http://h/base'}", "1:16: 'http://h/base': leave out what follows the port"),
        ("upstreams: {a: 'http://h?x'}", "1:16: 'http://h?x': leave out what follows the port"),
        ("upstreams: {a: 'http://u:p@h'}", "1:16: an upstream's URL holds no password"),
        ("upstreams: {a: {}}", "1:16: `url` is missing: scheme, host and port"),
        ("upstreams: {a: {url: 'http://h', tls: {}}}", "1:39: `tls` is for https upstreams"),
        ("upstreams: {a: {url: 'https://h', tls: {cert: /dev/null}}}", "1:40: `cert` and `key` belong together"),
        ("upstreams: {a: {url: 'https://h', tls: {ca: no.pem}}}", "1:45: there is no file no.pem: paths start at"),
        ("upstreams: {a: 'http://127.0.0.1:8080'}", "1:16: http://127.0.0.1:8080 is the proxy itself"),
        ("upstreams: {a: 'http://localhost:8080'}", "1:16: http://localhost:8080 is the proxy itself"),
        ("upstreams: {a: {url: 'http://h', also: ['http://h:1']}}", "1:41: 'http://h:1' is no HOST:PORT"),
        ("upstreams: {a: {url: 'http://h', also: ['h:0']}}", "1:41: 'h:0' is no HOST:PORT of a service"),
        ("upstreams: {a: {url: 'http://h', also: ['localhost:8080']}}", "1:41: localhost:8080 is the proxy itself"),
        ("upstreams: {a: 'http://[::1]:80'}\nlisten: 0.0.0.0:80", "1:16: http://[::1]:80 is the proxy itself"),
        (UP + "control: 127.0.0.1:9000", "1:21: http://127.0.0.1:9000 is the control API"),
        (UP + "control: localhost:8080", "2:10: localhost:8080 is `listen`, too"),
        (UP + "control: https://localhost:8080", "2:10: localhost:8080 is `listen`, too"),
        (
            UP + "control: {url: '127.0.0.1:8081', tls: {ca: /dev/null}}",
            "2:39: `tls` is for https upstreams: write https://",
        ),
        (
            UP + "control: {url: 'https://127.0.0.1:8081/x'}",
            "2:16: 'https://127.0.0.1:8081/x': leave out what follows the port",
        ),
        (UP + "control: 8081", "2:10: '8081' is no HOST:PORT"),
        ("upstreams: {_crossfade: 'http://h'}", "1:25: `_crossfade` is the control plane's own name"),
        (UP + "default: old", "2:10: there is no upstream `old`; known: legacy, next"),
        (UP + "trust: [10.0.0.1/8]", "2:9: '10.0.0.1/8' has bits beyond its prefix: write 10.0.0.0/8"),
        (UP + "trust: [proxy]", "2:9: 'proxy' is no address or network"),
        (UP + "trust: 127.0.0.1", "2:8: `trust` must be a list, each item text like 10.0.0.0/8, not '127.0.0.1'"),
        (UP + "identity: {user: X-User}", "2:18: 'X-User' is no source of an identity: write header:NAME"),
        (UP + "identity: {user: 'header:X-User'}", "2:11: a header names users only when its peer is trusted"),
        (UP + f"identity: {{jwt: {{algorithm: HS256, key_file: {__file__}}}}}", "2:17: no identity comes from a JWT"),
        (UP + "identity: {user: 'jwt:sub', jwt: {algorithm: HS256}}", "2:34: give `key_file` or `jwks_file`"),
        (UP + "identity: {user: 'jwt:sub', jwt: {algorithm: none}}", "2:46: `algorithm` must be HS256 or RS256 or"),
        (UP + "limits: {connections: 0}", "2:23: limits.connections: 0 is not above zero"),
        (UP + "limits: {connections: 1.5}", "2:23: `connections` must be a whole number from 0"),
        (UP + "limits: {connections: many}", "2:23: `connections` must be a whole number from 0"),
        (UP + "limits: {connection: 1}", "2:10: unknown key `connection`; did you mean `connections`?"),
        (route(seam="Reports"), "3:11: 'Reports' is no seam name"),
        (route(match="get /a"), "4:12: methods are upper case: write GET"),
        (route(match="GET /a/../b"), "4:12: '..' is a dot segment"),
        (route(headers="{X A: b}"), "5:20: 'X A' is no header name"),
        (route(headers="{X: ''}"), "5:18: `X` must be text like v2, not an empty value"),
        (route(upstream="lgacy"), "5:15: there is no upstream `lgacy`; known: legacy, next"),
        (route(candidate="next"), "5:5: unknown key `candidate`; known here: seam, match, headers, upstream, mode,"),
        (route(mode="tasks"), "5:11: `mode` must be call or task, not 'tasks'"),
        (route(effects="safe"), "5:14: `effects` must be none or idempotent or unsafe, not 'safe'"),
        (route(timeout="soon"), "5:14: `timeout` must be a number from 0.01 to 86,400, not 'soon'"),
        (route(timeout="0"), "5:14: `timeout` must be a number from 0.01 to 86,400, not '0'"),
        (route(timeout="1:30"), "5:14: `timeout` must be a number from 0.01 to 86,400, not '1:30'"),
        (route(timeout=".nan"), "5:14: `timeout` must be a number from 0.01 to 86,400, not '.nan'"),
        (route(capture="{request: -1}"), "5:24: `request` must be a whole number from 0 to 1,048,576"),
        (route(stage="shadow"), "5:5: unknown key `stage`; known here: seam,"),
        (route() + "  - {seam: a, match: GET /b}", "5:12: `a` is a route already, in line 3: a seam is one route"),
        (route() + "  - {seam: b, match: GET /a}", "5:22: takes the same requests as `a` in line 4"),
        (UP + "routes: [{}]", "2:10: `seam` is missing: the route's name"),
        (UP + "routes: {seam: a}", "2:9: `routes` must be a list, each item a mapping with keys of seam,"),
        ("a: b: c", "1:5: this is no YAML: mapping values are not allowed in this context"),
        ("a: [", "2:1: this is no YAML"),
        (
            "a:\n\tb: c",
            (
                "2:1: this is no YAML: found character that cannot start any token, "
                "while scanning for the next token; "
                "indent with spaces, not tabs"
            ),
        ),
        (
            "a: {b: GET /c/{d}}",
            (
                "1:15: this is no YAML: did not find expected ',' or '}', "
                "while parsing a flow mapping; "
                "inside {...} or [...] put a value with braces in quotes, like 'GET /users/{id}'"
            ),
        ),
        (
            "a:\n  - b: c\n   d: e",
            (
                "3:4: this is no YAML: did not find expected '-' indicator, "
                "while parsing a block collection; "
                "keys of one mapping, and items of one list, begin in the same column"
            ),
        ),
        ("a: !!python/object:os.system x", "1:1: `upstreams` is missing"),
        (UP + "---\n" + UP, "2:1: this is no YAML"),
        ("a: \x07", "1:1: "),
    ],
)
def test_a_mistake_is_told_at_its_place(text, says):
    """Line, column, what is wrong and what to do."""
    assert [one for one in mistakes(text) if one.startswith(says)] != [], mistakes(text)


def test_all_mistakes_are_told_at_once_and_in_order():
    """A person mends a file once, not once per mistake."""
    told = mistakes(UP + "listen: x\nroutes:\n  - {seam: A, match: POST}\n  - {seam: b, upstream: c, match: /x}\n")

    assert [one.partition(" ")[0] for one in told] == ["2:9:", "4:12:", "4:22:", "5:25:"]


def test_a_mistake_is_not_told_again_by_what_refers_to_it():
    """A broken upstream is no unknown upstream."""
    told = mistakes("upstreams: {legacy: 5, next: 'http://h'}\nroutes: [{seam: a, match: /a, upstream: legacy}]")

    assert [one.partition(" ")[0] for one in told] == ["1:21:"]


def test_the_text_has_one_line_a_mistake_and_ends():
    """Each line starts with the file's name; a file that is wrong throughout does not fill the screen."""
    with pytest.raises(FileError) as caught:
        read(UP + "routes:\n" + "  - {}\n" * 50)

    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert all(line.startswith("routes.yaml:") for line in lines[:-1])
    assert lines[-1] == "... and 80 more"
    assert caught.value.where == "routes.yaml:3:5"


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    """Missing, a folder, not UTF-8."""
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read_config(str(tmp_path / "no.yaml"))
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_config(str(tmp_path))
    with pytest.raises(FileError, match="this line is not UTF-8"):
        read_config("routes.yaml", text=b"a: b\n\xff: c\n")


def test_nothing_is_substituted_in_the_file(monkeypatch):
    """A dollar is a dollar: what a file says does not depend on who starts the proxy."""
    monkeypatch.setenv("SECRET", "s3cret")
    told = mistakes("upstreams: {a: '${SECRET}'}")

    assert "${SECRET}" in told[0]
    assert "s3cret" not in told[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"upstream": "127.0.0.1:9000"}, "--upstream: '127.0.0.1:9000' is no URL of a service: write one like http://"),
        ({"upstream": "http://h/x"}, "--upstream: 'http://h/x': leave out"),
        ({"upstream": "http://h", "listen": "8080"}, "--listen: '8080' is no HOST:PORT"),
        ({"upstream": "http://localhost:8080"}, "--upstream: http://localhost:8080 is the proxy itself"),
        ({"upstream": "http://h", "limits": {"connection": "1"}}, "there is no such limit"),
        ({"upstream": "http://h", "limits": {"connections": "x"}}, "is not a number"),
    ],
)
def test_an_option_that_is_wrong_is_named(options, says):
    """The same words, with the option in place of the line."""
    with pytest.raises(ConfigurationError, match=says.replace("(", "\\(")):
        config_for(**options)


def test_aliases_are_values(tmp_path):
    """YAML's own way to say a thing once works; a merge key is just unknown."""
    config = read("upstreams: {a: &u 'http://h:1', b: *u}\ndefault: a")

    assert config.upstreams["b"].url == "http://h:1"
    assert "unknown key `<<`" in "".join(mistakes("upstreams: {legacy: &u {url: 'http://h'}, b: {<<: *u}}"))
