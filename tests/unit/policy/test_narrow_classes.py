"""Representatives against the real matchers: no resource, text or command behaves like none of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.errors import Invalid
from agentos.policy.expect import resource_of
from agentos.policy.narrow.automaton import Allowance, Automaton, many, spelled
from agentos.policy.narrow.resource import resources_of
from agentos.policy.narrow.text import Asked, Findings, Text, numbers, texts
from agentos.policy.pattern import Pattern, compile_pattern, text_matcher
from agentos.policy.regex import Regex
from agentos.policy.regex_parse import parse_regex
from tests.unit.policy.builders import TABLE

SEGMENTS = st.sampled_from(["a", "b", "ab", "a.py", ".env", "..x", "*", "a*", "*b", "?", "*.py", "?b*", "**"])
PARTS = st.sampled_from(["a", "b", "ab", "aab", "x.py", ".env", "..x", "ba", "é"])
EXPRESSIONS = st.sampled_from(["a+", "[ab]*", "/a/.*", r"\w{2}", "(a|b/)?x", "[^a]+", "a/b", ".*", "é?b"])
HOSTS = st.sampled_from(["a.example", "*.example", "**.a.example", "**", "127.0.0.1", "*.*"])
URL_GLOBS = st.sampled_from(["", "a", "a*", "*", "**", "*/b", "**/x.py", "a/**"])
TOKENS = st.sampled_from(
    ["pytest", "python", "python3", "sh", "git", "-c", "-m", "x.py", "*.py", "*", "-*", "p*", "--eval=x", "eval", "**"]
)
WORDS = st.sampled_from(
    ["pytest", "python", "python3.11", "/bin/sh", "git", "perl", "-c", "-m", "x.py", "-", "-xc", "--eval=1", "eval", "a"]
)


def act(name: str) -> Op:
    return TABLE.find(name)


def answers(patterns: list[Pattern], resource: Resource) -> list[tuple[bool, bool]]:
    return [(pattern.matches(resource), pattern.covers(resource)) for pattern in patterns]


def stands_for(op: str, kind: str, globs: list[str], text: str) -> bool:
    """Say whether some representative answers every pattern like the resource `text`, if it is one."""
    patterns = [compile_pattern(kind, glob) for glob in globs]  # type: ignore[arg-type]
    found = resources_of(act(op), act(op).resources[0], patterns, (), Allowance(100_000))
    assert found is not None
    try:
        resource = resource_of(kind, text)  # type: ignore[arg-type]
    except Invalid:
        return True
    return answers(patterns, resource) in [answers(patterns, one) for one in found]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(SEGMENTS, min_size=1, max_size=3), max_size=5), st.lists(PARTS, max_size=4))
def test_every_path_behaves_like_one_of_the_representatives(globs: list[list[str]], parts: list[str]) -> None:
    assert stands_for("fs.read", "path", ["/" + "/".join(glob) for glob in globs], "/" + "/".join(parts))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(SEGMENTS, min_size=1, max_size=2), max_size=4), PARTS)
def test_every_id_of_an_op_behaves_like_one_of_the_representatives(globs: list[list[str]], account: str) -> None:
    resource = act("bank.transfer").render({"account": account}, "/", 1)[0]
    patterns = [compile_pattern("id", "/".join(["acct", *glob]) if len(glob) == 1 else "/".join(glob)) for glob in globs]
    found = resources_of(act("bank.transfer"), act("bank.transfer").resources[0], patterns, (), Allowance(100_000))
    assert found is not None
    assert answers(patterns, resource) in [answers(patterns, one) for one in found]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["https", "http", "*"]), HOSTS, st.sampled_from(["", ":8080", ":*"]), URL_GLOBS), max_size=4
    ),
    st.tuples(
        st.sampled_from(["https", "http", "ws"]), st.sampled_from(["a.example", "b.a.example", "evil", "127.0.0.1", "[::1]"])
    ),
    st.sampled_from(["", ":8080", ":443", ":99"]),
    st.lists(PARTS, max_size=2),
)
def test_every_url_behaves_like_one_of_the_representatives(
    globs: list[tuple[str, str, str, str]], origin: tuple[str, str], port: str, parts: list[str]
) -> None:
    written = [f"{scheme}://{host}{at}/{glob}" for scheme, host, at, glob in globs]
    assert stands_for("net.fetch", "url", written, f"{origin[0]}://{origin[1]}{port}/{'/'.join(parts)}")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(TOKENS, min_size=1, max_size=4), max_size=4), st.lists(WORDS, min_size=1, max_size=4))
def test_every_command_behaves_like_one_of_the_representatives_also_where_interpreters_must_be_named(
    globs: list[list[str]], argv: list[str]
) -> None:
    assert stands_for("exec.run", "argv", [" ".join(glob) for glob in globs], " ".join(argv))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join), max_size=3),
    st.lists(EXPRESSIONS, max_size=2),
    st.lists(st.text(alphabet="ab/x", max_size=4), max_size=2),
    st.text(alphabet="abx/.é", max_size=6),
    st.sampled_from([0, 0, 9_000, 70_000]),
)
def test_combinations_are_complete_every_text_behaves_like_a_representative_also_the_very_long(
    globs: list[str], expressions: list[str], whole: list[str], text: str, more: int
) -> None:
    def said(value: str) -> list[bool | None]:
        like = [text_matcher(glob)(value) if len(value) <= 65_536 else None for glob in globs]
        matched = [Regex(expression).matches(value) if len(value) <= 8_192 else None for expression in expressions]
        return [*like, *matched, *(value == one for one in whole)]

    findings = Findings()
    found = texts(Asked(globs=globs, expressions=expressions, whole=whole), findings, Allowance(100_000))
    assert findings.exact
    assert said(text + "a" * more) in [said(one) for one in found]


@given(st.lists(st.integers(-5, 5), max_size=4), st.one_of(st.integers(-7, 7), st.floats(-7, 7)))
def test_every_number_compares_like_one_of_the_representatives(constants: list[int], value: float) -> None:
    def said(number: float) -> list[tuple[bool, bool]]:
        return [(number < constant, number == constant) for constant in constants]

    found = numbers(constants, is_whole=isinstance(value, int))
    assert said(value) in [said(number) for number in found]


def test_numbers_keep_within_what_the_declaration_demands() -> None:
    assert sorted(numbers([3], is_whole=True, bounds=[("ge", 1), ("lt", 4)])) == [1, 2, 3]


def test_a_text_says_the_length_it_was_given_and_is_otherwise_itself() -> None:
    text = Text("ab", 9_000)
    assert len(text) == 9_000
    assert text == "ab"
    assert text.split("b") == ["a", ""]
    assert [len(part) for part in Text("", 9_000).split("/")] == [0]


def test_classes_are_complete_or_there_are_none() -> None:
    automaton = Automaton(many(parse_regex("[ab]")))
    for word in ("ab", "ba", "aab"):
        automaton.add(spelled(word))
    assert automaton.explore(Allowance(30)) is None
    found = automaton.explore(Allowance(1_000))
    assert found is not None
    assert sorted(found.values()) == ["", "aab", "ab", "ba"]
