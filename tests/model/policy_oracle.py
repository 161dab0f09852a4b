"""The meaning of the privilege language, written as naively as the words of the reference page.

It knows no index, no order, no memory and no closures, and nothing of `agentos.policy`: files are data, every question is answered by
walking over all of it. Truth values are "T", "F" and "U".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from agentos.abi.labels import UNTRUSTED
from agentos.abi.op import Op
from agentos.abi.resource import Resource
from tests.model.policy_files import RANKS, SCOPES, Call, Expr, File, Label, Limit, Require, Rule, spell

LEVELS = ["public", "internal", "secret"]
TEXT_MAX, REGEX_MAX = 65_536, 8_192
SUMMED_MAX = 10**18


# --- patterns ----------------------------------------------------------------------------------------------------------------


@cache
def segments_match(patterns: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if not patterns:
        return not segments
    head, rest = patterns[0], patterns[1:]
    if head == "**":
        return any(segments_match(rest, segments[start:]) for start in range(len(segments) + 1))
    if head.startswith("**"):
        return segments_match(("**", f"*{head[2:]}", *rest), segments)
    return bool(segments) and one_matches(head, segments[0]) and segments_match(rest, segments[1:])


def one_matches(glob: str, text: str) -> bool:
    if glob == "*":
        return text != ""
    return re.fullmatch(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def text_matches(glob: str, text: str) -> bool:
    if glob == "*":
        return "/" not in text
    return segments_match(tuple(glob.split("/")), tuple(text.split("/")))


def path_matches(glob: str, path: str) -> bool:
    return segments_match(_split(glob), _split(path))


def _split(path: str) -> tuple[str, ...]:
    body = path.removeprefix("/")
    return tuple(body.split("/")) if body else ()


def url_matches(glob: str, resource: Resource) -> bool:
    scheme, _, rest = glob.partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.partition(":")
    url: Any = resource.value
    default = {"https": 443, "http": 80}[url.scheme]
    if scheme not in ("*", url.scheme) or not (port == "*" or url.port == (int(port) if port else default)):
        return False
    if authority == "**" and not slash:
        path = "**"
    return segments_match(tuple(host.split(".")), tuple(url.host.split("."))) and path_matches(path, url.path)


def argv_matches(glob: str, argv: tuple[str, ...]) -> bool:
    tokens = glob.split()
    if tokens[0] == "*" and "/" in argv[0]:
        return False
    return _tokens_match(tuple(tokens), argv)


def _tokens_match(tokens: tuple[str, ...], argv: tuple[str, ...]) -> bool:
    if not tokens:
        return not argv
    if tokens[0] == "**":
        return any(_tokens_match(tokens[1:], argv[start:]) for start in range(len(argv) + 1))
    if not argv or not _tokens_match(tokens[1:], argv[1:]):
        return False
    return tokens[0] == "*" or (tokens[0].count("/") == argv[0].count("/") and one_matches(tokens[0], argv[0]))


def is_named(glob: str, argv: tuple[str, ...]) -> bool:
    """A command that runs commands is granted by its name, inline code by its very option."""
    tokens = glob.split()
    name = argv[0].rsplit("/", 1)[-1]
    if name not in ("bash", "python") or not set("*?") & set(glob):
        return True
    if name == "bash":
        return tokens[0] == argv[0]
    return (len(argv) > 1 and "-c" not in argv) or (tokens[0] == argv[0] and "-c" in tokens)


def matches(text: str, resource: Resource, *, granting: bool) -> bool:
    if resource.kind == "url":
        return url_matches(text, resource)
    if resource.kind == "argv":
        argv: Any = resource.value
        return argv_matches(text, argv) and (not granting or is_named(text, argv))
    return path_matches(text, resource.text)


# --- conditions --------------------------------------------------------------------------------------------------------------


def negated(value: str) -> str:
    return {"T": "F", "F": "T", "U": "U"}[value]


def both(first: str, second: str) -> str:
    return "F" if "F" in (first, second) else "U" if "U" in (first, second) else "T"


def either(first: str, second: str) -> str:
    return negated(both(negated(first), negated(second)))


def truth(value: bool) -> str:
    return "T" if value else "F"


@dataclass(frozen=True)
class View:
    """What a condition is asked about: a call, the sets of the file, and the late attributes that are known."""

    call: Call
    sets: dict[str, tuple[str, ...]]
    known: Collection[str]


def known_late(call: Call) -> Collection[str]:
    if isinstance(call.late, bool):
        return [name for name in call.op.late if call.late and (name in call.facts or name in call.args)]
    return call.late


def evaluate(expr: Expr, view: View, favour: bool) -> str:
    """`favour` is what a late test counts as while it is ignored, turned round under `not`."""
    if expr[0] == "not":
        return negated(evaluate(expr[1], view, not favour))
    if expr[0] in ("and", "or"):
        first, second = (evaluate(item, view, favour) for item in expr[1:])
        return both(first, second) if expr[0] == "and" else either(first, second)
    if expr[0] == "history":
        return _history(expr, view.call.facts.get("flow"))
    return _test(expr, view, favour)


def _history(expr: Expr, flow: Any) -> str:
    _, verb, subject, compare, number = expr
    if flow is None:
        return "U"
    if verb == "after":
        return truth(flow.happened(subject))
    op, _, attr = subject.rpartition(".")
    return _compare(compare, flow.count(subject) if verb == "count" else flow.total(op, attr), number)


def _test(expr: Expr, view: View, favour: bool) -> str:
    _, asked, name, verb, operand = expr
    if name in view.call.op.late and name not in view.known:
        return truth(favour)
    value = value_of(name, view.call)
    if verb == "absent":
        return truth(value is None)
    if value is None:
        return "U"
    if not asked:
        return _one(name, verb, operand, value, view)
    if not isinstance(value, list):
        return "U"
    answers = ["U" if item is None else _one(name, verb, operand, item, view) for item in value]
    decided = "F" if asked == "every" else "T"
    return decided if decided in answers else "U" if "U" in answers else negated(decided)


def value_of(name: str, call: Call) -> Any:
    root, _, last = name.partition(".")
    flow = call.facts.get("flow")
    if root == "proc":
        return call.facts.get(name)
    if name in call.op.late:
        return call.facts[name] if name in call.facts else call.args.get(name)
    if name == "size":
        return call.op.derived["size"][1](call.args)
    if root == "flow":
        return None if flow is None else _word(last, flow.label)
    value = call.args.get(root)
    if last in ("level", "integrity"):
        return None if flow is None or value is None else _word(last, flow.origin(value).label)
    if last == "length":
        return [_length(item) for item in value] if isinstance(value, list) else _length(value)
    if last:
        return value.get(last) if isinstance(value, dict) else None
    return value


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, str) else None


def _word(which: str, label: int) -> str:
    if which == "integrity":
        return "untrusted" if label & UNTRUSTED else "trusted"
    return "secret" if label & 2 else "internal" if label & 1 else "public"


def _one(name: str, verb: str, operand: Any, value: Any, view: View) -> str:
    if verb == "in":
        texts = view.sets[operand[1]] if operand[0] == "$" else ()
        found = [_like(name, text, value, view) for text in texts] if texts else [_compare("==", value, one) for one in operand]
        return "T" if "T" in found else "U" if "U" in found else "F"
    if verb == "from":
        return _from(name, operand, value, view)
    if verb == "like":
        return _like(name, operand, value, view)
    if verb == "matches":
        is_text = isinstance(value, str) and len(value) <= REGEX_MAX
        return truth(re.fullmatch(operand, value, re.DOTALL) is not None) if is_text else "U"
    if verb == "in_cidr":
        return _in_cidr(operand, value)
    return _compare(verb, value, operand)


def _compare(verb: str, value: Any, wanted: Any) -> str:
    if wanted in LEVELS and value in LEVELS:
        value, wanted = LEVELS.index(value), LEVELS.index(wanted)
    kinds: tuple[type, ...] = (bool,) if isinstance(wanted, bool) else (str,) if isinstance(wanted, str) else (int, float)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds != (bool,)) or str(value) == "nan":
        return "U"
    return truth(
        {
            "==": value == wanted,
            "!=": value != wanted,
            "<": verb == "<" and value < wanted,
            "<=": verb == "<=" and value <= wanted,
            ">": verb == ">" and value > wanted,
            ">=": verb == ">=" and value >= wanted,
        }[verb]
    )


def _like(name: str, text: str, value: Any, view: View) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        return "U"
    if name in ("path", "into"):
        return truth(path_matches(text, value))
    if name == "url":
        return truth(url_matches(text, view.call.resources[0]))
    return truth(text_matches(text, value))


def _in_cidr(network: str, value: Any) -> str:
    v4, v6 = re.fullmatch(r"(?:::ffff:)?(\d+)\.\d+\.\d+\.\d+", str(value)), re.fullmatch(r"(f[cd])00::1", str(value))
    if v4 is None and v6 is None:
        return "U"
    return truth(bool(v4 and v4[1] == "10") if network == "10.0.0.0/8" else v6 is not None)


def _from(name: str, sources: tuple[str, ...], value: Any, view: View) -> str:
    flow = view.call.facts.get("flow")
    in_sets = "F"
    for source in sources:
        if source.startswith("$"):
            for text in view.sets[source[1:]]:
                in_sets = either(in_sets, _like(name, text, value, view))
    named = [source for source in sources if not source.startswith("$")]
    if in_sets == "T" or not named:
        return in_sets
    if flow is None:
        return "U"
    real = flow.origin(value).sources
    return "T" if any(is_source(one, source) for one in named for source in real) else in_sets


def is_source(named: str, real: str) -> bool:
    if not named.endswith(".*"):
        return named == real
    return real == named[:-2] or real.startswith(named[:-1])


# --- decisions ---------------------------------------------------------------------------------------------------------------


def names(refs: tuple[str, ...], op: Op) -> bool:
    return any(ref in ("*", op.name, f"effect {op.effect}", op.name.partition(".")[0] + ".*") for ref in refs)


def leaves(expr: Expr | None) -> Iterator[Expr]:
    if expr is None:
        return
    if expr[0] in ("not", "and", "or"):
        for item in expr[1:]:
            yield from leaves(item)
    else:
        yield expr


def fits(op: Op, *exprs: Expr | None) -> bool:
    """Say whether the op has everything that is tested: an op that was mounted later may not."""
    tested = {leaf[2].partition(".")[0] for expr in exprs for leaf in leaves(expr) if leaf[0] == "test"}
    return tested <= {*op.arg_names, *op.late, *op.derived, "flow", "proc"}


def on(file: File, patterns: tuple[str, ...], resource: Resource, *, granting: bool = False) -> bool:
    texts = [text for ref in patterns for text in (file.sets[ref[1:]] if ref.startswith("$") else (ref,))]
    return not patterns or any(matches(text, resource, granting=granting) for text in texts)


def reaches(file: File, rule: Rule, op: Op, resource: Resource) -> bool:
    """Say whether a rule is about an op and a resource, whatever the arguments are."""
    granting = rule.outcome == "allow" or (rule.outcome == "ask" and file.kind == "policy")
    if not names(rule.ops, op) or not on(file, rule.patterns, resource, granting=granting):
        return False
    return rule.outcome == "deny" or is_made_for(rule, op)


def is_made_for(rule: Rule, op: Op) -> bool:
    tested = {leaf[2] for expr in (rule.when, rule.unless) for leaf in leaves(expr) if leaf[0] == "test"}
    is_open = (
        rule.outcome == "allow" and not rule.is_any and not op.sinks <= tested | {f for t in op.resources for f in t.fields}
    )
    return fits(op, rule.when, rule.unless) and not is_open


def applies(file: File, rule: Rule, call: Call, resource: Resource) -> bool:
    if not reaches(file, rule, call.op, resource):
        return False
    deny = rule.outcome == "deny"
    if deny and not is_made_for(rule, call.op):
        return True
    view = View(call, file.sets, known_late(call))
    wanted = evaluate(rule.when, view, not deny) if rule.when else "T"
    barred = evaluate(rule.unless, view, deny) if rule.unless else "F"
    return both(wanted, negated(barred)) in ("TU" if deny else "T")


def answer(file: File, call: Call, resource: Resource) -> tuple[str, str]:
    """Return what one file says about one resource of a call, and how wide an answer to its ask may be."""
    found = [rule for rule in file.rules if applies(file, rule, call, resource)]
    said = {rule.outcome for rule in found}
    asking = [rule.remember for rule in found if rule.outcome == "ask"]
    if "deny" in said:
        return "deny", ""
    if asking:
        return "ask", min(asking, key=SCOPES.index)
    if "allow" in said:
        return "allow", ""
    nearly = [rule.remember for rule in file.rules if rule.question and reaches(file, rule, call.op, resource)]
    if nearly:
        return "ask", min(nearly, key=SCOPES.index)
    return ("deny" if file.kind == "policy" and not call.own else "allow"), ""


def decide(files: list[File], call: Call) -> tuple[str, str]:
    found = [answer(file, call, resource) for file in files for resource in call.resources]
    outcome = min((outcome for outcome, _ in found), key=RANKS.__getitem__, default="allow")
    scopes = [scope for said, scope in found if said == "ask"]
    return outcome, min(scopes, key=SCOPES.index) if outcome == "ask" else ""


def holds(file: File, one: Limit | Require, call: Call) -> bool:
    if not names(one.ops, call.op) or not any(on(file, one.patterns, resource) for resource in call.resources):
        return False
    if one.when is None or not fits(call.op, one.when):
        return True
    return evaluate(one.when, View(call, file.sets, ()), True) != "F"


def obligations(files: list[File], call: Call) -> set[str]:
    return {word for file in files for one in file.requires if holds(file, one, call) for word in one.words}


# --- charges -----------------------------------------------------------------------------------------------------------------

BEYOND = "more than there is"


def charges(files: list[File], call: Call) -> list[tuple[Any, ...]]:
    """Return what limits charge, one of a name and text once, and what tests on history count."""
    limits = {
        (
            file.name,
            limit,
            tuple((name, patterns) for name, patterns in sorted(file.sets.items()) if f"${name}" in spell(limit)),
        )
        for file in files
        for limit in file.limits
        if holds(file, limit, call)
    }
    found: list[tuple[Any, ...]] = [_charge(limit, call) for _, limit, _ in limits]
    return sorted(found + [_count(leaf, call) for leaf in counted(files, call.op)], key=repr)


def counted(files: list[File], op: Op) -> set[tuple[str, str]]:
    exprs = [
        expr
        for file in files
        for one in file.statements
        if not isinstance(one, Label)
        for expr in (one.when, one.unless if isinstance(one, Rule) else None)
    ]
    history = {(leaf[1], leaf[2]) for expr in exprs for leaf in leaves(expr) if leaf[0] == "history"}
    return {(verb, on) for verb, on in history if (on.rpartition(".")[0] if verb == "sum" else on) == op.name}


def _charge(limit: Limit, call: Call) -> tuple[Any, ...]:
    amount: Any = 1
    if limit.of:
        has = limit.of in (*call.op.arg_names, *call.op.derived)
        amount = value_of(limit.of, call) if has else 0 if limit.of == "tokens" else None
        amount = amount if is_number(amount) and amount >= 0 else BEYOND
    by = value_of(limit.by, call) if limit.by in call.op.arg_names else None
    return limit.per, limit.amount, amount, split_text(by), False


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and str(value) not in ("nan", "inf")


def split_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _count(counter: tuple[str, str], call: Call) -> tuple[Any, ...]:
    verb, subject = counter
    amount: Any = 1
    if verb == "sum":
        value = call.args.get(subject.rpartition(".")[2])
        amount = 0 if value is None else value if is_number(value) else SUMMED_MAX
        amount = max(0, min(amount, SUMMED_MAX))
    return f"{verb}/{subject}", None, amount, "", verb == "after"


# --- labels ------------------------------------------------------------------------------------------------------------------


def label_of(files: list[File], endorsing: int, op: str, path: str) -> tuple[set[str], bool]:
    """Return the words said about a field of a result, and whether it is endorsed."""
    said = [
        (number, one.word)
        for number, file in enumerate(files)
        for one in file.labels
        if one.op == op and (one.path in ("", "*", path) or path.startswith(f"{one.path}."))
    ]
    words = {word for _, word in said}
    return words, "untrusted" not in words and any(word == "trusted" and number < endorsing for number, word in said)
