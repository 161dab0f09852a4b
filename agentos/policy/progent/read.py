"""Progent's policy files: text -> rules per tool. Three forms are read, none of them is ever run.

    {"send": [[1, 0, {"to": {"enum": ["a"]}}, 0], ...]}           JSON; a rule may also be {"priority": 1, "effect": 0, "conditions": {...}}
    {"send": [(1, 0, {"to": {"enum": ["a"]}}, 0), ...]}           Python literals, alone, assigned, or given to `update_security_policy`
    [{"name": "send", "args": {"to": {"enum": ["a"]}}}, ...]      what Progent's own model writes: allows of priority 100

Source: Shi et al., Progent: Programmable Privilege Control for LLM Agents, 2025, and its module `secagent`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentos.abi.limits import POLICY_BYTES_MAX
from agentos.errors import Invalid

__all__ = ["ProgentRule", "read_progent"]

GENERATED_PRIORITY: Final = 100
_KEYS: Final = {"priority", "effect", "conditions", "fallback"}
_FORM: Final = 'write {"TOOL": [[PRIORITY, EFFECT, {"ARGUMENT": SCHEMA}, FALLBACK], ...]}'


@dataclass(frozen=True, slots=True)
class ProgentRule:
    """One rule. `effect` 0 allows, 1 forbids; `fallback` 0 refuses, 1 ends the program, 2 asks; `number` counts a tool's rules from 1."""

    number: int
    priority: float
    effect: int
    conditions: Mapping[str, Any]
    fallback: int


def read_progent(text: str, source: str) -> dict[str, list[ProgentRule]]:
    """Return the rules of every tool, in Progent's order: by priority, of equal ones the forbidding first.

    Raises:
        Invalid: `invalid.policy`, the text is none of the three forms; `where` names the place as far as it is known.
    """
    data = _data(text, source)
    if isinstance(data, list):
        data = _generated(data, source)
    if not isinstance(data, dict):
        raise _wrong("a Progent policy maps tools to rules", source)
    tools: dict[str, list[ProgentRule]] = {}
    for tool, rules in data.items():
        if not isinstance(tool, str) or not isinstance(rules, list | tuple):
            raise _wrong(f"tool `{tool}` has no list of rules", source)
        found = [_rule(rule, number, f"{source}: tool `{tool}`, rule {number}") for number, rule in enumerate(rules, 1)]
        tools[tool] = sorted(found, key=lambda rule: (rule.priority, -rule.effect))
    return tools


def _data(text: str, source: str) -> Any:
    if len(text.encode(errors="surrogatepass")) > POLICY_BYTES_MAX:
        raise _wrong(f"the file is longer than {POLICY_BYTES_MAX} bytes", source)
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and text.lstrip()[:1] not in ("", "<"):
            return _python(text, source, error)
        raise _wrong(f"not JSON: {error}", source) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise ValueError("a key occurs twice")
    return items


def _no_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not a JSON value")


def _python(text: str, source: str, not_json: json.JSONDecodeError) -> Any:
    """Read a Python literal; nothing is run, so a restriction that is a function is refused."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f"{source}:{not_json.lineno}:{not_json.colno}"
        raise _wrong(f"neither JSON ({not_json.msg}) nor Python", place) from error
    for node in tree.body:
        value = node.value if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Call) and value.args:
            value = value.args[0]
        if isinstance(value, ast.Dict | ast.List):
            return _literal(value, source)
    raise _wrong("no dictionary of rules stands in it", source)


def _literal(node: ast.expr, source: str) -> Any:
    for each in ast.walk(node):
        if isinstance(each, ast.Dict):
            keys = [ast.dump(key) for key in each.keys if key is not None]
            if len(set(keys)) != len(keys):
                raise _wrong("a key occurs twice", f"{source}:{each.lineno}:{each.col_offset + 1}")
        elif isinstance(each, ast.Lambda | ast.Name | ast.Call | ast.Attribute):
            place = f"{source}:{each.lineno}:{each.col_offset + 1}"
            raise _wrong(f"`{ast.unparse(each)[:60]}` is code, which no policy file can hold", place)
    try:
        return _lists(ast.literal_eval(node))
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it holds more than plain values: {error}", f"{source}:{node.lineno}") from error


def _lists(value: Any) -> Any:
    """Turn tuples into the lists that JSON has."""
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    return {key: _lists(item) for key, item in value.items()} if isinstance(value, dict) else value


def _generated(data: Sequence[Any], source: str) -> dict[str, list[Any]]:
    tools: dict[str, list[Any]] = {}
    for number, item in enumerate(data, 1):
        if not isinstance(item, Mapping) or set(item) - {"name", "args", "description"} or "name" not in item:
            raise _wrong(f"entry {number} is no tool with its restrictions", source)
        tools.setdefault(str(item["name"]), []).append([GENERATED_PRIORITY, 0, item.get("args", {}), 0])
    return tools


def _rule(rule: Any, number: int, where: str) -> ProgentRule:
    if isinstance(rule, Mapping):
        if set(rule) - _KEYS or "effect" not in rule:
            raise _wrong(f"a rule has the keys {', '.join(sorted(_KEYS))}", where)
        rule = [rule.get("priority", 1), rule["effect"], rule.get("conditions", {}), rule.get("fallback", 0)]
    if not isinstance(rule, list | tuple) or len(rule) not in (4, 5):
        raise _wrong("a rule is [priority, effect, conditions, fallback]", where)
    if len(rule) == 5 and rule[4]:
        raise _wrong("the rule replaces the policy when it applies, which no policy file can say", where)
    priority, effect, conditions, fallback = rule[:4]
    if isinstance(priority, bool) or not isinstance(priority, int | float):
        raise _wrong(f"priority `{priority!r}` is no number", where)
    if isinstance(effect, bool) or effect not in (0, 1):
        raise _wrong(f"effect `{effect!r}` is neither 0 (allow) nor 1 (forbid): Progent skips the rule", where)
    if isinstance(fallback, bool) or fallback not in (0, 1, 2):
        message = f"fallback `{fallback!r}` is none of 0 (refuse), 1 (end), 2 (ask): Progent then lets the call pass"
        raise _wrong(message, where)
    if not isinstance(conditions, Mapping) or not all(isinstance(name, str) for name in conditions):
        raise _wrong("conditions map arguments to restrictions", where)
    return ProgentRule(number, priority, effect, conditions, fallback)


def _wrong(message: str, where: str) -> Invalid:
    return Invalid("policy", message, hint=_FORM, where=where)
