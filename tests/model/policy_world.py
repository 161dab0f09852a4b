"""A small world for the privilege language: ops of every kind of resource, random files about them, and a fixed pool of calls.

Everything random comes from one `random.Random`: Hypothesis hands in its own, a fixed seed does as well.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED
from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Template
from agentos.policy import Layer, Stack, load_layer
from agentos.policy.flow import Charge
from tests.model.policy_files import SCOPES, Call, Expr, File, Label, Limit, Require, Rule, Statement, text_of
from tests.unit.policy.builders import known

Words = list[str] | None
Meta = dict[str, Any] | None


def _read(
    path: str, n: float | None, tag: str | None, tags: Words, flag: bool | None, addr: str | None, meta: Meta
) -> dict[str, Any]: ...  # type: ignore[empty-body]


def _move(
    path: str, into: str, n: float | None, tag: str | None, tags: Words, flag: bool | None, addr: str | None, meta: Meta
) -> None: ...


def _send(
    to: list[str], n: float | None, tag: str | None, tags: Words, flag: bool | None, addr: str | None, meta: Meta
) -> None: ...


def _get(url: str, n: float | None, tag: str | None, tags: Words, flag: bool | None, addr: str | None, meta: Meta) -> None: ...


def _run(
    argv: list[str], n: float | None, tag: str | None, tags: Words, flag: bool | None, addr: str | None, meta: Meta
) -> None: ...


def _new(path: str, n: float | None, out: str | None) -> None: ...


def _size(args: dict[str, Any]) -> int | None:
    return len(args["tag"]) if isinstance(args.get("tag"), str) else None


def _op(name: str, signature: Any, effect: str, *on: tuple[Any, str], **more: Any) -> Op:
    templates = tuple(Template(kind, text) for kind, text in on)
    return Op(name, signature, Effect(effect), templates, derived={"size": (int, _size)}, **more)


READ = _op("f.read", _read, "pure", ("path", "{path}"), late={"resolved": str})
MOVE = _op("f.move", _move, "probeable", ("path", "{path}"), ("path", "{into}"), late={"resolved": str})
SEND = _op("m.send", _send, "once", ("id", "mail"), sinks=("to",))
GET = _op("w.get", _get, "once", ("url", "{url}"), sinks=("url",), late={"dest_ip": str})
RUN = _op("x.run", _run, "once", ("argv", "{argv}"))
TABLE = OpTable([READ, MOVE, SEND, GET, RUN])
NEW = _op("f.new", _new, "pure", ("path", "{path}"), sinks=("out",))
"""Mounted after every file was loaded."""
OPS = [*TABLE, NEW]


def leaf(attr: str, verb: str, operand: Any = None, asked: str = "") -> Expr:
    return ("test", asked, attr, verb, operand)


_ABSENT = [leaf(attr, "absent") for attr in ("n", "tag", "tags", "meta.user", "meta")]
_PLAIN = [
    *[leaf("n", verb, number) for verb, number in (("==", 1), ("!=", 2), ("<", 2), ("<=", 2), (">", 1), (">=", 3), ("in", (1, 3)))],
    *[leaf("tag", verb, text) for verb, text in (("==", "x"), ("!=", "x"), ("in", ("x", "z")), ("in", ("$", "words")))],
    *[leaf("tag", "like", glob) for glob in ("x*", "*", "*/y", "?", "**y", "**")],
    leaf("tag", "matches", "x.*|z"), leaf("tag.length", ">", 1), leaf("size", "<", 2),
    leaf("tags", "==", "x", "every"), leaf("tags", "!=", "x", "some"), leaf("tags", "in", ("x", "xy"), "every"),
    leaf("tags", "like", "x*", "some"), leaf("tags.length", ">", 1, "some"), leaf("tags", "in", ("$", "words"), "every"),
    leaf("flag", "==", True), leaf("flag", "!=", True), leaf("meta.user", "==", "x"), leaf("meta.tags", "==", "x", "some"),
    leaf("addr", "in_cidr", "10.0.0.0/8"), leaf("addr", "in_cidr", "fc00::/7"),
    leaf("proc.depth", "<", 2), leaf("proc.image", "==", "x"),
]  # fmt: skip
_FLOW = [
    leaf("tag", "from", ("prompt",)), leaf("tag", "from", ("human", "result(f.read).a")), leaf("n", "from", ("prompt",)),
    leaf("tag", "from", ("result(f.read).*",)), leaf("tag", "from", ("$words", "prompt")), leaf("tag", "from", ("$words",)),
    leaf("tags", "from", ("prompt", "$words"), "every"), leaf("tags", "from", ("human",), "some"),
    leaf("tag.integrity", "==", "trusted"), leaf("tag.level", ">=", "internal"), leaf("tags.integrity", "==", "untrusted"),
    leaf("flow.level", ">", "public"), leaf("flow.level", "<=", "internal"), leaf("flow.integrity", "==", "untrusted"),
    leaf("meta.user", "from", ("prompt",)),
    ("history", "count", "f.read", ">", 1), ("history", "sum", "f.read.n", "<=", 3), ("history", "sum", "m.send.n", ">", 3),
    ("history", "after", "m.send", "", None), ("history", "count", "w.get", "==", 0),
]  # fmt: skip
COMMON = [*_ABSENT, *_PLAIN, *_PLAIN, *_FLOW, *_FLOW]
OF = {
    "f": [
        *[leaf("path", verb, operand) for verb, operand in (("like", "/a/**"), ("in", ("$", "places")), ("from", ("prompt",)))],
        leaf("resolved", "like", "/a/*"), leaf("resolved", "absent"), leaf("resolved", "==", "/a/x"),
        leaf("resolved", "in", ("$", "words")),
    ],
    "m": [
        leaf("to", "==", "x", "every"), leaf("to", "in", ("$", "words"), "some"), leaf("to", "from", ("prompt", "$words"), "every"),
        leaf("to.integrity", "==", "untrusted"),
    ],
    "w": [
        leaf("url", "like", "https://*.good.example/**"), leaf("url", "from", ("prompt",)), leaf("dest_ip", "absent"),
        leaf("dest_ip", "in_cidr", "10.0.0.0/8"),
    ],
    "x": [leaf("argv", "==", "-c", "some"), leaf("argv", "like", "*", "every"), leaf("argv", "from", ("prompt",), "some")],
    "*": [],
}  # fmt: skip
REFS = {
    "f": ["f.read", "f.move", "f.*"], "m": ["m.send", "m.*"], "w": ["w.get"], "x": ["x.run"], "*": ["*", "effect once", "effect pure"],
}  # fmt: skip
PATTERNS = {
    "f": ["/a/**", "/a/*", "/**", "/", "**/x", "/b", "/a/x", "**/a/**", "/a*/?", "**.py", "$places"],
    "m": ["mail", "*", "**", "other"],
    "w": [
        "https://**",
        "https://*.good.example/**",
        "https://a.good.example/x",
        "*://**.example:*/x/*",
        "http://a.good.example/**",
    ],
    "x": ["ls **", "* **", "bash -c *", "python **", "python -c **", "*", "/bin/* **", "bash **", "python x", "p* **"],
    "*": [],
}
SETS = {"words": [("x*",), ("x", "**y"), ("*",)], "places": [("/a/**", "**/x"), ("/b",)]}


def expr_of(rng: Random, family: str, *, absent: bool, depth: int = 2) -> Expr:
    if depth and rng.random() < 0.45:
        if rng.random() < 0.35:
            inner = expr_of(rng, family, absent=absent, depth=depth - 1)
            return inner[1] if inner[0] == "not" else ("not", inner)
        sides = [expr_of(rng, family, absent=absent, depth=depth - 1) for _ in "ab"]
        return (rng.choice(["and", "or"]), *sides)
    pool = OF[family] if OF[family] and rng.random() < 0.35 else COMMON
    found: Expr = rng.choice(pool)
    return found if absent or found[3] != "absent" else ("history", "count", "f.read", ">", 1)


def scope_of(rng: Random, *, absent: bool) -> tuple[tuple[str, ...], tuple[str, ...], Expr | None, str]:
    family = rng.choice("fffffmwx*")
    ops = tuple({rng.choice(REFS[family]) for _ in range(rng.choice([1, 1, 2]))})
    patterns = tuple({rng.choice(PATTERNS[family]) for _ in range(rng.choice([0, 1, 2]))}) if PATTERNS[family] else ()
    when = expr_of(rng, family, absent=absent) if rng.random() < 0.6 else None
    return tuple(sorted(ops)), tuple(sorted(patterns)), when, family


def rule_of(rng: Random, outcomes: tuple[str, ...], *, absent: bool = True) -> Rule:
    ops, patterns, when, family = scope_of(rng, absent=absent)
    outcome = rng.choice(outcomes)
    unless = expr_of(rng, family, absent=absent) if rng.random() < 0.2 else None
    question = outcome == "allow" and (when or unless) is not None and "ask" in outcomes and rng.random() < 0.3
    remember = rng.choice(SCOPES) if outcome == "ask" or question else ""
    is_any = outcome == "allow" and (family in "mw*" or rng.random() < 0.5)
    return Rule(outcome, ops, patterns, when, unless, remember, question, is_any)


def duty_of(rng: Random, kind: str, *, absent: bool = True) -> Statement:
    chance = rng.random()
    if chance < 0.25:
        words = ["untrusted", "secret", "internal"] + ["trusted"] * 3 * (kind == "policy")
        return Label("f.read", rng.choice(["", "a", "a.b", "*"]), rng.choice(words))
    ops, patterns, when, _ = scope_of(rng, absent=absent)
    if chance < 0.55:
        words = tuple(sorted({rng.choice(["log", "redact", "sandbox", "preview"]) for _ in "ab"}))
        return Require(words, ops, patterns, when)
    of, per = rng.choice(["", "", "n", "size", "tokens"]), rng.choice(["1m", "1h", "process", "tree"])
    return Limit(ops, patterns, when, rng.choice([3, 50]), of, per, rng.choice(["", "", "tag", "n"]))


def file_of(
    rng: Random, kind: str, *, outcomes: tuple[str, ...] = ("allow", "allow", "ask", "deny"), absent: bool = True
) -> File:
    said = outcomes if kind == "policy" else tuple(one for one in outcomes if one != "allow")
    statements: list[Statement] = [rule_of(rng, said, absent=absent) for _ in range(rng.randrange(6))] if said else []
    statements += [duty_of(rng, kind, absent=absent) for _ in range(rng.randrange(3))]
    sets = {name: rng.choice(texts) for name, texts in SETS.items()}
    return File(kind, rng.choice(["one", "two"]), sets, tuple(rng.sample(statements, len(statements))))


def files_of(rng: Random, **more: Any) -> list[File]:
    """Return the files of a stack; limits are now and then repeated word for word, which the layers of one name share."""
    found: list[File] = []
    for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
        file = file_of(rng, rng.choice(["policy", "policy", "restrict"]), **more)
        again = tuple(limit for other in found for limit in other.limits if rng.random() < 0.5)
        found.append(replace(file, statements=(*file.statements, *again)))
    return found


def layer_of(file: File) -> Layer:
    return load_layer(text_of(file), source=file.name, table=TABLE)


def stack_of(files: list[File], **more: Any) -> Stack:
    return Stack([layer_of(file) for file in files], **more)


# --- calls -------------------------------------------------------------------------------------------------------------------

NAN = float("nan")
ARGS: dict[str, list[Any]] = {
    "n": [None, 0, 1, 1, 2, 3, 2.5, -1, NAN, True, "1", 10**30],
    "tag": [None, "", "/y", "x", "x", "xy", "z", "q/y", "x*", "x" * 9_000, "x" * 70_000, 5],
    "tags": [None, [], ["x"], ["x"], ["x", "z"], ["x", None], ["xy", "x"], "x", [["x"]]],
    "flag": [None, True, False, 1],
    "addr": [None, "10.1.2.3", "::ffff:10.9.9.9", "11.0.0.1", "fc00::1", "junk", ""],
    "meta": [None, {}, {"user": "x"}, {"user": None, "tags": ["x"]}, {"tags": "x", "user": "z"}, {"tags": ["z", None]}],
    "out": [None, "x"],
    "path": ["/", "/a", "/a/x", "/a/b/x", "/b", "/b/x.py", "/ab/x", "/x/a/x"],
    "into": ["/a/x", "/b", "/c"],
    "to": [["x"], ["x", "z"], ["xy"], []],
    "url": [
        "https://a.good.example/x", "https://a.b.good.example/", "http://a.good.example/x/y", "https://good.example:444/x/y",
        "https://evil.example/a.good.example/x",
    ],
    "argv": [
        ["ls"], ["ls", "-la", "a/b"], ["bash", "-c", "x"], ["/bin/bash", "-c", "x"], ["python"], ["python", "x"], ["python", "-c", "x"],
        ["/bin/ls"], ["bash"],
    ],
}  # fmt: skip
FLOWS: list[dict[str, Any]] = [
    {}, known(), known({"x": "prompt", 1: "prompt"}), known({"x": "human", "/a/x": "prompt"}, label=UNTRUSTED),
    known({"x": ("result(f.read).a", UNTRUSTED), "z": "prompt"}, label=SECRET), known({"x": "result(f.read).a.b"}, label=INTERNAL),
    known({"x": "prompt", "z": "human", "xy": ("result(f.read)", SECRET)}, counters={"count/f.read": 2, "sum/f.read.n": 4}),
    known(counters={"after/m.send": 1, "sum/m.send.n": 9.5, "count/w.get": 1}),
]  # fmt: skip
LATE: dict[str, list[Any]] = {
    "resolved": [None, "/a/x", "/b", "x", "/b/x"],
    "dest_ip": [None, "10.1.1.1", "::ffff:10.1.1.1", "8.8.8.8", "?"],
}


def call_of(rng: Random) -> Call:
    op = rng.choice([READ, READ, READ, MOVE, MOVE, SEND, GET, RUN, NEW])
    args = {name: rng.choice(ARGS[name]) for name in op.arg_names}
    facts = dict(rng.choice(FLOWS))
    facts |= {"proc.depth": rng.choice([0, 3])} if rng.random() < 0.7 else {}
    facts |= {"proc.image": rng.choice(["x", "y"])} if rng.random() < 0.7 else {}
    late: bool | tuple[str, ...] = False
    for name in op.late:
        late = rng.choice([False, True, True, (name,), ()])
        where = rng.choice([facts, facts, args, {}])
        where[name] = rng.choice(LATE[name])
    return Call(op, op.render(args, "/", 1), args, facts, late, rng.random() < 0.1)


POOL = [call_of(rng) for rng in [Random(20)] for _ in range(3_000)]


def calls_of(rng: Random, count: int) -> list[Call]:
    start = rng.randrange(len(POOL))
    return [POOL[(start + 31 * step) % len(POOL)] for step in range(count)]


# --- what the engine says, in the words of the oracle -------------------------------------------------------------------------


def decided(stack: Stack, call: Call) -> tuple[str, str]:
    found = stack.decide(call.op, call.resources, call.args, call.facts, late=call.late, own=call.own)
    return found.outcome, found.remember if found.outcome == "ask" else ""


def charged(stack: Stack, call: Call) -> list[tuple[Any, ...]]:
    return sorted((_in_words(one) for one in stack.charges(call.op, call.resources, call.args, call.facts)), key=repr)


def _in_words(charge: Charge) -> tuple[Any, ...]:
    if charge.amount_max is None:
        return charge.key, None, charge.amount, charge.by, charge.succeeded
    per = {60: "1m", 3600: "1h"}[int(charge.window_s)] if charge.per == "window" else charge.per
    beyond = (
        "more than there is" if charge.amount > charge.amount_max and charge.amount == charge.amount_max + 1 else charge.amount
    )
    return per, charge.amount_max, beyond, charge.by, charge.succeeded


def obliged(stack: Stack, call: Call) -> set[str]:
    return set(stack.obligations(call.op, call.resources, call.args, call.facts))


def shown(files: list[File], call: Call) -> str:
    """Return a case as a person can read and repeat it."""
    args = {name: value if len(str(value)) < 100 else f"<{len(value)} characters>" for name, value in call.args.items()}
    texts = "\n\n".join(map(text_of, files))
    return f"{texts}\n\n{call.op.name} {args}\nfacts {call.facts} late {call.late} own {call.own}"
