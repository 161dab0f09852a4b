"""Patterns: what they match, what they do not however it is spelled, and what they contain."""

from __future__ import annotations

import time

import pytest

from agentos.abi.resource import Resource
from agentos.errors import Invalid
from agentos.policy import compile_pattern
from agentos.policy.regex import Regex
from tests.unit.policy.builders import argv, decide, ident, path, url

PATHS = [
    ("/src/**", "/src /src/a /src/a/b", "/srcx / /a/src"),
    ("/src/*", "/src/a /src/.x", "/src /src/a/b"),
    ("/src/*.py", "/src/a.py /src/.py", "/src/a.pyc /src/b/a.py"),
    ("/tools/**.ts", "/tools/a.ts /tools/x/y/a.ts", "/tools/a.tsx /a.ts /tools"),
    ("**/.env", "/.env /a/.env /a/b/.env", "/a/.envx /.env/a /x.env"),
    ("**/.git/**", "/.git /.git/config /a/.git/b/c", "/.gitx /a/b.git"),
    ("/a/**/z", "/a/z /a/b/z /a/b/c/z", "/a /z /a/z/y"),
    ("/a?c", "/abc /a*c", "/ac /abbc /a/c"),
    ("/a*b*c", "/abc /axbybzc", "/acb /ab"),
    ("/", "/", "/a"),
    ("/**", "/ /a /a/b", ""),
    ("/[a]{b}", "/[a]{b}", "/a /b"),
    ("/A", "/A", "/a"),
]
URLS = [
    ("https://a.example/x/**", "https://a.example/x https://A.example:443/x/y https://a.example/x/?q=1", "http://a.example/x https://a.example/"),
    ("https://*.good.example/**", "https://a.good.example/", "https://good.example/ https://a.b.good.example/ https://good.example.evil/"),
    ("https://**.good.example/**", "https://good.example/ https://a.b.good.example/x", "https://xgood.example/"),
    ("https://**", "https://a.example/ https://b.example/c/d", "https://a.example:8443/ http://a.example/"),
    ("http://127.0.0.1:*/health", "http://127.0.0.1:80/health http://127.0.0.1:9/health", "http://127.0.0.1/health/x http://127.0.0.2/health"),
    ("http://[::1]:80/**", "http://[::1]/x", "http://[::2]/x"),
    ("*://a.example/**", "http://a.example/ https://a.example/", "https://a.example:80/"),
    ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4", "https://bucher.example/a"),
    ("https://a.example", "https://a.example/", "https://a.example/x"),
    ("https://a.example/x/", "https://a.example/x/", "https://a.example/x"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "yes", "no"), PATHS)
def test_a_path_pattern_matches_whole_segments_in_full(pattern: str, yes: str, no: str) -> None:
    matches = compile_pattern("path", pattern).matches
    assert [text for text in yes.split() if not matches(path(text))] == []
    assert [text for text in no.split() if matches(path(text))] == []


@pytest.mark.parametrize(("pattern", "yes", "no"), URLS)
def test_a_url_pattern_matches_its_parts_apart(pattern: str, yes: str, no: str) -> None:
    matches = compile_pattern("url", pattern).matches
    assert [text for text in yes.split() if not matches(url(text))] == []
    assert [text for text in no.split() if matches(url(text))] == []


@pytest.mark.parametrize(
    "attack",
    [
        "https://evil.example#.good.example/x",
        "https://evil.example?.good.example/x",
        "https://evil.example/.good.example/x",
        "https://evil.example\\.good.example/x",
        "https://a.good.example@evil.example/",
        "https://evil.example:443@a.good.example/",
        "https://a.good.example.evil.example/",
        "https://a.good.example:444/",
        "http://a.good.example/",
        "https://a%2Egood.example/",
        "https://a.good.example\x00/",
        "https:///a.good.example/",
    ],
)
def test_no_other_host_passes_for_one_of_a_host_pattern(attack: str) -> None:
    try:
        found = url(attack)
    except Invalid:
        return
    assert not compile_pattern("url", "https://*.good.example/**").matches(found)


@pytest.mark.parametrize("attack", ["/b/../a/x", "/a/./x", "/a//x", "/b/c/../../a/x"])
def test_another_spelling_of_a_denied_path_is_denied(attack: str) -> None:
    assert decide('allow fs.read\ndeny fs.read "/a/**"', "fs.read", path=attack) == "deny"


@pytest.mark.parametrize(
    "attack", ["https://h.example/%61dmin/x", "https://h.example/x/%2e%2e/admin/", "https://H.example:443/x/../admin"]
)
def test_another_spelling_of_a_denied_url_is_denied(attack: str) -> None:
    assert decide('allow net.fetch any *\ndeny net.fetch "https://h.example/admin/**"', "net.fetch", url=attack) == "deny"


def test_an_id_pattern_is_quoted_as_its_resource_is() -> None:
    assert compile_pattern("id", "acct/7/**").matches(ident("acct/7"))
    assert compile_pattern("id", "note/é*").matches(ident("note/%C3%A9t%C3%A9"))
    assert not compile_pattern("id", "acct/*").matches(ident("acct/7/x"))
    assert decide('allow bank.transfer "acct/*"', "bank.transfer", account="7/../8", amount=1) == "allow"
    assert decide('allow bank.transfer "acct/7"', "bank.transfer", account="7/../7", amount=1) == "deny"


ARGV = [
    ("pytest **", [["pytest"], ["pytest", "-q", "a/b"]], [["/bin/pytest"], ["pytestx"], ["python", "pytest"]]),
    ("git *", [["git", "log"], ["git", "a/b"]], [["git"], ["git", "a", "b"]]),
    ("cat src/*", [["cat", "src/a"]], [["cat", "src/a/b"], ["cat", "/etc/passwd"]]),
    ("echo 'a b' \"*\"", [["echo", "a b", "*"]], [["echo", "a b", "x"], ["echo", "a", "b", "*"]]),
    ("* --version", [["ls", "--version"]], [["/bin/ls", "--version"], ["bash", "--version"]]),
    ("**", [["ls"], ["/bin/ls", "x"]], [["bash", "-c", "x"], ["/bin/sh", "x"], ["env", "ls"], ["xargs", "rm"]]),
    ("bash **", [["bash", "-c", "x"]], [["/bin/bash", "-c", "x"], ["sh"]]),
    ("python **", [["python", "x.py"], ["python", "-m", "pytest"]], [["python", "-c", "x"], ["python", "-Ic", "x"], ["python"]]),
    ("python *", [["python", "x.py"]], [["python", "-"], ["python", "-cx"]]),
    ("python -c **", [["python", "-c", "x"]], [["python", "-Ic", "x"], ["python3", "-c", "x"]]),
    ("python", [["python"]], [["python", "x"]]),
    ("python3.12 **", [["python3.12", "x.py"]], [["python3.12", "-cimport os"]]),
    ("node **", [["node", "x.js"]], [["node", "--eval=1"], ["node", "-pe", "1"], ["node", "-p", "1"]]),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "yes", "no"), ARGV, ids=[line[0] for line in ARGV])
def test_interpreters_are_named_and_tokens_match_one_by_one(pattern: str, yes: list[list[str]], no: list[list[str]]) -> None:
    covers = compile_pattern("argv", pattern).covers
    assert [tokens for tokens in yes if not covers(argv(*tokens))] == []
    assert [tokens for tokens in no if covers(argv(*tokens))] == []


def test_a_deny_matches_interpreters_without_naming_them() -> None:
    assert decide('allow exec.run "bash **"\ndeny exec.run "** -c **"', "exec.run", argv=["bash", "-c", "x"]) == "deny"
    assert decide('allow exec.run "**"', "exec.run", argv=["bash", "-c", "x"]) == "deny"
    assert decide('ask exec.run "**"', "exec.run", argv=["agentos", "approve", "1"]) == "ask"


CONTAINED = [
    ("path", "/a/**", "/a/*", True), ("path", "/a/*", "/a/**", False), ("path", "/a/**", "/a", True),
    ("path", "**/.env", "/x/.env", True), ("path", "**/x/**", "/a/**/x/y", True), ("path", "/a*/**", "/ab/c", True),
    ("path", "/*a*", "/a", True), ("path", "/a?", "/a*", False), ("path", "/**", "**/x", True), ("path", "/a/**/b", "/a/b", True),
    ("path", "/**/b/**", "/a/*", False), ("path", "/*", "/?*", True), ("path", "/?*", "/*", True),
    ("id", "acct/**", "acct/7/**", True), ("id", "acct/7", "acct/*", False),
    ("url", "https://**", "https://a.example/x", True), ("url", "https://**", "https://a.example:444/x", False),
    ("url", "https://**.a.example/**", "https://*.a.example/x", True), ("url", "https://*.a.example/**", "https://a.example/**", False),
    ("url", "*://a.example/**", "https://a.example/**", True), ("url", "https://a.example/**", "*://a.example/**", False),
    ("url", "https://a.example:*/**", "https://a.example/**", True), ("url", "https://a.example:443/", "https://a.example/", True),
    ("url", "https://a.example/**", "https://a.example/x/", True), ("url", "https://a.example/x", "https://a.example/x/", False),
    ("argv", "pytest **", "pytest -q *", True), ("argv", "**", "bash **", False), ("argv", "**", "ls **", True),
    ("argv", "python **", "python -c **", False), ("argv", "python **", "python *.py", True), ("argv", "* x", "/bin/ls x", False),
    ("argv", "git *", "git a/b", True), ("argv", "cat src/*", "cat *", False), ("argv", "python -c *", "python -c x", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "outer", "inner", "contained"), CONTAINED, ids=[f"{k} {o} > {i}" for k, o, i, _ in CONTAINED])
def test_containment_is_sound_and_exact(kind: str, outer: str, inner: str, contained: bool) -> None:
    assert compile_pattern(kind, outer).contains(compile_pattern(kind, inner)) is contained


def test_containment_beyond_its_bound_counts_as_wider() -> None:
    outer = compile_pattern("path", "/" + "*a" * 16 + "????????????????*/**")
    inner = compile_pattern("path", "/**/" + "*b?a" * 14 + "*/**")
    started = time.perf_counter()
    assert outer.witness(inner) == ""
    assert not outer.contains(inner)
    assert time.perf_counter() - started < 10


def test_no_text_makes_a_glob_slow() -> None:
    deep = compile_pattern("path", "/" + "**/a/" * 20 + "b")
    text = "/" + "/".join(["a"] * 128)
    wide = compile_pattern("path", "/" + "*a" * 60 + "b")
    started = time.perf_counter()
    assert not deep.matches(path(text))
    assert not wide.matches(path("/" + "a" * 255))
    assert time.perf_counter() - started < 0.5


def test_patterns_match_only_their_kind() -> None:
    for kind in ("path", "id", "url", "argv"):
        matches = compile_pattern(kind, "**").matches
        found = {one.kind for one in (path("/a"), ident("a"), url("https://a/"), argv("a")) if matches(one)}
        assert found == {kind}


REGEX = [
    ("a|bc", "a bc", "ab abc"), ("(ab)*", "ab abab", "aba"), (r"[A-Z]{2}\d{2,4}", "DE44 DE4444", "DE4 DE44444 de44"),
    (r"\w+@\w+\.com", "a@b.com", "a@b.org a@bxcom"), ("[^a-c]+", "xyz", "xaz"), ("a?b+", "b ab abb", "a aab"), (r"\(\)", "()", "("),
    ("[-a]+", "-a-", "b"), ("(?:x|y){3}", "xyx", "xy xyxy"), ("a{2,}", "aa aaa", "a"), (".", "x", "xy"), (r"[\d.]+", "1.2", "1,2"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "yes", "no"), REGEX)
def test_a_regular_expression_matches_in_full(pattern: str, yes: str, no: str) -> None:
    regex = Regex(pattern)
    assert [text for text in yes.split() if not regex.matches(text)] == []
    assert [text for text in no.split() if regex.matches(text)] == []


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*b", "a{0,400}b"])
def test_no_text_makes_a_regular_expression_slow(pattern: str) -> None:
    started = time.perf_counter()
    assert not Regex(pattern).matches("a" * 8_000)
    assert time.perf_counter() - started < 1


NO_REGEX = [
    "(a", "a)", "[a", "*a", "a**", "a{3,1}", "a{x}", "^a", "a$", r"(a)\1", "(?<n>a)", "a*?", "[z-a]", "[]", "(((a{500}){500}){500})",
    "(((){999}){999}){999}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", NO_REGEX)
def test_what_is_not_linear_or_malformed_is_no_regular_expression(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Regex(pattern)


def test_a_pattern_is_not_a_resource() -> None:
    assert compile_pattern("path", "/a*").matches(Resource("path", "/a*", "/a*"))
    with pytest.raises(Invalid):
        compile_pattern("path", "/" + "a" * 5000)
