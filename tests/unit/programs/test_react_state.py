"""The save point of react: small, and encoded in order as it is."""

from __future__ import annotations

import pytest

from agentos.abi.codec import decode, encode
from agentos.abi.limits import INLINE_BYTES_MAX
from agentos.programs.react.state import State

OTHER = State(
    turn=7, since=2, tools=["fs.read"], tokens_max=9, window=[{"turn": 7, "tokens": 3, "messages": []}], pages=["- a"], chat=True,
    reply_to=4, failures={"a": [1, "b", False]}, same=["c", 2], status="turn 7",
)  # fmt: skip


@pytest.mark.parametrize("state", [State(), OTHER])
def test_a_state_comes_back_from_its_save_point_as_it_was(state: State) -> None:
    assert State(**decode(encode(state.data()))) == state


def test_what_is_as_it_was_at_the_start_takes_no_room() -> None:
    assert State().data() == {}
    assert set(State(turn=1, window=[{}]).data()) == {"turn", "window"}
    assert len(encode(OTHER.data())) < INLINE_BYTES_MAX


def test_a_state_is_encoded_in_order_so_the_store_takes_its_bytes_as_they_are() -> None:
    data = encode(OTHER.data())
    assert encode(decode(data)) == data


def test_a_new_state_shares_nothing_with_another() -> None:
    first = State()
    first.window.append({"turn": 1, "tokens": 1, "messages": []})
    assert State().window == []
    assert "window" in first.data()
