from __future__ import annotations

import base64
import copy
import json
import logging
import os
import secrets
import string
import subprocess
import sys
import time
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Secret, SecretBytes, SecretStr

from crossfade.shim import redaction
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import counters
from crossfade.shim.redaction import RedactingFilter, Redactor, is_redacted, is_secret_name

redactor = Redactor(b"a key for tests")
canaries = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map(lambda text: f"c4n4ry{text}7Z")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
secret_names = st.sampled_from(
    ["password", "DB_PASSWORD", "passwd", "secret", "client-secret", "clientSecret", "token", "accessToken",
     "x-auth-token", "X-Api-Key", "api_key", "apikey", "ACCESS_KEY", "private_key", "Authorization", "Set-Cookie"],
)  # fmt: skip


# -- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "Cookie", "set-cookie", "SESSION_COOKIE", "X-API-Key", "apiKey", "APIKEY",
     "openai_api_key", "password", "userPassword", "password2_hash_password", "passwd", "pwd", "passphrase", "secret",
     "client_secret", "clientSecret", "aws_secret_access_key", "AWS_ACCESS_KEY_ID", "accessKey", "private_key",
     "ssh-key", "token", "Token", "access_token", "refreshToken", "id_token", "csrf_token", "X-Auth-Token", "bot_token",
     "access_tokens", "encryption_keys", "credentials", "auth", "jwt", "signing_key", "__token__",
     "X-Amz-Security-Token"],
)  # fmt: skip
def test_names_of_credentials_are_known(name):
    """However a framework spells it."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "maxTokens", "input_tokens", "tokens", "token_count", "tokenizer", "tokenize", "next_page_token",
     "nextPageToken", "page_token", "continuation_token", "eos_token", "time_to_first_token", "cost_per_token", "key",
     "keys", "primary_key", "public_key", "partition_key", "idempotency-key", "keyboard", "monkey", "author",
     "authority", "authorized", "secretary", "cookiecutter", "passenger", "compass", "bypass", "query", "user", "", "-",
     "_", "ключ"],
)  # fmt: skip
def test_names_of_ordinary_things_are_left_alone(name):
    """A redacted ``max_tokens`` would make every model call incomparable."""
    assert not is_secret_name(name)


def test_further_names_are_patterns():
    """A team adds its own words, in any spelling."""
    mine = Redactor(b"k", names=["*_ssn", "card-number"])
    for name in ("user_ssn", "User-SSN", "cardNumber", "CARD_NUMBER"):
        assert mine.is_secret(name)
        assert not redactor.is_secret(name)


# -- values --------------------------------------------------------------------------------------------------------


@given(json_values, secret_names, canaries, st.data())
def test_a_secret_does_not_survive_anywhere_in_a_value(value, name, canary, data):
    """Put under a secret name at any depth, it is nowhere in what comes out, nor is a piece of it."""
    holder = data.draw(st.sampled_from([{name: canary}, {name: [canary]}, {name: {"a": canary}}]))
    for _ in range(data.draw(st.integers(0, 3))):
        holder = data.draw(st.sampled_from([{"x": holder, "y": value}, [value, holder]]))
    shown = json.dumps(redactor.value(holder))
    assert "c4n4ry" not in shown


@given(json_values)
@example({"password": {"$redacted": "short"}})
@example(["token=[redacted:0123abcd]", "https://[redacted:0123abcd]@host/", "a://b:c@d", "auth: Bearer abc123"])
@example({"headers": [["cookie", "a"], ["cookie", "a", "b"], "x"]})
def test_redacting_twice_changes_nothing(value):
    """Every layer may redact; the last one changes nothing."""
    once = redactor.value(value)
    assert redactor.value(once) == once


@given(json_values)
def test_a_value_is_never_changed_in_place(value):
    """The caller's objects belong to the caller."""
    before = copy.deepcopy(value)
    redactor.value(value)
    assert json.dumps(value) == json.dumps(before)


@given(
    st.dictionaries(st.sampled_from(["query", "limit", "max_tokens"]), st.integers() | st.none() | st.just("events"))
)
def test_a_value_without_secrets_is_the_same_object(value):
    """The common case copies nothing."""
    assert redactor.value(value) is value


@given(json_values, json_values)
def test_equality_survives(one, other):
    """Equal secrets have equal marks under one key, different ones different marks, in every order of members."""
    marks = [redactor.value({"secret": value})["secret"] for value in (one, other)]
    if not (is_redacted(marks[0]) and is_redacted(marks[1])):
        return  # None, true and false stay
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (marks[0] == marks[1]) == same


def test_another_key_gives_other_marks():
    """Without the key nobody can try passwords against a mark."""
    assert redactor.value({"pwd": "x"}) == Redactor(b"a key for tests").value({"pwd": "x"})
    assert redactor.value({"pwd": "x"}) != Redactor(b"another key").value({"pwd": "x"})


@given(json_values)
def test_a_digest_is_the_mark_of_the_value(value):
    """What the call site hashes and what a value's walk hashes compare equal."""
    mark = redactor.value({"password": value})["password"]
    if is_redacted(mark):
        assert redactor.digest(json.dumps(value).encode()) == mark
        assert is_redacted(redactor.digest(json.dumps(value, indent=2).encode()))


def test_what_is_not_there_is_no_secret():
    """``None``, true and false stay readable: absence is what a diff is about."""
    assert redactor.value({"password": None, "secret": True}) == {"password": None, "secret": True}


@pytest.mark.parametrize("secret", [SecretStr("hunter2"), SecretBytes(b"hunter2"), Secret("hunter2")])
def test_secret_types_are_replaced_wherever_they_are(secret):
    """pydantic's types say it themselves, whatever the parameter is called."""
    shown = redactor.value({"a": [secret], "b": secret})
    assert is_redacted(shown["b"])
    assert shown["a"] == [shown["b"]]
    assert "hunter2" not in repr(shown)


def test_a_secret_type_compares_with_its_json():
    """The mark of a SecretStr is the mark of the text it holds."""
    assert redactor.value([SecretStr("x")]) == [redactor.digest(b'"x"')]


def test_an_object_nobody_knows_is_replaced_whole():
    """What is not JSON could print anything."""
    assert is_redacted(redactor.value({"a": object()})["a"])
    assert is_redacted(redactor.value(b"bytes"))


def test_paths_point_at_members_and_items():
    """``$.user.card`` and ``[*]``, with everything below."""
    by_path = Redactor(b"k", paths=["$.user.card", "$.items[*].pan", "$.rows[0]", "$.any.*.x"])
    value = {
        "user": {"card": {"number": 1}, "name": "a"},
        "card": 2,
        "items": [{"pan": 3}, {"pan": 4, "n": 5}],
        "rows": [6, 7],
        "any": {"p": {"x": 8}, "q": {"x": 9, "y": 10}},
    }
    shown = by_path.value(value)
    assert is_redacted(shown["user"]["card"])
    assert [is_redacted(item["pan"]) for item in shown["items"]] == [True, True]
    assert is_redacted(shown["rows"][0])
    assert [is_redacted(member["x"]) for member in shown["any"].values()] == [True, True]
    assert (shown["user"]["name"], shown["card"], shown["items"][1]["n"], shown["rows"][1]) == ("a", 2, 5, 7)
    assert shown["any"]["q"]["y"] == 10


@pytest.mark.parametrize("path", ["", "$", "user", "$.", "$user", "$.a[", "$.a[-1]", "$..a", "$.a b]"])
def test_a_path_that_is_none_is_refused(path):
    """A path that selects nothing would leak in silence."""
    with pytest.raises(ConfigurationError, match="is no path"):
        Redactor(b"k", paths=[path])


def test_headers_as_pairs_are_known():
    """Recorded HTTP messages keep headers as a list, where order and repetition count."""
    shown = redactor.value({"headers": [["Cookie", "a=b"], ["Accept", "*/*"], ("X-Api-Key", "k"), ["odd"]]})
    assert [is_redacted(pair[-1]) for pair in shown["headers"]] == [True, False, True, False]
    assert redactor.value({"fields": ["password", "email"]}) == {"fields": ["password", "email"]}


def test_members_named_by_a_credential_are_renamed():
    """A dictionary keyed by tokens leaks through its keys."""
    assert "ghp_" not in json.dumps(redactor.value({"ghp_" + "a1" * 18: 1}))


# -- headers and encoded JSON ----------------------------------------------------------------------------------------


@given(secret_names, canaries)
def test_secret_headers_are_replaced(name, canary):
    """By name, and by what stands in the others."""
    shown = redactor.headers({name: canary, "Accept": "*/*", "Referer": f"https://h/?token={canary}"})
    assert canary not in repr(shown)
    assert shown["Accept"] == "*/*"
    assert list(shown) == [name, "Accept", "Referer"]


@given(json_values, canaries)
def test_encoded_json_stays_json(value, canary):
    """Bytes in, bytes out, and the same as redacting the value."""
    data = json.dumps({"password": canary, "x": value}).encode()
    shown = redactor.encoded(data)
    assert canary.encode() not in shown
    assert json.loads(shown) == json.loads(json.dumps(redactor.value(json.loads(data))))


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"not json password=x", b"[" * 100_000])
def test_what_is_not_json_is_replaced_whole(data):
    """Unreadable bytes are not shown in the hope that they are harmless."""
    assert is_redacted(json.loads(redactor.encoded(data)))


def test_a_name_given_twice_hides_nothing():
    """A parser sees the last of two members; the first must not slip through."""
    assert b"s3cr3tvalue" not in redactor.encoded(b'{"a":"Bearer s3cr3tvalue1","a":"b"}')


# -- text --------------------------------------------------------------------------------------------------------


def spellings(canary):
    basic = base64.b64encode(f"alice:{canary}".encode()).decode()
    return [
        f"401 for Authorization: Bearer {canary}",
        f"authorization: {canary} and more\nnext line",
        f"{{'Authorization': 'Bearer {canary}', 'Accept': '*/*'}}",
        f'{{"headers": {{"cookie": "a=b; sid={canary}"}}}}',
        f"Cookie: theme=dark; sid={canary}",
        f"curl -H 'X-Api-Key: {canary}' https://h/",
        f"token Bearer {canary} expired",
        f"sent bearer  {canary}",
        f"Basic {basic}",
        f"https://alice:{canary}@example.com/path",
        f"nats://{canary}@127.0.0.1:4222",
        f"GET /v1?q=1&api_key={canary}&page=2",
        f"https://h/cb#access_token={canary}&state=1",
        f"password={canary}",
        f"password = '{canary}' is wrong",
        f"password: {canary}",
        f'"password":"{canary}"',
        f'{{\\"password\\": \\"{canary}\\"}}',
        f'password="ab\\"{canary}"',
        f'password="cut off {canary}',
        f"connect(password=b'{canary}')",
        f"secret => {canary}",
        f"db.password={canary}",
        f"Config(client_secret='{canary}', n=1)",
        f"url=https://h/?redirect=x&token={canary}",
        f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(canary.encode()).decode().rstrip('=')}.{canary}",
        f"-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\n{canary}",
        f"key sk-{canary}{canary} revoked",
    ]


@given(canaries)
def test_credentials_inside_text_are_found(canary):
    """In errors, URLs, dumps of dictionaries and JSON inside JSON."""
    for text in spellings(canary):
        shown = redactor.text(text)
        assert canary not in shown, text
        assert "[redacted:" in shown, text
        assert redactor.text(shown) == shown, text


@given(st.text() | st.text("password=:\"'\\ b[]Bearer&;@/?h", max_size=60))
@example("password='\\'")
@example('token="\\')
@example("://:@")
@example("Cookie: [redacted:0123abcd] x")
def test_any_text_can_be_redacted_twice(text):
    """No text raises, and the second pass finds nothing."""
    once = redactor.text(text)
    assert redactor.text(once) == once


@pytest.mark.parametrize(
    "text",
    ["a basic understanding of events", "the bearer certificate", "max_tokens=100", "page_token: abc", "key=value",
     "password=None", "secret: null", "3:45 = 15:45", "https://example.com/a?b=c@d", "Basic research", "mailto:a@b.c",
     "the password was wrong", "https://host:8080/npm/@scope/x", "sk-short", "eyJ", "ratio 3:1", "C:\\temp\\x", "",
     "Bearer"],
)  # fmt: skip
def test_ordinary_text_is_left_alone(text):
    """A diff full of marks helps nobody."""
    assert redactor.text(text) == text


def test_what_surrounds_a_credential_stays_readable():
    """An operator still sees which host refused whom."""
    shown = redactor.text("GET https://alice:hunter2@db.example.com/x?token=abc&page=2 gave 401")
    assert shown.startswith("GET https://alice:[redacted:")
    assert "@db.example.com/x?token=[redacted:" in shown
    assert shown.endswith("&page=2 gave 401")


def test_equal_credentials_in_text_are_equal():
    """A mark in text begins like the mark of the value."""
    mark = redactor.digest(b'"hunter2"')["$redacted"][:8]
    assert redactor.text("password=hunter2") == f"password=[redacted:{mark}]"
    assert redactor.text("'password': 'hunter2'") == f"'password': '[redacted:{mark}]'"


# -- limits --------------------------------------------------------------------------------------------------------


def deep(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "which"),
    [
        (["x"] * 60_000, "nodes"),
        ({str(at): at for at in range(60_000)}, "nodes"),
        (["x" * 1_000_000] * 20, ""),
        (deep(101), "depth"),
        (deep(5000), "depth"),
    ],
)
def test_past_a_limit_the_whole_value_goes(value, which):
    """Too large to look at is too large to show, and it is counted."""
    before = counters.get("redacted", reason="limit")
    shown = redactor.value({"a": value})
    assert is_redacted(shown)
    assert shown["$redacted"].startswith(f"limit:{which}")
    assert counters.get("redacted", reason="limit") == before + 1
    assert redactor.value({"a": value}) != shown  # two unknown values are never called equal


def test_a_slow_value_is_given_up(monkeypatch):
    """The clock is looked at while walking."""
    now = iter(range(1000))
    monkeypatch.setattr(redaction.time, "monotonic", lambda: next(now))
    assert redactor.value([["x"]] * 1000)["$redacted"].startswith("limit:time:")


def test_a_circle_is_given_up():
    """A value that contains itself ends at the limit of depth."""
    circle = []
    circle.append(circle)
    assert redactor.value(circle)["$redacted"].startswith("limit:depth:")
    assert redactor.value({"password": circle})["password"]["$redacted"].startswith("limit:value:")


def test_a_text_past_the_limit_goes_whole():
    """A megabyte of text is not searched at all."""
    assert redactor.text("password=x " + "y" * 1024 * 1024) == "[redacted:limit]"


@pytest.mark.parametrize(
    "piece",
    ["a", "=", "a=", 'password="', 'password=\\"', "://a", "://", "bearer ", "eyJaaaaaaaa.", "cookie: ", "\\",
     "token:'", "://a:b",
     "-----BEGIN PRIVATE KEY-----", "a" * 200 + "=", "authorization", " \t", 'password=\\\\"'],
)  # fmt: skip
def test_hostile_text_costs_linear_time(piece):
    """No input makes a pattern back up: four times the text costs about four times as much."""

    def seconds(size):
        text = (piece * (size // len(piece) + 1))[:size]
        start = time.process_time()
        redactor.text(text)
        return time.process_time() - start

    small = min(seconds(50_000) for _ in range(3))
    assert seconds(200_000) < 12 * small + 0.05


# -- keys --------------------------------------------------------------------------------------------------------


def test_a_key_in_the_environment_is_shared(monkeypatch):
    """Callers and workers with one key compare each other's marks."""
    monkeypatch.setenv("CROSSFADE_REDACT_KEY", "sixteen letters!")
    assert Redactor.from_environment().value({"pwd": "x"}) == Redactor(b"sixteen letters!").value({"pwd": "x"})


def test_without_a_key_each_process_has_its_own(monkeypatch):
    """Marks agree inside a process and tell nothing outside it."""
    monkeypatch.delenv("CROSSFADE_REDACT_KEY", raising=False)
    here = Redactor.from_environment().text("password=x")
    assert Redactor.from_environment().text("password=x") == here
    code = "from crossfade.shim.redaction import Redactor; print(Redactor.from_environment().text('password=x'))"
    environment = {name: value for name, value in os.environ.items() if name != "CROSSFADE_REDACT_KEY"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.startswith("password=[redacted:")
    assert ran.stdout.strip() != here


def test_a_short_key_is_refused_and_not_shown(monkeypatch):
    """A guessable key makes marks guessable."""
    monkeypatch.setenv("CROSSFADE_REDACT_KEY", "hunter2")
    with pytest.raises(ConfigurationError, match="CROSSFADE_REDACT_KEY") as caught:
        Redactor.from_environment()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        Redactor(b"")
    assert "a key" not in repr(redactor)


# -- logs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def log():
    """A logger whose one handler redacts, and the list of lines it wrote."""
    lines = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record) + repr(vars(record)))

    logger = logging.getLogger(secrets.token_hex(4))
    handler = Lines()
    handler.addFilter(RedactingFilter(redactor))
    logger.addHandler(handler)
    return logger, lines


def fail(canary):
    try:
        int(f"token={canary}")
    except ValueError as error:
        raise RuntimeError(f"https://alice:{canary}@host") from error


def test_no_part_of_a_record_leaks(log):
    """Message, arguments, exception, cause, stack and extra attributes."""
    logger, lines = log
    canary = "c4n4ry" + secrets.token_hex(8)
    try:
        fail(canary)
    except RuntimeError:
        logger.exception(
            "failed with %s", f"password={canary}", stack_info=True, extra={"api_key": canary, "url": f"x://{canary}@h"}
        )
    (line,) = lines
    assert canary not in line
    assert "failed with password=[redacted:" in line
    assert "RuntimeError: https://alice:[redacted:" in line
    assert "Stack (most recent call last)" in line


def test_a_record_that_cannot_be_formatted_is_still_logged(log):
    """Python would print its arguments to stderr; here they stay unseen."""
    logger, lines = log
    logger.error("%d results", "password=hunter2")
    assert "cannot be formatted: TypeError" in lines[0]
    assert "hunter2" not in lines[0]


def test_an_ordinary_record_is_left_alone(log):
    """The text is what it would have been."""
    logger, lines = log
    request = object()
    logger.warning("%s took %d ms", "search", 12, extra={"request": request, "seam": "web.search"})
    assert lines[0].startswith("search took 12 ms")
    assert repr(request) in lines[0]


@pytest.mark.parametrize("left_as_is", ["", "/"])
def test_a_percent_encoded_credential_is_replaced_whole(left_as_is):
    """The hash is of the text as it stands; nothing of it stays."""
    password = urllib.parse.quote("p@ss/wörd", safe=left_as_is)
    assert password not in redactor.text(f"https://alice:{password}@host")
    assert "%C3" not in redactor.text(f"token={password}")


# -- the quick look ----------------------------------------------------------------------------------------------

_ingredients = st.sampled_from(
    [
        "password",
        "https://u:p@h/",
        "Bearer abcdefgh",
        "basic",
        "eyJ0eXAiOiJ",
        "sk-",
        "AKIA",
        "to\u212aen",
        "coo\u212aie",
        "a=b",
        "-----BEGIN PRIVATE KEY-----",
        "token",
        "x:y@z",
        "set-cookie: a",
        "\\u0070assword",
        "$redacted",
        "cvv",
        "session",
    ],
)
_mixed = st.lists(_ingredients | st.text(max_size=5), max_size=4).map("".join)
_documents = st.recursive(
    st.none() | st.integers() | _mixed,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_mixed, inner, max_size=3),
    max_leaves=8,
)


@example({"to\u212aen": "x"}, True)
@example({"to\u212aen": "x"}, False)
@given(_documents, st.booleans())
def test_what_passes_the_quick_look_holds_nothing_to_replace(document, ascii_only):
    """The walk through it would leave it as it is, however it is written."""
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if redactor.passes(data):
        assert redactor.value(document) == document


@pytest.mark.parametrize(
    "text",
    [
        "authority",
        "author",
        "max_tokens",
        "tokenizer",
        "task-4bf92f35-77b3-4da6",
        "keyboard",
        "key",
        "compass",
        "signal",
        "/api/v1/private",
        "user-agent",
        "session",
        "mail@example.org",
        "basics",
    ],
)
def test_ordinary_words_pass_the_quick_look(text):
    """The walk takes ten times as long: it is for what may be a secret, not for every request."""
    assert redactor.passes(json.dumps({text: {"text": text}}).encode())


_joined = st.sampled_from(["", "_", "-", ".", " ", "\n", '"', "\\", "é", "1", "=", ": ", '{"', "@", "://"])
_secret_words = st.sampled_from(
    [
        "auth",
        "Auth",
        "api",
        "API",
        "access",
        "private",
        "secret",
        "key",
        "Key",
        "KEYS",
        "token",
        "Token",
        "tokens",
        "bearer",
        "basic",
        "pass",
        "word",
        "phrase",
        "max",
        "session",
        "ity",
        "orization",
        "jwt",
        "x",
        "dXNlcjpwYXNz",
        "eyJhbGciOiJIUzI1NiJ9",
        "sk-",
        "abcdefgh12345678",
        "ghp_",
        "AKIA",
        "-----BEGIN",
        "PRIVATE",
    ]
)
_tricky = st.lists(st.tuples(_secret_words, _joined).map("".join), min_size=1, max_size=4).map("".join)


@example({"coo\u212aie": "\u0131"}, True)
@example("ba\u017fic dXNlcjpwYXNz", False)
@example("coo\u212a\u0131e: abcdef", False)
@given(st.recursive(_tricky, lambda inner: st.dictionaries(_tricky, inner, max_size=2), max_leaves=3), st.booleans())
def test_what_is_made_of_suspicious_words_passes_only_without_a_secret(document, ascii_only):
    """Whatever joins and writes them."""
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if redactor.passes(data):
        assert redactor.value(document) == document


def test_a_name_written_with_escapes_does_not_pass_the_quick_look():
    """JSON of another writer may spell any letter by its number."""
    assert not redactor.passes(rb'{"\u0074oken": "x"}')
