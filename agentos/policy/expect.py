"""`expect` statements: a file's own tests. They run when the file loads, against that file alone."""

from __future__ import annotations

import shlex
from typing import Any

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Kind, Resource, canonical_path, canonical_url
from agentos.errors import Invalid
from agentos.policy.attributes import attribute_of
from agentos.policy.check import ops_of
from agentos.policy.decide import Stack
from agentos.policy.layer import Layer
from agentos.policy.problems import Refusal
from agentos.policy.syntax import Expect, Literal

__all__ = ["check_expect", "resource_of"]


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
    op = ops[0]
    args, facts = _values(expect, op)
    resources = _resources(expect, op, args)
    verdict = Stack([layer]).decide(op, resources, args, facts, late=[name for name in op.late if name in facts])
    if verdict.outcome != expect.outcome:
        by = verdict.rule.rpartition(":")[2]
        said = "no rule applies to it" if by == "default" else f"line {by} says {verdict.outcome}"
        shown = f"{op.name} `{resources[0].text}`"
        hint = "run `policy explain` on the call, then change the rule or the expectation"
        raise Refusal("E018", f"expected {expect.outcome} for {shown}, got {verdict.outcome}: {said}", expect.at, hint=hint)


def _values(expect: Expect, op: Op) -> tuple[dict[str, Any], dict[str, Any]]:
    args: dict[str, Any] = dict(op.defaults)
    facts: dict[str, Any] = {}
    for name, literal in expect.values:
        attribute = attribute_of(op, name, literal.at)
        value = _fitting(literal, attribute.type.kind)
        if name in op.arg_names:
            args[name] = value
        elif "." in name and name.partition(".")[0] in op.arg_names:
            raise Refusal("E018", f"`{name}` is a field, `expect` sets arguments", literal.at, hint="set the whole argument")
        else:
            facts[name] = value
    return args, facts


def _fitting(literal: Literal, kind: str) -> Any:
    wanted = {"word": "text", "size": "number", "time": "number"}.get(literal.kind, literal.kind)
    if kind == "list":
        return [literal.value]
    if kind not in (wanted, "any"):
        raise Refusal(
            "E012", f"`{literal.text}` does not fit: {kind} is expected", literal.at, hint="give a value of that type"
        )
    return literal.value


def _resources(expect: Expect, op: Op, args: dict[str, Any]) -> tuple[Resource, ...]:
    try:
        if expect.resource is None:
            return op.render(args, "/", 0)
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
