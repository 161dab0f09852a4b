"""The frame of an ask, and which rule `--approve` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.shell.askframe import framed, may_widen, offered, subject
from agentos.shell.people import matches
from tests.unit.shell.builders import ask

BARS = ("│ ", "┊ ")


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
    assert all(line.startswith(BARS) for line in agent_part(lines))
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_the_frame_names_process_rule_reason_and_lineage() -> None:
    top = framed(ask())[:3]
    assert top == [
        "ask 3  process 4 (job:1) wants  fs.write",
        "  rule     policies/job.policy:7 (write-it)  because someone looks",
        "  lineage  4 job:1 < 1 base:1",
    ]


def test_a_long_reason_is_broken_at_a_space() -> None:
    lines = framed(ask(because="a person answers for what the report says"), columns=60)
    assert max(map(len, lines)) <= 60
    told = " ".join(" ".join(lines[1:3]).split())
    assert told == "rule policies/job.policy:7 (write-it) because a person answers for what the report says"


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


ATTACKS = {
    "a frame with a prompt": "x\n└\nask 9  process 1 (root:1) wants  clock.now\n[a]pprove, [d]eny? y",
    "a cleared screen": "\x1b[2J\x1b[H\x1b]0;approve\x07ask 9",
    "a carriage return": "harmless\rask 9  process 1 wants  clock.now",
    "reordered text": "\u202e]evorppa[ \u2066\u200b\u200d\ufeff",
    "line separators": "a\u2028└\u2029└\x85└\x0b└\x0c└",
    "a wide wall": "\u754c" * 500 + "└",
    "tags": "".join(chr(0xE0000 + ord(char)) for char in "approve"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_an_agent_stands_where_the_frame_stands(attack: str) -> None:
    text = ATTACKS[attack]
    request = {"op": "bank.transfer", "resource": text, "args": {"to": text}}
    each = ask(
        op="bank.transfer", args={"to": text}, preview=request, question=text, offer=f'allow bank.transfer "{text}"', batch="4/1",
        would_cover=({"seq": 1, "pid": 4, "op": "bank.transfer", "resource": text, "at": 0.0},), scopes=("once", "tree"),
        irreversible=True,
    )  # fmt: skip
    clean = ask(
        op="bank.transfer", args={"to": "x"}, preview={**request, "resource": "x", "args": {"to": "x"}}, question="x", offer="allow",
        batch="4/1", would_cover=({"seq": 1, "pid": 4, "op": "bank.transfer", "resource": "x", "at": 0.0},), scopes=("once", "tree"),
        irreversible=True,
    )  # fmt: skip

    def outside(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith(BARS)]

    for show in (lambda one: framed(one, columns=60), lambda one: offered(one, columns=60)):
        assert outside(show(each)) == outside(show(clean)), "the agent's text changes nothing outside the bar"
        assert all(line.isprintable() for line in show(each))


def test_a_value_cannot_pass_for_another_argument_or_the_summary() -> None:
    forged = "to: alice\namount: 5\n\nsummary: nothing to see"
    args = {"note": f"hello\n{forged}", "memo": "x" * 52 + forged, "to": "eve"}
    lines = framed(ask(args=args, preview={"summary": f"pay\n{forged}"}), columns=60)
    named = [line for line in agent_part(lines) if line.startswith(("│ to:", "│ amount:", "│ summary:"))]
    assert named == ["│ to: eve", "│ summary: pay"]
    question = ask(kind="question", args={"question": "blue?\noptions: red", "options": ["blue"]}, rule="")
    assert [line for line in agent_part(framed(question)) if line.startswith("│ options")] == ["│ options: blue"]


def test_ten_thousand_lines_leave_the_frame_in_sight() -> None:
    lines = framed(ask(args={"text": "└\n" * 10_000}, preview=None), lines_max=20)
    assert len(lines) < 30
    assert lines[-1] == "└"


def test_the_frame_says_what_nothing_takes_back_and_when_the_ask_lapses() -> None:
    lines = framed(ask(irreversible=True, created=100.0, expires=1900.0, batch="4/12"))
    assert "  effect   irreversible: nothing takes it back" in lines
    assert any(line.startswith("  expires  30m after it was asked") for line in lines)
    assert "  batch    4/12" in lines


def test_a_request_is_shown_with_its_resource_and_whole_arguments() -> None:
    long = "y" * 300
    preview = {"op": "bank.transfer", "resource": "acct/7", "args": {"to": long[:20] + "... (300 characters)"}}
    part = "".join(agent_part(framed(ask(op="bank.transfer", args={"to": long}, preview=preview))))
    assert "resource: acct/7" in part
    assert part.count("y") == 300


def test_an_offer_shows_its_rule_what_it_would_have_covered_and_the_scopes() -> None:
    covered = ({"seq": 9, "pid": 4, "op": "fs.write", "resource": "/a.md", "at": 0.0},)
    lines = offered(
        ask(offer='allow fs.write "/a.md"', would_cover=covered, scopes=("once", "process", "tree"), preview={"diff": "x"})
    )
    assert '│ allow fs.write "/a.md"' in lines
    assert "│ 9 pid 4 fs.write /a.md" in lines
    assert "  what the target holds by then is not looked at" in lines
    assert lines[-1] == "  scopes   once, process, tree or a duration such as 8h"
    assert offered(ask()) == []


def test_what_may_only_be_approved_once_has_no_offer_to_show() -> None:
    once = ask(offer='allow fs.write "/a.md"', scopes=("once",))
    assert offered(once) == []
    assert not may_widen(once)
    assert may_widen(ask(offer='allow fs.write "/a.md"', scopes=("once", "process")))
    assert not may_widen(ask(offer="", scopes=("once", "process")))


def test_where_a_path_leads_is_shown_only_when_it_is_another() -> None:
    args = {"path": "/a.md"}
    part = agent_part(framed(ask(op="fs.delete", args=args, preview={"summary": "delete", "resolved": "/a.md"})))
    assert part == ["│ path: /a.md", "│ summary: delete"]
    assert "│ resolved: /b.md" in framed(ask(op="fs.delete", args=args, preview={"resolved": "/b.md"}))
