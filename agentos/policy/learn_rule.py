"""One learned rule: which resources its calls used, and what bounds their arguments. See `agentos.policy.learn`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from agentos.abi.op import Op
from agentos.abi.resource import Resource, Url
from agentos.errors import Invalid
from agentos.policy.attributes import Type, attribute_of
from agentos.policy.lexer import DIGITS_MAX
from agentos.policy.pattern import compile_pattern
from agentos.policy.problems import At
from agentos.policy.trace import Recorded
from agentos.policy.unparse import quoted

__all__ = ["Draft", "call_key", "draft_of", "expectation", "folder_of", "resource_patterns"]

PINS_MAX: Final = 16
PIN_CHARS_MAX: Final = 200
SIBLINGS_MIN: Final = 3
_HERE: Final = At(1, 1)


@dataclass(frozen=True, slots=True)
class Draft:
    """One rule as text, with the calls that it was made from and the attributes that it tests."""

    text: str
    calls: tuple[Recorded, ...]
    patterns: tuple[str, ...]
    tested: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bound:
    """What one rule says about one argument: a test, or `any` (then `remark` says why)."""

    name: str
    test: str = ""
    remark: str = ""


def call_key(call: Recorded) -> str:
    """Return what two equal calls share and no others do."""
    return repr((call.op.name, call.resource, call.own, sorted(call.args.items(), key=lambda item: item[0])))


def resource_patterns(call: Recorded) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the patterns of a call's resources, and the tests that make them exact; None when no pattern can be written."""
    patterns: list[str] = []
    tests: list[str] = []
    for template, resource in zip(call.op.resources, call.resources, strict=True):
        text, is_exact = _pattern(resource)
        if not _covers(text, resource):
            return None
        patterns.append(text)
        if not is_exact or len(call.resources) > 1:
            tests += [f"{name} == {shown}" for name in template.fields if (shown := _literal(call.args.get(name))) is not None]
    return tuple(dict.fromkeys(patterns)), tuple(tests)


def _pattern(resource: Resource) -> tuple[str, bool]:
    """Return the narrowest pattern that matches a resource, and whether it matches nothing else."""
    if isinstance(resource.value, Url):
        text = resource.text.partition("?")[0]
        return text, text == resource.text and "*" not in text
    if resource.kind == "path":
        text = resource.text.replace("*", "?")
        return text, "?" not in text
    return resource.text, True


def _covers(text: str, resource: Resource) -> bool:
    if "\n" in text or "\f" in text:
        return False
    try:
        return compile_pattern(resource.kind, text).covers(resource)
    except Invalid:
        return False


def draft_of(calls: Sequence[Recorded], *, barred: frozenset[str] | None, pinned: bool) -> Draft:
    """Return the rule for calls of one op that were decided alike.

    Args:
        calls: At least one.
        barred: Folders that are not generalised; in all others SIBLINGS_MIN names become one pattern. None: none is.
        pinned: Test every argument for the very value that was given.
    """
    op = calls[0].op
    found = [made for call in calls if (made := resource_patterns(call)) is not None]
    patterns = tuple(dict.fromkeys(pattern for made, _ in found for pattern in made))
    exact = list(dict.fromkeys(" and ".join(tests) for _, tests in found if tests))
    is_exact = len(exact) == 1 or (exact and all(tests for _, tests in found))
    if barred is not None:
        patterns = _generalised(op, patterns, barred)
    bounds = list(_bounds(op, calls, pinned=pinned))
    tests = [" or ".join(f"({test})" if " and " in test and len(exact) > 1 else test for test in exact)] if is_exact else []
    if len(exact) > 1 and tests:
        tests = [f"({tests[0]})"]
    tests += [bound.test for bound in bounds if bound.test]
    free = [bound.name for bound in bounds if bound.remark]
    words = [calls[0].outcome, op.name, ", ".join(map(quoted, patterns))]
    words += ["when", " and ".join(tests)] if tests else []
    words += ["any", ", ".join(free)] if free and calls[0].outcome != "deny" else []
    tested = tuple(bound.name for bound in bounds if bound.test)
    remarks = tuple(f"{op.name}: {bound.remark}" for bound in bounds if bound.remark)
    return Draft(" ".join(words), tuple(calls), patterns, tested, remarks)


def folder_of(resource: str) -> str:
    """Return the folder of a path or id."""
    return resource.rpartition("/")[0]


def _generalised(op: Op, patterns: Iterable[str], barred: frozenset[str]) -> tuple[str, ...]:
    """Join the names of a folder to ``FOLDER/*``. Only paths and ids have folders."""
    if any(template.kind in ("url", "argv") for template in op.resources) or len(op.resources) > 1:
        return tuple(patterns)
    folders: dict[str, list[str]] = {}
    for pattern in patterns:
        folders.setdefault(folder_of(pattern), []).append(pattern)
    found: list[str] = []
    for folder, names in folders.items():
        joins = len(names) >= SIBLINGS_MIN and folder not in barred and (folder or names[0].startswith("/"))
        found += [f"{folder}/*"] if joins else names
    return tuple(found)


# --- arguments ---------------------------------------------------------------------------------------------------------------


def _bounds(op: Op, calls: Sequence[Recorded], *, pinned: bool) -> Iterator[_Bound]:
    named = {name for template in op.resources for name in template.fields}
    for name in op.arg_names:
        if name in named:
            continue
        values = [call.args.get(name) for call in calls]
        kind = attribute_of(op, name, _HERE).type
        test = _test(name, kind, values, is_sink=name in op.sinks, pinned=pinned)
        if test:
            yield _Bound(name, test)
        elif name in op.sinks:
            yield _Bound(name, remark=f"`{name}` carries data out and is not bounded: the run gave {_said(values)}")
    for name, (hint, derive) in op.derived.items():
        sizes: list[Any] = [derive(dict(call.args)) for call in calls] if hint in (int, float, Decimal) else []
        if sizes and _numeric(sizes):
            test = _range(name, sizes, lower=False, pinned=pinned)
            yield _Bound(name, test)


def _said(values: Sequence[Any]) -> str:
    count = len({repr(value) for value in values})
    return "one value" if count == 1 else f"{count} values"


def _test(name: str, kind: Type, values: Sequence[Any], *, is_sink: bool, pinned: bool) -> str:
    """Return the test that bounds one argument, empty when nothing does."""
    given = [value for value in values if value is not None]
    if not given:
        return f"{name} is absent" if is_sink or pinned or kind.kind in ("number", "bool") or kind.choices else ""
    test = _test_of_given(name, kind, given, is_sink=is_sink, pinned=pinned)
    return test if len(given) == len(values) or not test else f"({name} is absent or {test})"


def _test_of_given(name: str, kind: Type, given: Sequence[Any], *, is_sink: bool, pinned: bool) -> str:
    if kind.kind == "list":
        return _test_of_lists(name, kind, given) if is_sink or pinned else ""
    if kind.kind == "number" and _numeric(given):
        return _range(name, given, lower=is_sink, pinned=pinned)
    if kind.kind == "bool" or kind.choices:
        used = list(dict.fromkeys(given))
        return "" if len(used) == (2 if kind.kind == "bool" else len(kind.choices)) else _among(name, used)
    return _among(name, list(dict.fromkeys(given))) if kind.kind == "text" and (is_sink or pinned) else ""


def _test_of_lists(name: str, kind: Type, given: Sequence[Any]) -> str:
    items = [item for value in given if isinstance(value, list | tuple) for item in value]
    if kind.item is None or kind.item.kind != "text":
        return ""
    test = _among(name, list(dict.fromkeys(items)))
    return f"every {test}" if test else ""


def _range(name: str, given: Sequence[Any], *, lower: bool, pinned: bool) -> str:
    least, most = _number(min(given), up=False), _number(max(given), up=True)
    if least is None or most is None:
        return ""
    if pinned and least == most:
        return f"{name} == {most}"
    return f"{name} >= {least} and {name} <= {most}" if lower or pinned else f"{name} <= {most}"


def _among(name: str, used: Sequence[Any]) -> str:
    shown = [_literal(value) for value in used]
    if not shown or len(shown) > PINS_MAX or None in shown:
        return ""
    texts = [text for text in shown if text is not None]
    return f"{name} == {texts[0]}" if len(texts) == 1 else f"{name} in [{', '.join(texts)}]"


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float | Decimal) and math.isfinite(value) for value in values)


def _number(value: Any, *, up: bool) -> str | None:
    """Return a number as the language writes it; one that it cannot write exactly is rounded, so that it still bounds `value`."""
    text = str(int(value)) if value == int(value) else format(Decimal(str(value)), "f")
    written: int | float = float(text) if "." in text else int(text)
    if written != value:
        text = str(math.ceil(value) if up else math.floor(value))
    return text if len(text) <= DIGITS_MAX else None


def _literal(value: Any) -> str | None:
    """Return a value as the language writes it, or None when it cannot or should not be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _number(value, up=True) if math.isfinite(value) else None
    if isinstance(value, str) and len(value) <= PIN_CHARS_MAX and "\n" not in value and "\f" not in value:
        return quoted(value)
    return None


# --- expectations ------------------------------------------------------------------------------------------------------------


def expectation(call: Recorded, draft: Draft | None) -> str:
    """Return an `expect` line for a call, with the arguments that the draft tests (all scalars without one); empty when none fits."""
    op = call.op
    resource = call.resources[0]
    if "\n" in resource.text:
        return ""
    names = list(draft.tested) if draft else [*op.arg_names]
    names = list(dict.fromkeys([*names, *(name for template in op.resources[1:] for name in template.fields)]))
    settings: list[str] = []
    for name in names:
        if name in op.resources[0].fields and resource.kind != "id":
            continue
        value = op.derived[name][1](dict(call.args)) if name in op.derived else call.args.get(name)
        if value is None or (name in op.defaults and op.defaults[name] == value):
            continue
        shown = _listed(value) if isinstance(value, list | tuple) else _literal(value)
        if shown is None and draft is not None:
            return ""
        settings += [f"{name}={shown}"] if shown is not None else []
    return " ".join(["expect", call.outcome, op.name, quoted(resource.text), *settings])


def _listed(values: Sequence[Any]) -> str | None:
    shown = [_literal(value) for value in values]
    texts = [text for text in shown if text is not None]
    return f"[{', '.join(texts)}]" if texts and len(texts) == len(shown) else None
