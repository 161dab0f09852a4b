"""The tree of a policy file: what `parse` builds and every later stage reads. Plain frozen data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as Choice

from agentos.policy.problems import At

__all__ = [
    "Aggregate", "And", "Asked", "Clauses", "Expect", "Expr", "File", "From", "Label", "Let", "Limit", "Literal", "Not", "OpRef",
    "Or", "Outcome", "PatternRef", "Require", "Rule", "Statement", "Test", "Use",
]  # fmt: skip

Outcome = Choice["allow", "ask", "deny"]
Asked = Choice["every", "some", ""]


@dataclass(frozen=True, slots=True)
class OpRef:
    """Ops as written: ``fs.read``, ``fs.*``, ``*`` or ``effect once``."""

    text: str
    at: At


@dataclass(frozen=True, slots=True)
class PatternRef:
    """One pattern as written: a string, or the name of a set (`is_set`)."""

    text: str
    at: At
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """One value as written. `kind` is text, word, number, size (bytes), time (seconds) or bool."""

    kind: Choice["text", "word", "number", "size", "time", "bool"]
    value: str | int | float | bool
    text: str
    at: At


@dataclass(frozen=True, slots=True)
class From:
    """One source of data, of a `from` test or a `label`.

    Attributes:
        text: As written: ``prompt``, ``human``, ``$SET``, ``result(op).field``, ``object(namespace)``. The kernel names sources so too.
        at: Where it stands.
        kind: prompt, human, set, result or object.
        name: The op, namespace or set; empty for prompt and human.
        field: Of a result: ``f.g`` for one field, ``*`` for all, empty for a result that is a scalar.
    """

    text: str
    at: At
    kind: Choice["prompt", "human", "set", "result", "object"]
    name: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """One test on one attribute.

    `verb` is a comparison (``==`` ...), ``in``, ``like``, ``matches``, ``in_cidr``, ``absent`` or ``from``. `values` are literals, one
    `PatternRef` for ``in $SET``, or sources. `asked` is every or some for tests on lists.
    """

    attr: str
    verb: str
    values: tuple[Literal | PatternRef | From, ...]
    asked: Asked
    at: At


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A test on history: ``count(op) > 3``, ``sum(op.attr) <= 100``, ``after(op)``."""

    verb: Choice["count", "sum", "after"]
    subject: str
    compare: str
    value: Literal | None
    at: At


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    item: Expr


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction of two or more."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction of two or more."""

    items: tuple[Expr, ...]


Expr = Test | Aggregate | Not | And | Or


@dataclass(frozen=True, slots=True)
class Clauses:
    """What follows the conditions of a rule. `any_of` holds argument names, or ``*``. `places` is where each clause stands."""

    because: str = ""
    timeout_s: float | None = None
    remember: str = ""
    else_ask: str = ""
    any_of: tuple[tuple[str, At], ...] = ()
    as_name: str = ""
    places: tuple[tuple[str, At], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """allow, ask or deny."""

    outcome: Outcome
    ops: tuple[OpRef, ...]
    patterns: tuple[PatternRef, ...]
    when: Expr | None
    unless: Expr | None
    clauses: Clauses
    at: At


@dataclass(frozen=True, slots=True)
class Let:
    """A named set of patterns."""

    name: str
    patterns: tuple[PatternRef, ...]
    at: At


@dataclass(frozen=True, slots=True)
class Use:
    """Take the statements of another file in."""

    name: str
    at: At


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate or a total. `of` empty = calls are counted; `per` is a duration as written, process or tree."""

    ops: tuple[OpRef, ...]
    patterns: tuple[PatternRef, ...]
    when: Expr | None
    amount: Literal
    of: str
    per: str
    by: str
    at: At


@dataclass(frozen=True, slots=True)
class Require:
    """Obligations of a call."""

    obligations: tuple[str, ...]
    ops: tuple[OpRef, ...]
    patterns: tuple[PatternRef, ...]
    when: Expr | None
    at: At


@dataclass(frozen=True, slots=True)
class Label:
    """Labels of a source."""

    source: From
    labels: tuple[str, ...]
    at: At


@dataclass(frozen=True, slots=True)
class Expect:
    """A test of the file by itself, run when it loads. `resource` None = rendered from the arguments; a list is a tuple of values."""

    outcome: Outcome
    op: OpRef
    resource: str | None
    values: tuple[tuple[str, Literal | tuple[Literal, ...]], ...]
    at: At


Statement = Rule | Let | Use | Limit | Require | Label | Expect


@dataclass(frozen=True, slots=True)
class File:
    """One policy file."""

    kind: Choice["policy", "restrict"]
    name: str
    version: int
    statements: tuple[Statement, ...]
