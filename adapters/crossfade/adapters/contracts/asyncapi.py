"""An AsyncAPI 3.0 document of seams, from the worker's point of view: it receives commands and sends answers.

Rules
- One channel for each kind of message of a seam; its address is the subject, run and call as parameters.
- Payloads are typed by the seam's own signature. What all seams share has the name ``crossfade.NAME``.
- Schemas are in AsyncAPI's default format, a superset of JSON Schema draft-07, so 2020-12's ``prefixItems`` is
  written as ``items``, and every definition lies under ``components``.

Source: AsyncAPI 3.0.0, sections Channel, Operation, Operation Reply, Message, Schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast
from urllib.parse import urlsplit

from crossfade.shim import schemas
from crossfade.shim.domains import answer_types, command_type, event_types, observed_type, progress_type
from crossfade.shim.subjects import seam_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

    from crossfade.shim.seam import Handler, Seam, SeamDomain

VERSION: Final = "3.0.0"

_REF: Final = "#/components/schemas/{scope}.{{model}}"
_SHARED: Final = "crossfade"
_PROTOCOLS: Final = {"nats": "nats", "tls": "nats", "kafka": "kafka"}
_DOMAINS: Final = ("tool", "agent", "http")
_COUNT: Final = {"type": "object", "properties": {"items": {"type": "integer", "minimum": 0}}}  # they went before it

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """What one seam takes and gives.

    ``arguments`` and ``value`` are JSON Schemas whose definitions lie in ``definitions`` (empty: any JSON).
    ``streams``: the value comes in items, each of that shape.
    """

    seam: str
    domain: SeamDomain
    description: str = ""
    arguments: Mapping[str, Any] | None = None
    value: Mapping[str, Any] | None = None
    definitions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secret: frozenset[str] = frozenset()
    streams: bool = False


def of_seam(seam: Seam | Handler) -> Contract:
    """The contract of a declared function. Raises ``SeamDefinitionError`` when its signature has no JSON form."""
    codec = seam.codec() if callable(seam.codec) else seam.codec
    arguments, value = codec.schemas(_REF.format(scope=seam.name))
    definitions = {**arguments.pop("$defs", {}), **value.pop("$defs", {})}
    return Contract(
        seam=seam.name,
        domain=seam.domain,
        description=(seam.function.__doc__ or "").strip().partition("\n\n")[0],
        arguments=arguments,
        value=value,
        definitions=definitions,
        secret=codec.secret,
        streams=seam.call_kind in ("generator", "async generator"),
    )


def asyncapi(
    contracts: Iterable[Contract], *, title: str, version: str, prefix: str = "cf", server: str = ""
) -> Document:
    """The document of ``contracts``. ``server`` is the bus's URL, of which only scheme and host are told."""
    document: Document = {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version, "description": _ABOUT},
        "defaultContentType": "application/json",
        **({"servers": servers} if (servers := _servers(server)) else {}),
        "channels": {},
        "operations": {},
        "components": {"messages": {}, "schemas": _shared_schemas()},
    }
    for contract in sorted(contracts, key=lambda each: each.seam):
        _describe(document, contract, prefix)
    return document


def payloads(contract: Contract) -> dict[str, Document]:
    """The payload's schema of every event of a seam, by event type, most of it by reference to ``components``."""
    domain = contract.domain
    found = {command_type(domain): _refined("arguments", contract.arguments, command_type(domain))}
    for answer in answer_types(domain):
        found[answer] = _refined("value", _COUNT if contract.streams else contract.value, answer)
    found[progress_type(domain)] = _refined(
        "value", contract.value if contract.streams else None, progress_type(domain)
    )
    return {**found, observed_type(domain): _one_of(_names(observed_type(domain)))}


_ABOUT: Final = (
    "Commands that a worker of these seams receives, and what it sends. Events are CloudEvents 1.0 in binary mode: "
    "attributes are headers. Readers ignore fields and headers that they do not know."
)


def _describe(document: Document, contract: Contract, prefix: str) -> None:
    """Add the channels, operations, messages and schemas of one seam."""
    for name, schema in contract.definitions.items():
        document["components"]["schemas"][f"{contract.seam}.{name}"] = _draft_07(schema)
    for event_type, schema in payloads(contract).items():
        document["components"]["messages"][f"{contract.seam}.{event_type}"] = _message(contract, event_type, schema)
    command, observed, progress = (of(contract.domain) for of in (command_type, observed_type, progress_type))
    channels = {
        "commands": (_call_address(contract, prefix, "invoke"), [command], "receive"),
        "results": (_call_address(contract, prefix, "result"), list(answer_types(contract.domain)), "send"),
        "progress": (_ui_address(prefix, progress), [progress], "send"),
        "observations": (f"{prefix}o.{{tenant}}.{seam_token(contract.seam)}.{{kind}}", [observed], "send"),
    }
    for kind, (address, types, action) in channels.items():
        _add_channel(document, contract, kind, address, types)
        document["operations"][f"{contract.seam}.{kind}"] = _operation(contract, kind, action, types)


def _add_channel(document: Document, contract: Contract, kind: str, address: str, types: list[str]) -> None:
    document["channels"][f"{contract.seam}.{kind}"] = {
        "address": address,
        "messages": {one: {"$ref": f"#/components/messages/{contract.seam}.{one}"} for one in types},
        "parameters": {
            name: {"description": meaning} for name, meaning in _PARAMETERS.items() if f"{{{name}}}" in address
        },
    }


def _operation(contract: Contract, kind: str, action: str, types: list[str]) -> Document:
    """What the worker does with a channel; a command's answer is found through its reply address."""
    channel = f"#/channels/{contract.seam}.{kind}"
    operation: Document = {
        "action": action,
        "channel": {"$ref": channel},
        "summary": f"{_SUMMARIES[kind]} {contract.seam}",
        "messages": [{"$ref": f"{channel}/messages/{one}"} for one in types],
    }
    if kind == "commands":
        results = f"#/channels/{contract.seam}.results"
        operation["reply"] = {
            "channel": {"$ref": results},
            "messages": [{"$ref": f"{results}/messages/{one}"} for one in answer_types(contract.domain)],
        }
    return operation


_SUMMARIES: Final = {
    "commands": "Run",
    "results": "How a call ended, of",
    "progress": "What the page of a run's user sees of",
    "observations": "What legacy did, of",
}
_PARAMETERS: Final = {
    "shard": "Share of the runs, `0` where there is one.",
    "tenant": "Token of the tenant, `-` where there is none.",
    "user": "Token of the user, `-` where there is none.",
    "run": "Token of the run, the attribute `correlationid`.",
    "callid": "Token of the call, the attribute `callid`.",
    "kind": "`shadow` where a worker compares it, else `observed`.",
}


def _call_address(contract: Contract, prefix: str, kind: str) -> str:
    token = seam_token(contract.seam)
    return f"{prefix}.{{shard}}.{{tenant}}.{{user}}.{contract.domain}.{token}.{{run}}.{{callid}}.{kind}"


def _ui_address(prefix: str, event_type: str) -> str:
    return f"{prefix}ui.{{tenant}}.{{user}}.{{run}}.{event_type.replace('.', '-')}"


def _message(contract: Contract, event_type: str, payload: Mapping[str, Any]) -> Document:
    return {
        "name": event_type,
        "title": f"{event_type} of {contract.seam}",
        **({"description": contract.description} if contract.description else {}),
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/ce-correlationid", "description": "The run."},
        "headers": {
            "type": "object",
            "required": ["ce-specversion", "ce-id", "ce-source", "ce-type"],
            "properties": {
                "ce-specversion": {"const": "1.0"},
                "ce-id": {"type": "string"},
                "ce-source": {"type": "string"},
                "ce-type": {"const": event_type},
                "ce-seam": {"const": contract.seam},
                **{
                    f"ce-{name}": {"type": "string", "description": schemas.ATTRIBUTES[name]}
                    for name in ("correlationid", "callid", "tenantid", "userid", "expirytime", "traceparent")
                },
            },
        },
        "payload": _draft_07(payload),
    }


def _refined(name: str, schema: Mapping[str, Any] | None, event_type: str) -> Document:
    """The payload of ``event_type``, its member ``name`` as ``schema`` says where a variant has such a member."""
    variants = [
        {"allOf": [_reference(variant), {"properties": {name: dict(schema)}}]}
        if schema and name in model.model_fields
        else _reference(variant)
        for variant, model in _names(event_type).items()
    ]
    return variants[0] if len(variants) == 1 else {"oneOf": variants}


def _one_of(names: Iterable[str]) -> Document:
    variants = [_reference(name) for name in names]
    return variants[0] if len(variants) == 1 else {"oneOf": variants}


def _names(event_type: str) -> dict[str, type[BaseModel]]:
    return {model.__name__: model for model in schemas.models(event_type)}


def _reference(name: str) -> Document:
    return {"$ref": _REF.format(scope=_SHARED).format(model=name)}


def _shared_schemas() -> Document:
    """Every payload of the events of calls, and what they are made of."""
    models = [
        model for domain in _DOMAINS for event_type in event_types(domain) for model in schemas.models(event_type)
    ]
    template = _REF.format(scope=_SHARED)
    found: Document = {}
    for model in dict.fromkeys(models):
        schema = model.model_json_schema(ref_template=template)
        for name, each in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            found[f"{_SHARED}.{name}"] = _draft_07(each)
    return dict(sorted(found.items()))


def _servers(url: str) -> Document:
    parts = urlsplit(url)
    protocol = _PROTOCOLS.get(parts.scheme)
    if protocol is None or not parts.hostname:
        return {}
    hosts = parts.netloc.rpartition("@")[2]  # never whoever logs in
    return {"bus": {"host": hosts, "protocol": protocol}}


def _draft_07(schema: Mapping[str, Any]) -> Document:
    """``schema`` without what only later drafts know; a definition is never inlined."""
    kept = {key: _draft_07_value(value) for key, value in schema.items() if key != "discriminator"}
    if "prefixItems" in kept:
        kept["items"] = kept.pop("prefixItems")
    return kept


def _draft_07_value(value: Any) -> Any:
    if _is_list(value):
        return [_draft_07_value(each) for each in value]
    return _draft_07(cast("Document", value)) if isinstance(value, dict) else value


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
