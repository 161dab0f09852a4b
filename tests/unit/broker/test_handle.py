"""A handle tells kinds and sizes of a result and nothing that its author chose."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentos.broker.handle import _summary, is_handle

WORD = "INJECTED"
values = st.recursive(
    st.sampled_from([WORD, f"{WORD}\n{WORD}", 1, 2.5, True, None, WORD.encode()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([WORD, WORD + "2"]), inner, max_size=2),
    max_leaves=8,
)


@given(values)
def test_a_summary_never_repeats_content_or_keys(value: Any) -> None:
    assert WORD not in _summary(value)


def test_summaries_say_kind_and_size() -> None:
    assert _summary("ab\ncd") == "text of 5 characters in 2 lines"
    assert _summary([1, "a", "b"]) == "list of 3 (number, text)"
    assert _summary({"a": 1}) == "object with 1 fields"
    assert _summary(True) == "true or false"


def test_only_an_object_with_the_handle_key_is_a_handle() -> None:
    assert is_handle({"$handle": {}})
    assert not is_handle({"handle": {}})
    assert not is_handle("$handle")
