"""`policy import progent`: Progent's rules as a policy of ours, with what is doubtful about them.

Progent takes a tool's rules by priority and the first that applies decides; an argument that is not given satisfies every restriction.
Here order never matters: any deny wins, else any ask, else any allow.

    safe (default)   never lets through what Progent refuses or asks about, and less where Progent's reading is unsafe:
                     restrictions have to be met by an argument that is there, patterns match the whole text, a later forbid still forbids
    compat           the same answer as Progent's for every call whose arguments carry their declared defaults

A rule becomes `allow`, `deny` or (a forbid that asks) `ask`. In compat mode an ask or deny leaves out what a weaker rule before it takes.

INVARIANT import-never-widens: for every call, with its arguments as the policy sees them, the safe import's outcome is at most Progent's
(deny < ask < allow).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentos.abi.op import Op, OpTable, closest
from agentos.errors import Invalid
from agentos.policy.check import tests_of
from agentos.policy.format import format_text
from agentos.policy.progent.read import GENERATED_PRIORITY, ProgentRule, read_progent
from agentos.policy.progent.regex import Bias
from agentos.policy.progent.schema import Condition, Refused, conjunction, disjunction, restriction
from agentos.policy.progent.shape import Malformed
from agentos.policy.unparse import expr_text, quoted
from agentos.policy.verdict import RANK

__all__ = ["Doubt", "Imported", "import_progent"]

_FALLBACK: Final[dict[int, Literal["deny", "ask"]]] = {0: "deny", 1: "deny", 2: "ask"}


@dataclass(frozen=True, slots=True)
class Doubt:
    """Where Progent's own reading of a rule is unsafe or surprising. `code` is one word."""

    code: str
    where: str
    message: str
    hint: str

    def __str__(self) -> str:
        """Return the doubt on one line."""
        return f"{self.where}: {self.code}: {self.message}; {self.hint}"


@dataclass(frozen=True, slots=True)
class Imported:
    """A policy text, and what is doubtful about the rules it came from."""

    text: str
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One rule, or what is left after the last: the outcome where it is the first to apply."""

    outcome: Literal["allow", "ask", "deny"]
    rule: ProgentRule | None
    remark: str = ""


class _Translation:
    """One import: the errors and doubts so far."""

    def __init__(self, source: str, *, is_compat: bool) -> None:
        self.source = source
        self.is_compat = is_compat
        self.errors: list[dict[str, Any]] = []
        self.doubts: list[Doubt] = []
        self._quiet = False

    def doubt(self, where: str, code: str, message: str, hint: str) -> None:
        found = Doubt(code, where, message, hint)
        if not self._quiet and found not in self.doubts:
            self.doubts.append(found)

    def fail(self, where: str, message: str, hint: str) -> None:
        found = {"code": "untranslatable", "where": where, "message": message, "hint": hint}
        if found not in self.errors:
            self.errors.append(found)

    def condition(self, op: Op, rule: ProgentRule, where: str, bias: Bias, *, again: bool = False) -> Condition:
        """Return the condition of a rule; what is wrong with it is noted. `again`: its doubts were told before."""
        self._quiet = again
        found: list[Condition] = []
        for name, given in rule.conditions.items():
            place = f"{where}, `{name}`"
            found.append(self._argument(op, rule, name, given, place, bias=bias))
        self._quiet = False
        return conjunction(*found)

    def _argument(self, op: Op, rule: ProgentRule, name: str, given: Any, where: str, *, bias: Bias) -> Condition:
        if name not in op.arg_names:
            hint = closest(name, op.arg_names) or f"it has {', '.join(op.arg_names)}"
            self.doubt(where, "no-such-argument", f"`{op.name}` has no argument `{name}`: Progent takes it for satisfied", hint)
            return self.is_compat or bias != "narrow"
        try:
            return restriction(
                op, name, given, bias=bias, is_compat=self.is_compat,
                report=lambda code, message, hint: self.doubt(where, code, message, hint),
            )  # fmt: skip
        except Malformed as error:
            return self._malformed(op, rule, name, where, str(error), bias=bias)
        except Refused as error:
            self.fail(where, f"{error}", "the language cannot say it; change the restriction, or write the rule by hand")
            return False

    def _malformed(self, op: Op, rule: ProgentRule, name: str, where: str, why: str, *, bias: Bias) -> Condition:
        said = "skips this forbid" if rule.effect else "never meets this allow"
        self.doubt(where, "malformed", f"{why}: Progent {said} without a word", "correct it")
        if self.is_compat:
            return restriction(op, name, False, bias=bias, is_compat=True, report=lambda code, message, hint: None)
        if rule.effect:
            self.fail(where, f"{why} is no restriction, and Progent skips a forbid that holds one", "correct it")
        return False


def import_progent(text: str, *, source: str, table: OpTable, device: str, name: str, is_compat: bool = False) -> Imported:
    """Translate a Progent policy.

    Args:
        text: The file: JSON or Python literals.
        source: Its name, for messages.
        table: The ops that exist; tool ``send`` is op ``DEVICE.send``.
        device: Name of the device that the tools are mounted under.
        name: Name of the policy that is written.
        is_compat: Answer as Progent does, instead of safely.

    Raises:
        Invalid: `invalid.policy`, the text is no Progent policy, a tool is no op, or a restriction cannot be said; `errors` lists all.
    """
    work = _Translation(source, is_compat=is_compat)
    mode = "compat: it answers as Progent does" if is_compat else "safe: it lets nothing through that Progent does not"
    lines = [f"policy {quoted(name)} version 1", f"# imported from a Progent policy, {mode}", ""]
    for tool, rules in read_progent(text, source).items():
        op = table.get(f"{device}.{tool}")
        if op is None:
            known = [each.name for each in table.matching(f"{device}.*")]
            hint = closest(f"{device}.{tool}", known) or "declare it with --devices, or name its device with --device"
            work.fail(f"{source}: tool `{tool}`", f"there is no op `{device}.{tool}`", hint)
            continue
        lines += [*_tool(work, op, tool, rules), ""]
    if work.errors:
        first = work.errors[0]
        raise Invalid("policy", first["message"], hint=first["hint"], where=first["where"], errors=work.errors)
    return Imported(format_text("\n".join(lines), source=name), tuple(work.doubts))


def _tool(work: _Translation, op: Op, tool: str, rules: Sequence[ProgentRule]) -> Iterator[str]:
    """Yield the lines about one tool."""
    if not rules:
        yield f"# {tool}: no rules, so it is refused"
        return
    _doubt_order(work, tool, rules)
    steps = _steps(work, tool, rules)
    write = _compat_lines if work.is_compat else _safe_lines
    yield from write(work, op, tool, steps)


def _where(work: _Translation, tool: str, step: _Step) -> str:
    return f"{work.source}: tool `{tool}`, rule {step.rule.number}" if step.rule else f"{work.source}: tool `{tool}`"


def _steps(work: _Translation, tool: str, rules: Sequence[ProgentRule]) -> list[_Step]:
    """Return what Progent goes through, in order, and what it comes to after the last rule."""
    steps: list[_Step] = []
    for rule in rules:
        where = f"{work.source}: tool `{tool}`, rule {rule.number}"
        if rule.fallback == 1:
            work.doubt(where, "fallback", "Progent ends the whole program", "here the call is denied and the process goes on")
        steps.append(_Step("allow" if rule.effect == 0 else _FALLBACK[rule.fallback], rule))
        if rule.effect == 0 and rule.priority == GENERATED_PRIORITY and rule.fallback == 0:
            if rule is not rules[-1]:
                work.doubt(
                    where,
                    "never-fires",
                    "an allow of priority 100 that is not met refuses at once",
                    "later rules count for nothing",
                )
            return [*steps, _Step("deny", None, "an allow of priority 100 refuses what it does not meet")]
    last = rules[-1].fallback
    if last == 2:
        work.doubt(
            f"{work.source}: tool `{tool}`", "fallback", "what no rule applies to is asked", "by the last rule's fallback"
        )
    return [*steps, _Step(_FALLBACK[last], None, "what no rule applies to")]


def _doubt_order(work: _Translation, tool: str, rules: Sequence[ProgentRule]) -> None:
    """Tell the forbids that an allow of higher priority takes every call from."""
    for number, rule in enumerate(rules):
        for before in rules[:number]:
            covers = all(
                name in rule.conditions and rule.conditions[name] == given for name, given in before.conditions.items()
            )
            if rule.effect == 1 and before.effect == 0 and covers:
                where = f"{work.source}: tool `{tool}`, rule {rule.number}"
                message = f"the allow of rule {before.number} comes first and takes every call that this forbid is about"
                work.doubt(
                    where, "never-fires", message, "here a deny wins" if not work.is_compat else "give it a lower number"
                )
                break


# --- safe --------------------------------------------------------------------------------------------------------------------


def _safe_lines(work: _Translation, op: Op, tool: str, steps: Sequence[_Step]) -> Iterator[str]:
    for step in steps[:-1]:
        assert step.rule is not None, "only the last step is no rule"
        bias: Bias = "narrow" if step.outcome == "allow" else "exact" if step.outcome == "ask" else "wide"
        condition = work.condition(op, step.rule, _where(work, tool, step), bias)
        yield from _line(work, op, tool, step, condition, False)
    if steps[-1].outcome == "ask":
        taken = [
            work.condition(op, step.rule, _where(work, tool, step), "wide", again=True) for step in steps[:-1] if step.rule
        ]
        yield from _line(work, op, tool, steps[-1], True, disjunction(*taken))


# --- compat ------------------------------------------------------------------------------------------------------------------


def _compat_lines(work: _Translation, op: Op, tool: str, steps: Sequence[_Step]) -> Iterator[str]:
    for number, step in enumerate(steps):
        if step.rule is None and step.outcome == "deny":
            continue
        bias: Bias = "narrow" if step.outcome == "allow" else "exact" if step.outcome == "ask" else "wide"
        condition = work.condition(op, step.rule, _where(work, tool, step), bias) if step.rule else True
        before = [each for each in steps[:number] if each.rule and _gives_way(step, each)]
        other: Bias = "narrow" if step.outcome == "deny" else "exact"
        taken = [work.condition(op, each.rule, _where(work, tool, each), other, again=True) for each in before if each.rule]
        yield from _line(work, op, tool, step, condition, disjunction(*taken))


def _gives_way(step: _Step, before: _Step) -> bool:
    """Say whether a rule has to leave out what a rule before it takes: a weaker one does not win by itself here."""
    return RANK[before.outcome] > RANK[step.outcome] or (step.rule is None and step.outcome == "ask")


# --- one line ----------------------------------------------------------------------------------------------------------------


def _line(work: _Translation, op: Op, tool: str, step: _Step, when: Condition, unless: Condition) -> Iterator[str]:
    """Yield one statement with the remark above it."""
    head = f"rule {step.rule.number} (priority {step.rule.priority:g})" if step.rule else step.remark
    if when is False or unless is True:
        yield f"# {tool}, {head}: never applies"
        return
    words = [step.outcome, op.name]
    words += [] if isinstance(when, bool) else ["when", expr_text(when)]
    words += [] if isinstance(unless, bool) else ["unless", expr_text(unless)]
    if step.outcome == "allow":
        words += _free_sinks(work, op, tool, step, when)
    else:
        words += ["because", quoted(f"Progent: {tool}, {head}")]
    yield f"# {tool}, {head}"
    yield " ".join(words)


def _free_sinks(work: _Translation, op: Op, tool: str, step: _Step, when: Condition) -> list[str]:
    """Return the `any` clause for the sinks that an allow leaves free, as Progent does."""
    tested = set() if isinstance(when, bool) else {test.attr.partition(".")[0] for test in tests_of(when)}
    free = sorted(op.sinks - tested)
    for name in free:
        work.doubt(_where(work, tool, step), "free-sink", f"`{name}` carries data out and is not restricted", "restrict it")
    return ["any", ", ".join(free)] if free else []
