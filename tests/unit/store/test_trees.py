"""Big values as trees: equal to the plain value, equal roots for equal values, and sharing what did not change."""

from __future__ import annotations

import dataclasses
import datetime
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs, packing, trees

SEEDS = st.integers(0, 2**32)
INTEGERS = (0, -1, 127, 128, 2**31, 2**64 - 1, -(2**63))


def any_value(choose: random.Random, depth: int = 3) -> Any:
    """A value of any shape; sizes lie around every bound of the tree."""
    kind = choose.randrange(9 if depth else 6)
    size = choose.choice((0, 1, 15, 16, 17, 60, 250))
    if kind < 6:
        long = choose.choice((0, 5, 31, 250, 256, 257, 3_000, 9_000))
        return (None, True, choose.choice(INTEGERS), choose.random(), "é" * (long // 2), bytes(long))[kind]
    if kind < 8:
        return [any_value(choose, depth - 1) for _ in range(size // (4 - depth) ** 2)]
    return {"k" * choose.randrange(300) + str(n): any_value(choose, depth - 1) for n in range(size // (4 - depth) ** 2)}


class Nodes(dict[bytes, bytes]):
    """Nodes kept in memory, counting what is new."""

    new_bytes = 0

    def keep(self, data: bytes) -> bytes:
        name = blobs.name_of(data)
        if name not in self:
            self.new_bytes += len(data)
            self[name] = data
        return name


@given(SEEDS)
def test_a_packed_value_unpacks_to_the_plain_value(seed: int) -> None:
    nodes, choose = Nodes(), random.Random(seed)
    value = choose.choice(
        [any_value(choose), [any_value(choose), any_value(choose)], {"k": any_value(choose), "l": any_value(choose)}]
    )
    root = packing.pack(value, nodes.keep)
    assert trees.unpack(root, nodes.__getitem__) == codec.plain(value)
    assert len(root) <= 2_048
    assert not blobs.is_large(root)


@settings(max_examples=50)
@given(SEEDS)
def test_appending_equals_packing_the_longer_list(seed: int) -> None:
    nodes, choose = Nodes(), random.Random(seed)
    longer = [any_value(choose, 1) for _ in range(choose.randrange(60))]
    root = packing.pack(longer, nodes.keep)
    for _ in range(5):
        longer.append(any_value(choose, 1))
        root = packing.append(root, longer[-1], nodes.keep, nodes.__getitem__)
        assert root == packing.pack(longer, Nodes().keep)
    assert trees.unpack(root, nodes.__getitem__) == codec.plain(longer)


@pytest.mark.parametrize("size", [0, 4, 30, 600])
def test_a_list_grown_one_by_one_equals_the_packed_list(size: int) -> None:
    nodes, elements = Nodes(), [{"n": n, "text": "x" * size} for n in range(700)]
    root = packing.pack([], nodes.keep)
    for element in elements:
        root = packing.append(root, element, nodes.keep, nodes.__getitem__)
    assert root == packing.pack(elements, Nodes().keep)
    assert trees.unpack(root, nodes.__getitem__) == elements


@settings(max_examples=30)
@given(SEEDS)
def test_one_more_key_makes_few_new_nodes(seed: int) -> None:
    nodes, choose = Nodes(), random.Random(seed)
    value = {str(choose.random()): choose.random() for _ in range(3_000)}
    packing.pack(value, nodes.keep)
    before = nodes.new_bytes
    packing.pack({**value, str(choose.random()): 1}, nodes.keep)
    assert nodes.new_bytes - before < before / 10


def test_a_growing_value_costs_what_is_new() -> None:
    nodes, state = Nodes(), {"log": [], "turn": 0, "text": ""}
    for turn in range(500):
        state["log"].append(f"{turn}" + "x" * 1_000)
        state["turn"] = turn
        packing.pack(state, nodes.keep)
    assert nodes.new_bytes < 1_000_000


def test_appending_reads_and_writes_a_few_nodes_however_long_the_list() -> None:
    nodes = Nodes()
    root = packing.pack(list(range(200_000)), nodes.keep)
    read: list[bytes] = []
    before = len(nodes)

    def load(name: bytes) -> bytes:
        read.append(name)
        return nodes[name]

    packing.append(root, -1, nodes.keep, load)
    assert len(read) <= 5
    assert len(nodes) - before <= 5


def test_a_long_text_that_grows_shares_its_pieces() -> None:
    nodes = Nodes()
    packing.pack("a" * 1_000_000, nodes.keep)
    before = nodes.new_bytes
    packing.pack("a" * 1_000_000 + "b", nodes.keep)
    assert nodes.new_bytes - before < 10_000


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime


def test_values_with_types_become_the_data_they_hold() -> None:
    nodes = Nodes()
    value = [Point(number, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)) for number in range(200)]
    assert trees.unpack(packing.pack(value, nodes.keep), nodes.__getitem__) == codec.plain(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = ["x" * 3_000]
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_nested_too_deep_is_invalid() -> None:
    with pytest.raises(Invalid):
        packing.pack(nested(100_000), Nodes().keep)


def test_a_value_with_an_extension_is_invalid() -> None:
    with pytest.raises(Invalid, match="extension"):
        packing.pack([Ext(1, b"x" * 32), "x" * 3_000], Nodes().keep)


@pytest.mark.parametrize("value", [5, "text", {"a": 1}, "x" * 9_000, {"a": "x" * 9_000}])
def test_only_lists_can_be_appended_to(value: Any) -> None:
    nodes = Nodes()
    with pytest.raises(Invalid, match="no list"):
        packing.append(packing.pack(value, nodes.keep), 1, nodes.keep, nodes.__getitem__)


@pytest.mark.parametrize("root", [b"\xc1", b"\xc1\xc1", b"\xc1\xc7\x01\x09x", b"", b"\x92\x01"])
def test_a_damaged_root_is_a_panic(root: bytes) -> None:
    with pytest.raises(KernelPanic):
        trees.unpack(root, Nodes().__getitem__)
