"""Values cross the door in one encoding; errors, labels and permits keep their laws."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi import codec, labels, limits, permit
from agentos.abi.units import parse_duration_s, parse_size_bytes
from agentos.abi.values import Ref
from agentos.errors import AgentOSError, Denied, Invalid, KernelPanic, Unavailable, from_data

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@given(DATA)
def test_plain_data_survives_the_journal(value: Any) -> None:
    assert codec.plain(value) == value


@given(st.dictionaries(st.text(), SCALARS, max_size=6))
def test_equal_values_have_equal_bytes(value: dict[str, Any]) -> None:
    assert codec.encode(value) == codec.encode(dict(reversed(value.items())))


def test_typed_values_are_encoded_as_the_data_they_hold() -> None:
    value = {"p": Point(1, 2), "at": datetime(2030, 1, 2, tzinfo=UTC), "sum": Decimal("1.50"), "ref": Ref("a", "b", 1, "d")}
    plain = codec.plain(value)
    assert plain["p"] == {"x": 1, "y": 2}
    assert plain["sum"] == "1.50"
    assert Ref(**plain["ref"]) == value["ref"]


@pytest.mark.parametrize("value", [object(), {1: object()}, lambda: 0, sys, {"a": {3 + 4j}}])
def test_what_is_not_data_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        codec.encode(value)
    assert caught.value.code == "invalid.argument"


def test_an_endless_value_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Invalid):
        codec.encode(loop)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01"])
def test_damaged_bytes_never_become_a_value(data: bytes) -> None:
    with pytest.raises(KernelPanic):
        codec.decode(data)


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_two_lists_of_parts_never_share_a_digest(one: list[bytes], two: list[bytes]) -> None:
    assert (codec.digest(*one) == codec.digest(*two)) == (one == two)


@given(st.lists(st.integers(0, 7).filter(lambda bits: bits & 3 != 2), min_size=1, max_size=6))
def test_labels_join_keeps_every_bit_of_every_source(sources: list[int]) -> None:
    joined = labels.join(*sources)
    assert all(joined | source == joined for source in sources)
    assert labels.parse(labels.names(joined)) == joined


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(Invalid, match="`topsecret` is not a label"):
        labels.parse(["topsecret"])


def test_no_effect_without_permit_a_permit_needs_the_seal_and_is_spent_once() -> None:
    with pytest.raises(KernelPanic, match="forged"):
        permit.Permit(object(), 1, "fs.read", (), "1", None)
    real = permit.Permit(permit._SEAL, 1, "fs.read", (), "1", None)
    with pytest.raises(KernelPanic, match=r"for `fs.write`"):
        real.spend("fs.write")
    real.spend("fs.read")
    with pytest.raises(KernelPanic, match="used twice"):
        real.spend("fs.read")


@pytest.mark.parametrize(
    "error",
    [
        Denied("policy", "no", hint="ask", rule="a.policy:3"),
        Unavailable("timeout", "late", may_have_happened=True),
        Invalid("argument", "bad", field="path"),
    ],
)
def test_a_replayed_error_equals_the_live_one(error: AgentOSError) -> None:
    again = from_data(codec.plain(error.to_data()), seq=9)
    assert type(again) is type(error)
    assert again.to_data() == error.to_data()
    assert str(again) == f"{error} (journal 9)"


def test_data_that_names_no_error_is_a_panic() -> None:
    for code in ("denied.nothing", "KeyError", ""):
        with pytest.raises(KernelPanic):
            from_data({"code": code, "message": "x"})


def test_fields_read_as_attributes_and_the_usual_ones_are_none_when_absent() -> None:
    error = Denied("policy", "no", rule="a.policy:3", amount=7)
    assert (error.rule, error.amount, error.cap) == ("a.policy:3", 7, None)
    with pytest.raises(AttributeError):
        _ = error.nonsense


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "m", "1y", "-1s", "1m1h", "1s1s", "1 s", " 1s", "1e3s", "1m\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|order"):
        parse_duration_s(text)


@pytest.mark.parametrize(("text", "size"), [("64KB", 65536), ("1GiB", 1 << 30), ("1.5 MiB", 3 << 19), ("7B", 7)])
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "kb", "1kb", "-1KB", "1XB", "1 KB ", "0x1KB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size_bytes(text)


def test_every_limit_is_a_positive_number() -> None:
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert bounds
    assert [name for name, value in bounds.items() if not value > 0] == []
