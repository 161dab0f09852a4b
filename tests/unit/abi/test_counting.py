"""Tokens are estimated from bytes, whatever the text is made of."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.codec import to_json
from agentos.abi.counting import BYTES_PER_TOKEN, MESSAGE_TOKENS, count_data, count_messages, count_text

VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)


@given(st.text())
def test_a_text_counts_by_the_bytes_that_it_is_sent_as(text: str) -> None:
    assert count_text(text) == int(len(text.encode()) / BYTES_PER_TOKEN) + bool(text)


def test_half_a_character_counts_too() -> None:
    assert count_text("\ud800") == 1


@given(VALUES)
def test_data_counts_as_the_text_of_its_json(value: Any) -> None:
    assert count_data(value) == count_text(to_json(value).decode())


def test_a_request_counts_its_messages_its_calls_and_its_tools() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "fs__read", "arguments": "{}"}}]
    tool = {"type": "function", "function": {"name": "fs__read"}}
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    parts = [count_text("hello"), count_text("null"), count_data(calls), count_data(tool)]
    assert count_messages(messages, [tool]) == sum(parts) + 3 * MESSAGE_TOKENS
