"""Signatures of app functions: which parameters are arguments, and what a JSON schema means as a Python signature.

A JSON schema is translated completely or refused: a keyword that is not understood would be a check that nobody makes.
"""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NotRequired

from agentos.errors import Invalid

__all__ = ["from_json_schema", "takes_context", "without_bound"]

_ANNOTATIONS: Final = frozenset(
    {"title", "description", "$schema", "$id", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "format"}
)
_SIMPLE: Final[dict[str, Any]] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "null": None, "array": list, "object": dict,
}  # fmt: skip
_LIMITS: Final = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
    "minLength": "min_length", "maxLength": "max_length", "pattern": "pattern", "minItems": "min_length", "maxItems": "max_length",
}  # fmt: skip
_FOR_TYPE: Final = {
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
_DEPTH_MAX: Final = 32


def takes_context(function: Callable[..., Any], context: type, op: str, *, is_declared: bool = False) -> bool:
    """Say whether the first parameter of `function` is the call's context: named ``ctx``, or annotated with its type.

    Args:
        function: The function.
        context: Type of the context.
        op: Name of the op, for messages.
        is_declared: A schema names the arguments, so that the function may take them as ``**kwargs``.

    Raises:
        Invalid: `invalid.op`, a parameter cannot be an argument (``*args``, ``**kwargs``, positional-only).
    """
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if is_declared and parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            message = f"`{op}` has a parameter `{parameter}` that cannot be an argument"
            raise Invalid("op", message, field=op, hint="name every argument")
    first = parameters[0] if parameters else None
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return False
    annotation = first.annotation
    spelled = annotation if isinstance(annotation, str) else ""
    return first.name == "ctx" or annotation is context or spelled.strip("'\"").rpartition(".")[2] == context.__name__


def without_bound(function: Any) -> Any:
    """Return a `functools.partial` as a function of the arguments that it leaves open; anything else as it is.

    What it binds is the app's: a caller can neither see nor replace it, by name either.
    """
    if not isinstance(function, functools.partial):
        return function
    inner, bound = function.func, function.keywords
    parameters = [parameter for name, parameter in inspect.signature(function).parameters.items() if name not in bound]

    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    async def call_async(*args: Any, **options: Any) -> Any:
        return await function(*args, **options)

    made: Any = functools.update_wrapper(call_async if inspect.iscoroutinefunction(inner) else call, inner)
    made.__signature__ = inspect.Signature(parameters)
    return made


def from_json_schema(op: str, schema: Mapping[str, Any], doc: str) -> tuple[Callable[..., Any], frozenset[str]]:
    """Return a function with the signature that a JSON schema of arguments describes, and the arguments that may be left out.

    Understood: types string, integer, number, boolean, null, array, object (nested) and lists of them, `properties`, `required`,
    `default`, `enum`, `const`, `items`, `additionalProperties`, lengths, bounds, `pattern`, `anyOf` and `oneOf` (one of several types),
    `$ref` into `$defs` (not to itself), and annotations such as `description` and `format`.
    An argument without default that is not required is None when it is left out.

    Args:
        op: Name of the op, for messages.
        schema: JSON schema of type object.
        doc: Docstring of the op; the schema's description when empty.

    Raises:
        Invalid: `invalid.op` naming what is not understood.
    """
    schema = _inlined(op, schema)
    _only(op, schema, {"type", "properties", "required", "additionalProperties"}, "the schema")
    if schema.get("type", "object") != "object" or schema.get("additionalProperties", False) is not False:
        raise _refuse(op, "the schema must be an object without other properties than the named ones")
    properties, required = _members(op, schema, "the schema")
    parameters: list[inspect.Parameter] = []
    hints: dict[str, Any] = {"return": Any}
    optional: set[str] = set()
    for name, inner in sorted(properties.items(), key=lambda item: item[0] not in required or "default" in item[1]):
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise _refuse(op, f"the property `{name}` cannot be an argument name")
        hints[name] = _type(op, inner, name)
        default = inner.get("default", None if name not in required else inspect.Parameter.empty)
        if name not in required and "default" not in inner:
            if not _takes_null(inner):
                optional.add(name)
            hints[name] = hints[name] | None
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]))

    def signature() -> None: ...

    signature.__doc__ = doc or schema.get("description", "")
    signature.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    signature.__annotations__ = hints
    return signature, frozenset(optional)


def _inlined(op: str, schema: Any) -> Any:
    """Return a schema with every reference replaced by what it names."""
    if not isinstance(schema, Mapping):
        return schema
    named = {
        f"#/{group}/{name}": inner for group in ("$defs", "definitions") for name, inner in (schema.get(group) or {}).items()
    }

    def inline(node: Any, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise _refuse(op, f"the schema refers to itself, or is nested deeper than {_DEPTH_MAX}")
        if isinstance(node, list):
            return [inline(item, depth + 1) for item in node]
        if not isinstance(node, Mapping):
            return node
        if "$ref" not in node:
            return {word: inline(inner, depth + 1) for word, inner in node.items()}
        if node["$ref"] not in named:
            raise _refuse(op, f"`{node['$ref']}` names no part of the schema")
        beside = {word: inner for word, inner in node.items() if word != "$ref"}
        return {**inline(named[node["$ref"]], depth + 1), **inline(beside, depth + 1)}

    return inline({word: inner for word, inner in schema.items() if word not in ("$defs", "definitions")}, 0)


def _refuse(op: str, why: str) -> Invalid:
    return Invalid("op", f"`{op}`: {why}", field=op, hint="simplify the schema, or wrap the function with typed parameters")


def _only(op: str, schema: Any, known: set[str], where: str) -> None:
    if not isinstance(schema, Mapping):
        raise _refuse(op, f"{where} is not a JSON schema")
    for word in schema:
        if word not in known and word not in _ANNOTATIONS:
            raise _refuse(op, f"`{word}` in {where} is not understood")


def _members(op: str, schema: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], frozenset[str]]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        raise _refuse(op, f"`properties` or `required` of {where} is malformed")
    for name in required:
        if name not in properties:
            raise _refuse(op, f"`{name}` is required by {where} but not among its properties")
    return properties, frozenset(required)


def _type(op: str, schema: Any, where: str, depth: int = 0) -> Any:
    """Return the Python type of one JSON schema."""
    if depth > _DEPTH_MAX:
        raise _refuse(op, f"`{where}` is nested deeper than {_DEPTH_MAX}")
    if not isinstance(schema, Mapping):
        raise _refuse(op, f"`{where}` is not a JSON schema")
    if "enum" in schema or "const" in schema:
        return _literal(op, schema, where)
    if "anyOf" in schema or "oneOf" in schema:
        return _alternatives(op, schema, where, depth)
    kinds = schema.get("type")
    names: list[Any] = kinds if isinstance(kinds, list) else [kinds]
    if not names or any(not isinstance(name, str) or name not in _SIMPLE for name in names):
        raise _refuse(op, f"`{where}` has no type that is understood")
    known = set().union(*(_FOR_TYPE.get(name, set()) for name in names))
    _only(op, schema, known | {"type", "default"}, f"`{where}`")
    joined = _one(op, schema, where, names[0], depth)
    for name in names[1:]:
        joined |= _one(op, schema, where, name, depth)
    return joined


def _alternatives(op: str, schema: Mapping[str, Any], where: str, depth: int) -> Any:
    word = "anyOf" if "anyOf" in schema else "oneOf"
    _only(op, schema, {word, "default"}, f"`{where}`")
    choices = schema[word]
    if not isinstance(choices, list) or not choices:
        raise _refuse(op, f"`{word}` of `{where}` must list schemas")
    joined = _type(op, choices[0], where, depth + 1)
    for choice in choices[1:]:
        joined |= _type(op, choice, where, depth + 1)
    return joined


def _takes_null(schema: Mapping[str, Any]) -> bool:
    choices = schema.get("anyOf") or schema.get("oneOf") or ()
    return "null" in schema.get("type", "") or None in schema.get("enum", ()) or any(_takes_null(choice) for choice in choices)


def _literal(op: str, schema: Mapping[str, Any], where: str) -> Any:
    _only(op, schema, {"type", "default", "enum", "const"}, f"`{where}`")
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list) or not values or any(type(value) not in (str, int, bool, type(None)) for value in values):
        raise _refuse(op, f"`enum` of `{where}` must list texts, whole numbers, true, false or null")
    return Literal[tuple(values)]


def _one(op: str, schema: Mapping[str, Any], where: str, name: str, depth: int) -> Any:
    from pydantic import Field  # noqa: PLC0415 - heavy, and only needed where a schema is

    limits = {_LIMITS[word]: schema[word] for word in _FOR_TYPE.get(name, set()) & _LIMITS.keys() & schema.keys()}
    made: Any = _SIMPLE[name]
    if name == "array" and "items" in schema:
        made = list[_type(op, schema["items"], f"{where}[]", depth + 1)]  # type: ignore[misc]
    elif name == "object" and "properties" in schema:
        made = _object(op, schema, where, depth)
    elif name == "object":
        _only_free(op, schema, where)
        made = dict[str, Any]
    return Annotated[made, Field(**limits)] if limits else made


def _only_free(op: str, schema: Mapping[str, Any], where: str) -> None:
    if schema.get("required") or schema.get("additionalProperties", True) is not True:
        raise _refuse(op, f"`{where}` is an object without properties but with rules for them")


def _object(op: str, schema: Mapping[str, Any], where: str, depth: int) -> Any:
    """Return a typed dict: values stay plain data, so that digest and journal see what the caller gave."""
    import typing_extensions  # noqa: PLC0415 - pydantic's own dependency; it takes no other TypedDict before Python 3.12
    from pydantic import ConfigDict  # noqa: PLC0415 - heavy, and only needed where a schema is

    more = schema.get("additionalProperties", True)
    if not isinstance(more, bool):
        raise _refuse(op, f"`additionalProperties` of `{where}` must be true or false")
    properties, required = _members(op, schema, f"`{where}`")
    fields: dict[str, Any] = {}
    for name, inner in properties.items():
        if isinstance(inner, Mapping) and "default" in inner:
            raise _refuse(op, f"`default` of `{where}.{name}` is not understood inside an object")
        made = _type(op, inner, f"{where}.{name}", depth + 1)
        fields[name] = made if name in required else NotRequired[made]
    typed_dict: Any = typing_extensions.TypedDict
    made_type = typed_dict(where.replace(".", "_").replace("[]", "_item"), fields)
    made_type.__pydantic_config__ = ConfigDict(extra="allow" if more else "forbid")
    return made_type
