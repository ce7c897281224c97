"""Every setting of ``triggers.yaml``: its reader, its JSON Schema and the check of its page use this table."""

from __future__ import annotations

from typing import Any, Final

from crossfade.adapters.triggers.cron import CATCH_UPS
from crossfade.adapters.triggers.files import IGNORED
from crossfade.adapters.triggers.signatures import SCHEMES
from crossfade.proxy.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Section, Text, json_schema

_MOST_BYTES: Final = 64 * 1024 * 1024  # of one thing that comes in: it is held in memory while it is taken
_SECRET: Final = Text(like="env:GITHUB_SECRET")
_FILE: Final = Text(like="tls/cert.pem")
_DAY: Final = 86_400


def _listen(default: str) -> Key:
    return Key(
        shape=Text(like=default),
        what="HOST:PORT to listen on; port 0: one is chosen.",
        default=default,
        danger="Beyond this machine, whoever reaches it can try.",
    )


def _max_bytes(of: str, default: int) -> Key:
    return Key(
        shape=Number(least=1, most=_MOST_BYTES, whole=True),
        what=f"The largest {of} that is taken, in bytes.",
        default=f"{default:,}",
        danger="It is held in memory while it is taken.",
    )


def _remember(of: str, default: str) -> Key:
    return Key(
        shape=Number(least=600, most=30 * _DAY),
        what=f"Seconds that a {of} is known, so that a retry is a duplicate.",
        default=default,
        danger="Shorter than the sender's last retry, that one is taken for something new.",
    )


_WEBHOOK: Final = Section(
    keys={
        "listen": _listen("127.0.0.1:8070"),
        "path": Key(shape=Text(like="/github"), what="Where the sender posts to.", default="/ and the trigger's name"),
        "scheme": Key(
            shape=Choice(options=SCHEMES),
            what="How the sender signs; `bearer`: it sends the secret itself.",
            danger="`github` and `bearer` sign no time: what somebody overhears can be sent again.",
            required=True,
        ),
        "secret": Key(
            shape=ListOf(item=_SECRET),
            what="The secrets shared with the sender, each `env:NAME` or `file:PATH`; two while it is changed.",
            danger="Whoever has one can send anything.",
            required=True,
        ),
        "max_bytes": _max_bytes("body", 1024 * 1024),
        "tolerance": Key(
            shape=Number(least=1, most=_DAY),
            what="Seconds that a signed time may be off.",
            default="300",
            danger="What was overheard can be sent again for as long.",
        ),
        "remember": _remember("delivery", "four days"),
    }
)

_SMTP: Final = Section(
    keys={
        "listen": _listen("127.0.0.1:8025"),
        "recipients": Key(
            shape=ListOf(item=Text(like="reports@desk.example")),
            what="Who is written to: addresses, `@domain`, or `*` for anybody.",
            danger="With `*` whoever reaches the port fills the bus.",
            required=True,
        ),
        "hostname": Key(shape=Text(like="mail.desk.example"), what="What it calls itself.", default="localhost"),
        "max_bytes": _max_bytes("mail", 10 * 1024 * 1024),
        "certificate": Key(shape=_FILE, what="Certificate for STARTTLS, PEM; needs `key`.", default="no STARTTLS"),
        "key": Key(shape=_FILE, what="Key of `certificate`, PEM.", danger="Keep it readable to the trigger alone."),
        "require_tls": Key(
            shape=Flag(),
            what="Take no mail before STARTTLS.",
            default="false",
            danger="False, mails may come in clear.",
        ),
        "users": Key(
            shape=MapOf(item=_SECRET, of="names and secrets"),
            what="Passwords by name, each `env:NAME` or `file:PATH`; one of them must be shown.",
            default="nobody is asked",
            danger="Without it whoever reaches the port can send.",
        ),
        "remember": _remember("mail", "six days"),
    }
)

_SCHEDULE: Final = Section(
    keys={
        "cron": Key(
            shape=Text(like="0 9 * * MON-FRI"),
            what="When: five fields, or six with seconds in front. Write this or `at`.",
        ),
        "at": Key(shape=Text(like="2026-12-24T18:00:00+01:00"), what="When, once: a time with its zone."),
        "zone": Key(
            shape=Text(like="Europe/Berlin"),
            what="The time zone that `cron` is in.",
            default="UTC",
            danger="In one that changes its clocks, an hour comes twice or not at all: see below.",
        ),
        "catch_up": Key(
            shape=Choice(options=CATCH_UPS),
            what="What was missed by more than 30 s: `none` of it fires, the `last`, or `all` (100 at most).",
            default="last",
            danger="`all` after a long outage is a burst.",
        ),
    }
)

_FILES: Final = Section(
    short="directory",
    keys={
        "directory": Key(
            shape=Text(like="/srv/inbox"),
            what="The folder to watch; it must exist at the start.",
            danger="Whoever writes there sends.",
            required=True,
        ),
        "patterns": Key(shape=ListOf(item=Text(like="*.csv")), what="Names that are taken.", default="every name"),
        "ignore": Key(
            shape=ListOf(item=Text(like="*.tmp")),
            what="Names that are not looked at, though a pattern fits.",
            default=", ".join(f"`{one}`" for one in IGNORED),
            danger="Without your writers' temporary names, a file half written may be taken.",
        ),
        "settle": Key(
            shape=Number(least=0.1, most=3600),
            what="Seconds without a change until a file counts as whole; one renamed into place is taken at once.",
            default="2",
            danger="Shorter than a writer's pauses, half a file is taken.",
        ),
        "recursive": Key(shape=Flag(), what="Folders in it, too.", default="false"),
        "content": Key(
            shape=Flag(),
            what="Put the content in the object store; else the fact has the path alone.",
            default="true",
            danger="False, whoever reads the fact must reach the folder.",
        ),
        "max_bytes": _max_bytes("file whose content is kept; of a larger one the fact has the path", 16 * 1024 * 1024),
    },
)

_MQTT: Final = Section(
    keys={
        "url": Key(
            shape=Text(like="mqtts://broker.plant.example:8883"),
            what="The broker, MQTT 5: `mqtt://HOST:PORT`, `mqtts://` by TLS.",
            danger="By `mqtt://` the password goes in clear.",
            required=True,
        ),
        "topics": Key(
            shape=ListOf(item=Text(like='"devices/{tenant}/{user}/#"')),
            what="Patterns of topics; the levels `{tenant}` and `{user}` say whose a message is.",
            danger="Whoever may publish there chooses tenant and user.",
            required=True,
        ),
        "client_id": Key(
            shape=Text(like="crossfade-plant"),
            what="The session's name at the broker.",
            default="crossfade- and the trigger's name",
            danger="Two processes with one name throw each other out.",
        ),
        "username": Key(shape=Text(like="crossfade"), what="Who we are to the broker."),
        "password": Key(shape=_SECRET, what="Its password, `env:NAME` or `file:PATH`."),
        "ca": Key(shape=_FILE, what="PEM authorities to trust instead of the machine's own.", default="the machine's"),
        "type": Key(shape=Text(like="device.reported"), what="The facts' type.", default="device.reported"),
    }
)

KINDS: Final = ("webhook", "smtp", "schedule", "files", "mqtt")

_START: Final = Section(
    keys={
        "seam": Key(
            shape=Text(like="desk.research"), what="Which one; a module of `modules` declares it.", required=True
        ),
        "arguments": Key(
            shape=MapOf(item=Text(like="subject"), of="parameters and where their values come from"),
            what="`subject` is a field of the fact's data, `data.order.id` one within, `$id` an attribute of the event "
            "(`$subject`, `$time`, `$tenant`, `$user`), `=weekly` the text itself, or JSON.",
            default="none",
            danger="What comes from outside becomes an argument: the seam must not trust it.",
        ),
    }
)

_TRIGGER: Final = Section(
    keys={
        "webhook": Key(shape=_WEBHOOK, what="Signed POSTs become `webhook.received`."),
        "smtp": Key(shape=_SMTP, what="Mails become `email.received`."),
        "schedule": Key(shape=_SCHEDULE, what="Times become `schedule.fired`."),
        "files": Key(shape=_FILES, what="Files in a folder become `file.created`."),
        "mqtt": Key(shape=_MQTT, what="Messages of an MQTT broker become `device.reported`."),
        "start": Key(shape=_START, what="The seam whose task each fact starts.", default="none"),
        "tenant": Key(shape=Text(like="acme"), what="Whose the facts are.", default="none"),
        "user": Key(shape=Text(like="alice"), what="Whose the facts are.", default="none"),
    }
)

SHAPE: Final = Section(
    keys={
        "health": Key(
            shape=Text(like="127.0.0.1:8071"), what="HOST:PORT to answer `GET /healthz` on.", default="nowhere"
        ),
        "modules": Key(
            shape=ListOf(item=Text(like="desk.inbox")), what="Modules that declare the seams to start.", default="none"
        ),
        "triggers": Key(shape=MapOf(item=_TRIGGER, of="names and triggers"), what="The ways in.", required=True),
    }
)


def schema() -> dict[str, Any]:
    """The JSON Schema of ``triggers.yaml``, as docs/reference/triggers.schema.json publishes it for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "triggers.yaml of crossfade trigger",
        **json_schema(SHAPE),
    }
