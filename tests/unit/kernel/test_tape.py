"""The tape alone: what was recorded is found by number, and a difference is told argument by argument."""

from __future__ import annotations

import pytest

from agentos.abi.codec import encode
from agentos.abi.records import Row
from agentos.errors import Invalid
from agentos.kernel.tape import Tape


class Rows:
    """A store that only reads a tape."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        return [row for row in self.rows if after_seq < row.seq <= (upto or 10**9)][:limit]


def call(seq: int, number: str, op: str = "obj.put", **fields: object) -> Row:
    known = {
        "pid": 1, "number": number, "kind": "call", "op": op, "digest": b"d", "args": encode({}), "outcome": "done",
        "result": encode(None), "seq": seq,
    }  # fmt: skip
    return Row(**{**known, **fields})  # type: ignore[arg-type]


def read(*rows: Row) -> Tape:
    return Tape().read(Rows(*rows), 1, 0)


def test_a_recorded_call_is_taken_once() -> None:
    tape = read(call(1, "1"), call(2, "2"))
    taken = tape.take("1", "obj.put", b"d", {})
    assert taken is not None
    assert taken.outcome_row is taken.head
    assert len(tape) == 1
    assert "call 2" in tape.unmade()
    assert tape.take("2", "obj.put", b"d", {}) is not None
    assert tape.take("3", "obj.put", b"d", {}) is None


def test_an_intent_without_result_has_no_outcome_and_is_dropped_by_a_fork() -> None:
    tape = read(
        call(1, "1", kind="intent", outcome=""), call(2, "2", kind="intent", outcome=""), call(3, "", kind="result", parent=2)
    )
    tape.drop_open()
    assert len(tape) == 1
    taken = tape.take("2", "obj.put", b"d", {})
    assert taken is not None
    assert taken.outcome_row is not None


def test_a_difference_names_each_argument() -> None:
    tape = read(call(7, "3", args=encode({"name": "a", "value": 1})))
    with pytest.raises(Invalid) as caught:
        tape.take("3", "obj.put", b"other", {"name": "a", "value": 2})
    assert caught.value.seq == 7
    assert caught.value.message.splitlines()[-2:] == ["  - value: 1", "  + value: 2"]


def test_another_op_at_the_same_number_is_told_by_name() -> None:
    tape = read(call(7, "3", resource="box/a"))
    with pytest.raises(Invalid, match=r"recorded: obj\.put box/a"):
        tape.take("3", "obj.get", b"d", {})


def test_long_tapes_are_read_in_pages() -> None:
    tape = read(*(call(n, str(n)) for n in range(1, 1001)))
    assert tape.size == 1000
