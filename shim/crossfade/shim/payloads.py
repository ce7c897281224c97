"""Arguments and results as JSON, typed by the function's own signature. Never pickle.

What cannot come back as it went is refused by name (``UnserialisableError``), because a bus that changes a
value silently is worse than one that does not carry it. pydantic is imported here, when the first codec is
built, and not before.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections import OrderedDict, abc
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, Final, NotRequired, cast

from pydantic import ConfigDict, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypedDict  # pydantic's own requirement below Python 3.12

from .errors import SeamDefinitionError, UnserialisableError
from .fidelity import is_same
from .iterators import refuse_iterators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONFIG: Final = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",
    extra="ignore",  # a caller of the next version may send parameters we do not know
)
_UNEXPECTED: Final = re.compile(r"Expected `(.*?)`.*?field_name='(.*?)'.*input_type=([^],]+)", re.DOTALL)
_typed_dict: Final[Any] = TypedDict  # made at run time, which no type checker can follow


class SignatureCodec:
    """Encodes calls of one function. Raises ``SeamDefinitionError`` when its annotations cannot be resolved.

    ``secret`` names parameters whose values never travel in clear; they are left out of ``encode`` and carried
    by ``encode_secrets``. ``skip_first``: the first parameter is ``self`` or ``cls`` and never crosses. A
    generator's "result" is one item of it. ``read_once`` are the parameters whose type admits an iterator: a list
    crosses, an iterator never does.
    """

    def __init__(
        self, function: Callable[..., Any], *, secret: frozenset[str] = frozenset(), skip_first: bool = False
    ) -> None:
        self.signature = _without_first(inspect.signature(function)) if skip_first else inspect.signature(function)
        hints = _hints(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            hints["return"] = _item(hints.get("return", Any))
        parameters = self.signature.parameters
        self._names = tuple(parameters) if all(map(_is_plain_parameter, parameters.values())) else None
        self._required = frozenset(name for name, each in parameters.items() if each.default is each.empty)
        for name in secret - parameters.keys():
            raise SeamDefinitionError(f"secret names {name!r}, which {function.__qualname__} does not take")
        self.secret = secret | {name for name in parameters if _is_secret(hints.get(name))}
        self.read_once = frozenset(name for name in parameters if _may_be_read_once(hints.get(name)))
        self._fields = {name: _field(parameter, hints) for name, parameter in parameters.items()}
        self._returned = _listed(_unwrap_return(hints.get("return", Any)))
        arguments = _payload({name: hint for name, hint in self._fields.items() if name not in self.secret})
        self._arguments = _adapter(arguments, function)
        self._command = _adapter(_payload({"arguments": arguments, "sealed": dict[str, str]}), function)
        self._secrets = {name: _adapter(_payload({name: self._fields[name]}), function) for name in self.secret}
        self._result = _adapter(_payload({"value": self._returned}), function)

    @property
    def shape(self) -> dict[str, Any]:
        """What a handler must have in common: each parameter's kind, type and whether required, and ``return``."""
        shape: dict[str, Any] = {
            name: (parameter.kind, self._fields[name], parameter.default is parameter.empty)
            for name, parameter in self.signature.parameters.items()
        }
        return {**shape, "return": self._returned}

    def schemas(self, ref_template: str = "#/$defs/{model}") -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON Schemas (draft 2020-12): of the clear arguments as a worker reads them, and of what it writes as value.

        A generator's value is one item of it. What they share lies under ``$defs``, referred to by ``ref_template``.
        """
        arguments = _inlined(self._arguments.json_schema(ref_template=ref_template))
        required = [
            name
            for name, each in self.signature.parameters.items()
            if name in self._required - self.secret and not _is_variable(each)
        ]
        arguments = {**arguments, **({"required": required} if required else {})}
        result = _inlined(self._result.json_schema(mode="serialization", ref_template=ref_template))
        value = result.get("properties", {}).get("value", {})
        return arguments, {**value, **({"$defs": result["$defs"]} if "$defs" in result else {})}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameter name -> value, as given (defaults are left to the body). ``TypeError`` as Python raises it."""
        if self._names is not None and len(args) + len(kwargs) <= len(self._names):  # a fifth of what `inspect` takes
            bound = dict(zip(self._names, args, strict=False))
            bound.update((name, kwargs[name]) for name in self._names[len(args) :] if name in kwargs)
            if len(bound) == len(args) + len(kwargs) and bound.keys() >= self._required:
                return bound
        return self.signature.bind(*args, **kwargs).arguments

    def encode(self, bound: Mapping[str, Any], *, plain: bool = False) -> bytes:
        """The non-secret arguments as a JSON object. Fast, and unchecked: see ``encode_faithfully``.

        ``plain``: they are known to hold no iterator, as Python's own plain types do not.
        """
        clear = {name: value for name, value in bound.items() if name not in self.secret} if self.secret else bound
        if not plain:
            for name, value in clear.items():
                refuse_iterators(value, name)
        try:
            return _dump(self._arguments, clear)
        except UnserialisableError as error:
            raise error if error.what else self._named(clear, error) from None

    def _named(self, clear: Mapping[str, Any], error: UnserialisableError) -> UnserialisableError:
        """``error`` with the first argument that alone fails as the whole did, which pydantic does not always say."""
        for name, value in clear.items():
            try:
                _dump(self._arguments, {name: value}, what=name)
            except UnserialisableError as named:
                return named
        return error

    def encode_faithfully(self, bound: Mapping[str, Any]) -> bytes:
        """``encode``, checked by ``verify``.

        A model's unset fields are left out, so that they arrive unset; not where a default is made anew each time or
        tells the members of a union apart: there all its fields arrive as set.
        """
        encoded = self.encode(bound)
        partly_set = self.verify(bound, encoded)
        return self._only_set(bound, partly_set) if partly_set else encoded

    def verify(self, bound: Mapping[str, Any], encoded: bytes) -> set[str]:
        """Raise ``UnserialisableError`` naming the first argument that would arrive changed.

        Returns the arguments that would arrive equal, but for which fields of a model were set.
        """
        decoded = self._load(self._arguments, encoded)
        partly_set: set[str] = set()
        for name, value in bound.items():
            if name in self.secret or is_same(decoded.get(name), value, set_fields=True):
                continue
            if not is_same(decoded.get(name), value):
                raise UnserialisableError(_changed(value, decoded.get(name)), what=name)
            partly_set.add(name)
        return partly_set

    def _only_set(self, bound: Mapping[str, Any], partly_set: set[str]) -> bytes:
        """The arguments as JSON, the models in ``partly_set`` without their unset fields where that arrives whole."""
        members = [
            (name in partly_set and self._without_unset(name, value)) or _dump(self._arguments, {name: value})
            for name, value in bound.items()
            if name not in self.secret
        ]
        return b"{" + b",".join(member[1:-1] for member in members) + b"}"

    def _without_unset(self, name: str, value: Any) -> bytes:
        encoded = _dump(self._arguments, {name: value}, only_set=True)
        try:
            arrives = self._load(self._arguments, encoded).get(name)
        except UnserialisableError:
            return b""
        return encoded if is_same(arrives, value, set_fields=True) else b""

    def encode_secrets(self, bound: Mapping[str, Any]) -> dict[str, bytes]:
        """The real value of each secret argument that was given, as JSON, for sealing."""
        given = {name: bound[name] for name in self.secret if name in bound}
        for name, value in given.items():
            refuse_iterators(value, name)
        return {name: _dump_secret(self._secrets[name], name, value) for name, value in given.items()}

    def verify_secrets(self, bound: Mapping[str, Any], encoded: Mapping[str, bytes]) -> None:
        """Raise ``UnserialisableError`` naming the first secret that would arrive changed, as a masked one does."""
        for name, data in encoded.items():
            arrives = self.decode_secret(name, data).get(name)
            if not is_same(arrives, bound[name]):
                raise UnserialisableError(_changed(bound[name], arrives), what=name)

    def decode_command(self, data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
        """The clear arguments and the sealed ones of a command's payload ``{"arguments": ..., "sealed": ...}``.

        Raises ``UnserialisableError`` naming what does not fit the signature.
        """
        command = self._load(self._command, data)
        if "arguments" not in command:
            raise UnserialisableError("the payload has none", what="arguments")
        return command["arguments"], command.get("sealed", {})

    def decode_secret(self, name: str, data: bytes) -> dict[str, Any]:
        """One opened secret argument, ``{name: value}``; empty when the function does not take it any more."""
        return self._load(self._secrets[name], data) if name in self._secrets else {}

    def bound(self, values: dict[str, Any]) -> inspect.BoundArguments:
        """The call to make. Raises ``UnserialisableError`` when a parameter without default is missing."""
        for name, parameter in self.signature.parameters.items():
            if name not in values and parameter.default is parameter.empty and not _is_variable(parameter):
                raise UnserialisableError("is missing, and has no default", what=name)
        ordered = OrderedDict((name, values[name]) for name in self.signature.parameters if name in values)
        return inspect.BoundArguments(self.signature, ordered)

    def encode_result(self, value: Any) -> bytes:
        """``{"value": ...}`` as JSON, checked to come back equal."""
        encoded = self.observe_result(value)
        arrives = self.decode_result(encoded)
        if not is_same(arrives, value):
            raise UnserialisableError(_changed(value, arrives), what="return")
        return encoded

    def observe_result(self, value: Any, *, plain: bool = False) -> bytes:
        """``{"value": ...}`` as JSON, unchecked: an observation describes, it is not executed.

        ``plain``: as in ``encode``.
        """
        if not plain:
            refuse_iterators(value, "return")
        return _dump(self._result, {"value": value}, what="return")

    def decode_result(self, encoded: bytes) -> Any:
        """The value of ``encode_result``."""
        result = self._load(self._result, encoded, what="return")
        if "value" not in result:
            raise UnserialisableError("the result carries no value", what="return")
        return result["value"]

    def _load(self, adapter: TypeAdapter[dict[str, Any]], data: bytes, *, what: str = "") -> dict[str, Any]:
        try:
            # The adapter's None is for its construction only: "null" is no payload.
            return adapter.validate_json(data) or {}
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = what or ".".join(str(part) for part in first["loc"])
            raise UnserialisableError(first["msg"], what=place) from None
        except Exception as error:  # a validator of the user's own failed in another way than by ValueError
            raise UnserialisableError(f"its type's own validation raised {type(error).__name__}", what=what) from error


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _item(hint: Any) -> Any:
    """What a generator yields by its annotation: ``Iterator[T]``, ``AsyncGenerator[T, None]`` and their like."""
    arguments = typing.get_args(hint)
    return arguments[0] if arguments else Any


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise SeamDefinitionError(
            f"the annotations of {function.__qualname__} cannot be resolved ({error}): "
            "import the types at run time, not under TYPE_CHECKING"
        ) from error


def _field(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    hint = _listed(hints.get(parameter.name, Any))
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple.__class_getitem__((hint, ...))
    if parameter.kind is parameter.VAR_KEYWORD:
        return dict.__class_getitem__((str, hint))
    return hint


def _is_plain_parameter(parameter: inspect.Parameter) -> bool:
    """Whether it may be given by its place and by its name."""
    return parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _is_variable(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _listed(hint: Any) -> Any:
    """``hint`` with a list in place of what only says that it can be iterated; pydantic knows no such value."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if (origin or hint) in (abc.Iterable, abc.Collection):
        return list.__class_getitem__(parts or (Any,))
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(lambda one, other: one | other, map(_listed, parts))
    return hint


def _may_be_read_once(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(map(_may_be_read_once, typing.get_args(hint)))
    return origin is abc.Iterable or (isinstance(origin, type) and issubclass(origin, abc.Iterator | typing.IO))


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The object alone of ``_adapter``'s "this object or nothing", beside the definitions it refers to."""
    definitions: dict[str, Any] = dict(schema.get("$defs", {}))
    name = schema["anyOf"][0]["$ref"].rpartition("/")[2].rpartition(".")[2]
    own = {key: value for key, value in definitions.pop(name).items() if key != "title"}
    return {**own, **({"$defs": definitions} if definitions else {})}


def _payload(fields: Mapping[str, Any]) -> Any:
    optional: Any = NotRequired
    return _typed_dict("Payload", {key: optional[hint] for key, hint in fields.items()})


def _adapter(payload: Any, function: Callable[..., Any]) -> TypeAdapter[dict[str, Any]]:
    try:
        # Optional, because pydantic takes no config beside a TypedDict itself, whose own one does not reach bytes.
        return TypeAdapter[Any](cast("Any", payload | None), config=_CONFIG)
    except Exception as error:
        raise SeamDefinitionError(
            f"{_formless(payload)}of {function.__qualname__} has no JSON form: {error}"
        ) from error


def _formless(payload: Any) -> str:
    """Which member of ``payload`` pydantic cannot describe; it does not always say."""
    for name, hint in payload.__annotations__.items():
        try:
            TypeAdapter[Any](cast("Any", _payload({name: typing.get_args(hint)[0]}) | None), config=_CONFIG)
        except Exception:  # the error is being raised already, this is its place
            return f"{name} "
    return "a type in the signature "


def _dump(
    adapter: TypeAdapter[dict[str, Any]], value: Mapping[str, Any], *, what: str = "", only_set: bool = False
) -> bytes:
    given = cast("dict[str, Any]", value)
    try:
        # Without the adapter's own method, whose arguments cost as much as 400 bytes of JSON.
        return adapter.serializer.to_json(given, warnings="error", by_alias=True, exclude_unset=only_set)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise _explained(error, what) from None


def _explained(error: Exception, what: str) -> UnserialisableError:
    """Pydantic's complaint without the value in it, which may be a secret."""
    found = _UNEXPECTED.search(str(error))
    if found:
        return UnserialisableError(f"expected {found[1]}, got {found[3]}", what=what or found[2])
    return UnserialisableError(str(error).partition("input_value")[0].strip(), what=what)


def _dump_secret(adapter: TypeAdapter[dict[str, Any]], name: str, value: Any) -> bytes:
    if isinstance(value, SecretStr | SecretBytes):  # its own serialiser masks the value
        return to_json({name: value.get_secret_value()}, bytes_mode="base64")
    return _dump(adapter, {name: value}, what=name)


def _is_secret(hint: Any) -> bool:
    return any(part in (SecretStr, SecretBytes) for part in (hint, *typing.get_args(hint)))


def _unwrap_return(hint: Any) -> Any:
    return Any if hint in (inspect.Signature.empty, typing.NoReturn, typing.Never) else hint


def _changed(value: Any, arrives: Any) -> str:
    kind, arrived_as = type(value).__name__, type(arrives).__name__
    if isinstance(value, datetime | time) and isinstance(arrives, datetime | time):
        return f"a {kind} in the zone {value.tzinfo} would arrive with an offset only: pass it in UTC"
    changed = f"changed, as a {arrived_as}" if kind != arrived_as else "changed"
    return (
        f"a {kind} would arrive {changed}: annotate its type "
        "(JSON alone has only objects, lists, strings, numbers, true, false and null)"
    )
