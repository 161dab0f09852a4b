"""The drawing of a process tree, and words for people."""

from __future__ import annotations

import pytest

from agentos.errors import Invalid
from agentos.shell import words
from agentos.shell.trees import below, drawn
from agentos.shell.verbs.authority import arguments
from tests.unit.shell.builders import ended, process


def test_children_hang_below_their_parents() -> None:
    infos = [process(1), ended(2, 1), process(3, 1, waiting_on=("ask 3",), state="waiting"), ended(4, 2), process(7)]
    assert [line.partition(" job:1")[0] for line in drawn(infos)] == ["1", "├─ 2", "│  └─ 4", "└─ 3", "7"]


def test_a_wide_tree_is_cut_and_says_so() -> None:
    lines = drawn([process(1), *(process(pid, 1) for pid in range(2, 500))], rows_max=10)
    assert lines[-1] == "... and 489 more"


def test_a_subtree_holds_descendants_only() -> None:
    infos = [process(1), process(2, 1), process(3), process(4, 2)]
    assert [info.pid for info in below(infos, 2)] == [2, 4]
    with pytest.raises(Invalid, match="no process 9"):
        below(infos, 9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.9, "9.9s"), (59.6, "1m"), (190, "3m10s"), (7500, "2h5m"), (90000, "1d")]
)
def test_a_span_is_short(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


def test_one_call_is_not_calls() -> None:
    assert (words.cost({"calls": 1}), words.cost({"calls": 2, "tokens": 1500, "wall_s": 3})) == (
        "1 call",
        "2 calls, 1,500 tokens, 3.0s",
    )


def test_arguments_are_json_or_text() -> None:
    assert arguments(["path=/a=b", "n=3", 'list=["x"]', "text=null"]) == {"path": "/a=b", "n": 3, "list": ["x"], "text": None}
    with pytest.raises(Invalid, match="NAME=VALUE"):
        arguments(["/a"])
