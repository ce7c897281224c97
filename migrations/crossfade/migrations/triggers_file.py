"""``triggers.yaml``: which ways in a process opens, as the adapters' own settings. Pure, but for reading files.

Secrets are named, never written down: ``env:NAME`` or ``file:PATH``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from crossfade.adapters.triggers.signatures import SCHEMES, Scheme, read_secret
from crossfade.adapters.triggers.webhook import Webhook
from crossfade.proxy.documents import Document, read_document
from crossfade.proxy.shapes import Choice, Key, ListOf, MapOf, Number, Section, Text, json_schema
from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.proxy.documents import Keys

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}\Z")
_MOST_BYTES: Final = 64 * 1024 * 1024  # of one thing that comes in: it is held in memory while it is taken
_SECRET: Final = Text(like="env:GITHUB_SECRET")
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
        what=f"The largest {of} that is taken.",
        default=f"{default:,}",
        danger="It is held in memory while it is taken.",
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
        "max_bytes": _max_bytes("body, in bytes,", 1024 * 1024),
        "tolerance": Key(
            shape=Number(least=1, most=_DAY),
            what="Seconds that a signed time may be off.",
            default="300",
            danger="What was overheard can be sent again for as long.",
        ),
        "remember": Key(
            shape=Number(least=600, most=30 * _DAY),
            what="Seconds that a delivery's id is known, so that a retry is a duplicate.",
            default="four days",
            danger="Shorter than the sender's last retry, that one is taken for something new.",
        ),
    }
)

_TRIGGER: Final = Section(
    keys={
        "webhook": Key(shape=_WEBHOOK, what="Signed POSTs become `webhook.received`."),
        "tenant": Key(shape=Text(like="acme"), what="Whose the facts are.", default="none"),
        "user": Key(shape=Text(like="alice"), what="Whose the facts are.", default="none"),
    }
)

SHAPE: Final = Section(
    keys={
        "health": Key(
            shape=Text(like="127.0.0.1:8071"), what="HOST:PORT to answer `GET /healthz` on.", default="nowhere"
        ),
        "triggers": Key(shape=MapOf(item=_TRIGGER, of="names and triggers"), what="The ways in.", required=True),
    }
)

KINDS: Final = ("webhook",)

Settings: TypeAlias = Webhook


@dataclass(frozen=True, kw_only=True, slots=True)
class Configured:
    """One trigger; ``listen`` is where it does, if it does."""

    name: str
    settings: Settings
    listen: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggersFile:
    """What a file says."""

    triggers: tuple[Configured, ...]
    health: str | None = None
    modules: tuple[str, ...] = field(default_factory=tuple)


def load_triggers(file: str) -> TriggersFile:
    """Read ``file``. Raises ``FileError`` with every mistake as file:line:column, ``MissingExtraError``."""
    document = read_document(file, SHAPE)
    values = cast("dict[str, Any]", document.values or {})
    named = cast("dict[str, Any]", values.get("triggers") or {})
    triggers = [
        made
        for name, trigger in named.items()
        if (made := _trigger(document, ("triggers", name), name, trigger)) is not None
    ]
    if not triggers and not document.mistakes:
        document.mistake(("triggers",), "there is no trigger here")
    document.check()
    return TriggersFile(triggers=tuple(triggers), health=values.get("health"))


def schema() -> dict[str, Any]:
    """The JSON Schema of ``triggers.yaml``, as docs/reference/triggers.schema.json publishes it for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "triggers.yaml of crossfade trigger",
        **json_schema(SHAPE),
    }


def configure(kind: str, name: str, values: Mapping[str, Any]) -> Configured:
    """A trigger of this kind from plain values: one of its keys in the file, with ``tenant`` and ``user`` beside them.

    Raises ``ConfigurationError`` whose ``where`` is the key.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is no trigger's name: use a-z, 0-9 and _, 63 at most")
    return _MAKERS[kind](name, values)


def _trigger(document: Document, keys: Keys, name: str, values: dict[str, Any] | None) -> Configured | None:
    if values is None:
        return None
    kinds = [kind for kind in KINDS if kind in values]
    if len(kinds) != 1:
        if not document.mistakes:
            document.mistake(
                keys, f"`{name}` must be one of {', '.join(KINDS)}, and is {' and '.join(kinds) or 'none'}"
            )
        return None
    kind = kinds[0]
    if values[kind] is None or document.mistakes:
        return None
    settings: dict[str, Any] = {**values[kind], **_given(values, "tenant", "user")}
    try:
        return configure(kind, name, settings)
    except ConfigurationError as error:
        where, text = error.where, str(error)
        document.mistake((*keys, kind, where) if where else keys, text.removeprefix(f"{where}: "))
        return None


def _given(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of ``names`` that somebody set: the adapter knows its own defaults."""
    return {name: values[name] for name in names if values.get(name) is not None}


def _webhook(name: str, values: Mapping[str, Any]) -> Configured:
    scheme = cast("Scheme", values["scheme"])
    settings = Webhook(
        path=values.get("path") or f"/{name}",
        scheme=scheme,
        secrets=tuple(read_secret(scheme, secret(text)) for text in values["secret"]),
        **_given(values, "max_bytes", "tolerance", "remember", "tenant", "user"),
    )
    return Configured(name=name, settings=settings, listen=_address(values.get("listen") or "127.0.0.1:8070"))


_MAKERS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Configured]]] = {"webhook": _webhook}


def secret(text: str, *, where: str = "secret") -> str:
    """The secret that ``env:NAME`` or ``file:PATH`` names. Raises ``ConfigurationError``, which never shows it."""
    kind, _, name = text.partition(":")
    if kind == "env" and name:
        found = os.environ.get(name, "")
        if not found:
            raise ConfigurationError(f"the environment has no {name}: set it to the secret", where=where)
        return found
    if kind == "file" and name:
        try:
            return Path(name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the secret's file cannot be read: {error}", where=where) from error
    raise ConfigurationError("name the secret as env:NAME or file:PATH, and never write it down here", where=where)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is no HOST:PORT: use one like 127.0.0.1:8070", where="listen")
    return host, int(port)
