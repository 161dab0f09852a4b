"""What a new user gets wrong in a first policy, and exactly what they are told: where, what was found, and what to write instead.

In what is told `...` stands for anything in a line.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.cli_place import Place

MISTAKES = {
    "a_word_that_is_none": (
        """
allows fs.read "/notes/**"
""",
        """
my.policy:2:1: E001 expected a statement, found `allows`
  allows fs.read "/notes/**"
  ^
  hint: did you mean `allow`?
""",
    ),
    "an_op_of_another_system": (
        """
allow file.read "/notes/**"
""",
        """
my.policy:2:7: E010 there is no op `file.read`
  allow file.read "/notes/**"
        ^
  hint: did you mean `fs.read`?
""",
    ),
    "a_pattern_without_quotes": (
        """
allow fs.read /notes/**
""",
        """
my.policy:2:15: E001 `/` starts nothing here
  allow fs.read /notes/**
                ^
  hint: put patterns in `"`; a regular expression follows `matches`
""",
    ),
    "a_pattern_that_is_not_absolute": (
        """
allow fs.read "notes/**"
""",
        """
my.policy:2:15: E014 pattern `notes/**` is not absolute (for fs.read)
  allow fs.read "notes/**"
                ^
  hint: write `/notes/**`, or `**/notes/**` for any folder
""",
    ),
    "one_equals_sign": (
        """
allow fs.write "/notes/**" when mode = replace
""",
        """
my.policy:2:38: E001 `=` is not a comparison
  allow fs.write "/notes/**" when mode = replace
                                       ^
  hint: write `==`
""",
    ),
    "a_blank_before_the_unit": (
        """
allow fs.write "/notes/**" when size <= 64 KB
""",
        """
my.policy:2:44: E001 expected a statement, found `KB`
  allow fs.write "/notes/**" when size <= 64 KB
                                             ^
  hint: write `64KB`, without a blank
""",
    ),
    "a_condition_without_when": (
        """
allow fs.write "/notes/**" size <= 64KB
""",
        """
my.policy:2:28: E001 expected a statement, found `size`
  allow fs.write "/notes/**" size <= 64KB
                             ^
  hint: a condition starts with `when`
""",
    ),
    "two_ampersands": (
        """
allow fs.write "/notes/**" when size <= 64KB && mode == replace
""",
        """
my.policy:2:46: E001 `&` has no meaning here
  allow fs.write "/notes/**" when size <= 64KB && mode == replace
                                               ^
  hint: write `and`
""",
    ),
    "a_misspelt_attribute": (
        """
allow fs.write "/notes/**" when sizee <= 64KB
""",
        """
my.policy:2:33: E011 unknown attribute `sizee` for fs.write; has: path, text, data, mode, if_digest, permissions, size, ...
  allow fs.write "/notes/**" when sizee <= 64KB
                                  ^
  hint: did you mean `size`?
""",
    ),
    "a_forgotten_sink": (
        """
allow net.fetch when method == GET
""",
        """
my.policy:2:1: E013 sink `url` of net.fetch is unconstrained
  allow net.fetch when method == GET
  ^
  hint: constrain it with `when`, or say `any url`
""",
    ),
    "a_list_without_every": (
        """
allow exec.run when argv == "pytest"
""",
        """
my.policy:2:21: E012 `argv` of exec.run is a list
  allow exec.run when argv == "pytest"
                      ^
  hint: write `every argv ...` or `some argv ...`
""",
    ),
    "a_set_without_let": (
        """
secrets = "**/.env"
deny  fs.* $secrets
""",
        """
my.policy:2:1: E001 expected a statement, found `secrets`
  secrets = "**/.env"
  ^
  hint: write `let secrets = ...`
my.policy:3:12: E015 there is no set `$secrets`
  deny  fs.* $secrets
             ^
  hint: define it: let secrets = "..."
""",
    ),
    "a_limit_without_a_number": (
        """
limit fs.write 20 per hour
""",
        """
my.policy:2:23: E001 expected a duration, process or tree, found `hour`
  limit fs.write 20 per hour
                        ^
  hint: a duration has a number: `per 1h`, `per 1d`
""",
    ),
    "a_timeout_without_a_unit": (
        """
ask   fs.delete "/notes/**" timeout 10
""",
        """
my.policy:2:37: E001 expected a duration such as `10m`, found `10`
  ask   fs.delete "/notes/**" timeout 10
                                      ^
  hint: a duration has a unit: `10s`, `10m`, `10h`
""",
    ),
    "a_question_without_a_condition": (
        """
allow fs.write "/notes/**" else ask "Write it?"
""",
        """
my.policy:2:28: E016 `else ask` has no meaning without a condition
  allow fs.write "/notes/**" else ask "Write it?"
                             ^
  hint: it asks where `when` or `unless` keeps the rule from allowing
""",
    ),
    "a_source_without_braces": (
        """
allow net.fetch when url from prompt
""",
        """
my.policy:2:31: E001 expected `{` after `from`, found `prompt`
  allow net.fetch when url from prompt
                                ^
  hint: write `from { prompt, human }`
""",
    ),
    "an_op_in_a_list_without_quotes": (
        """
allow tool.propose "jit/**" when every ops in [fs.read, fs.list]
""",
        """
my.policy:2:50: E001 expected `]` to close the list, found `.`
  allow tool.propose "jit/**" when every ops in [fs.read, fs.list]
                                                   ^
  hint: what has a dot stands in `"`
""",
    ),
    "an_obligation_without_for": (
        """
require log fs.write
""",
        """
my.policy:2:13: E001 expected `for` after the obligations, found `fs`
  require log fs.write
              ^
  hint: write `require log for fs.write`
""",
    ),
    "a_label_on_an_op": (
        """
label net.fetch untrusted
""",
        """
my.policy:2:7: E001 expected a source, found `net`
  label net.fetch untrusted
        ^
  hint: a source is prompt, human, result(OP), result(OP).FIELD, object(NAME) or $SET
""",
    ),
    "an_expectation_that_fails": (
        """
allow fs.write "/notes/**.md" when size <= 64KB
expect allow fs.write "/notes/a.md" text="x" size=65KB
""",
        """
my.policy:3:1: E018 expected allow for fs.write `/notes/a.md`, got deny: no rule applies to it
  expect allow fs.write "/notes/a.md" text="x" size=65KB
  ^
  hint: closest, as `policy explain` would say it: arguments that my.policy:2 allows: `size <= 64KB` is false: ...
""",
    ),
    "an_expectation_that_fails_the_other_way": (
        """
allow fs.read "/notes/**"
expect deny fs.read "/notes/archive/2019.md"
""",
        """
my.policy:3:1: E018 expected deny for fs.read `/notes/archive/2019.md`, got allow: line 2 says allow
  expect deny fs.read "/notes/archive/2019.md"
  ^
  hint: it is `allow fs.read "/notes/**"`; change it, or the expectation
""",
    ),
    "a_number_for_a_text": (
        """
expect deny cap.request text=7
""",
        """
my.policy:2:30: E012 `7` does not fit: text is expected
  expect deny cap.request text=7
                               ^
  hint: write `"7"`
""",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_new_user_is_told_where_what_and_what_instead(tmp_path: Path, mistake: str) -> None:
    body, told = MISTAKES[mistake]
    (tmp_path / "my.policy").write_text('policy "mine" version 1' + body)
    printed = Place(tmp_path).call("policy", "check", "my.policy", status=2).stdout
    assert re.fullmatch(re.escape(told.lstrip()).replace(r"\.\.\.", ".*"), printed), printed


def test_every_message_comes_with_a_hint() -> None:
    for name, (_, told) in MISTAKES.items():
        assert told.count("\n  hint: ") == told.count("\nmy.policy:") > 0, name


def test_what_is_told_helps_when_it_is_followed(tmp_path: Path) -> None:
    """The corrected lines, each as its hint says, make one policy."""
    (tmp_path / "my.policy").write_text(CORRECTED)
    assert "ok" in Place(tmp_path).call("policy", "check", "my.policy").stdout


CORRECTED = """policy "mine" version 1
let secrets = "**/.env"
allow fs.read "/notes/**"
allow fs.write "/notes/**" when mode == replace and size <= 64KB
allow net.fetch when url from { prompt, human }
allow exec.run when every argv == "pytest"
allow tool.propose "jit/**" when every ops in ["fs.read", "fs.list"]
ask   fs.delete "/notes/**" timeout 10m
deny  fs.* $secrets
limit fs.write 20 per 1h
require log for fs.write
label result(net.fetch) untrusted
expect allow fs.write "/notes/a.md" text="x" size=64KB
expect allow cap.request text="7"
"""
