"""The text of capabilities, what they cover, and that narrowing never widens."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.errors import Denied, Invalid
from agentos.policy import CapSpec, parse_capability
from tests.unit.policy.builders import TABLE, call, op, table


def cap(text: str) -> CapSpec:
    return parse_capability(text, TABLE)


def covers(text: str, name: str, /, **args: Any) -> bool:
    return cap(text).covers(*call(name, **args)[:3])


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("fs.read,fs.write   /docs/**", "fs.read, fs.write /docs/**"),
        ("fs.write /src/** when size<=64KB uses 20 for 30m depth 1", "fs.write /src/** when size <= 64KB uses 20 for 30m depth 1"),
        ("fs.*", "fs.read, fs.write, fs.move"),
        ("exec.run pytest **", 'exec.run "pytest **"'),
        ('exec.run "git log", make test uses 1', 'exec.run "git log", "make test" uses 1'),
        ('fs.read "/a b/**", /c', 'fs.read "/a b/**", /c'),
        ("bank.transfer acct/7/** when amount <= 100 depth 1", "bank.transfer acct/7/** when amount <= 100 depth 1"),
        ("fs.read /a for 90s", "fs.read /a for 90s"),
        ("fs.read /a for 1h30m depth 0", "fs.read /a for 90m depth 0"),
        ("fs.read when bytes_max <= 5 and bytes_max <= 3 and (encoding == a or encoding == b)",
         "fs.read when bytes_max <= 3 and (encoding == a or encoding == b)"),
        ("effect keyed", "bank.transfer"),
    ],
)  # fmt: skip
def test_a_capability_has_one_canonical_text_that_means_the_same(text: str, canonical: str) -> None:
    assert cap(text).text == canonical
    again = cap(canonical)
    assert (again, again.ops, again.patterns) == (cap(text), cap(text).ops, cap(text).patterns)
    assert (again.uses, again.ttl_s, again.depth) == (cap(text).uses, cap(text).ttl_s, cap(text).depth)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("fs.reed /x", "there is no op `fs.reed`", "did you mean `fs.read`?"),
        ("", "starts with no op", "OPS PATTERNS"),
        ("/docs/**", "starts with no op", "OPS PATTERNS"),
        ("fs.read src/**", "`src/**` is not absolute (for fs.read)", "`/src/**`"),
        ("fs.read, bank.transfer /src/**", "starts with `/`", "src/**"),
        ("fs.read /a use 20", "`use 20` after the pattern `/a` means nothing", "did you mean `uses`?"),
        ("fs.read /a uses 0", "out of range", "uses from 1"),
        ("fs.read /a uses 1.5", "out of range", ""),
        ("fs.read /a uses many", "a whole number", ""),
        ("fs.read /a for 30", "a duration such as `30m`", ""),
        ("fs.read /a for 0s", "out of range", ""),
        ("fs.read /a uses 1 uses 2", "given twice", ""),
        ("fs.read /a,", "missing after `,`", ""),
        ('fs.read "/a', "not closed", ""),
        ("fs.write when sizee < 3", "unknown attribute `sizee`", "size"),
        ("fs.read when proc.depth < 3", "cannot test `proc.depth`", "policy"),
        ('fs.read when resolved == "/x"', "cannot test `resolved`", "policy"),
        ("fs.read when path from { prompt }", "cannot test where `path` is from", "policy"),
        ("fs.read when flow.level == secret", "cannot test `flow.level`", "policy"),
        ("fs.read when path.integrity == trusted", "cannot test `path.integrity`", "policy"),
        ("fs.read when not (bytes_max < 3 or count(fs.read) < 3)", "cannot test history", "uses N"),
        ("fs.read when after(fs.read)", "cannot test history", "uses N"),
        ("fs.read when path in $set", "no set", ""),
        ("fs.read " + "x" * 70_000, "longer than", ""),
    ],
)
def test_a_malformed_capability_says_what_is_wrong(text: str, message: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        cap(text)
    assert caught.value.code == "invalid.argument"
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.field == "capability"


def test_it_covers_its_ops_on_resources_within_a_pattern() -> None:
    assert covers("fs.read /docs/**", "fs.read", path="/docs/a")
    assert not covers("fs.read /docs/**", "fs.read", path="/docsx")
    assert not covers("fs.read /docs/**", "fs.write", path="/docs/a")
    assert covers("fs.read", "fs.read", path="/anything")


def test_every_resource_of_a_call_must_be_within() -> None:
    assert covers("fs.move /a/**", "fs.move", path="/a/x", to="/a/y")
    assert not covers("fs.move /a/**", "fs.move", path="/a/x", to="/b/y")
    assert covers("fs.move /a/**, /b/**", "fs.move", path="/a/x", to="/b/y")


def test_a_condition_that_is_unknown_covers_nothing() -> None:
    assert covers("fs.write when size <= 3", "fs.write", path="/a", text="abc")
    assert not covers("fs.write when size <= 3", "fs.write", path="/a", text="abcd")
    assert not covers("fs.read when encoding == x", "fs.read", path="/a", encoding=None)
    assert not covers("fs.read when not encoding == x", "fs.read", path="/a", encoding=None)


def test_an_unnamed_interpreter_is_not_covered() -> None:
    assert covers("exec.run **", "exec.run", argv=["ls"])
    assert not covers("exec.run **", "exec.run", argv=["bash", "-c", "x"])
    assert not covers("exec.run python **", "exec.run", argv=["python", "-c", "x"])


def test_constant_means_without_condition() -> None:
    assert cap("fs.read /a uses 3").is_constant
    assert not cap("fs.read /a when bytes_max < 3").is_constant
    assert cap("fs.*").is_constant


def test_a_family_means_the_ops_that_exist_now_also_after_a_reopen() -> None:
    spec = cap("fs.*")
    grown = table(op("fs.chmod", lambda path: None, "once", "path:{path}"))
    assert "fs.chmod" not in parse_capability(spec.text, grown).ops
    assert "fs.chmod" in parse_capability("fs.*", grown).ops


@pytest.mark.parametrize(
    ("parent", "child", "result"),
    [
        ("fs.*", "fs.read /a", "fs.read /a"),
        ("fs.read, fs.write /src/**", "fs.read /src/a/*", "fs.read /src/a/*"),
        ("fs.write /a/** when size <= 64KB", "fs.write /a/b when size <= 32KB", "fs.write /a/b when size <= 32KB"),
        ("fs.write /a/** when size <= 64KB", "fs.write /a/b when size <= 1MB", "fs.write /a/b when size <= 64KB"),
        ("fs.write when size > 3", "fs.write when size < 9", "fs.write when size > 3 and size < 9"),
        ("fs.write when size > 3 or mode == create", "fs.write", "fs.write when size > 3 or mode == create"),
        ("fs.read /a/**, /b/**", "fs.read /b/x, /a/y uses 3", "fs.read /b/x, /a/y uses 3"),
        ("exec.run pytest **", "exec.run pytest -q", 'exec.run "pytest -q"'),
    ],
)
def test_narrowing_gives_what_both_cover(parent: str, child: str, result: str) -> None:
    assert cap(parent).narrow(cap(child)).text == result


@pytest.mark.parametrize(
    ("parent", "child", "why"),
    [
        ("fs.read /src/**", "fs.write /src/**", "`fs.write` is not among its ops"),
        ("fs.read /src/**", "fs.*", "is not among its ops"),
        ("fs.read /src/**", "fs.read", "every resource"),
        ("fs.read /src/**", "fs.read /**", "for example `/`"),
        ("fs.read /src/*", "fs.read /src/**", "`/src/**` is not within `/src/*`"),
        ("fs.read /src/**", "fs.read /src/a, /etc/b", "for example `/etc/b`"),
        ("exec.run **", "exec.run bash **", "`bash **` is not within"),
    ],
)
def test_narrow_never_widens_what_is_wider_is_refused_by_name(parent: str, child: str, why: str) -> None:
    with pytest.raises(Denied) as caught:
        cap(parent).narrow(cap(child))
    assert caught.value.code == "denied.capability"
    assert why in caught.value.message
    assert parent.split(maxsplit=1)[0] in caught.value.hint


def test_splitting_covers_the_same_by_op() -> None:
    parts = cap("fs.read, fs.write /a/** for 2h").split()
    assert [part.text for part in parts] == ["fs.read /a/** for 2h", "fs.write /a/** for 2h"]


def test_counted_uses_belong_to_the_whole_and_are_not_split() -> None:
    assert [part.text for part in cap("fs.read, fs.write /a/** uses 2").split()] == ["fs.read, fs.write /a/** uses 2"]


def test_within_takes_the_smaller_uses_lifetime_and_depth() -> None:
    assert (
        cap("fs.read /a/** uses 9 for 1h").within(cap("fs.read /** uses 2 for 2h depth 1")).text
        == "fs.read /a/** uses 2 for 1h depth 1"
    )


@pytest.mark.parametrize(
    ("condition", "args", "covered"),
    [
        ("amount <= 100", {"amount": 100}, True),
        ("amount <= 100", {"amount": 100.5}, False),
        ("amount >= 5 and amount <= 100", {"amount": 4}, False),
        ("not amount > 100 or meta.urgent == true", {"amount": 200, "meta": {"urgent": True}}, True),
        ("meta is absent", {"amount": 1}, True),
        ("meta is absent", {"amount": 1, "meta": {}}, False),
        ('meta.note == "a b"', {"amount": 1, "meta": {"note": "a b"}}, True),
        ('value like "DE*"', {"amount": 1, "value": "DE12"}, True),
        ("value matches /DE[0-9]+/", {"amount": 1, "value": "xDE12"}, False),
        ("value in [DE1, 7]", {"amount": 1, "value": 7}, True),
    ],
)
def test_a_capability_takes_the_tests_of_policies_on_arguments(condition: str, args: dict[str, Any], covered: bool) -> None:
    assert covers(f"bank.transfer acct/7 when {condition}", "bank.transfer", account="7", **args) is covered


def test_lists_are_tested_with_every_and_some() -> None:
    assert covers("mail.send when every to in [a, b]", "mail.send", to=["a", "b"])
    assert not covers("mail.send when every to in [a, b]", "mail.send", to=["a", "c"])
    assert covers("mail.send when some parts.size > 5", "mail.send", to=[], parts=[{"file_id": "x", "size": 6}])
    assert covers(
        "net.fetch when method in [GET, HEAD] and timeout_s <= 10s", "net.fetch", url="https://a.example/", timeout_s=5
    )


@pytest.mark.parametrize(
    ("text", "col", "under"),
    [
        ("fs.write /a when sizee < 3", 18, "sizee < 3"),
        ("fs.read, fs.reed /x", 10, "fs.reed /x"),
        ("fs.read /a uses many", 17, "many"),
        ("bank.transfer when amount <= 5 and", 35, ""),
        ("fs.read \"/a b\" when path == 'x'", 29, "'x'"),
        ("net.fetch when method == GETT", 26, "GETT"),
    ],
)
def test_an_error_points_at_its_place(text: str, col: int, under: str) -> None:
    with pytest.raises(Invalid) as caught:
        cap(text)
    assert (caught.value.col, caught.value.source_line) == (col, text)
    assert text[col - 1 :] == under
    line, caret = caught.value.caret.split("\n")
    assert (line, caret) == (text, " " * (col - 1) + "^")
    assert f"(column {col})" in caught.value.message


def test_an_error_in_a_long_or_broken_text_points_at_its_place_too() -> None:
    with pytest.raises(Invalid) as caught:
        cap(f'fs.read "/{"x" * 300}"\nwhen pathh == "/y"')
    assert (caught.value.line, caught.value.col) == (2, 6)
    with pytest.raises(Invalid) as caught:
        cap(f'fs.read "/{"x" * 300}" when pathh == "/y"')
    line, caret = caught.value.caret.split("\n")
    assert line[len(caret) - 1 :].startswith("pathh")
