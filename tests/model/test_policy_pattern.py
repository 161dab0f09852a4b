"""Patterns against regular expressions, and containment against counting: every text over a small alphabet is tried."""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.resource import Resource
from agentos.policy import compile_pattern
from agentos.policy.regex import Regex
from tests.unit.policy.builders import argv, url

PARTS = ["a", "b", "*", "?", "a*", "*a", "*a*", "a?", "**", "ab"]
GLOBS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4)
SEGMENTS = ["".join(chars) for size in (1, 2, 3) for chars in product("ab", repeat=size)]
SMALL = [list(found) for size in range(4) for found in product(["a", "b", "ab", "ba", "aa", "z"], repeat=size)]
WIDE = [*SMALL, *([segment] for segment in SEGMENTS), *([first, second] for first in SEGMENTS for second in ("a", "bab"))]


def path(segments: list[str]) -> Resource:
    text = "/" + "/".join(segments)
    return Resource("path", text, text)


def ident(segments: list[str]) -> Resource:
    return Resource("id", "/".join(segments), "/".join(segments))


def regex_of(parts: list[str]) -> str:
    found = ""
    for part in parts:
        inner = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        found += "(?:/[^/]+)*" if part == "**" else "/[^/]+" if part == "*" else "/" + inner
    return found


@settings(max_examples=300)
@given(GLOBS)
def test_a_glob_matches_what_its_regular_expression_matches(parts: list[str]) -> None:
    as_path, as_id = compile_pattern("path", "/" + "/".join(parts)), compile_pattern("id", "/".join(parts))
    naive = re.compile(regex_of(parts))
    for segments in WIDE:
        expected = naive.fullmatch("/" + "/".join(segments) if segments else "") is not None
        assert as_path.matches(path(segments)) is expected, segments
        if segments:
            assert as_id.matches(ident(segments)) is expected, segments


@settings(max_examples=300)
@given(GLOBS, GLOBS)
def test_containment_has_a_counterexample_exactly_when_it_says_no(outer: list[str], inner: list[str]) -> None:
    wide, narrow = compile_pattern("path", "/" + "/".join(outer)), compile_pattern("path", "/" + "/".join(inner))
    witness = wide.witness(narrow)
    if witness is None:
        found = [segments for segments in WIDE if narrow.matches(path(segments)) and not wide.matches(path(segments))]
        assert found == []
        assert wide.contains(narrow)
    else:
        resource = Resource("path", witness, witness)
        assert narrow.matches(resource)
        assert not wide.matches(resource)
        assert not wide.contains(narrow)


LABELS = st.lists(st.sampled_from(["a", "*", "**", "a*"]), min_size=1, max_size=3).map(".".join)
URL_PATHS = st.lists(st.sampled_from(["a", "b", "*", "a*", "*a", "**"]), min_size=1, max_size=3).map("/".join)
URLS = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["https", "http", "*"]),
    LABELS,
    st.sampled_from(["", ":80", ":443", ":*"]),
    URL_PATHS,
)
HOSTS = ("a", "b", "a.a", "b.a", "ab.b.a")
ALL_URLS = [
    f"{scheme}://{host}{port}/{path}"
    for scheme, host, port in product(("http", "https"), HOSTS, ("", ":80", ":443", ":9"))
    for path in ("", "a", "a/", "b/a", "ab/b/a")
]


@settings(max_examples=200)
@given(URLS, URLS)
def test_url_containment_has_no_counterexample(outer: str, inner: str) -> None:
    wide, narrow = compile_pattern("url", outer), compile_pattern("url", inner)
    if wide.contains(narrow):
        assert [text for text in ALL_URLS if narrow.matches(url(text)) and not wide.matches(url(text))] == []


TOKENS = ["ls", "python", "bash", "-c", "x", "a/b", "/bin/ls"]
COMMANDS = [found for size in (1, 2, 3) for found in product(TOKENS, repeat=size)]
ARGVS = st.lists(
    st.sampled_from(["ls", "python", "bash", "-c", "x", "*", "**", "a/*", "?s", "/bin/*", "py*"]), min_size=1, max_size=3
).map(" ".join)


@settings(max_examples=300)
@given(ARGVS, ARGVS)
def test_command_containment_has_no_counterexample(outer: str, inner: str) -> None:
    wide, narrow = compile_pattern("argv", outer), compile_pattern("argv", inner)
    if wide.contains(narrow):
        assert [tokens for tokens in COMMANDS if narrow.covers(argv(*tokens)) and not wide.covers(argv(*tokens))] == []


PIECES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map("(?:{0[0]}){0[1]}".format),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=200)
@given(PIECES)
def test_a_regular_expression_agrees_with_the_backtracking_one(pattern: str) -> None:
    mine, theirs = Regex(pattern), re.compile(pattern, re.DOTALL)
    for text in ["", *SEGMENTS, "abab", "c", "aac"]:
        assert mine.matches(text) is (theirs.fullmatch(text) is not None), text
