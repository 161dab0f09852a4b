"""The statements of one file, checked against the op table: what `load` collects and a layer is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentos.abi.op import OpTable
from agentos.policy.check import CheckedRule, Sets, check_rule
from agentos.policy.label import CheckedLabel, check_label
from agentos.policy.layer import Layer
from agentos.policy.limit import CheckedLimit, check_limit
from agentos.policy.origin import asks_origin, leaves_of, uses_provenance
from agentos.policy.problems import Refusal, did_you_mean
from agentos.policy.question import names_in
from agentos.policy.require import CheckedRequire
from agentos.policy.scope import Scope
from agentos.policy.syntax import Aggregate, Expr, File, Label, Let, Limit, PatternRef, Require, Rule
from agentos.policy.unparse import expr_text

__all__ = ["Statements", "resolve"]


@dataclass(slots=True)
class Statements:
    """The checked statements of a file, those of the files it uses first."""

    rules: list[CheckedRule]
    limits: list[CheckedLimit]
    requires: list[CheckedRequire]
    labels: list[CheckedLabel]

    @classmethod
    def of(cls, used: list[Layer]) -> Statements:
        """Return the statements of used files, as the start of the file that uses them."""
        return cls(
            [rule for layer in used for rule in layer.rules], [limit for layer in used for limit in layer.limits],
            [require for layer in used for require in layer.requires], [label for layer in used for label in layer.labels],
        )  # fmt: skip

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rules) + len(self.limits) + len(self.requires) + len(self.labels)

    def add(self, statement: Rule | Limit | Require | Label, file: tuple[str, str], table: OpTable, sets: Sets) -> None:
        """Check one statement of a file (its source and kind) and keep it.

        Raises:
            Refusal: the first thing that is wrong.
        """
        source, kind = file
        if isinstance(statement, Label):
            ref = PatternRef(statement.source.name, statement.source.at, is_set=True)
            patterns = resolve((ref,), {}, sets, ()) if statement.source.kind == "set" else ()
            label = CheckedLabel(statement, source, kind, tuple(dict.fromkeys(patterns)))
            check_label(label, table)
            self.labels.append(label)
            return
        resolved = tuple(dict.fromkeys(resolve(statement.patterns, {}, sets, ()))) if statement.patterns else None
        if isinstance(statement, Rule):
            rule = CheckedRule(statement, source, 0, kind, resolved, sets)
            check_rule(rule, table)
            self.rules.append(rule)
        elif isinstance(statement, Limit):
            limit = CheckedLimit(statement, source, Scope(statement, resolved, sets))
            check_limit(limit, table)
            self.limits.append(limit)
        else:
            require = CheckedRequire(statement, source, Scope(statement, resolved, sets))
            require.scope.check(table)
            self.requires.append(require)

    def layer(self, tree: File, file: tuple[str, str, str], sets: Sets) -> Layer:
        """Return the layer of a file (its source, text and digest) that holds these statements."""
        source, text, digest = file
        exprs = self._expressions()
        history = {expr_text(leaf): leaf for expr in exprs for leaf in leaves_of(expr) if isinstance(leaf, Aggregate)}
        asking = any(uses_provenance(expr) for expr in exprs)
        asking = asking or any(asks_origin(name) for item in self.limits for name in (item.limit.of, item.limit.by))
        asking = asking or any(asks_origin(name) for item in self.rules for name in names_in(item.rule.clauses.else_ask))
        rules = tuple(replace(rule, number=number, kind=tree.kind) for number, rule in enumerate(self.rules))
        return Layer(
            tree.name, tree.kind, tree.version, digest, source, text, rules, sets, tuple(self.limits), tuple(self.requires),
            tuple(self.labels), tuple(history.values()), asking,
        )  # fmt: skip

    def _expressions(self) -> list[Expr]:
        found = [expr for item in self.rules for expr in (item.rule.when, item.rule.unless)]
        found += [item.limit.when for item in self.limits]
        found += [item.require.when for item in self.requires]
        return [expr for expr in found if expr is not None]


def resolve(patterns: tuple[PatternRef, ...], lets: Mapping[str, Let], sets: Sets, through: tuple[str, ...]) -> list[str]:
    """Return the pattern texts that strings and sets name; sets of this file may use each other in any order.

    Raises:
        Refusal: there is no such set, or it contains itself.
    """
    found: list[str] = []
    for ref in patterns:
        if not ref.is_set:
            found.append(ref.text)
        elif ref.text in through:
            raise Refusal(
                "E015", f"the set `${ref.text}` contains itself", ref.at, hint=" in ".join(f"${name}" for name in through)
            )
        elif ref.text in sets:
            found += sets[ref.text]
        elif ref.text in lets:
            found += resolve(lets[ref.text].patterns, lets, sets, (*through, ref.text))
        else:
            known = [*lets, *sets]
            hint = did_you_mean(ref.text, known, f'define it: let {ref.text} = "..."')
            raise Refusal("E015", f"there is no set `${ref.text}`", ref.at, hint=hint)
    return found
