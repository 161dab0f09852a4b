"""Capabilities that are narrowed, on random texts and calls: the result covers exactly what parent and child both cover."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Resource, Template
from agentos.errors import Denied
from agentos.policy import parse_capability


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
CALLS = st.lists(
    st.tuples(st.sampled_from(OPS), PATHS, st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from([None, "x", "xy", "z"])),
    min_size=20,
    max_size=20,
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
