"""Containment against brute force: random layers over a small world, every verdict of `compare` tried on every call of that world.

`narrower` must hold on each call, a witness must hold by itself, and on this fragment nothing may be left undecided.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Resource, Template
from agentos.policy import Layer, Stack, load_layer
from agentos.policy.flow import Origin
from agentos.policy.narrow import Comparison, Witness, compare
from agentos.policy.narrow.flow import Supposed
from agentos.policy.narrow.label import opened_by_labels
from agentos.policy.verdict import RANK, width_of


def _act(path: str, n: int | None = None, mode: Literal["r", "w"] = "r", force: bool = False) -> None: ...


def _tell(path: str, to: list[str], text: str = "") -> None: ...


def _move(path: str, to: str) -> None: ...


OPS = [
    Op("f.act", _act, Effect.PURE, (Template("path", "{path}"),), late={"resolved": str}),
    Op("m.tell", _tell, Effect.ONCE, (Template("path", "{path}"),), sinks=("to",)),
    Op("f.move", _move, Effect.ONCE, (Template("path", "{path}"), Template("path", "{to}"))),
]
TABLE = OpTable(OPS)
PATHS = ["/", *("/" + "/".join(parts) for depth in (1, 2, 3) for parts in itertools.product("ab", repeat=depth))]
GLOBS = ["/a", "/a/**", "**/b", "/*", "/a/*", "**", "/b/**", "/a/*/b", "/?/a", "**/a/**"]
LABELS, ORIGINS = (0, 4), (Origin(0, frozenset({"prompt"})), Origin(4, frozenset()))
PLACES = ["/", "/a", "/b", "/a/a", "/a/b", "/a/a/b", "/b/a/b"]

LEAVES = {
    "f.act": [
        "n <= 1", "n == 2", "n > 0", "n in [0, 3]", "n is absent", 'mode == "w"', "force == true", 'path like "/a/*"', 'path == "/b"',
        'resolved like "/a/**"', "flow.integrity == trusted", "count(f.act) > 1",
    ],
    "m.tell": [
        'every to == "a"', 'some to like "a*"', 'every to in ["a", "b"]', "every to from { prompt }", "text matches /a+/", 'text like "*b"',
        "to.integrity == untrusted", "after(f.act)",
    ],
    "f.move": ['to like "/a/**"', 'path == "/a"', "flow.integrity == trusted"],
}  # fmt: skip


def exprs(op: str) -> st.SearchStrategy[str]:
    def combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda one: f"({one[0]} {one[1]} {one[2]})")
        return st.one_of(inner.map(lambda one: f"not ({one})"), pair)

    return st.recursive(st.sampled_from(LEAVES[op]), combine, max_leaves=3)


@st.composite
def rule(draw: st.DrawFn, outcomes: tuple[str, ...]) -> str:
    op, outcome = draw(st.sampled_from(list(LEAVES))), draw(st.sampled_from(outcomes))
    globs = draw(st.lists(st.sampled_from(GLOBS), max_size=2))
    when, unless = draw(st.one_of(st.none(), exprs(op))), draw(st.one_of(st.none(), st.none(), exprs(op)))
    words = [
        outcome,
        op,
        ", ".join(f'"{glob}"' for glob in globs),
        f"when {when}" if when else "",
        f"unless {unless}" if unless else "",
    ]
    words += ["any *"] if outcome == "allow" else []
    words += (
        [f"remember {draw(st.sampled_from(['once', 'process', 'tree']))}"] if outcome == "ask" and draw(st.booleans()) else []
    )
    words += ['else ask "sure?"'] if outcome == "allow" and when and draw(st.booleans()) else []
    return " ".join(word for word in words if word)


@st.composite
def pair(draw: st.DrawFn) -> tuple[str, str]:
    """Two layers that share most of their rules, as an update and its base do."""
    kinds = draw(
        st.sampled_from([("policy", "policy")] * 3 + [("restrict", "restrict"), ("policy", "restrict"), ("restrict", "policy")])
    )
    shared = draw(st.lists(rule(("ask", "deny") if "restrict" in kinds else ("allow", "ask", "deny")), max_size=2))
    texts = []
    for kind in kinds:
        own = draw(st.lists(rule(("ask", "deny") if kind == "restrict" else ("allow", "ask", "deny")), max_size=2))
        texts.append("\n".join([f'{kind} "x"', *shared, *own]))
    return texts[0], texts[1]


@cache
def calls(op: str) -> list[tuple[tuple[Resource, ...], dict[str, Any], dict[str, Any], frozenset[str]]]:
    return list({"f.act": _acts, "m.tell": _tells, "f.move": _moves}[op]())


def _place(path: str) -> Resource:
    return Resource("path", path, path)


def _acts() -> Iterator[Any]:
    for path, n, mode, force in itertools.product(PLACES, [None, 0, 1, 2, 4], "rw", (False, True)):
        args = {"path": path, "n": n, "mode": mode, "force": force}
        for label, count, resolved in itertools.product(LABELS, (0, 2), (None, "/a/b", "/b", ...)):
            facts = {"flow": Supposed(label, history={"count f.act": count, "after f.act": count > 0})}
            facts |= {} if resolved is ... else {"resolved": resolved}
            yield (_place(path),), args, facts, frozenset() if resolved is ... else frozenset({"resolved"})


def _tells() -> Iterator[Any]:
    for path, size in itertools.product(["/", "/a/b", "/b/a"], range(3)):
        for to, origins in itertools.product(itertools.product("abc", repeat=size), itertools.product(ORIGINS, repeat=size)):
            known = {("str", value): origin for value, origin in zip(to, origins, strict=True)}
            for text, is_after in itertools.product(["", "aa", "ab", "c", "x" * 9_000, "a" * 8_999 + "b"], (False, True)):
                flow = Supposed(plain=known, history={"after f.act": is_after})
                yield (_place(path),), {"path": path, "to": list(to), "text": text}, {"flow": flow}, frozenset()


def _moves() -> Iterator[Any]:
    for path, to, label in itertools.product(PATHS, PATHS, LABELS):
        yield (_place(path), _place(to)), {"path": path, "to": to}, {"flow": Supposed(label)}, frozenset()


def freer(old: Stack, new: Stack, op: Op, call: Any) -> bool:
    resources, args, facts, late = call
    before, after = (stack.decide(op, resources, args, facts, late=late) for stack in (old, new))
    if before.outcome == after.outcome == "ask":
        return width_of(after.remember) > width_of(before.remember)
    return RANK[after.outcome] > RANK[before.outcome]


def compared(old: str, new: str) -> tuple[Layer, Layer, Comparison]:
    first, second = (load_layer(text, source="t", table=TABLE) for text in (old, new))
    return first, second, compare(first, second, TABLE)


def holds(old: Layer, new: Layer, witness: Witness) -> bool:
    return freer(
        Stack([old]), Stack([new]), TABLE.find(witness.op), (witness.resources, witness.args, witness.facts, witness.late)
    )


@settings(max_examples=120, deadline=None)
@given(pair())
def test_narrower_is_proved_no_call_of_a_small_world_refutes_it_and_every_witness_holds(texts: tuple[str, str]) -> None:
    old, new, found = compared(*texts)
    assert not found.undecided
    assert found.narrower == (found.witness is None)
    if found.witness is not None:
        assert holds(old, new, found.witness), found.witness.text()
    if found.narrowing is not None:
        assert holds(new, old, found.narrowing), found.narrowing.text()
    stacks = Stack([old]), Stack([new])
    if found.narrower:
        for op in OPS:
            refuting = [call for call in calls(op.name) if freer(*stacks, op, call)]
            assert not refuting, refuting[0]
    if found.narrowing is None:
        for op in OPS:
            assert not [call for call in calls(op.name) if freer(*reversed(stacks), op, call)]


@settings(max_examples=60, deadline=None)
@given(pair(), rule(("deny",)))
def test_adding_a_deny_is_always_narrower_and_taking_it_away_never_claims_to_be(texts: tuple[str, str], deny: str) -> None:
    _, _, added = compared(texts[0], f"{texts[0]}\n{deny}")
    assert added.narrower
    old, new, removed = compared(f"{texts[0]}\n{deny}", texts[0])
    assert removed.wider == (added.narrowing is not None)
    assert removed.witness is None or holds(old, new, removed.witness)


def raised(call: Any) -> Any:
    """The same call where everything is untrusted."""
    resources, args, facts, late = call
    flow = facts["flow"]
    plain = {value: Origin(4, origin.sources) for value, origin in flow._plain.items()}
    return resources, args, {**facts, "flow": Supposed(4, history=flow._history, plain=plain)}, late


@settings(max_examples=120, deadline=None)
@given(pair())
def test_a_layer_that_labels_do_not_open_decides_no_call_more_freely_when_its_values_are_untrusted(
    texts: tuple[str, str],
) -> None:
    for text in texts:
        layer = load_layer(text, source="t", table=TABLE)
        if opened_by_labels(layer):
            continue
        stack = Stack([layer])
        for op in OPS:
            for call in calls(op.name):
                low, high = (stack.decide(op, one[0], one[1], one[2], late=one[3]) for one in (call, raised(call)))
                assert RANK[high.outcome] <= RANK[low.outcome]
