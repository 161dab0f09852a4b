"""One restriction of Progent on one argument -> a condition of the privilege language.

A restriction is a JSON schema, or a text that `re.match` takes. Progent validates values that are given and skips arguments that are not.
Its conditions are two-valued, so where an argument may be left out the condition says what that means.

    safe     a missing argument satisfies no allow and every deny; in an allow patterns are of the whole text
    compat   as Progent: a missing argument satisfies everything, patterns are searched for

What cannot be said is `Refused` by name. A schema that is none is `Malformed`: Progent takes it for one that is never satisfied.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from agentos.abi.op import Op, closest
from agentos.policy.attributes import Attribute, Type, attribute_of
from agentos.policy.lexer import DIGITS_MAX
from agentos.policy.problems import At, Refusal
from agentos.policy.progent.regex import Alternative, Bias, Untranslatable, flipped, pattern_alternatives
from agentos.policy.progent.shape import Malformed, check_shape
from agentos.policy.syntax import And, Expr, Literal, Not, Or, Test
from agentos.policy.unparse import quoted

__all__ = ["Condition", "Refused", "Reporter", "conjunction", "disjunction", "negation", "restriction"]

Condition = Expr | bool
"""A condition, or what it comes to whatever the call is."""
Reporter = Callable[[str, str, str], None]
"""Takes a doubt: its code, what is doubtful, what to do."""

ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"}
)
_STATIC: Final = {"text": "string", "number": "number", "bool": "boolean", "list": "array", "fields": "object"}
_ORDER: Final = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
_FOR: Final = {
    **dict.fromkeys(("pattern", "minLength", "maxLength", "format"), "text"), **dict.fromkeys((*_ORDER, "multipleOf"), "number"),
    **dict.fromkeys(("items", "minItems", "maxItems", "uniqueItems", "contains", "prefixItems"), "list"),
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"), "fields"),
}  # fmt: skip
"""Keyword -> the only kind of value it says something about."""
_HERE: Final = At(1, 1)


class Refused(Exception):
    """A restriction that the language cannot say; the text names it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a schema speaks about: an attribute of an op, or every element of it (`in_list`)."""

    op: Op
    attr: str
    type: Type
    hint: Any
    bias: Bias
    is_compat: bool
    report: Reporter = field(repr=False)
    in_list: bool = False

    def flipped(self) -> Subject:
        """Return the subject under a negation."""
        return replace(self, bias=flipped(self.bias))


def restriction(op: Op, name: str, given: Any, *, bias: Bias, is_compat: bool, report: Reporter) -> Condition:
    """Return the condition that a restriction on the argument `name` of `op` is.

    Raises:
        Refused: the language has no form for it.
        Malformed: it is no schema.
    """
    attribute = attribute_of(op, name, _HERE)
    subject = Subject(op, name, attribute.type, _bare(op.hints[name]), bias, is_compat, report)
    if isinstance(given, str):
        condition = _pattern(given, subject, from_start=True)
    else:
        check_shape(given)
        condition = _schema(given, subject)
    if attribute.resource_kind in ("path", "url") and not isinstance(condition, bool):
        report(
            "canonical", f"`{name}` is a {attribute.resource_kind}", "it is tested in canonical form: a path starts with `/`"
        )
    return _or_absent(condition, attribute, op, subject)


def _or_absent(condition: Condition, attribute: Attribute, op: Op, subject: Subject) -> Condition:
    """Say what a missing argument means, where it may be missing."""
    if isinstance(condition, bool) and condition:
        return True
    if not _may_be_absent(op, attribute.name):
        return condition
    if subject.is_compat or subject.bias != "narrow":
        return disjunction(Test(attribute.name, "absent", (), "", _HERE), condition)
    subject.report(
        "omitted", f"`{attribute.name}` may be left out, and Progent then skips the restriction", "here it has to be given"
    )
    return condition


def _may_be_absent(op: Op, name: str) -> bool:
    return (name in op.defaults and op.defaults[name] is None) or type(None) in typing.get_args(_plain(op.hints[name]))


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _bare(hint: Any) -> Any:
    """Return a type without bounds and without None."""
    hint = _plain(hint)
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    if type(None) in typing.get_args(hint) and len(inner) == 1:
        return _bare(inner[0])
    return hint


# --- conditions --------------------------------------------------------------------------------------------------------------


def negation(item: Condition) -> Condition:
    """Return what is true where `item` is false."""
    if isinstance(item, bool):
        return not item
    return item.item if isinstance(item, Not) else Not(item)


def conjunction(*items: Condition) -> Condition:
    """Return what is true where all of `items` are."""
    if any(item is False for item in items):
        return False
    rest = tuple(dict.fromkeys(item for item in items if not isinstance(item, bool)))
    return True if not rest else rest[0] if len(rest) == 1 else And(rest)


def disjunction(*items: Condition) -> Condition:
    """Return what is true where one of `items` is."""
    if any(item is True for item in items):
        return True
    rest = tuple(dict.fromkeys(item for item in items if not isinstance(item, bool)))
    return False if not rest else rest[0] if len(rest) == 1 else Or(rest)


def _each(condition: Condition, asked: typing.Literal["every", "some"]) -> Condition:
    """Ask a condition of every element of a list, or of some: `every` parts a conjunction, `some` a disjunction."""
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, Test):
        return replace(condition, asked=asked)
    if isinstance(condition, Not):
        return negation(_each(condition.item, "some" if asked == "every" else "every"))
    if isinstance(condition, And) and asked == "every":
        return conjunction(*(_each(item, asked) for item in condition.items))
    if isinstance(condition, Or) and asked == "some":
        return disjunction(*(_each(item, asked) for item in condition.items))
    raise Refused("several alternatives for one element of a list; write one `enum` or `pattern`")


# --- schemas -----------------------------------------------------------------------------------------------------------------


def _schema(schema: Any, subject: Subject) -> Condition:
    if isinstance(schema, bool):
        return schema
    found: list[Condition] = []
    for word, value in schema.items():
        if word in ANNOTATIONS or (word == "$schema" and "2020-12" in str(value)):
            continue
        reader = _READERS.get(word)
        kind = _FOR.get(word)
        if subject.type.kind in ("any", "opaque"):
            raise Refused(f"`{word}`: the op declares no type for `{subject.attr}`")
        if kind is not None and kind != subject.type.kind:
            found.append(_idle(word, subject))
        elif reader is not None:
            found.append(reader(value, subject))
        elif word in _FOR or word in _KNOWN:
            found.append(_ignored_format(subject) if word == "format" else _never(word))
        else:
            found.append(_unknown(word, subject))
    return conjunction(*found)


def _never(word: str) -> Condition:
    raise Refused(f"`{word}` has no form in the language")


def _idle(word: str, subject: Subject) -> Condition:
    """A keyword about another type: a JSON schema is then satisfied."""
    subject.report(
        "ignored-keyword", f"`{word}` says nothing about {subject.type}: Progent takes it for satisfied", "drop or correct it"
    )
    if subject.is_compat or subject.bias == "wide":
        return True
    raise Refused(f"`{word}` says nothing about `{subject.attr}`, which is {subject.type}")


def _ignored_format(subject: Subject) -> Condition:
    subject.report("ignored-keyword", "Progent does not check `format`", "say it with `pattern`")
    if subject.is_compat or subject.bias == "wide":
        return True
    raise Refused("`format` is never checked by Progent; say it with `pattern`")


def _unknown(word: str, subject: Subject) -> Condition:
    hint = closest(word, [*_READERS, *_KNOWN])
    subject.report("ignored-keyword", f"Progent ignores the unknown keyword `{word}`", hint or "drop it")
    if subject.is_compat or subject.bias == "wide":
        return True
    raise Refused(f"`{word}` is no keyword of JSON schema{'; ' + hint if hint else ''}")


def _type(value: Any, subject: Subject) -> Condition:
    names = [value] if isinstance(value, str) else value
    static = _STATIC[subject.type.kind]
    if static in names or ("integer" in names and subject.hint is int):
        return True
    if static == "number" and "integer" in names:
        raise Refused(f"`type: integer`: `{subject.attr}` may be a fraction, and the language has no test for that")
    return False


def _enum(values: Any, subject: Subject) -> Condition:
    kind = subject.type.kind
    fits: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "bool": (bool,)}
    if kind not in fits:
        if any(isinstance(value, list if kind == "list" else dict) for value in values):
            raise Refused("`enum` of whole lists or objects")
        return False
    usable = [value for value in values if isinstance(value, fits[kind]) and (kind == "bool" or not isinstance(value, bool))]
    usable = [value for value in usable if not subject.type.choices or value in subject.type.choices]
    odd = [value for value in usable if isinstance(value, str) and "\n" in value]
    tests: list[Condition] = [_matches(_literal_regex(value), subject) for value in odd]
    plain = tuple(_value(value) for value in usable if value not in odd)
    if plain:
        tests.append(Test(subject.attr, "==" if len(plain) == 1 else "in", plain, "", _HERE))
    return disjunction(*tests)


def _literal_regex(text: str) -> str:
    return "".join(
        {"\n": "\\n"}.get(char, f"\\{char}" if not char.isalnum() and char.isascii() and char > " " else char) for char in text
    )


def _value(value: Any) -> Literal:
    if isinstance(value, bool):
        return Literal("bool", value, "true" if value else "false", _HERE)
    if isinstance(value, str):
        return Literal("text", value, quoted(value), _HERE)
    text = format(Decimal(repr(value)), "f")
    if len(text) > DIGITS_MAX or (float(text) if "." in text else int(text)) != value:
        raise Refused(f"the number {value!r} has more than {DIGITS_MAX} digits")
    return Literal("number", value, text, _HERE)


def _pattern(pattern: Any, subject: Subject, *, from_start: bool = False) -> Condition:
    if subject.type.kind != "text":
        if subject.type.kind in ("any", "opaque"):
            raise Refused(f"a pattern: the op declares no type for `{subject.attr}`")
        return False
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Malformed(f"pattern `{pattern}`: {error}") from error
    whole = not subject.is_compat and subject.bias == "narrow"
    try:
        branches, is_anchored = pattern_alternatives(pattern, subject.bias, anchored=whole, from_start=from_start)
    except Untranslatable as error:
        raise Refused(f"pattern `{pattern}`: {error}") from error
    if not is_anchored:
        hint = "here it has to match the whole text" if whole else "write `^...$`"
        subject.report("unanchored", f"pattern `{pattern}` on `{subject.attr}` matches a part of the text too", hint)
    return disjunction(*(_branch(branch, subject) for branch in branches))


def _branch(branch: Alternative, subject: Subject) -> Condition:
    wanted = (_matches(text, subject) for text in branch.all_of)
    return conjunction(*(negation(_matches(text, subject)) for text in branch.none_of), *wanted)


def _matches(text: str, subject: Subject) -> Condition:
    return Test(subject.attr, "matches", (Literal("text", text, f"/{text}/", _HERE),), "", _HERE)


def _length(value: int, subject: Subject, verb: str) -> Condition:
    if verb == ">=" and value == 0:
        return True
    name = f"{subject.attr}.length"
    try:
        attribute_of(subject.op, name, _HERE)
    except Refusal:
        raise Refused("a bound on the length of this text") from None
    if subject.in_list:
        raise Refused("a bound on the length of an element of a list")
    return Test(name, verb, (_value(value),), "", _HERE)


def _compared(verb: str) -> Callable[[Any, Subject], Condition]:
    return lambda value, subject: Test(subject.attr, verb, (_value(value),), "", _HERE)


def _multiple(value: Any, subject: Subject) -> Condition:
    return True if value == 1 and subject.hint is int else _never("multipleOf")


def _items(schema: Any, subject: Subject) -> Condition:
    inner = subject.type.item or Type("any")
    hint = (typing.get_args(subject.hint) or (Any,))[0]
    return _each(_schema(schema, replace(subject, type=inner, hint=_bare(hint), in_list=True)), "every")


def _min_items(value: int, subject: Subject) -> Condition:
    if value == 0:
        return True
    if value == 1 and subject.type.item is not None and subject.type.item.kind == "text" and not subject.in_list:
        return Test(subject.attr, "like", (Literal("text", "**", '"**"', _HERE),), "some", _HERE)
    raise Refused(f"`minItems: {value}`")


def _max_items(value: int, subject: Subject) -> Condition:
    if value == 0:
        return negation(_min_items(1, subject))
    raise Refused(f"`maxItems: {value}`")


def _properties(value: Mapping[str, Any], subject: Subject) -> Condition:
    found: list[Condition] = []
    for name, schema in value.items():
        attr = f"{subject.attr}.{name}"
        try:
            attribute = attribute_of(subject.op, attr, _HERE)
        except Refusal as refusal:
            raise Refused(f"`properties`: {refusal.message}") from refusal
        inner = _schema(schema, replace(subject, attr=attr, type=attribute.type, hint=None))
        if subject.in_list:
            raise Refused("`properties` of an element of a list")
        skip = Test(attr, "absent", (), "", _HERE)
        found.append(disjunction(skip, inner) if subject.is_compat or subject.bias != "narrow" else inner)
    return conjunction(*found)


def _required(names: Sequence[str], subject: Subject) -> Condition:
    if subject.in_list:
        raise Refused("`required` of an element of a list")
    found: list[Condition] = []
    for name in names:
        try:
            attribute_of(subject.op, f"{subject.attr}.{name}", _HERE)
        except Refusal as refusal:
            raise Refused(f"`required`: {refusal.message}") from refusal
        found.append(Not(Test(f"{subject.attr}.{name}", "absent", (), "", _HERE)))
    return conjunction(*found)


def _additional(value: Any, subject: Subject) -> Condition:
    return True if value is True else _never("additionalProperties")


def _one_of(value: Sequence[Any], subject: Subject) -> Condition:
    return _schema(value[0], subject) if len(value) == 1 else _never("oneOf")


_READERS: Final[dict[str, Callable[[Any, Subject], Condition]]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value, subject: _enum([value], subject),
    "pattern": _pattern,
    "minLength": lambda value, subject: _length(int(value), subject, ">="),
    "maxLength": lambda value, subject: _length(int(value), subject, "<="),
    **{word: _compared(verb) for word, verb in _ORDER.items()},
    "multipleOf": _multiple,
    "items": _items,
    "minItems": _min_items,
    "maxItems": _max_items,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "not": lambda value, subject: negation(_schema(value, subject.flipped())),
    "anyOf": lambda value, subject: disjunction(*(_schema(each, subject) for each in value)),
    "allOf": lambda value, subject: conjunction(*(_schema(each, subject) for each in value)),
    "oneOf": _one_of,
}
_KNOWN: Final = frozenset({
    "if", "then", "else", "$ref", "$defs", "$id", "$anchor", "$dynamicRef", "$schema", "dependentRequired", "dependentSchemas",
    "propertyNames", "unevaluatedItems", "unevaluatedProperties", "minContains", "maxContains", "contentEncoding", "contentMediaType",
    "format", "definitions",
})  # fmt: skip
