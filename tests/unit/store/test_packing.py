"""Packing: the very bytes come back, what was packed lately is not packed again, and a memo changes nothing else."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs, packing, trees
from tests.unit.store.test_trees import SEEDS, Nodes, any_value

encode = msgspec.msgpack.encode


def message(number: int, chars: int = 400) -> dict[str, str]:
    """A message of a conversation; each has its own text."""
    return {"role": "user", "content": random.Random(number).randbytes(chars // 2).hex()}


def prompt(first: int, last: int) -> bytes:
    """The arguments of a model call: the same beginning, then a window of what was said."""
    return codec.encode({"messages": [message(-1), *map(message, range(first, last))], "model": "m"})


def packed(data: bytes, nodes: Nodes, memo: packing.Memo | None = None) -> bytes:
    """The item of any arguments, without the bounds on size."""
    item = packing._Packer(nodes.keep, memo or packing.Memo()).large(data)
    assert packing.pack_bytes(data, nodes.keep, memo or packing.Memo()) in (item, None)
    return item


@settings(max_examples=100)
@given(SEEDS)
def test_the_very_bytes_come_back(seed: int) -> None:
    nodes, choose = Nodes(), random.Random(seed)
    data = codec.encode({"a": [any_value(choose) for _ in range(5)], "b": any_value(choose), "c": "x" * 3_000, "d": [0] * 300})
    item = packed(data, nodes)
    assert trees.unpack_bytes(item, nodes.__getitem__) == data
    assert len(item) < 1_000


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60), SEEDS), max_size=12))
def test_known_parts_are_kept_and_a_memo_changes_no_item(windows: list[tuple[int, int, int]]) -> None:
    """INVARIANT known-parts-are-kept: whatever was packed before, what an item leads to is there."""
    nodes, memo = Nodes(), packing.Memo()
    for first, size, seed in windows:
        choose = random.Random(seed % 3)
        said = [any_value(choose, 1) if number % 5 == 0 else message(number) for number in range(first + size)]
        data = codec.encode({"messages": said[first:], "tools": [message(n) for n in range(8)]})
        item = packed(data, nodes, memo)
        assert item == packed(data, Nodes())
        assert trees.unpack_bytes(item, nodes.__getitem__) == data


@pytest.mark.parametrize("slide", [0, 2])
def test_a_prompt_that_grows_or_slides_costs_what_is_new(slide: int) -> None:
    nodes, memo = Nodes(), packing.Memo()
    packed(prompt(0, 200), nodes, memo)
    before = nodes.new_bytes
    for turn in range(1, 101):
        packed(prompt(slide * turn, 200 + 2 * turn), nodes, memo)
    assert 100 * 800 < nodes.new_bytes - before < 100 * 4_000


def test_what_was_packed_lately_is_not_kept_again() -> None:
    nodes, memo, kept = Nodes(), packing.Memo(), []
    data = prompt(0, 200)
    assert packing.pack_bytes(data, nodes.keep, memo) is not None
    packing.pack_bytes(data, lambda node: kept.append(node) or nodes.keep(node), memo)  # type: ignore[func-returns-value]
    assert len(kept) < 8
    assert max(map(len, kept)) < 1_200


def test_a_memo_that_was_cleared_keeps_everything_again() -> None:
    memo, again = packing.Memo(), Nodes()
    packed(prompt(0, 50), Nodes(), memo)
    memo.clear()
    item = packed(prompt(0, 50), again, memo)
    assert trees.unpack_bytes(item, again.__getitem__) == prompt(0, 50)


def test_a_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_RECENT_BYTES_MAX", 40_000)
    recent: packing._Recent[bytes] = packing._Recent()
    for number in range(1_000):
        recent.put(b"%04d" % number * 100, b"")
        assert recent.get(b"0000" * 100) is not None, "what is asked for stays"
        assert len(recent._young) + len(recent._old) < 80


def nested(depth: int) -> bytes:
    return b"\x91" * depth + codec.encode("x" * 3_000)


UNFIT = {
    "keys out of order": b"\x82\xa1b\xc0\xa1a" + codec.encode([message(1)] * 9),
    "keys out of order in a part": b"\x99" + b"".join([b"\x82\xa1b\xc0\xa1a" + codec.encode("x" * 400)] * 9),
    "a long header": b"\xdc\x00\x09" + codec.encode([message(1)] * 9)[1:],
    "a long number": codec.encode([message(1)] * 9 + [0] * 7)[:-1] + b"\xcc\x00",
    "a key twice": b"\x82\xa1a" + codec.encode([message(1)] * 9) + b"\xa1a" + codec.encode([message(1)] * 9),
    "an extension": encode([message(1)] * 9 + [Ext(1, b"x" * 32)]),
    "an extension in a large part": encode([[Ext(1, b"x" * 32), "x" * 400]] * 9),
    "a float of four bytes": codec.encode([message(1)] * 9 + [0] * 7)[:-1] + b"\xca\x00\x00\x00\x00",
    "something after it": codec.encode([message(1)] * 9) + b"\xc0",
    "cut short": codec.encode([message(1)] * 9)[:-1],
    "no text": codec.encode([message(1)] * 9).replace(b"user", b"\xff\xff\xff\xff"),
    "no text in a long text": codec.encode([["x" * 9_000]]).replace(b"xxxx", b"xx\xff\xff"),
    "keys that are no texts": encode({1: [message(1)] * 9}),
    "nested too deep": nested(100_000),
}


@pytest.mark.parametrize("name", UNFIT)
def test_bytes_that_would_not_come_back_are_no_tree(name: str) -> None:
    nodes, memo = Nodes(), packing.Memo()
    assert len(UNFIT[name]) > 2_048
    assert packing.pack_bytes(UNFIT[name], nodes.keep, memo) is None
    assert packing.pack_bytes(UNFIT[name], nodes.keep, memo) is None


@pytest.mark.parametrize(
    "value", ["x" * 9_000, b"x" * 9_000, {"path": "/a", "text": "x" * 9_000}, {"a": [1]} | {"b": "x" * 3_000}]
)
def test_what_has_no_parts_to_share_is_no_tree(value: Any) -> None:
    nodes = Nodes()
    assert packing.pack_bytes(codec.encode(value), nodes.keep, packing.Memo()) is None
    assert not nodes


def test_one_call_makes_a_bounded_number_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes a million small numbers gets one object: many would hold the event loop for a second."""
    kept: list[bytes] = []
    keep = lambda node: kept.append(node) or blobs.name_of(node)  # type: ignore[func-returns-value] # noqa: E731 - counts
    for data in (codec.encode(list(range(700_000))), codec.encode({"a": {str(n): str(n) * 90 for n in range(1_000, 4_000)}})):
        assert packing.pack_bytes(data, keep, packing.Memo()) is None
    assert len(kept) == 2 * 2_048
    monkeypatch.setattr(packing, "_ROW_BYTES_MAX", 9_999)
    assert packing.pack_bytes(codec.encode([message(1)] * 30), keep, packing.Memo()) is None
    assert len(kept) == 2 * 2_048


@settings(max_examples=50)
@given(SEEDS)
def test_a_walk_names_every_object_below_and_no_other(seed: int) -> None:
    choose = random.Random(seed)
    stranger = blobs.name_of(b"of somebody else")
    value = [any_value(choose), {"at": stranger, "all": [stranger] * 20, "x": b"\xc4\x20" + stranger}, *map(message, range(40))]
    nodes = Nodes()
    item = packed(codec.encode({"list": value, "dict": {str(n): [stranger, n] for n in range(200)}}), nodes)
    named = list(trees.Walk(nodes.__getitem__).names(item))
    assert set(named) == set(nodes)
    assert stranger not in named


def test_a_walk_looks_at_shared_nodes_once() -> None:
    nodes, memo, loaded = Nodes(), packing.Memo(), []
    walk = trees.Walk(lambda name: loaded.append(name) or nodes[name])  # type: ignore[func-returns-value]
    items = [packed(prompt(2 * turn, 100 + 2 * turn), nodes, memo) for turn in range(30)]
    named = [name for item in items for name in walk.names(item)]
    assert sorted(named) == sorted(nodes)
    assert len(loaded) == len(set(loaded)) < 200


def test_one_object_may_be_part_of_a_text_and_of_a_list() -> None:
    """Who knows the names of another's pieces can make a list whose node is the node of that text: both are followed."""
    nodes, text = Nodes(), "é" * 40_000
    root = packing.pack(text, nodes.keep)
    pieces = [name for name, data in nodes.items() if data == text.encode()[:4_096]]
    fake = trees.node(0, [encode(piece) for piece in pieces * 10])
    of_list, of_text = (trees.link(kind, nodes.keep(fake)) for kind in (trees.LIST, trees.TEXT))
    walk = trees.Walk(nodes.__getitem__)
    assert pieces[0] not in list(walk.names(of_list))
    assert pieces[0] in list(walk.names(of_text))
    assert trees.unpack(root, nodes.__getitem__) == text


def test_a_tree_that_was_cut_otherwise_is_read_and_appended_to() -> None:
    """Stores that were written before nodes ended where their content says so."""
    nodes, elements = Nodes(), [f"{number} " * 10 for number in range(90)]
    names = [nodes.keep(trees.node(0, [encode(text) for text in elements[at : at + 6]])) for at in range(0, 90, 6)]
    root = b"\xc1" + trees.link(trees.LIST, nodes.keep(trees.node(1, list(map(encode, names)))))
    for number in range(100):
        elements.append(f"more {number} " * 10)
        root = packing.append(root, elements[-1], nodes.keep, nodes.__getitem__)
    assert trees.unpack(root, nodes.__getitem__) == elements


def bomb(nodes: Nodes) -> bytes:
    """A few nodes that stand for a thousand to the power of five."""
    item = trees.link(trees.WHOLE, nodes.keep(codec.encode("x" * 1_000)))
    for _ in range(5):
        item = trees.link(trees.LIST, nodes.keep(trees.node(0, [item] * 1_000)))
    return item


FORGED = {
    "a bomb": bomb,
    "no MessagePack": lambda _: b"\xc1" * 40,
    "an unknown kind": lambda nodes: trees.link(9, nodes.keep(b"\x90")),
    "no node": lambda nodes: trees.link(trees.LIST, nodes.keep(codec.encode("text"))),
    "a node without level": lambda nodes: trees.link(trees.LIST, nodes.keep(b"\x90")),
    "a name that is none": lambda nodes: trees.link(trees.TEXT, nodes.keep(trees.node(0, [encode([1])]))),
    "a dict that ends with a key": lambda nodes: trees.link(trees.DICT, nodes.keep(trees.node(0, [encode("key")]))),
    "a key that is none": lambda nodes: trees.link(trees.DICT, nodes.keep(trees.node(0, [encode([1]), encode(1)]))),
    "no text": lambda nodes: trees.link(trees.TEXT, nodes.keep(trees.node(0, [encode(nodes.keep(b"\xff"))]))),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_item_is_a_panic(name: str) -> None:
    nodes = Nodes()
    item = FORGED[name](nodes)

    def load(name: bytes) -> bytes:
        if name not in nodes:
            raise KernelPanic("it is missing")
        return nodes[name]

    with pytest.raises(KernelPanic):
        trees.unpack_bytes(item, load)


def test_an_element_with_an_extension_is_not_appended() -> None:
    nodes = Nodes()
    with pytest.raises(Invalid, match="extension"):
        packing.append(packing.pack(["x" * 400] * 9, nodes.keep), Ext(1, b"x"), nodes.keep, nodes.__getitem__)
