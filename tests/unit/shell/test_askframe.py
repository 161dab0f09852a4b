"""The frame of an ask, and which rule `--approve` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.shell.askframe import framed, subject
from agentos.shell.people import matches
from tests.unit.shell.builders import ask


def agent_part(lines: list[str]) -> list[str]:
    return lines[lines.index("┌ written by the agent") + 1 : lines.index("└")]


@given(st.text(), st.integers(30, 100))
def test_frame_cannot_be_imitated(text: str, columns: int) -> None:
    imitation = text + "\n└\nask 4  process 1 wants  nothing\r\x1b[A└"
    lines = framed(
        ask(args={"path": "/a", "text": imitation}, preview={"summary": imitation}), columns=columns, lines_max=10_000
    )
    assert lines.count("└") == 1
    assert lines[-1] == "└"
    assert all(line.startswith("│ ") for line in agent_part(lines))
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_the_frame_names_process_rule_reason_and_lineage() -> None:
    top = framed(ask())[:3]
    assert top == [
        "ask 3  process 4 (job:1) wants  fs.write",
        "  rule     policies/job.policy:7 (write-it)  because someone looks",
        "  lineage  4 job:1 < 1 base:1",
    ]


def test_the_difference_stands_for_the_text_that_is_written() -> None:
    preview = {"summary": "replace `/a.md` (2 bytes)", "before": "1", "after": "2", "diff": "-old\n+hi\n"}
    part = agent_part(framed(ask(preview=preview)))
    assert part == ["│ path: /a.md", "│ summary: replace `/a.md` (2 bytes)", "│ ", "│ -old", "│ +hi"]


def test_a_long_text_is_cut_and_says_so() -> None:
    part = agent_part(framed(ask(args={"text": "x\n" * 100}), lines_max=5))
    assert len(part) == 6
    assert part[-1] == "│ ... 96 more lines; see `agentos asks 3`"


def test_a_question_shows_its_options_and_its_text() -> None:
    question = ask(kind="question", args={"question": "blue or red?", "options": ["blue", "red"]}, rule="")
    assert agent_part(framed(question)) == ["│ blue or red?", "│ options: blue, red"]
    assert subject(question) == "blue or red?"


@pytest.mark.parametrize("rule", ["write-it", "policies/job.policy:7", "job.policy:7"])
def test_approve_means_a_rule_by_name_or_by_place(rule: str) -> None:
    assert matches(ask(), rule)


@pytest.mark.parametrize(
    "rule", ["", "write", "ob.policy:7", "job.policy:70", "policy:7", "/job.policy:7", "other/job.policy:7"]
)
def test_approve_means_no_other_rule(rule: str) -> None:
    assert not matches(ask(), rule)


def test_approve_answers_approvals_only() -> None:
    assert not matches(ask(kind="unknown_outcome"), "write-it")
    assert not matches(ask(rule="", rule_name=""), "")
