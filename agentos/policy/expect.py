"""`expect` statements: a file's own tests. They run when the file loads, against that file alone.

    expect deny bank.transfer "acct/7" to=Bob to.source="result(mail.read).body" flow.integrity=untrusted

Arguments that are not given have their defaults; those without a source are not grounded. Nothing has happened before.
"""

from __future__ import annotations

import shlex
from typing import Any

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Kind, Resource, Template, canonical_path, canonical_url
from agentos.errors import Invalid
from agentos.policy.attributes import FACTS, FLOW, attribute_of
from agentos.policy.check import ops_of
from agentos.policy.decide import Stack
from agentos.policy.expect_flow import ExpectedFlow
from agentos.policy.explain import Explanation
from agentos.policy.layer import Layer
from agentos.policy.problems import Refusal
from agentos.policy.syntax import Expect, Literal

__all__ = ["check_expect", "resource_of"]

_OF_VALUE = ("source", "level", "integrity")
_PID = 0
"""The caller: a process that is no other."""


def check_expect(expect: Expect, layer: Layer, table: OpTable) -> None:
    """Decide the call that `expect` describes by `layer` alone. Arguments that are not given have their defaults.

    Raises:
        Refusal: the outcome is another one, or the call is none.
    """
    ops = ops_of(expect.op.text, table, expect.op.at)
    if len(ops) != 1 or expect.op.text != ops[0].name:
        raise Refusal(
            "E018", f"`expect` needs one op, `{expect.op.text}` names several", expect.op.at, hint="write one line per op"
        )
    op, stack = ops[0], Stack([layer])
    flow = ExpectedFlow(stack.labels, table)
    args, facts, said = _values(expect, op, flow)
    resources = _resources(expect, op, args)
    for root, word, value in said:
        flow.say_of(args.get(root), word, value)
    late = [name for name in op.late if name in facts]
    own = _is_own(op, args)
    verdict = stack.decide(op, resources, args, facts, late=late, own=own)
    if verdict.outcome != expect.outcome:
        source, _, by = verdict.rule.rpartition(":")
        place = f"line {by}" if source == layer.source else f"line {by} of {source}"
        why = "no rule applies to it" if by == "default" else f"{place} says {verdict.outcome}"
        shown = op.name if _is_unnamed(expect, op, args) else f"{op.name} `{resources[0].text}`"
        hint = _way_out(stack.explain(op, resources, args, facts, late=late, own=own), layer)
        raise Refusal("E018", f"expected {expect.outcome} for {shown}, got {verdict.outcome}: {why}", expect.at, hint=hint)


def _way_out(explanation: Explanation, layer: Layer) -> str:
    """Say which line decided the call, or else what would have to change, as `policy explain` says it of a real call."""
    lines = [line for layer in explanation.layers for line in layer.lines if line.state == "decides"]
    if lines:
        return f"it is `{lines[0].text}`{f' ({lines[0].why})' if lines[0].why else ''}; change it, or the expectation"
    if not explanation.change:
        why = "a `restrict` file lets pass" if layer.kind == "restrict" else "a right over oneself passes a policy in"
        return f"{why} what no line mentions; deny it, or change the expectation"
    return f"closest, as `policy explain` would say it: {explanation.change}; or change the expectation"


def _values(
    expect: Expect, op: Op, flow: ExpectedFlow
) -> tuple[dict[str, Any], dict[str, Any], list[tuple[str, str, Literal]]]:
    """Return arguments, facts, and what is said of arguments: (argument, word, value)."""
    args: dict[str, Any] = dict(op.defaults)
    facts: dict[str, Any] = {"flow": flow}
    said: list[tuple[str, str, Literal]] = []
    for name, value in expect.values:
        root, _, rest = name.partition(".")
        if rest in _OF_VALUE and root in op.arg_names and isinstance(value, Literal):
            said.append((root, rest, value))
        elif name in FLOW and isinstance(value, Literal):
            flow.say(rest, value, of=attribute_of(op, name, value.at).type.choices)
        elif name in op.arg_names:
            args[name] = _fitting(value, attribute_of(op, name, expect.at).type.kind, expect)
        else:
            facts[name] = _fact(name, value, op, expect)
    return args, facts, said


def _fact(name: str, value: Literal | tuple[Literal, ...], op: Op, expect: Expect) -> Any:
    attribute = attribute_of(op, name, expect.at)
    if attribute.of in ("flow", "argument") or (attribute.of == "derived" and "." in name):
        raise Refusal("E018", f"`{name}` is a field, `expect` sets arguments", expect.at, hint="set the whole argument")
    if attribute.of == "derived" and name in FACTS:
        raise Refusal("E018", f"`{name}` of {op.name} follows from its arguments", expect.at, hint="set the arguments instead")
    return _fitting(value, attribute.type.kind, expect)


def _fitting(value: Literal | tuple[Literal, ...], kind: str, expect: Expect) -> Any:
    if isinstance(value, tuple):
        if kind not in ("list", "any"):
            raise Refusal("E012", f"a list does not fit: {kind} is expected", expect.at, hint="give one value")
        return [item.value for item in value]
    wanted = {"word": "text", "size": "number", "time": "number"}.get(value.kind, value.kind)
    if kind == "list":
        return [value.value]
    if kind not in (wanted, "any"):
        hint = f'write `"{value.text}"`' if kind == "text" else "give a value of that type"
        raise Refusal("E012", f"`{value.text}` does not fit: {kind} is expected", value.at, hint=hint)
    return value.value


def _resources(expect: Expect, op: Op, args: dict[str, Any]) -> tuple[Resource, ...]:
    try:
        if expect.resource is None:
            return _rendered(op, args)
        first = op.resources[0]
        found = resource_of(first.kind, expect.resource)
        if first.kind != "id":
            args.setdefault(first.field, list(found.value) if isinstance(found.value, tuple) else found.text)
        return (found, *(template.render(args, "/") for template in op.resources[1:]))
    except Invalid as error:
        raise Refusal("E018", f"{error.message} (for {op.name})", expect.at, hint=error.hint) from error
    except KeyError as error:
        hint = f'name the resource: expect {expect.outcome} {op.name} "..."'
        raise Refusal("E018", f"the call names no resource: `{error.args[0]}` is not given", expect.at, hint=hint) from error


def _rendered(op: Op, args: dict[str, Any]) -> tuple[Resource, ...]:
    """Return the resources that the arguments name. An id that is not given stands for one that no pattern names."""
    missing = {name for template in op.resources for name in _missing(template, args)}
    if not missing:
        return op.render(args, "/", _PID)
    filled = {**args, **dict.fromkeys(missing, "?")}
    return op.render(filled, "/", _PID)


def _missing(template: Template, args: dict[str, Any]) -> list[str]:
    return [name for name in template.fields if name not in args] if template.kind == "id" else []


def _is_unnamed(expect: Expect, op: Op, args: dict[str, Any]) -> bool:
    """Say whether the first resource stands for an id that was not given, which no message should show."""
    return expect.resource is None and bool(_missing(op.resources[0], args))


def _is_own(op: Op, args: dict[str, Any]) -> bool:
    """Say whether the caller has a right over itself to the call, which passes the default; not where too little of it is given."""
    return op.self_right is True or (set(op.arg_names) <= args.keys() and op.is_self_right(args, _PID))


def resource_of(kind: Kind, text: str) -> Resource:
    """Return the canonical resource that `text` writes; commands are quoted as a shell would.

    Raises:
        Invalid: it is none of that kind.
    """
    if kind == "path":
        path = canonical_path(text)
        return Resource("path", path, path)
    if kind == "url":
        url = canonical_url(text)
        return Resource("url", url.text, url)
    if kind == "id":
        return Resource("id", text, text)
    try:
        tokens = tuple(shlex.split(text))
    except ValueError as error:
        raise Invalid("argument", f"command `{text}`: {error}", hint="quote it as a shell would", field="argv") from error
    if not tokens:
        raise Invalid("argument", "the command is empty", hint="name an executable", field="argv")
    return Resource("argv", shlex.join(tokens), tokens)
