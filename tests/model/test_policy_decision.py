"""The compiled evaluator against one that is written as naively as the words of the reference, on random policies and calls.

About 25,000 decisions per run. The naive one knows no index, no order, no memory and no closures: it reads the rules as data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Resource, Template
from agentos.errors import Denied
from agentos.policy import Stack, load_layer, parse_capability


def _act(path: str, n: int | None = None, tag: str | None = None) -> None: ...


OPS = [
    Op(name, _act, Effect(effect), (Template("path", "{path}"),))
    for name, effect in (("f.a", "pure"), ("f.b", "once"), ("g.a", "once"))
]
TABLE = OpTable(OPS)

SEGMENTS = st.sampled_from(["a", "b", "ab", "x.py"])
PATHS = st.lists(SEGMENTS, max_size=3).map(lambda parts: "/" + "/".join(parts))
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "?", "*.py", "**"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
LEAVES = st.sampled_from([
    ("n", "==", 1), ("n", ">", 1), ("n", "<=", 2), ("n", "in", (1, 3)), ("n", "absent", None), ("tag", "==", "x"), ("tag", "!=", "x"),
    ("tag", "like", "x*"), ("tag", "absent", None)
])  # fmt: skip
EXPRS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)),
    max_leaves=4,
)
OPREFS = st.lists(st.sampled_from(["f.a", "f.b", "g.a", "f.*", "*", "effect once"]), min_size=1, max_size=2)
CALLS = st.lists(
    st.tuples(st.sampled_from(OPS), PATHS, st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from([None, "x", "xy", "z"])),
    min_size=20,
    max_size=20,
)


@dataclass(frozen=True)
class Line:
    """One rule as data."""

    outcome: str
    ops: tuple[str, ...]
    globs: tuple[str, ...]
    when: Any
    unless: Any

    def text(self) -> str:
        words = [self.outcome, ", ".join(self.ops), ", ".join(f'"{glob}"' for glob in self.globs)]
        words += [f"{word} {spell(expr)}" for word, expr in (("when", self.when), ("unless", self.unless)) if expr is not None]
        return " ".join(word for word in words if word)


def lines(outcomes: tuple[str, ...] = ("allow", "ask", "deny")) -> st.SearchStrategy[Line]:
    maybe = st.one_of(st.none(), EXPRS)
    return st.builds(
        Line,
        st.sampled_from(outcomes),
        OPREFS.map(tuple),
        st.lists(GLOBS, max_size=2).map(tuple),
        maybe,
        st.one_of(st.none(), maybe),
    )


POLICIES = st.lists(lines(), max_size=6)
LAYERS = st.lists(
    st.one_of(
        st.tuples(st.just("policy"), POLICIES), st.tuples(st.just("restrict"), st.lists(lines(("ask", "deny")), max_size=4))
    ),
    max_size=3,
)


def spell(expr: Any) -> str:
    if expr[0] == "not":
        return f"not ({spell(expr[1])})"
    if expr[0] in ("and", "or"):
        return f"({spell(expr[1])} {expr[0]} {spell(expr[2])})"
    name, verb, value = expr
    if verb == "absent":
        return f"{name} is absent"
    if verb == "in":
        return f"{name} in [{', '.join(map(str, value))}]"
    return f"{name} {verb} " + (f'"{value}"' if isinstance(value, str) else str(value))


def naive_test(expr: Any, args: dict[str, Any]) -> str:
    """Return T, F or U."""
    if expr[0] == "not":
        return {"T": "F", "F": "T", "U": "U"}[naive_test(expr[1], args)]
    if expr[0] in ("and", "or"):
        both = {naive_test(expr[1], args), naive_test(expr[2], args)}
        strong, weak = ("F", "T") if expr[0] == "and" else ("T", "F")
        return strong if strong in both else "U" if "U" in both else weak
    name, verb, wanted = expr
    value = args[name]
    if verb == "absent":
        return "T" if value is None else "F"
    if value is None:
        return "U"
    answers: dict[str, Callable[[], bool]] = {
        "==": lambda: value == wanted, "!=": lambda: value != wanted, ">": lambda: value > wanted, "<=": lambda: value <= wanted,
        "in": lambda: value in wanted, "like": lambda: naive_glob(wanted, value),
    }  # fmt: skip
    return "T" if answers[verb]() else "F"


def naive_glob(glob: str, text: str) -> bool:
    """Translate to the regular expression that the words of the reference describe."""
    pattern = ""
    for part in glob.lstrip("/").split("/"):
        inner = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        pattern += "(?:/[^/]+)*" if part == "**" else "/" + ("[^/]+" if part == "*" else inner)
    return re.fullmatch(pattern, "" if text == "/" else "/" + text.lstrip("/"), re.DOTALL) is not None


def naive_rule(line: Line, op: Op, path: str, args: dict[str, Any]) -> bool:
    if not any(ref in ("*", op.name, f"effect {op.effect}", op.name[:2] + "*") for ref in line.ops):
        return False
    if line.globs and not any(naive_glob(glob, path) for glob in line.globs):
        return False
    value = "T"
    if line.when is not None:
        value = naive_test(line.when, args)
    if line.unless is not None:
        barred = {"T": "F", "F": "T", "U": "U"}[naive_test(line.unless, args)]
        value = "F" if "F" in (value, barred) else "U" if "U" in (value, barred) else "T"
    return value == "T" or (value == "U" and line.outcome == "deny")


def naive_decide(layers: list[tuple[str, list[Line]]], op: Op, path: str, args: dict[str, Any]) -> str:
    worst = "allow"
    for kind, rules in layers:
        said = {line.outcome for line in rules if naive_rule(line, op, path, args)}
        default = "deny" if kind == "policy" else "allow"
        answer = next((outcome for outcome in ("deny", "ask", "allow") if outcome in said), default)
        worst = min(worst, answer, key=["deny", "ask", "allow"].index)
    return worst


def stack_of(layers: list[tuple[str, list[Line]]]) -> Stack:
    texts = ['{} "l"\n{}'.format(kind, "\n".join(line.text() for line in rules)) for kind, rules in layers]
    return Stack([load_layer(text, source="l", table=TABLE) for text in texts])


def outcomes(stack: Stack, calls: list[tuple[Op, str, Any, Any]]) -> list[str]:
    return [
        stack.decide(op, (Resource("path", path, path),), {"path": path, "n": n, "tag": tag}, {}).outcome
        for op, path, n, tag in calls
    ]


@settings(max_examples=600)
@given(LAYERS, CALLS)
def test_every_decision_equals_the_naive_one_remembered_or_not(layers: Any, calls: Any) -> None:
    stack = stack_of(layers)
    expected = [naive_decide(layers, op, path, {"n": n, "tag": tag}) for op, path, n, tag in calls]
    assert outcomes(stack, calls) == expected
    assert outcomes(stack, calls) == expected


@settings(max_examples=150)
@given(LAYERS, CALLS)
def test_a_constant_verdict_is_the_same_for_all_arguments(layers: Any, calls: Any) -> None:
    stack = stack_of(layers)
    for op, path, n, tag in calls[:5]:
        resources = (Resource("path", path, path),)
        found = stack.decide(op, resources, {"path": path, "n": n, "tag": tag}, {})
        if found.constant:
            others = [
                {"path": path, "n": other, "tag": word} for other in (None, 0, 1, 2, 3) for word in (None, "x", "xy", "z")
            ]
            assert {stack.decide(op, resources, args, {}) for args in others} == {found}


RANKS = {"deny": 0, "ask": 1, "allow": 2}


@settings(max_examples=100)
@given(LAYERS, lines(("deny",)), st.integers(0, 5), CALLS)
def test_adding_a_deny_never_grants(layers: Any, deny: Line, place: int, calls: Any) -> None:
    more = [(kind, [*rules[:place], deny, *rules[place:]]) for kind, rules in layers]
    for before, after in zip(outcomes(stack_of(layers), calls), outcomes(stack_of(more), calls), strict=True):
        assert RANKS[after] <= RANKS[before]


@settings(max_examples=100)
@given(LAYERS, st.lists(lines(("ask", "deny")), max_size=3), POLICIES, CALLS)
def test_adding_a_layer_never_grants(layers: Any, restrict: list[Line], policy: list[Line], calls: Any) -> None:
    before = outcomes(stack_of(layers), calls)
    for layer in (("restrict", restrict), ("policy", policy)):
        for old, new in zip(before, outcomes(stack_of([*layers, layer]), calls), strict=True):
            assert RANKS[new] <= RANKS[old]


@settings(max_examples=60)
@given(POLICIES, st.randoms(use_true_random=False), CALLS)
def test_the_order_of_statements_never_matters(rules: list[Line], random: Any, calls: Any) -> None:
    shuffled = random.sample(rules, len(rules))
    assert outcomes(stack_of([("policy", rules)]), calls) == outcomes(stack_of([("policy", shuffled)]), calls)


def cap_text(ops: list[str], globs: list[str], when: Any) -> str:
    return f"{', '.join(ops)} {', '.join(globs)}" + (f" when {spell(when)}" if when else "")


CAPS = st.builds(
    cap_text,
    st.lists(st.sampled_from(["f.a", "f.b", "f.*"]), min_size=1, max_size=2),
    st.lists(GLOBS, max_size=2),
    st.one_of(st.none(), EXPRS),
)


@settings(max_examples=200)
@example("f.* /**", "f.a /a/*", [])
@given(CAPS, CAPS, CALLS)
def test_what_is_narrowed_covers_exactly_what_both_cover(parent_text: str, child_text: str, calls: Any) -> None:
    parent, child = parse_capability(parent_text, TABLE), parse_capability(child_text, TABLE)
    try:
        result = parent.narrow(child)
    except Denied:
        return
    assert parse_capability(result.text, TABLE) == result
    for op, path, n, tag in calls:
        call = (op, (Resource("path", path, path),), {"path": path, "n": n, "tag": tag})
        assert result.covers(*call) == (parent.covers(*call) and child.covers(*call))
