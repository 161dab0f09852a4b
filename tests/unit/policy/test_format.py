"""`policy fmt`: format-keeps-meaning, for the pages' own policies and for files in which every blank is another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.ops import builtin
from agentos.errors import Invalid
from agentos.policy import check_text
from agentos.policy.format import format_text
from agentos.policy.format_lines import WIDTH
from agentos.policy.lexer import tokenize
from agentos.policy.parse import parse_file

ROOT = Path(__file__).parents[3]
FILES = [*sorted((ROOT / "policies").glob("*.policy")), *sorted((Path(__file__).parent / "examples").glob("*.policy"))]
STATEMENTS = [
    'allow fs.read, fs.list "/a", $secrets', "deny *", "ask effect once, exec.run timeout 10m remember once",
    'let secrets = "**/.env", "**/.ssh/**"', 'deny fs.* $secrets because "a # is no comment here, \\" neither is this"',
    'allow net.fetch "https://x.example/**" when method in [GET, HEAD] and (url like "**" or not timeout_s > 10) any url',
    "allow mail.send when every to matches /a\\/b#c/ unless some cc is absent any *", "limit fs.read 60 of bytes per 1m by path",
    "require log, redact for fs.* when flow.level >= secret", "label result(net.fetch).body untrusted, secret",
    'expect allow fs.write "/src/a.py" size=10 text="x"', 'ask fs.write when count(fs.write) > 3 as look-first because "x"',
    'allow bank.pay when to from { prompt, result(a.b).*, $known } else ask "Pay {amount}?"',
    "deny exec.run when " + " or ".join(f'argv.a{number} == "something long enough to wrap {number}"' for number in range(5)),
]  # fmt: skip


def spelled(text: str) -> str:
    return format_text(text, source="t.policy")


def meaning(text: str) -> str:
    """The tree without its places."""
    tree, refusals = parse_file(text)
    assert tree is not None
    assert not refusals
    return re.sub(r"At\(line=\d+, col=\d+\)", "@", repr(tree))


def comments(text: str) -> list[str]:
    """The comments of a text without `#` in its strings and expressions."""
    return [found.rstrip() for found in re.findall(r"#[^\n]*", text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_policy_keeps_its_meaning_and_its_comments(path: Path) -> None:
    text = path.read_text()
    made = spelled(text)
    assert meaning(made) == meaning(text)
    assert comments(made) == comments(text)
    assert spelled(made) == made


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_formatted_policy_decides_by_the_same_rules(path: Path) -> None:
    before, after = (check_text(text, source="x", table=builtin()) for text in (path.read_text(), spelled(path.read_text())))
    assert [problem.code for problem in after.errors] == [problem.code for problem in before.errors]
    if before.layer is not None and after.layer is not None:
        rules = [[(rule.rule.outcome, rule.patterns) for rule in each.layer.rules] for each in (before, after) if each.layer]
        assert rules[0] == rules[1]


def test_some_shipped_policies_load_with_the_built_in_ops_alone() -> None:
    assert any(check_text(path.read_text(), source="x", table=builtin()).layer for path in FILES)


GAPS = st.sampled_from([" ", "  ", "\t", "\n", "\n\n\n", ' # why "not"\n', "#\n", "\n# alone\n\n", "\r\n", "\n#a\n#b\n"])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A file whose tokens are parted by anything that may part them, and its comments."""
    chosen = draw(st.lists(st.sampled_from(STATEMENTS), max_size=6))
    head = draw(st.sampled_from(["", "# head\n", "\n\n"]))
    parts, gaps = [head], [head]
    for statement in ['policy "t" version 1', *chosen]:
        tokens = [token.text for token in tokenize(statement)][:-1]
        busy = draw(st.booleans())
        for number, token in enumerate(tokens, 1):
            last = draw(st.sampled_from(["\n", "\n\n", " # end\n", " "])) if number == len(tokens) else " "
            gaps.append(draw(GAPS) if busy and number < len(tokens) else last)
            parts += [token, gaps[-1]]
    gaps.append(draw(st.sampled_from(["", "# last", "\n# last\n"])))
    return "".join([*parts, gaps[-1]]), [comment for gap in gaps for comment in comments(gap)]


@settings(max_examples=300, deadline=None)
@given(files())
def test_format_keeps_meaning_and_loses_no_comment_and_is_idempotent(made: tuple[str, list[str]]) -> None:
    text, said = made
    found = spelled(text)
    assert meaning(found) == meaning(text)
    assert all(found.count(comment) >= said.count(comment) for comment in said)
    assert spelled(found) == found
    assert "\n\n\n" not in found
    assert found.endswith("\n")


def test_neighbours_stand_in_columns_and_groups_stay_apart() -> None:
    text = 'policy "t"\nallow a.b "/x" when c==1\ndeny longer.name    "/yy"   when d  ==  2\n\n\n\nask a.b'
    assert spelled(text) == (
        'policy "t"\nallow a.b         "/x"  when c == 1\ndeny  longer.name "/yy" when d == 2\n\nask   a.b\n'
    )


def test_a_statement_that_is_too_long_has_a_line_for_each_clause() -> None:
    long = f'policy "t"\nask a.b "/x" when c == "{"y" * 70}" timeout 10m because "{"z" * 70}"\n'
    lines = spelled(long).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["ask", "when", "timeout", "because"]
    assert max(map(len, lines)) <= WIDTH


def test_a_set_of_sources_stays_on_one_line_when_it_fits_there() -> None:
    given = ", ".join(f"result(bank.bill{number}).amount" for number in range(3))
    text = f'policy "t"\nallow a.b when x == "{"1" * 40}" and to from {{ {given} }} and amount from {{ prompt }}\n'
    assert spelled(text).splitlines()[2:] == [
        f'      when x == "{"1" * 40}"',
        f"        and to from {{ {given} }}",
        "        and amount from { prompt }",
    ]


def test_what_brackets_hold_is_broken_only_where_no_line_holds_it_and_then_stands_further_in() -> None:
    given = [f"result(bank.bill{number}).amount" for number in range(6)]
    lines = spelled(f'policy "t"\nallow a.b when x == 1 and to from {{ {", ".join(given)} }} and y == 2\n').splitlines()
    assert lines[2:] == [
        "      when x == 1 and to from {" + f" {', '.join(given[:3])},", f"          {', '.join(given[3:])} }} and y == 2",
    ]  # fmt: skip


def test_a_long_condition_is_broken_before_or_rather_than_and() -> None:
    one, two = ("x" * 30 + " == 1", "y" * 30 + " == 2")
    lines = spelled(f'policy "t"\nallow a.b when ({one} and {two} or {two} and {one}) and {one}\n').splitlines()
    assert lines[2:] == [f"      when ({one} and {two}", f"          or {two} and {one})", f"        and {one}"]


def test_an_expectation_that_is_too_long_keeps_its_columns_and_is_broken_between_settings() -> None:
    body = f'expect allow a.b "/x" to=["a", "b"] x="{"y" * 85}" x.source="result(a.b)" flow.level=secret\nexpect deny a.longer "/xyz" y=1\n'
    assert spelled(f'policy "t"\n{body}').splitlines()[1:] == [
        'expect allow a.b      "/x"   to=["a", "b"]',
        f'      x="{"y" * 85}" x.source="result(a.b)"',
        "      flow.level=secret",
        'expect deny  a.longer "/xyz" y=1',
    ]


def test_no_line_of_statements_without_comments_is_too_long_where_it_can_be_broken() -> None:
    text = 'policy "t"\n' + "\n".join(STATEMENTS) + f'\nallow {"z" * 20}.{"z" * 20} when x == "{"y" * 60}" because "b"'
    assert max(map(len, spelled(text).splitlines())) <= WIDTH


def test_a_comment_inside_a_statement_keeps_the_lines_of_its_author() -> None:
    text = 'policy "t"\nallow a.b   # which\n   "/x"  #   where\n when c==1\n'
    assert spelled(text) == 'policy "t"\nallow a.b  # which\n      "/x"  #   where\n      when c == 1\n'


def test_a_file_that_does_not_parse_is_refused_with_its_place() -> None:
    with pytest.raises(Invalid) as caught:
        spelled('policy "t"\nallow fs.read when\n')
    assert caught.value.fields["where"] == "t.policy:3:1"
