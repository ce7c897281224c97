"""Comparison rules in a file of their own: YAML or JSON, paths and what is said of them, as a policy's ``compare``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.comparison import Rules
from crossfade.shim.comparison.normalising import STEPS
from crossfade.shim.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml

    from crossfade.shim.comparison.paths import Path as Place


def read_rules(file: str) -> Rules:
    """The rules of ``file``, whose comparators must be installed.

    Raises ``ConfigurationError`` naming file, line, path and option; ``MissingExtraError`` without pyyaml.
    """
    lines: dict[Place, int] = {}
    found: list[Any] = []
    for path, said, line in _entries(file):
        [rule] = Rules.parse({path: said}, where=f"{file}:{line}: rules").rules
        if rule.place in lines:
            raise ConfigurationError(f'"{path}" has a rule in line {lines[rule.place]} already', where=f"{file}:{line}")
        lines[rule.place] = line
        found.append(rule)
    return Rules(tuple(found))


def add_rules(file: str, said: Mapping[str, Any]) -> None:
    """Write rules at the end of ``file``, which is made where there is none; what stands there stays as it is.

    The file is replaced as a whole or not at all. Raises ``ConfigurationError``: for a path that has a rule already,
    and for a file to whose end nothing can be written, like one of JSON.
    """
    target = Path(file)
    before = read_text(file) if target.exists() else ""
    lines = [f"{json.dumps(path)}: {json.dumps(rule, ensure_ascii=False)}\n" for path, rule in said.items()]
    joined = before if not before or before.endswith("\n") else f"{before}\n"
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        Path(name).write_text(joined + "".join(lines), "utf-8")
        if target.exists():
            read_rules(file)  # what is wrong already is said by its own name and line
        read_rules(name)
        Path(name).chmod(target.stat().st_mode if target.exists() else 0o644)
        Path(name).replace(target)
    except ConfigurationError as error:
        text = str(error).replace(name, file)
        raise ConfigurationError(f"nothing was written: {text}", where=file) from None
    finally:
        Path(name).unlink(missing_ok=True)


def _entries(file: str) -> list[tuple[str, Any, int]]:
    """Path, what is said of it, and its line."""
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("proxy", needed_for=f"reading {file}") from error
    try:
        loader = yaml.SafeLoader(read_text(file))
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigurationError('must be paths with what is said of each, like "$.took_ms": ignore', where=file)
        return [_entry(loader, key, value, file) for key, value in node.value]
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ConfigurationError(f"this is no YAML: {str(error).splitlines()[0]}", where=where) from error


def _entry(loader: yaml.SafeLoader, key: yaml.Node, value: yaml.Node, file: str) -> tuple[str, Any, int]:
    line = key.start_mark.line + 1
    if not isinstance(key.value, str):
        raise ConfigurationError("a path must be a text", where=f"{file}:{line}")
    return key.value, cast("Any", loader).construct_document(value), line


def read_text(file: str) -> str:
    """The text of a file that a person named. Raises ``ConfigurationError``."""
    try:
        return Path(file).read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError("there is no such file", where=file) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=file) from error


# -- for editors -------------------------------------------------------------------------------------------------------

_NUMBER: Final = {"type": "number", "minimum": 0}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1}
_TEXT: Final = {"type": "string", "minLength": 1}
_WORDS: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_STEP: Final = {"enum": list(STEPS)}

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "approx": {"abs": _NUMBER, "rel": _SHARE},
    "exact": {},
    "ignore": {},
    "present": {},
    "regex": {"pattern": _TEXT},
    "semantic": {"by": _TEXT, "at_least": _SHARE},
    "set": {},
    "timestamp": {"within": _NUMBER},
    "type": {},
    "unordered": {"key": _WORDS},
    "uuid": {},
}
"""Each matcher's own options; ``tests/unit/migrations/test_rules_file.py`` compares with what the matchers take."""

NEEDED: Final = {"regex": ["pattern"], "semantic": ["by"], "timestamp": ["within"]}
"""Options without which a matcher says nothing; ``approx`` needs one of its two."""


def schema() -> dict[str, Any]:
    """The JSON Schema of a rules file, as ``docs/reference/comparison-rules.schema.json`` holds it."""
    alone = [name for name in OPTIONS if name not in NEEDED and name != "approx"]
    tables = [_table(name, options) for name, options in OPTIONS.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "comparison rules",
        "type": "object",
        "propertyNames": {"pattern": r"^\$"},
        "additionalProperties": {"anyOf": [{"enum": alone}, *tables]},
    }


def _table(name: str, options: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {
        "type": "object",
        "properties": {"matcher": {"const": name}, **options},
        "required": ["matcher", *NEEDED.get(name, [])],
    }
    if name != "ignore":
        table["properties"]["normalise"] = {"anyOf": [_STEP, {"type": "array", "items": _STEP, "minItems": 1}]}
    if name != "semantic":
        table["additionalProperties"] = False
    if name == "approx":
        table["anyOf"] = [{"required": ["abs"]}, {"required": ["rel"]}]
    return table


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
