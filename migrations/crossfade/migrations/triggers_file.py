"""``triggers.yaml``: which ways in a process opens, as the adapters' own settings. Pure, but for reading files.

Secrets are named, never written down: ``env:NAME`` or ``file:PATH``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from crossfade.adapters.triggers.cron import Times
from crossfade.adapters.triggers.files import Folder
from crossfade.adapters.triggers.mqtt import Subscription
from crossfade.adapters.triggers.schedule import Schedule
from crossfade.adapters.triggers.signatures import SCHEMES, Scheme, read_secret
from crossfade.adapters.triggers.smtp import MailBox
from crossfade.adapters.triggers.starting import Start
from crossfade.adapters.triggers.topics import Topics
from crossfade.adapters.triggers.webhook import Webhook
from crossfade.proxy.documents import Document, read_document
from crossfade.shim.errors import ConfigurationError, SeamDefinitionError
from crossfade.shim.subjects import check_seam

from .triggers_shape import KINDS, SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.proxy.documents import Keys

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,62}\Z")

Settings: TypeAlias = Webhook | MailBox | Schedule | Folder | Subscription

_TYPES: Final[Mapping[type, str]] = {
    Webhook: "webhook.received",
    MailBox: "email.received",
    Schedule: "schedule.fired",
    Folder: "file.created",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Configured:
    """One trigger; ``listen`` is where a webhook's server does, which several may share."""

    name: str
    settings: Settings
    listen: tuple[str, int] | None = None
    start: Start | None = None

    @property
    def type(self) -> str:
        """The type of its facts."""
        return self.settings.type if isinstance(self.settings, Subscription) else _TYPES[type(self.settings)]


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggersFile:
    """What a file says."""

    triggers: tuple[Configured, ...]
    modules: tuple[str, ...] = ()
    health: str | None = None


def load_triggers(file: str) -> TriggersFile:
    """Read ``file``. Raises ``FileError`` with every mistake as file:line:column, ``MissingExtraError``."""
    document = read_document(file, SHAPE)
    values = cast("dict[str, Any]", document.values or {})
    named = cast("dict[str, Any]", values.get("triggers") or {})
    shaped = not document.mistakes
    triggers = [
        made
        for name, trigger in named.items()
        if shaped and (made := _trigger(document, ("triggers", name), name, trigger)) is not None
    ]
    if not named and shaped:
        document.mistake(("triggers",), "there is no trigger here")
    document.check()
    return TriggersFile(
        triggers=tuple(triggers), modules=tuple(values.get("modules") or ()), health=values.get("health")
    )


def configure(kind: str, name: str, values: Mapping[str, Any]) -> Configured:
    """A trigger of this kind from plain values: one of its keys in the file, with ``tenant`` and ``user`` beside them.

    Raises ``ConfigurationError`` whose ``where`` is the key.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is no trigger's name: use a-z, 0-9 and _, 63 at most")
    return _MAKERS[kind](name, values)


def _trigger(document: Document, keys: Keys, name: str, values: dict[str, Any]) -> Configured | None:
    kinds = [kind for kind in KINDS if kind in values]
    if len(kinds) != 1:
        is_ = " and ".join(kinds) or "none"
        document.mistake(keys, f"`{name}` must be one of {', '.join(KINDS)}, and is {is_}")
        return None
    settings: dict[str, Any] = {**values[kinds[0]], **_given(values, "tenant", "user")}
    start: dict[str, Any] | None = values.get("start")
    try:
        made = configure(kinds[0], name, settings)
        if start is None:
            return made
        return replace(made, start=Start(seam=check_seam(start["seam"]), arguments=start.get("arguments") or {}))
    except SeamDefinitionError as error:
        document.mistake((*keys, "start", "seam"), str(error))
        return None
    except ConfigurationError as error:
        place = (*keys, kinds[0], error.where) if error.where else keys
        document.mistake(place, str(error).removeprefix(f"{error.where}: "))
        return None


def _given(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of ``names`` that somebody set: the adapter knows its own defaults."""
    return {name: values[name] for name in names if values.get(name) is not None}


def _webhook(name: str, values: Mapping[str, Any]) -> Configured:
    if values["scheme"] not in SCHEMES:
        raise ConfigurationError(f"{values['scheme']!r} is none of {', '.join(SCHEMES)}", where="scheme")
    scheme: Scheme = values["scheme"]
    settings = Webhook(
        path=values.get("path") or f"/{name}",
        scheme=scheme,
        secrets=tuple(read_secret(scheme, _secret(text)) for text in values["secret"]),
        **_given(values, "max_bytes", "tolerance", "remember", "tenant", "user"),
    )
    return Configured(name=name, settings=settings, listen=_address(values.get("listen") or "127.0.0.1:8070"))


def _smtp(name: str, values: Mapping[str, Any]) -> Configured:
    users: Mapping[str, str] = values.get("users") or {}
    files: dict[str, Any] = {key: Path(values[key]) for key in ("certificate", "key") if values.get(key)}
    settings = MailBox(
        recipients=tuple(values["recipients"]),
        listen=_address(values.get("listen") or "127.0.0.1:8025"),
        users={user: _secret(text, where="users").encode() for user, text in users.items()},
        **files,
        **_given(values, "hostname", "max_bytes", "require_tls", "remember", "tenant", "user"),
    )
    return Configured(name=name, settings=settings)


def _schedule(name: str, values: Mapping[str, Any]) -> Configured:
    times = Times(cron=values.get("cron"), at=_moment(values.get("at")), **_given(values, "zone"))
    return Configured(name=name, settings=Schedule(times=times, **_given(values, "catch_up", "tenant", "user")))


def _files(name: str, values: Mapping[str, Any]) -> Configured:
    lists: dict[str, Any] = {key: tuple(values[key]) for key in ("patterns", "ignore") if values.get(key)}
    settings = Folder(
        directory=Path(values["directory"]),
        **lists,
        **_given(values, "settle", "recursive", "content", "max_bytes", "tenant", "user"),
    )
    return Configured(name=name, settings=settings)


def _mqtt(name: str, values: Mapping[str, Any]) -> Configured:
    settings = Subscription(
        url=values["url"],
        topics=tuple(Topics(text) for text in values["topics"]),
        client_id=values.get("client_id") or f"crossfade-{name}",
        password=_secret(values["password"], where="password").encode() if values.get("password") else None,
        ca=Path(values["ca"]) if values.get("ca") else None,
        **_given(values, "username", "type", "tenant", "user"),
    )
    return Configured(name=name, settings=settings)


_MAKERS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Configured]]] = {
    "webhook": _webhook,
    "smtp": _smtp,
    "schedule": _schedule,
    "files": _files,
    "mqtt": _mqtt,
}


def _secret(text: str, *, where: str = "secret") -> str:
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


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time: write 2026-12-24T18:00:00+01:00", where="at") from None
