"""Big values as trees: equal to the plain value, equal roots for equal values, and sharing what did not change."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs, trees

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=400) | st.binary(max_size=400)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=300), inner, max_size=40),
    max_leaves=60,
)
BIG = st.lists(SCALARS, min_size=40, max_size=200) | st.dictionaries(st.text(max_size=20), SCALARS, min_size=40, max_size=120)
LONG = st.integers(0, 20_000).map(lambda size: "aé" * size) | st.integers(0, 20_000).map(bytes)


class Nodes(dict[bytes, bytes]):
    """Nodes kept in memory, counting what is new."""

    new_bytes = 0

    def keep(self, data: bytes) -> bytes:
        name = blobs.name_of(data)
        if name not in self:
            self.new_bytes += len(data)
            self[name] = data
        return name


@given(VALUES | BIG | LONG)
def test_a_packed_value_unpacks_to_the_plain_value(value: Any) -> None:
    nodes = Nodes()
    root = trees.pack(value, nodes.keep)
    assert trees.unpack(root, nodes.__getitem__) == codec.plain(value)
    assert len(root) <= 2_048
    assert not blobs.is_large(root)


@given(st.lists(VALUES, max_size=60), st.lists(VALUES, max_size=10))
def test_appending_equals_packing_the_longer_list(start: list[Any], more: list[Any]) -> None:
    nodes = Nodes()
    root, longer = trees.pack(start, nodes.keep), list(start)
    for element in more:
        root = trees.append(root, element, nodes.keep, nodes.__getitem__)
        longer.append(element)
        assert root == trees.pack(longer, Nodes().keep)
    assert trees.unpack(root, nodes.__getitem__) == codec.plain(longer)


@pytest.mark.parametrize("size", [0, 4, 30, 600])
def test_a_list_grown_one_by_one_equals_the_packed_list(size: int) -> None:
    nodes, elements = Nodes(), [{"n": n, "text": "x" * size} for n in range(700)]
    root = trees.pack([], nodes.keep)
    for element in elements:
        root = trees.append(root, element, nodes.keep, nodes.__getitem__)
    assert root == trees.pack(elements, Nodes().keep)
    assert trees.unpack(root, nodes.__getitem__) == elements


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=30), st.integers(), min_size=500, max_size=800), st.text(max_size=30))
def test_one_more_key_makes_few_new_nodes(value: dict[str, int], key: str) -> None:
    nodes = Nodes()
    trees.pack(value, nodes.keep)
    before = nodes.new_bytes
    trees.pack({**value, key: 1}, nodes.keep)
    assert nodes.new_bytes - before < before / 2


def test_a_growing_value_costs_what_is_new() -> None:
    nodes, state = Nodes(), {"log": [], "turn": 0, "text": ""}
    for turn in range(1_000):
        state["log"].append(f"{turn}" + "x" * 1_000)
        state["turn"] = turn
        trees.pack(state, nodes.keep)
    assert nodes.new_bytes < 2_200_000


def test_appending_reads_and_writes_a_few_nodes_however_long_the_list() -> None:
    nodes = Nodes()
    root = trees.pack(list(range(200_000)), nodes.keep)
    read: list[bytes] = []
    before = len(nodes)

    def load(name: bytes) -> bytes:
        read.append(name)
        return nodes[name]

    trees.append(root, -1, nodes.keep, load)
    assert len(read) <= 5
    assert len(nodes) - before <= 5


def test_a_long_text_that_grows_shares_its_pieces() -> None:
    nodes = Nodes()
    trees.pack("a" * 1_000_000, nodes.keep)
    before = nodes.new_bytes
    trees.pack("a" * 1_000_000 + "b", nodes.keep)
    assert nodes.new_bytes - before < 10_000


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime


def test_values_with_types_become_the_data_they_hold() -> None:
    nodes = Nodes()
    value = [Point(number, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)) for number in range(200)]
    assert trees.unpack(trees.pack(value, nodes.keep), nodes.__getitem__) == codec.plain(value)


def test_keys_that_are_no_text_survive_as_the_codec_keeps_them() -> None:
    nodes = Nodes()
    value = {number: "x" * 50 for number in range(100)}
    assert trees.unpack(trees.pack(value, nodes.keep), nodes.__getitem__) == codec.plain(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = ["x" * 3_000]
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_nested_too_deep_is_invalid() -> None:
    with pytest.raises(Invalid):
        trees.pack(nested(900), Nodes().keep)


def test_a_value_with_an_extension_is_invalid() -> None:
    with pytest.raises(Invalid, match="extension"):
        trees.pack([Ext(1, b"x" * 32), "x" * 3_000], Nodes().keep)


@pytest.mark.parametrize("value", [5, "text", {"a": 1}, "x" * 9_000, {"a": "x" * 9_000}])
def test_only_lists_can_be_appended_to(value: Any) -> None:
    nodes = Nodes()
    with pytest.raises(Invalid, match="no list"):
        trees.append(trees.pack(value, nodes.keep), 1, nodes.keep, nodes.__getitem__)


@pytest.mark.parametrize("root", [b"\xc1", b"\xc1\xc1", b"\xc1\xc7\x01\x09x", b"", b"\x92\x01"])
def test_a_damaged_root_is_a_panic(root: bytes) -> None:
    with pytest.raises(KernelPanic):
        trees.unpack(root, Nodes().__getitem__)
