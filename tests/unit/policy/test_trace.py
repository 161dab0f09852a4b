"""Recorded runs decided again: which calls change verdict, what is skipped, what the entries before one count for."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.errors import Invalid
from agentos.policy.trace import Recorded, changed, read_trace
from tests.unit.policy.builders import TABLE, layer


def entry(op: str, outcome: str = "done", **more: Any) -> dict[str, Any]:
    return {"op": op, "outcome": outcome, "pid": 1, "args": {}, "labels": [], "code": "", "ask": None, **more}


def calls(*entries: dict[str, Any]) -> list[Recorded]:
    return read_trace([{"seq": number, **each} for number, each in enumerate(entries, 1)], TABLE)[0]


def changes(old: str, new: str, *entries: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(each.seq, each.old, each.new) for each in changed(calls(*entries), layer(old), layer(new))]


def test_a_change_names_the_call_and_both_rules() -> None:
    found = changed(calls(entry("fs.read", args={"path": "/a"})), layer('allow fs.read "/a"'), layer('deny fs.read "/a"'))
    assert [(each.op, each.resource, each.old_rule, each.new_rule) for each in found] == [
        ("fs.read", "/a", "t.policy:2", "t.policy:2")
    ]


def test_calls_that_are_decided_alike_are_no_change() -> None:
    assert changes("allow fs.*", 'allow fs.read "/a"', entry("fs.read", args={"path": "/a"})) == []
    assert changes("allow fs.*", 'allow fs.read "/a"', entry("fs.read", args={"path": "/b"})) == [(1, "allow", "deny")]


def test_what_no_policy_decided_is_skipped_and_says_why() -> None:
    rows = [
        entry("fs.read", "denied", code="denied.budget", args={"path": "/a"}), entry("fs.read", "failed", code="invalid.argument"),
        entry("gone.op"), entry("fs.read", args={"path": 3}),
    ]  # fmt: skip
    found, skipped = read_trace(rows, TABLE)
    assert found == []
    assert [each.seq for each in skipped] == [1, 2, 3, 4]
    assert "denied.budget" in skipped[0].why
    assert "--devices" in skipped[2].why


def test_the_labels_of_a_row_are_the_flow_of_its_call() -> None:
    text = "allow fs.read\ndeny fs.read when flow.level >= secret"
    assert changes("allow fs.read", text, entry("fs.read", args={"path": "/a"}, labels=["secret"])) == [(1, "allow", "deny")]
    assert changes("allow fs.read", text, entry("fs.read", args={"path": "/a"})) == []


def test_history_is_what_the_admitted_entries_before_did() -> None:
    reads = [entry("fs.read", args={"path": "/a"}) for _ in range(3)]
    refused = entry("fs.read", "denied", args={"path": "/a"}, code="denied.policy")
    text = "allow fs.read when count(fs.read) < 2"
    assert changes("allow fs.read", text, refused, *reads) == [(4, "allow", "deny")]


def test_a_call_is_asked_where_its_row_names_an_ask() -> None:
    rows = [
        entry("fs.read", args={"path": "/a"}, ask=3),
        entry("fs.read", "denied", args={"path": "/a"}, ask=3),
        entry("fs.read", args={"path": "/a"}),
    ]
    assert [call.outcome for call in calls(*rows)] == ["ask", "deny", "allow"]


@pytest.mark.parametrize("row", [{}, {"op": 3, "outcome": "done"}, {"op": "fs.read"}, []])
def test_what_is_no_audit_entry_is_refused(row: Any) -> None:
    with pytest.raises(Invalid, match="no audit entry"):
        read_trace([row], TABLE)
