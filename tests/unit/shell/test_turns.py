"""What a follower makes of the events of an agent."""

from __future__ import annotations

from typing import Any

from agentos.abi.values import Event
from agentos.shell.turns import Turns
from tests.unit.shell.builders import event

READ = event(8, "started", 1, op="fs.read", resource="/a")


def said(seq: int, *calls: str, turn: int = 1, **more: Any) -> Event:
    data = {"turn": turn, "calls": list(calls), "tokens": {"input": 10, "output": 2}, "usd": 0.0021, "text": "", **more}
    return event(seq, "call", 1, op="llm.complete", outcome="done", parent=seq - 1, **data)


def failed(seq: int, **fields: Any) -> Event:
    error = {"code": "unavailable.overloaded", "message": "it said no", "fields": fields}
    return event(seq, "call", 1, op="llm.complete", outcome="failed", code=error["code"], parent=seq - 1, error=error)


def heard(*events: Event) -> list[str]:
    turns = Turns()
    return [str(told) for each in events for told in turns.hear(each)]


def test_a_turn_is_told_when_its_calls_are_over_in_the_order_they_were_made() -> None:
    assert heard(
        said(7, "fs__read", "fs__write"),
        READ,
        event(9, "denied", 1, op="fs.write", resource="/b", outcome="denied", code="denied.capability"),
        event(10, "call", 1, op="fs.read", outcome="done", parent=8),
        event(11, "call", 1, op="proc.status", outcome="done"),
        event(12, "call", 1, op="proc.save", outcome="done"),
    ) == ["turn 1    pid 1  fs.read /a ok; fs.write /b denied.capability (journal 9)  12 tokens, $0.0021"]


def test_a_call_of_the_loop_is_told_only_where_the_model_made_it() -> None:
    status, save = event(8, "call", 1, op="proc.status", outcome="done"), event(9, "call", 1, op="proc.save", outcome="done")
    assert "proc.status ok" in heard(said(7, "proc__status"), status, save)[0]
    assert "proc.status" not in heard(said(7, "fs__read"), status, save)[0]


def test_an_answer_is_told_at_once() -> None:
    assert heard(said(7, turn=3)) == ["turn 3    pid 1  answers  12 tokens, $0.0021"]


def test_a_turn_that_the_end_cut_off_is_told_with_its_open_call() -> None:
    assert heard(said(7, "fs__read"), READ, event(9, "exited", 1)) == [
        "turn 1    pid 1  fs.read /a open (journal 8)  12 tokens, $0.0021"
    ]


def test_a_failed_attempt_is_told_with_why_and_when_the_next_is_made() -> None:
    wait = event(9, "waits", 1, due=113.0)
    assert heard(failed(8, why="rate", status=429, retry=True), wait) == [
        "again     pid 1  the model's server is busy (429), next attempt in 4.0s"
    ]


def test_what_to_do_about_a_failed_attempt_is_told_once() -> None:
    turns, told = Turns(), []
    error = {"code": "unavailable.device", "message": "no", "hint": "check the base URL", "fields": {"why": "connection"}}
    for seq in (8, 11):
        attempt = event(seq, "call", 1, op="llm.complete", outcome="failed", parent=seq - 1, error=error)
        told += [str(each) for one in (attempt, event(seq + 1, "waits", 1, due=113.0)) for each in turns.hear(one)]
    assert [line.partition("next attempt in 4.0s")[2] for line in told] == ["  (check the base URL)", ""]


def test_one_call_more_is_not_calls() -> None:
    made = [event(at, "call", 1, op="fs.read", resource="/a", outcome="done") for at in range(8, 15)]
    assert "; 1 more call  " in heard(said(7, *["fs__read"] * 7), *made, event(20, "exited", 1))[0]


def test_a_failed_attempt_that_is_the_last_is_left_to_the_end_of_the_process() -> None:
    assert heard(failed(8, why="key", status=401, retry=False), event(9, "exited", 1)) == []


def test_what_a_model_says_starts_anew_with_its_next_attempt_and_is_bounded() -> None:
    turns = Turns()
    start = event(5, "started", 1, op="llm.complete")
    for each in (start, event(5, "delta", 1, op="llm.complete", text="half an ans"), start):
        turns.hear(each)
    assert turns.spoken == {}
    turns.hear(event(5, "delta", 1, op="llm.complete", text="x" * 10_000))
    assert len(turns.spoken[1]) < 1_000


def test_what_a_model_chose_is_quoted_and_cut() -> None:
    hostile = event(8, "started", 1, op="fs.read", resource="/\x1b[2J\n" + "y" * 500)
    told = heard(said(7, *["fs__read"] * 9, text="I \x1b]0;look\x07 now"), *[hostile] * 9, event(20, "exited", 1))[0]
    assert "3 more calls" in told
    assert len(told) < 900
    assert not any(char < " " for char in told)


def test_a_stale_or_broken_event_of_a_model_breaks_nothing() -> None:
    bare = event(3, "call", 1, op="llm.complete", outcome="done")
    assert heard(bare, event(4, "call", 1, op="fs.read", outcome="done", parent=2)) == ["turn 1    pid 1  answers  0 tokens"]
