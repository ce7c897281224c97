"""When schedules are due: fields, months, clock changes, what was missed; and errors that name field and column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.adapters.triggers.cron import LATE, MOST, Times, choose
from crossfade.shim.errors import ConfigurationError

BERLIN = ZoneInfo("Europe/Berlin")


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def following(times, start, n):
    found = []
    for _ in range(n):
        start = times.after(start)
        found.append(f"{start:%d %H:%M:%S%z}")
    return found


@pytest.mark.parametrize(
    ("cron", "start", "due"),
    [
        ("*/15 * * * *", "2026-01-01T00:07", "2026-01-01T00:15"),
        ("0 9 * * MON-FRI", "2026-11-20T09:00", "2026-11-23T09:00"),
        ("0 0 L * *", "2026-02-03T00:00", "2026-02-28T00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("*/10 * * * * *", "2026-01-01T00:00:03", "2026-01-01T00:00:10"),
        ("30 0 12 * * *", "2026-01-01T12:00:30", "2026-01-02T12:00:30"),
    ],
)
def test_the_next_time_is_the_first_after(cron, start, due):
    """Never the moment itself: that has fired."""
    assert Times(cron=cron).after(at(start)) == at(due)


def test_what_falls_into_the_gap_is_due_at_its_end():
    """In Berlin 02:30 does not exist on 2026-03-29: it is due at 03:00, once, and at 02:30 again the next day."""
    times = Times(cron="30 2 * * *", zone="Europe/Berlin")

    assert following(times, at("2026-03-28T12:00", BERLIN), 2) == ["29 03:00:00+0200", "30 02:30:00+0200"]


def test_what_comes_twice_is_due_once():
    """In Berlin 02:30 comes twice on 2026-10-25; the first is the one."""
    times = Times(cron="30 2 * * *", zone="Europe/Berlin")

    assert following(times, at("2026-10-24T12:00", BERLIN), 2) == ["25 02:30:00+0200", "26 02:30:00+0100"]


def test_every_half_hour_is_every_half_hour():
    """A step counts real time: four times in the hour that comes twice, none in the one that does not come."""
    times = Times(cron="*/30 * * * *", zone="Europe/Berlin")

    assert following(times, at("2026-10-25T01:45", BERLIN), 5) == [
        "25 02:00:00+0200",
        "25 02:30:00+0200",
        "25 02:00:00+0100",
        "25 02:30:00+0100",
        "25 03:00:00+0100",
    ]
    assert following(times, at("2026-03-29T01:45", BERLIN), 2) == ["29 03:00:00+0200", "29 03:30:00+0200"]


def test_six_fields_follow_the_clock_on_the_wall():
    """Not due in the gap, due twice where the hour comes twice."""
    times = Times(cron="0 30 2 * * *", zone="Europe/Berlin")

    assert following(times, at("2026-03-28T12:00", BERLIN), 1) == ["30 02:30:00+0200"]
    assert following(times, at("2026-10-24T12:00", BERLIN), 2) == ["25 02:30:00+0200", "25 02:30:00+0100"]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("61 * * * *", ["field 1 (minute), column 1", "'61'", "0-59"]),
        ("0 9 * * MOM", ["field 5 (day-of-week), column 9", "SUN-SAT"]),
        ("0  25 * * *", ["field 2 (hour), column 4"]),
        ("* 0 0 32 * *", ["field 4 (day-of-month), column 7"]),
        ("*/0 * * * *", ["field 1 (minute)"]),
        ("5-1 * * * *", ["field 1 (minute)"]),
        ("0 9 * *", ["has 4 fields", "write 5"]),
        ("@daily", ["has 1 fields"]),
        ("", ["has 0 fields"]),
        ("0 0 30 2 *", ["never due"]),
        ("0 0 L/1-L * *", ["field 3"]),
        ("\u0661 * * * *", ["field 1"]),
        (f"{'1,' * 200} * * * *", ["longer than"]),
        (f"{',' * 200} * * * *", ["field 1"]),
    ],
)
def test_a_malformed_expression_names_field_and_column(cron, words):
    """The error says which field is wrong, where it begins and what belongs there."""
    with pytest.raises(ConfigurationError) as refused:
        Times(cron=cron)
    assert refused.value.where == "cron"
    assert [word for word in words if word not in str(refused.value)] == []


@given(st.text(st.sampled_from("0123456789*/-,#LW MONTUESJANx"), max_size=30))
def test_no_text_is_another_error(text):
    """Whatever somebody types is an expression that is due some day, or a mistake with its place."""
    try:
        times = Times(cron=text)
    except ConfigurationError:
        return
    assert times.after(at("2026-01-01T00:00")) > at("2026-01-01T00:00")


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "cron"),
        ({"cron": "* * * * *", "at": at("2026-01-01")}, "cron"),
        ({"at": datetime(2026, 1, 1)}, "at"),  # noqa: DTZ001
        ({"cron": "* * * * *", "zone": "Berlin"}, "zone"),
        ({"cron": "* * * * *", "zone": "../../etc/passwd"}, "zone"),
        ({"cron": "* * * * *", "zone": ""}, "zone"),
    ],
)
def test_what_makes_no_schedule_is_said(settings, where):
    """The error names the setting."""
    with pytest.raises(ConfigurationError) as refused:
        Times(**settings)
    assert refused.value.where == where


@given(
    st.sampled_from(["* * * * *", "*/7 3 * * *", "30 2 * * *", "0 30 2 * * *", "15 10 * * MON"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(1, 5 * 86_400),
)
@example("*/7 3 * * *", "Australia/Lord_Howe", datetime(2026, 10, 2, 0, 11, tzinfo=UTC), 143_340)
def test_looking_back_finds_what_looking_forward_found(cron, zone, start, seconds):
    """What was due in between is the same from either end, but for what is too much."""
    times, end = Times(cron=cron, zone=zone), start + timedelta(seconds=seconds)
    forward, moment = [], times.after(start)
    while moment <= end:
        forward.append(moment)
        moment = times.after(moment)

    assert times.between(start, end) == forward[-MOST - 1 :]


@given(
    st.sampled_from(["* * * * *", "*/7 3 * * *", "*/30 * 4 * *", "*/13 2 * * SUN"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 30), timezones=st.just(UTC)),  # noqa: DTZ001
)
@example("*/7 3 * * *", "Australia/Lord_Howe", datetime(2026, 10, 3, 15, tzinfo=UTC))
@example("*/7 3 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 13, tzinfo=UTC))
@example("*/13 2 * * SUN", "Europe/Berlin", datetime(2026, 10, 24, 23, tzinfo=UTC))
def test_a_step_is_due_at_each_minute_that_the_wall_says(cron, zone, start):
    """Against going through every minute: whatever the zone does to its clocks, none is skipped or doubled."""
    times, found, moment = Times(cron=cron, zone=zone), [], start
    minute, hour, day, _, weekday = cron.split()
    wanted = []
    for n in range(1, 24 * 60):
        now = (start.replace(second=0, microsecond=0) + timedelta(minutes=n)).astimezone(ZoneInfo(zone))
        step = int(minute.partition("/")[2] or 1)
        fits = (not now.minute % step, hour in ("*", str(now.hour)), day in ("*", str(now.day)))
        if all(fits) and (weekday == "*" or now.weekday() == 6):
            wanted.append(now.astimezone(UTC))
    while (moment := times.after(moment)) < start.replace(second=0, microsecond=0) + timedelta(days=1):
        found.append(moment.astimezone(UTC))

    assert found == wanted


def test_a_week_of_seconds_is_looked_through_in_no_time():
    """Only as many as are caught up with are made."""
    assert len(Times(cron="* * * * * *").between(at("2026-01-01"), at("2026-01-08"))) == MOST + 1


def test_what_is_on_time_fires_and_what_was_missed_by_policy():
    """``none`` drops what was missed, ``last`` fires one of all, ``all`` fires them up to a limit."""
    now = at("2026-01-01T12:00")
    missed = [now - timedelta(hours=hours) for hours in (3, 2, 1)]
    punctual = [now - LATE, now]

    assert choose(missed, now, "none") == []
    assert choose(missed, now, "last") == missed[-1:]
    assert choose(missed, now, "all") == missed
    for policy, wanted in (("none", punctual), ("last", punctual), ("all", missed + punctual)):
        assert choose(missed + punctual, now, policy) == wanted
    many = [now - timedelta(hours=1, seconds=n) for n in range(MOST + 1)][::-1]
    assert choose(many, now, "all") == many[1:]


def test_a_single_time_is_due_once():
    """Before it, at it, and never again."""
    moment = at("2026-01-01T12:00")
    times = Times(at=moment)

    assert times.after(moment - timedelta(days=1)) == moment
    assert times.after(moment) is None
    assert times.between(moment - timedelta(days=1), moment) == [moment]
    assert times.between(moment, moment + timedelta(days=1)) == []
