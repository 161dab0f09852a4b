"""The files and calls of the naive meaning (`policy_oracle`) as data, and how they are spelled.

Nothing here knows what they mean, and nothing comes from `agentos.policy`.

    expression   ("not", e) ("and", a, b) ("or", a, b) ("test", asked, attribute, verb, operand) ("history", verb, subject, compare, number)
    operand      a value; a tuple of values, of `in`; ("$", name), of `in $NAME`; a tuple of source texts, of `from`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentos.abi.op import Op
from agentos.abi.resource import Resource

Expr = tuple[Any, ...]
RANKS = {"deny": 0, "ask": 1, "allow": 2}
SCOPES = ["once", "process", "10m", "8h", "tree", "image", ""]


@dataclass(frozen=True)
class Rule:
    """`question` makes it an allow with `else ask`; `is_any` says `any *`."""

    outcome: str
    ops: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    when: Expr | None = None
    unless: Expr | None = None
    remember: str = ""
    question: bool = False
    is_any: bool = False


@dataclass(frozen=True)
class Limit:
    """`of` and `by` may be empty."""

    ops: tuple[str, ...]
    patterns: tuple[str, ...]
    when: Expr | None
    amount: float
    of: str
    per: str
    by: str


@dataclass(frozen=True)
class Require:
    words: tuple[str, ...]
    ops: tuple[str, ...]
    patterns: tuple[str, ...]
    when: Expr | None


@dataclass(frozen=True)
class Label:
    """A statement about a field of a result, or about the whole where `path` is empty."""

    op: str
    path: str
    word: str


Statement = Rule | Limit | Require | Label


@dataclass(frozen=True)
class File:
    kind: str
    name: str
    sets: dict[str, tuple[str, ...]]
    statements: tuple[Statement, ...]

    @property
    def rules(self) -> list[Rule]:
        return [one for one in self.statements if isinstance(one, Rule)]

    @property
    def limits(self) -> list[Limit]:
        return [one for one in self.statements if isinstance(one, Limit)]

    @property
    def requires(self) -> list[Require]:
        return [one for one in self.statements if isinstance(one, Require)]

    @property
    def labels(self) -> list[Label]:
        return [one for one in self.statements if isinstance(one, Label)]


@dataclass(frozen=True)
class Call:
    op: Op
    resources: tuple[Resource, ...]
    args: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    late: bool | tuple[str, ...] = False
    own: bool = False


# --- spelling ----------------------------------------------------------------------------------------------------------------


def text_of(file: File) -> str:
    lines = [f'{file.kind} "{file.name}"']
    lines += [f"let {name} = {', '.join(map(_quoted, texts))}" for name, texts in file.sets.items()]
    return "\n".join([*lines, *map(spell, file.statements)])


def spell(one: Statement) -> str:
    if isinstance(one, Label):
        return f"label result({one.op}){'.' + one.path if one.path else ''} {one.word}"
    scope = " ".join([", ".join(one.ops), ", ".join(text if text.startswith("$") else _quoted(text) for text in one.patterns)])
    scope += f" when {spell_expr(one.when)}" if one.when else ""
    if isinstance(one, Limit):
        return f"limit {scope} {one.amount}{' of ' + one.of if one.of else ''} per {one.per}{' by ' + one.by if one.by else ''}"
    if isinstance(one, Require):
        return f"require {', '.join(one.words)} for {scope}"
    clauses = [f"unless {spell_expr(one.unless)}"] if one.unless else []
    clauses += ['else ask "really?"'] if one.question else []
    clauses += [f"remember {one.remember}"] if one.remember else []
    return " ".join([one.outcome, scope, *clauses, *(["any *"] if one.is_any else [])])


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return '"' + value.replace("\\", "\\\\") + '"' if isinstance(value, str) else str(value)


def spell_expr(expr: Expr) -> str:
    if expr[0] == "not":
        return f"not ({spell_expr(expr[1])})"
    if expr[0] in ("and", "or"):
        return f"({spell_expr(expr[1])} {expr[0]} {spell_expr(expr[2])})"
    if expr[0] == "history":
        return f"{expr[1]}({expr[2]})" + (f" {expr[3]} {expr[4]}" if expr[3] else "")
    _, asked, name, verb, operand = expr
    head = f"{asked} {name}".strip()
    if verb == "absent":
        return f"{head} is absent"
    if verb == "from":
        return f"{head} from {{ {', '.join(operand)} }}"
    if verb == "matches":
        return f"{head} matches /{operand}/"
    if verb == "in":
        return f"{head} in " + (f"${operand[1]}" if operand[0] == "$" else f"[{', '.join(map(_quoted, operand))}]")
    return f"{head} {verb} {_quoted(operand)}"
