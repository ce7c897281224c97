from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from email.header import Header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.shim.bindings import (
    STRUCTURED_HEADERS,
    Alike,
    from_http,
    from_nats,
    from_structured,
    to_http,
    to_nats,
    to_structured,
)
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import EXTENSIONS, Event

NONCHARACTERS = "".join(chr(code) for code in range(0x110000) if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF)
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=NONCHARACTERS) | st.sampled_from(' "%\\é€😀,;'),
    min_size=1,
    max_size=40,
)
media_types = st.sampled_from(
    ["application/json", "text/plain; charset=utf-8", "application/octet-stream", "application/problem+json", "x/json "]
).map(str.strip)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones)  # noqa: DTZ001
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
payloads = st.none() | st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value, indent=1).encode())
events = st.builds(
    Event,
    type=texts,
    source=texts,
    id=texts,
    time=times,
    subject=st.none() | texts,
    datacontenttype=media_types,
    dataschema=st.none() | texts,
    extensions=st.dictionaries(
        st.sampled_from(EXTENSIONS) | st.from_regex(r"x[a-z0-9]{0,18}", fullmatch=True), texts | st.just(""), max_size=6
    ),
    data=payloads,
)


def an_event(**changes):
    fields = {"type": "tool.invoke", "source": "urn:test", "id": "1", "time": datetime(2026, 1, 2, 3, 4, 5, 6, UTC)}
    return Event(**{**fields, **changes})


def headers(**changes):
    given_ = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "urn:test", "ce-type": "tool.invoke"}
    given_ |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in given_.items() if value is not None}


def read_or_reason(read, *args):
    try:
        return read(*args)
    except MalformedEventError as error:
        return error.reason


def reason_of(read, *args):
    with pytest.raises(MalformedEventError) as caught:
        read(*args)
    assert re.fullmatch(r"[a-z]+", caught.value.reason)
    return caught.value.reason


# -- laws ------------------------------------------------------------------------------------------------------


@given(events)
@example(an_event(data=b""))
@example(an_event(data=None, datacontenttype="text/plain"))
@example(an_event(extensions={"traceparent": " padded ", "baggage": 'a="b c",d=%20', "userid": ""}))
def test_a_nats_message_is_read_as_the_event_that_was_sent(event):
    """What NATS carries is the event itself: every attribute, and no data apart from empty data."""
    assert from_nats(to_nats(event), event.data or b"") == event


@given(events)
@example(an_event(data=b"", extensions={"traceparent": " padded ", "baggage": 'a="b c",d=%20', "userid": ""}))
def test_events_that_are_alike_are_written_as_each_alone(event):
    """What was written once and what each has of its own make the headers of the event."""
    common = Event(type=event.type, source=event.source, subject=event.subject, extensions={"seam": "a.b"})
    whole = Event(type=event.type, source=event.source, subject=event.subject, id=event.id, data=b"",
                  extensions={**event.extensions, "seam": "a.b"})  # fmt: skip
    lines = Alike(common).lines(event.id, {name: whole.extensions[name] for name in whole.extensions if name != "seam"})
    assert lines.isascii()
    written = dict(line.split(": ", 1) for line in lines.removesuffix("\r\n").split("\r\n"))
    expected = to_nats(whole)
    assert written.pop("ce-time") >= expected.pop("ce-time")
    assert written == expected


@given(events)
@example(an_event(data=b""))
@example(an_event(data=None, datacontenttype="text/plain"))
def test_an_http_message_is_read_as_the_event_that_was_sent(event):
    """What HTTP carries is the event itself."""
    assert from_http(to_http(event), event.data or b"") == event


@given(events)
@example(an_event(data=b'{"a": 1.10, "b": 12345678901234567890123}\n'))
@example(an_event(data=b'{"a":1,"a":2}'))
@example(an_event(data=b"null"))
@example(an_event(data=b"NaN"))
@example(an_event(data=b"["))
@example(an_event(data=b'"\\ud800"'))
def test_the_json_format_keeps_every_byte_of_the_data(event):
    """Structured mode changes no byte of the data, JSON or not."""
    assert from_structured(to_structured(event)) == event


@given(events)
def test_headers_are_safe_to_put_on_a_wire(event):
    """No header can be split, folded or re-encoded on its way: printable ASCII, no blank at an end."""
    for name, value in (to_nats(event) | to_http(event)).items():
        assert re.fullmatch(r"[a-zA-Z0-9-]+", name)
        assert re.fullmatch(r"(?:[!-~](?:[ -~]*[!-~])?)?", value)
        assert not (name.startswith("ce-") and " " in value)


@given(events)
def test_both_modes_say_the_same(event):
    """A structured body read through the binding's headers is the event that binary mode carries."""
    body = to_structured(event)
    assert from_nats(dict(STRUCTURED_HEADERS), body) == from_http(dict(STRUCTURED_HEADERS), body) == event


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(list(headers())), st.text(max_size=30)), st.binary())
def test_hostile_headers_are_refused_by_name_or_read(given_, body):
    """Arbitrary headers and bodies give an event or MalformedEventError, nothing else."""
    for read in (from_nats, from_http):
        assert isinstance(read_or_reason(read, {**headers(), **given_}, body), Event | str)


@given(
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | json_values.map(json.dumps).map(str.encode)
)
def test_hostile_bodies_are_refused_by_name(body):
    """Arbitrary bytes as a structured event give MalformedEventError, nothing else."""
    reason_of(from_structured, body)


# -- writing ---------------------------------------------------------------------------------------------------


def test_values_are_percent_encoded_as_the_specification_says():
    """The example of the HTTP binding, 3.1.3.2: "Euro € 😀" and quotes and percent signs."""
    event = an_event(extensions={"userid": "Euro € 😀", "tenantid": '100%"'})
    written = to_nats(event)
    assert written["ce-userid"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    assert written["ce-tenantid"] == "100%25%22"


def test_nats_names_the_data_type_twice():
    """``ce-datacontenttype`` is the attribute, ``Content-Type`` is for other tools."""
    written = to_nats(an_event(data=b"{}", datacontenttype="text/plain; charset=utf-8"))
    assert written["ce-datacontenttype"] == "text/plain;%20charset=utf-8"
    assert written["Content-Type"] == "text/plain; charset=utf-8"


def test_http_names_the_data_type_once():
    """Over HTTP ``Content-Type`` is the attribute and ``ce-datacontenttype`` does not exist."""
    written = to_http(an_event(data=b"{}"))
    assert written["content-type"] == "application/json"
    assert "ce-datacontenttype" not in written


def test_tracing_tools_find_their_headers():
    """Trace context is written as plain headers, unencoded, beside the attributes."""
    trace = {"traceparent": "00-1-2-01", "tracestate": "a=1,b=2 3", "baggage": "user=%C3%BC,x=1"}
    for write in (to_nats, to_http):
        written = write(an_event(extensions=trace))
        assert {name: written[name] for name in trace} == trace
        assert written["ce-baggage"] == "user=%25C3%25BC,x=1"


def test_a_trace_header_that_would_break_the_wire_is_written_only_encoded():
    """A value with a blank at its end or beyond ASCII has no plain copy."""
    written = to_nats(an_event(extensions={"tracestate": "a=ü", "baggage": "a=1 "}))
    assert "tracestate" not in written
    assert "baggage" not in written
    assert written["ce-baggage"] == "a=1%20"


@pytest.mark.parametrize("write", [to_nats, to_http])
@pytest.mark.parametrize("kind", ["application/cloudevents+json", "Application/CloudEvents-batch+json; charset=utf-8"])
def test_a_body_that_is_an_event_is_not_passed_off_as_one_in_binary_mode(write, kind):
    """Data typed as a CloudEvent is refused in binary mode and survives structured mode."""
    event = an_event(data=b'{"specversion":"1.0"}', datacontenttype=kind)
    assert reason_of(write, event) == "mode"
    assert from_nats(dict(STRUCTURED_HEADERS), to_structured(event)) == event


@pytest.mark.parametrize("write", [to_nats, to_http, to_structured])
@pytest.mark.parametrize("value", ["a\nb", "a\x00b", "\ud800", "\x85", "￾", "﷐"])
def test_text_that_no_event_may_hold_is_refused_when_written(write, value):
    """CloudEvents' String type excludes controls, noncharacters and lone surrogates."""
    assert reason_of(write, an_event(extensions={"userid": value})) == "unicode"


@pytest.mark.parametrize("write", [to_nats, to_http])
@pytest.mark.parametrize("value", ["", " text/plain", "text/plain\r\nX-Evil: 1", "tëxt/plain"])
def test_a_data_type_that_fits_in_no_header_is_refused(write, value):
    """A media type is visible ASCII; anything else would inject or break a header."""
    assert reason_of(write, an_event(datacontenttype=value, data=b"")) == "attributes"


def test_an_empty_subject_is_refused_because_it_would_come_back_as_none():
    """CloudEvents forbids an empty subject; leaving it out is the caller's decision."""
    for write in (to_nats, to_http, to_structured):
        assert reason_of(write, an_event(subject="")) == "attributes"


# -- times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)),
        ("2026-01-02T03:04:05.123456999Z", datetime(2026, 1, 2, 3, 4, 5, 123_456, UTC)),
        ("2026-01-02T03:04:05+05:30", datetime(2026, 1, 1, 21, 34, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.000001-00:00", datetime(2026, 1, 2, 3, 4, 5, 1, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_of_other_writers_are_read(text, time):
    """RFC 3339 with Z, offsets, any number of digits (cut, never rounded into the next second)."""
    event = from_nats(headers(ce_time=text), b"")
    assert event.time == time
    assert event.time.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-02", "2026-01-02T03:04:05", "20260102T030405Z", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
     "2026-01-02T24:00:00Z", "2026-01-02T03:04:60Z", "2026-01-02T03:04:05+24:00", "0001-01-01T00:00:00+00:01",
     "9999-12-31T23:59:59-00:01", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05Z\n", "٢٠٢٦-01-02T03:04:05Z"],
)  # fmt: skip
def test_a_time_that_does_not_exist_is_refused(text):
    """A time is never guessed."""
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": text}).encode()
    assert reason_of(from_structured, body) in ("time", "unicode")


def test_times_are_written_in_utc_with_microseconds():
    """One spelling for every time, so that text sorts as time does."""
    late = an_event(time=datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))))
    assert to_nats(late)["ce-time"] == "2026-01-01T23:00:00.000000Z"


def test_a_time_outside_the_calendar_is_refused_when_written():
    """The year 1 minus an offset has no UTC."""
    early = an_event(time=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert reason_of(to_nats, early) == "time"


# -- reading ---------------------------------------------------------------------------------------------------


def test_header_names_are_compared_without_case():
    """NATS preserves case and HTTP does not; we accept what either hands over."""
    given_ = {name.title(): value for name, value in to_nats(an_event(data=b"1")).items()}
    assert from_nats(given_, b"1") == from_http(given_, b"1") == an_event(data=b"1")


def test_values_are_decoded_once():
    """A value that reads as percent-encoded after decoding is left alone."""
    assert from_nats(headers(ce_userid="%2520"), b"").get("userid") == "%20"
    assert from_nats(headers(ce_userid="%61"), b"").get("userid") == "a"


def test_a_quoted_value_is_unquoted():
    """Older writers quote (HTTP binding 3.1.3.2, first step of decoding)."""
    assert from_http(headers(ce_userid='"Euro \\"%E2%82%AC\\""'), b"").get("userid") == 'Euro "€"'


def test_unknown_attributes_of_a_newer_version_are_kept_for_whoever_knows_them():
    """Version n-1 reads an event of version n and would pass it on whole."""
    event = from_nats(headers(ce_specversion="1.1", ce_newthing="7", **{"ce-no_attribute": "x", "other": "y"}), b"")
    assert event.extensions == {"newthing": "7"}


def test_plain_trace_headers_stand_in_for_missing_attributes():
    """A foreign producer that knows only W3C headers still joins the trace."""
    event = from_nats(headers(traceparent="00-a-b-01", ce_tracestate="a=1", tracestate="b=2"), b"")
    assert event.extensions == {"traceparent": "00-a-b-01", "tracestate": "a=1"}


def test_an_event_without_time_happened_when_it_was_read():
    """``time`` is optional in CloudEvents and required here."""
    before = datetime.now(UTC)
    assert before <= from_nats(headers(), b"").time <= datetime.now(UTC)


def test_a_data_type_defaults_to_json_and_the_attribute_wins():
    """``ce-datacontenttype``, else ``Content-Type``, else JSON."""
    assert from_nats(headers(), b"1").datacontenttype == "application/json"
    assert from_nats(headers(Content_Type="a/b"), b"1").datacontenttype == "a/b"
    assert from_nats(headers(Content_Type="a/b", ce_datacontenttype="c/d"), b"1").datacontenttype == "c/d"
    assert from_http(headers(Content_Type="a/b", ce_datacontenttype="c/d"), b"1").datacontenttype == "a/b"


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (headers(ce_specversion=None), "attributes"),
        (headers(ce_specversion="2.0"), "specversion"),
        (headers(ce_specversion="0.3"), "specversion"),
        (headers(ce_specversion="10"), "specversion"),
        (headers(ce_id=None), "attributes"),
        (headers(ce_source=""), "attributes"),
        (headers(ce_type=None), "attributes"),
        (headers(ce_userid="100%"), "percent"),
        (headers(ce_userid="%zz"), "percent"),
        (headers(ce_userid="%FF"), "unicode"),
        (headers(ce_userid="%C0%80"), "unicode"),
        (headers(ce_userid="%ED%A0%80"), "unicode"),
        (headers(ce_userid="%00"), "unicode"),
        (headers(ce_userid="%0d%0aX-Evil:1"), "unicode"),
        (headers(ce_userid="a\x00b"), "header"),
        (headers(ce_userid="a\r\nb"), "header"),
        (headers(ce_userid="é"), "header"),
        (headers(ce_userid="\udce9"), "header"),
        (headers(ce_userid=Header("é", "utf-8")), "header"),
        (headers(ce_userid="x" * 70_000), "size"),
        (headers(**{f"ce-x{n}": "y" * 60 for n in range(1000)}), "size"),
        (headers(**{"Ce-Id": "2"}), "duplicate"),
        (headers(Content_Type="application/cloudevents-batch+json"), "batch"),
        (headers(Content_Type="application/cloudevents+avro"), "format"),
        (headers(Content_Type="application/cloudevents"), "format"),
        (headers(Content_Type="application/cloudevents+json"), "json"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(given_, reason):
    """Each way to be unreadable has its own token, on both bindings."""
    assert reason_of(from_nats, given_, b"") == reason_of(from_http, given_, b"") == reason


def test_a_message_without_headers_is_no_event():
    """nats-py gives ``None`` for a message without headers."""
    assert reason_of(from_nats, None, b"{}") == "attributes"


# -- reading JSON ------------------------------------------------------------------------------------------------


def envelope(tail=""):
    return f'{{"specversion":"1.0","id":"1","source":"s","type":"t"{tail}}}'.encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json"),
        (b"[]", "json"),
        (b"{}", "attributes"),
        (b"[" * 100_000, "depth"),
        (envelope(',"data":' + "[" * 200 + "]" * 200), "depth"),
        (envelope(',"id":"2"'), "duplicate"),
        (envelope(',"data":{"a":1,"a":2}'), "duplicate"),
        (envelope(',"data":NaN'), "json"),
        (envelope(',"data":-Infinity'), "json"),
        (envelope(',"x":' + "1" * 5000), "json"),
        (envelope() + b"x", "json"),
        (envelope() + envelope(), "json"),
        (envelope(","), "json"),
        (envelope(',"a"'), "json"),
        (envelope(",1:2"), "json"),
        (b"\xef\xbb\xbf" + envelope(), "json"),
        (b"\xff", "unicode"),
        (envelope(',"userid":"\\ud800"'), "unicode"),
        (envelope(',"userid":"\\u0000"'), "unicode"),
        (envelope(',"userid":{}'), "attributes"),
        (envelope(',"userid":1.5'), "attributes"),
        (envelope(',"data":1,"data_base64":"MQ=="'), "data"),
        (envelope(',"data_base64":"M"'), "data"),
        (envelope(',"data_base64":"é"'), "data"),
        (envelope(',"data_base64":1'), "data"),
        (envelope(',"datacontenttype":"text/plain","data":{}'), "data"),
        (envelope(',"datacontenttype":"text/plain","data":"\\udfff"'), "unicode"),
        (b'{"specversion":1.0,"id":"1","source":"s","type":"t"}', "attributes"),
        (b'{"specversion":"3.0","id":"1","source":"s","type":"t"}', "specversion"),
        (b'{"a":"' + b'\\"' * 500_000, "json"),
        (b'"' * 1_000_001, "json"),
    ],
)
def test_json_that_is_no_event_is_refused_with_a_reason(body, reason):
    """Hostile JSON (deep, doubled, half, huge) ends in one named error, soon."""
    assert reason_of(from_structured, body) == reason


def test_json_attributes_of_other_types_become_canonical_text():
    """CloudEvents' Integer and Boolean have a text form; null is unset."""
    event = from_structured(envelope(',"attempt":2,"sealed":true,"userid":null,"later":false'))
    assert event.extensions == {"attempt": "2", "sealed": "true", "later": "false"}


def test_json_of_other_writers_is_read():
    """Blanks, text data, base64 data and typed data as the JSON format's examples have them."""
    assert from_structured(
        b' \n{ "data" : [1, 2.50] , "id":"1","source":"s","type":"t","specversion":"1.0" }\t'
    ).data == (b"[1, 2.50]")
    assert from_structured(envelope(',"datacontenttype":"text/xml","data":"<a/>"')).data == b"<a/>"
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert from_structured(envelope(f',"data_base64":"{encoded}"')).data == b"\x00\xff"
    assert from_structured(envelope()).data is None
    assert from_structured(envelope(',"data":null')).data == b"null"


def test_json_data_is_readable_inside_an_envelope():
    """JSON data is a member, not base64, so that people and browsers can read it."""
    assert json.loads(to_structured(an_event(data=b'{"a": [1, "\xc3\xbc"]}')))["data"] == {"a": [1, "ü"]}
    assert "data_base64" in json.loads(to_structured(an_event(data=b"[" * 99 + b"]" * 99 + b" ")))


def test_a_structured_body_may_come_with_parameters():
    """``Content-Type: application/cloudevents+json; charset=utf-8`` in any case."""
    given_ = {"content-TYPE": " Application/CloudEvents+JSON; charset=UTF-8"}
    assert from_http(given_, to_structured(an_event())) == an_event()


def test_a_legacy_app_pays_for_nothing_it_does_not_use():
    """Building, correlating and redacting an event loads neither pydantic nor the client nor the cipher."""
    modules = ", ".join(f"crossfade.shim.{name}" for name in ("bindings", "correlate", "redaction", "sealed"))
    code = f"import crossfade.shim, {modules}, sys; print(sys.modules.keys() & {{'pydantic', 'nats', 'cryptography'}})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
