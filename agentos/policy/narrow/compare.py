"""Containment of policies: does a new layer let some call through more freely than an old one? With the call that shows it.

    compare(old, new, table) -> Comparison      for `policy.update`: narrower, wider with a witness, or undecided
    diff(a, b, table) -> list[OpDifference]     for people: per op what became wider and what narrower

Exact on ops, patterns, conditions on numbers, words, texts, lists, labels, sources and history, as far as these can be varied
independently. What cannot be decided, or takes more than its share of work, counts as undecided, and callers take it for wider.

INVARIANT narrower-is-proved: whenever `compare` says narrower, no call is decided more freely (deny < ask < allow) by the new layer
than by the old one, no limit or obligation is lost, and nothing is endorsed anew; every witness was decided by both layers for real.
Source: Cedar's symbolic analysis and Progent's use of z3 for the question; no solver, because theirs gave up or was wrong on text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from agentos.abi.op import OpTable
from agentos.policy.layer import Layer
from agentos.policy.narrow.automaton import Allowance
from agentos.policy.narrow.call import Witness, statement_witness
from agentos.policy.narrow.later import may_widen_later
from agentos.policy.narrow.op import Budget, Difference, compare_op
from agentos.policy.narrow.static import StatementChange, requires_of, statement_changes

__all__ = ["Comparison", "OpDifference", "Witness", "compare", "diff"]

STATES_MAX: Final = 10_000_000
SAMPLES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a new layer relates to an old one.

    Attributes:
        narrower: It is proved that the new layer never lets more through.
        wider: It lets something through more freely; `witness` is it.
        undecided: Neither could be shown; callers take it for wider.
        witness: What the new layer lets through more freely.
        narrowing: A call that the new layer lets through less freely, where one was found.
    """

    narrower: bool
    wider: bool
    undecided: bool
    witness: Witness | None
    narrowing: Witness | None


@dataclass(frozen=True, slots=True)
class OpDifference:
    """How two layers differ on one op, or in one statement (`op` is then empty).

    Attributes:
        op: The op.
        wider: What the second lets through more freely.
        narrower: What the second lets through less freely.
        undecided: The second may be wider, but no call was found that shows it; of a statement, `narrower` says what it is.
    """

    op: str
    wider: Witness | None
    narrower: Witness | None
    undecided: bool

    def text(self) -> str:
        """Return one line for each direction, as a person reads it."""
        lines = [f"wider     {self.wider.text()}"] if self.wider else []
        if self.undecided and self.narrower and not self.op:
            return f"undecided {self.narrower.text()}"
        lines += [f"narrower  {self.narrower.text()}"] if self.narrower else []
        lines += [f"undecided {self.op or 'ops of devices that are mounted later'}"] if self.undecided else []
        return "\n".join(lines)


def compare(
    old: Layer | None,
    new: Layer | None,
    table: OpTable,
    *,
    states_max: int = STATES_MAX,
    samples_max: int = SAMPLES_MAX,
    running: bool = False,
) -> Comparison:
    """Return how `new` relates to `old`; None = no layer, which lets everything through.

    Args:
        old: The layer that is in force.
        new: The layer that would replace it.
        table: The ops that exist.
        states_max: How many steps the automata behind patterns make, in all: some million a second.
        samples_max: How many rules are tried on supposed calls: some hundred thousand a second.
        running: The limits of `old` have counted: one that is not kept to the letter would start anew.

    Cost: under a second for 200 rules against 200 rules.
    """
    changes = statement_changes(old, new, running=running)
    witness, narrowing = (_first(changes, direction) for direction in ("wider", "narrower"))
    is_undecided = any(change.direction == "undecided" for change in changes)
    budget = Budget(Allowance(states_max), Allowance(samples_max))
    for _, found in _per_op(old, new, table, budget):
        witness = witness or found.wider
        narrowing = narrowing or found.narrower
        is_undecided = is_undecided or found.undecided
        if witness is not None and narrowing is not None:
            break
    if witness is None and not is_undecided:
        is_undecided = _may_widen_unseen(old, new, budget)
    is_wider = witness is not None
    return Comparison(not is_wider and not is_undecided, is_wider, not is_wider and is_undecided, witness, narrowing)


def diff(a: Layer | None, b: Layer | None, table: OpTable, *, states_max: int = STATES_MAX) -> list[OpDifference]:
    """Return where `b` differs from `a`, in the order of the table; statements come first, ops that do not exist yet last."""
    found = [_of_statement(change) for change in statement_changes(a, b)]
    budget = Budget(Allowance(states_max), Allowance(SAMPLES_MAX))
    for name, one in _per_op(a, b, table, budget):
        if one.wider is not None or one.narrower is not None or one.undecided:
            found.append(OpDifference(name, one.wider, one.narrower, one.undecided))
    if _may_widen_unseen(a, b, budget):
        found.append(OpDifference("", None, None, undecided=True))
    return found


def _first(changes: Iterable[StatementChange], direction: str) -> Witness | None:
    return next((statement_witness(change.note) for change in changes if change.direction == direction), None)


def _of_statement(change: StatementChange) -> OpDifference:
    shown = statement_witness(change.note)
    is_wider = change.direction == "wider"
    return OpDifference("", shown if is_wider else None, None if is_wider else shown, change.direction == "undecided")


def _per_op(old: Layer | None, new: Layer | None, table: OpTable, budget: Budget) -> Iterator[tuple[str, Difference]]:
    duties = requires_of(old) != requires_of(new)
    if old is not None and new is not None and old.digest == new.digest:
        return
    for op in table:
        yield op.name, compare_op(old, new, op, budget, duties=duties)


def _may_widen_unseen(old: Layer | None, new: Layer | None, budget: Budget) -> bool:
    """Say whether ops of devices that are mounted later may get more, or be required less."""
    if old is not None and new is not None and old.digest == new.digest:
        return False
    return may_widen_later(old, new, budget.states) or _may_require_less(old, new)


def _may_require_less(old: Layer | None, new: Layer | None) -> bool:
    kept = requires_of(new)
    wide = [
        one
        for one in requires_of(old)
        if any(text == "*" or text.endswith(".*") or text.startswith("effect ") for text in one[0])
    ]
    return any(one not in kept for one in wide)
