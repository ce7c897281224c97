"""Arguments and results as JSON, typed by the function's own signature. Never pickle.

What cannot come back as it went is refused by name (``UnserialisableError``), because a bus that changes a
value silently is worse than one that does not carry it. pydantic is imported here, when the first codec is
built, and not before.
"""

from __future__ import annotations

import inspect
import marshal
import math
import re
import typing
from collections import OrderedDict, abc
from typing import TYPE_CHECKING, Any, Final, NotRequired, cast

from pydantic import ConfigDict, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypedDict  # pydantic's own requirement below Python 3.12

from .errors import SeamDefinitionError, UnserialisableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONFIG: Final = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",
    extra="ignore",  # a caller of the next version may send parameters we do not know
)
_UNEXPECTED: Final = re.compile(r"Expected `(.*?)`.*?field_name='(.*?)'.*input_type=([^],]+)", re.DOTALL)
_LEAVES: Final = frozenset({str, int, float, bool, bytes, type(None)})
_BARE: Final = (Any, object, dict, list, tuple, set, frozenset, abc.Iterable, abc.Collection, abc.Sequence, abc.Mapping)
_MAX_DEPTH: Final = 255  # levels after which pydantic gives up
_typed_dict: Final[Any] = TypedDict  # made at run time, which no type checker can follow


class SignatureCodec:
    """Encodes calls of one function. Raises ``SeamDefinitionError`` when its annotations cannot be resolved.

    ``secret`` names parameters whose values never travel in clear; they are left out of ``encode`` and carried
    by ``encode_secrets``. ``skip_first``: the first parameter is ``self`` or ``cls`` and never crosses. A
    generator's "result" is one item of it.
    """

    def __init__(
        self, function: Callable[..., Any], *, secret: frozenset[str] = frozenset(), skip_first: bool = False
    ) -> None:
        self.signature = _without_first(inspect.signature(function)) if skip_first else inspect.signature(function)
        hints = _hints(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            hints["return"] = _item(hints.get("return", Any))
        parameters = self.signature.parameters
        for name in secret - parameters.keys():
            raise SeamDefinitionError(f"secret names {name!r}, which {function.__qualname__} does not take")
        self.secret = secret | {name for name in parameters if _is_secret(hints.get(name))}
        self._fields = {name: _field(parameter, hints) for name, parameter in parameters.items()}
        self._opaque = {name for name in parameters if _is_opaque(self._fields[name]) or _is_variable(parameters[name])}
        self._returned = _unwrap_return(hints.get("return", Any))
        self._opaque_result = _is_opaque(hints.get("return", Any))
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

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameter name -> value, as given (defaults are left to the body). ``TypeError`` as Python raises it."""
        return self.signature.bind(*args, **kwargs).arguments

    def encode(self, bound: Mapping[str, Any]) -> bytes:
        """The non-secret arguments as a JSON object. Fast; whether they come back equal is ``verify``'s question."""
        clear = {name: value for name, value in bound.items() if name not in self.secret} if self.secret else bound
        for name, value in clear.items():
            _keep_iterators(value, name, deep=name in self._opaque)
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

    def verify(self, bound: Mapping[str, Any], encoded: bytes) -> None:
        """Raise ``UnserialisableError`` naming the first argument that would arrive changed."""
        decoded = self._load(self._arguments, encoded)
        for name, value in bound.items():
            if name not in self.secret and not _same(decoded.get(name), value):
                raise UnserialisableError(_changed(value), what=name)

    def encode_secrets(self, bound: Mapping[str, Any]) -> dict[str, bytes]:
        """The real value of each secret argument that was given, as JSON, for sealing."""
        given = {name: bound[name] for name in self.secret if name in bound}
        for name, value in given.items():
            _keep_iterators(value, name, deep=name in self._opaque)
        return {name: _dump_secret(self._secrets[name], name, value) for name, value in given.items()}

    def verify_secrets(self, bound: Mapping[str, Any], encoded: Mapping[str, bytes]) -> None:
        """Raise ``UnserialisableError`` naming the first secret that would arrive changed, as a masked one does."""
        for name, data in encoded.items():
            if not _same(self.decode_secret(name, data).get(name), bound[name]):
                raise UnserialisableError(_changed(bound[name]), what=name)

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
        if not _same(self.decode_result(encoded), value):
            raise UnserialisableError(_changed(value), what="return")
        return encoded

    def observe_result(self, value: Any) -> bytes:
        """``{"value": ...}`` as JSON, unchecked: an observation describes, it is not executed."""
        _keep_iterators(value, "return", deep=self._opaque_result)
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
    hint = hints.get(parameter.name, Any)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple.__class_getitem__((hint, ...))
    if parameter.kind is parameter.VAR_KEYWORD:
        return dict.__class_getitem__((str, hint))
    return hint


def _is_variable(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _is_opaque(hint: Any) -> bool:
    """Whether values of this type may hold anything, an open file among them."""
    parts = typing.get_args(hint)
    bare = typing.get_origin(hint) or hint
    return any(map(_is_opaque, parts)) if parts else any(bare is kind for kind in _BARE)


def _keep_iterators(value: Any, what: str, *, deep: bool) -> None:
    """Refuse an iterator (a generator, an open file): serialising uses it up, and the body would find it empty.

    Looks into plain containers when ``deep``.
    """
    if type(value) in _LEAVES or (deep and _is_plain(value)):
        return
    found = _iterator_in(value, _MAX_DEPTH if deep else 0)
    if found is not None:
        raise UnserialisableError(f"a {found} can be read only once, and the body needs it", what=what)


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is made of Python's own plain types; measured, 5 times faster than walking through it."""
    try:
        marshal.dumps(value, 0)
    except ValueError:
        return False
    return True


def _iterator_in(value: Any, depth: int) -> str | None:
    """The type's name of the first iterator in ``value``, ``depth`` levels of plain containers below it."""
    kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]
    if hasattr(kind, "__next__"):
        return kind.__name__
    items: Any = value.values() if kind is dict else value if kind in (list, tuple, set, frozenset) else ()
    return next((found for item in items if depth and (found := _iterator_in(item, depth - 1))), None)


def _payload(fields: Mapping[str, Any]) -> Any:
    optional: Any = NotRequired
    return _typed_dict("Payload", {key: optional[hint] for key, hint in fields.items()})


def _adapter(payload: Any, function: Callable[..., Any]) -> TypeAdapter[dict[str, Any]]:
    try:
        # Optional, because pydantic takes no config beside a TypedDict itself, whose own one does not reach bytes.
        return TypeAdapter[Any](cast("Any", payload | None), config=_CONFIG)
    except Exception as error:
        raise SeamDefinitionError(
            f"a type in the signature of {function.__qualname__} has no JSON form: {error}"
        ) from error


def _dump(adapter: TypeAdapter[dict[str, Any]], value: Mapping[str, Any], *, what: str = "") -> bytes:
    try:
        return adapter.dump_json(cast("dict[str, Any]", value), warnings="error", by_alias=True)
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


def _changed(value: Any) -> str:
    return (
        f"a {type(value).__name__} would arrive changed: annotate its type "
        "(JSON alone has only objects, lists, strings, numbers, true, false and null)"
    )


def _same(left: Any, right: Any) -> bool:
    """Equality that also holds for NaN, and tells a list from a tuple and a value from another type."""
    if type(left) is not type(right):
        # A whole number is a float to whoever asks for one.
        return type(left) is float and type(right) is int and left == right
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict):
        left, right = cast("tuple[dict[Any, Any], dict[Any, Any]]", (left, right))
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        left, right = cast("tuple[list[Any], list[Any]]", (left, right))
        return len(left) == len(right) and all(map(_same, left, right))
    try:
        return bool(left == right)
    except Exception:
        return False  # a type that cannot be compared cannot be known to arrive unchanged
