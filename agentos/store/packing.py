"""From values to trees: cutting, naming, and remembering what was cut lately.

Protocol: a value is encoded once, and its parts are cut out of that encoding without being decoded. What a part became is remembered by
its bytes, so that of a list which was packed lately only the new elements are looked at; the nodes above are made anew each time.
Not here: what a tree looks like, and reading it (`trees`).

INVARIANT known-parts-are-kept: a part is taken from the memo only while every object below its item is in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.abi.limits import INLINE_BYTES_MAX, KIB, MIB
from agentos.errors import Invalid
from agentos.store import trees

__all__ = ["Memo", "append", "pack", "pack_bytes"]

Keep = Callable[[bytes], bytes]
Kept = TypeVar("Kept")

_NODE_BYTES_MIN: Final = trees.NODE_BYTES // 2
_NODE_BYTES_MAX: Final = 2 * trees.NODE_BYTES  # for items that all have the same checksum
_END_SHIFT: Final = 24  # past its minimum a node ends once in 2**(32 - 24) = 256 bytes
_FIELD_BYTES_MAX: Final = 64
_FANOUT_BITS: Final = 4  # a node of a dict ends after one key in 16
_RECENT_BYTES_MAX: Final = 8 * MIB  # twice: parts, and runs of them
_RECENT_PART_BYTES_MAX: Final = 16 * KIB  # a larger one has parts that are remembered
_RECENT_RUN_BYTES_MAX: Final = 64 * KIB
_ENTRY_BYTES: Final = 200  # what an entry takes beside its bytes
_ROW_BYTES_MAX: Final = 4 * MIB  # of arguments that become a tree: what is larger is not remembered to its end
_ROW_NODES_MAX: Final = 2_048  # that are made for one row, which holds the event loop meanwhile

_NONE: Final = b"\xc0"
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_split_list = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_split_dict = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


class _Unfit(Exception):
    """A part is not what `codec` would make of it, or holds what looks like a link."""


def _refuse(_code: int, _data: memoryview) -> None:
    raise _Unfit("it holds a MessagePack extension")


_strict = msgspec.msgpack.Decoder(ext_hook=_refuse).decode


class _Recent(Generic[Kept]):
    """What was kept lately, by bytes. Bounded: what nobody asked for while half of it was filled may go."""

    __slots__ = ("_bytes", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Kept] = {}
        self._old: dict[bytes, Kept] = {}
        self._bytes = 0

    def get(self, key: bytes) -> Kept | None:
        """Return what is kept under `key`."""
        kept = self._young.get(key)
        if kept is None and (kept := self._old.pop(key, None)) is not None:
            self.put(key, kept)
        return kept

    def put(self, key: bytes, kept: Kept, more_bytes: int = 0) -> None:
        """Keep something that takes about `more_bytes` beside its key."""
        self._young[key] = kept
        self._bytes += len(key) + more_bytes + _ENTRY_BYTES
        if self._bytes > _RECENT_BYTES_MAX // 2:
            self._old, self._young, self._bytes = self._young, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._bytes = {}, {}, 0


class Memo:
    """What was packed lately. Whoever removes objects clears it before (`Journal.watch`).

    Attributes:
        items: The items of parts, by their bytes.
        runs: Of elements of a list that fill a node, by the first of them: the bytes of them all, how many they are, the node's name.
    """

    __slots__ = ("items", "runs")

    def __init__(self) -> None:
        self.items: _Recent[bytes] = _Recent()
        self.runs: _Recent[tuple[bytes, int, bytes]] = _Recent()

    def clear(self) -> None:
        """Forget everything."""
        self.items.clear()
        self.runs.clear()


def pack(value: Any, keep: Keep, memo: Memo | None = None) -> bytes:
    """Return the root of `value`, keeping its nodes with `keep`; parts that `memo` knows are not looked at.

    Raises:
        Invalid: `invalid.argument`, the value is not data or is nested too deep.
    """
    data = codec.encode(value)
    if len(data) <= INLINE_BYTES_MAX:
        return data
    packer = _Packer(keep, Memo() if memo is None else memo)
    try:
        try:
            return trees.ROOT + packer.large(data)
        except _Unfit:  # values with types have their fields in an order of their own
            return trees.ROOT + packer.large(codec.encode(codec.decode(data)))
    except _Unfit as error:
        raise Invalid("argument", f"value cannot be stored: {error}", hint="use JSON types or bytes") from error
    except RecursionError as error:
        raise Invalid("argument", "value is nested too deep to be stored", hint="flatten it") from error


def pack_bytes(data: bytes, keep: Keep, memo: Memo) -> bytes | None:
    """Return the item of an encoded value of more than trees.WHOLE_BYTES_MAX, or None where a tree is of no use.

    That is, where there is no list or dict in it that could have a part in common with another; where it is not encoded as `codec` does
    it, so that its very bytes would not come back; and where too much of it is new: one object costs less than many. What is
    remembered of it is not new the next time.
    """
    if len(data) > _ROW_BYTES_MAX or not _is_branching(data):
        return None
    left = _ROW_NODES_MAX

    def bounded(node: bytes) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Unfit("too much of it is new")
        return keep(node)

    try:
        return _Packer(bounded, memo).large(data)
    except (_Unfit, ValueError, RecursionError):  # a ValueError is of msgspec, or of a text that is none
        return None


def append(root: bytes, element: Any, keep: Keep, load: trees.Load) -> bytes:
    """Return the root of the list `root` with one more element; costs O(log n), and equals packing the longer list.

    Raises:
        Invalid: `invalid.argument`, `root` is no list or the element is not data.
        KernelPanic: the root or a node is damaged.
    """
    if root[:1] != trees.ROOT:
        value = codec.decode(root)
        if not isinstance(value, list):
            raise _no_list()
        return pack([*value, element], keep)
    top = trees.parse(root[1:])
    if isinstance(top, list):  # few, but large elements: the list itself is inline
        return trees.ROOT + _branch([*map(_encode, top), _new_item(element, keep)], keep)
    if not isinstance(top, Ext) or top.code != trees.LIST:
        raise _no_list()
    item = _new_item(element, keep)
    return trees.ROOT + trees.link(trees.LIST, _grown(bytes(top.data), item, keep, load))


def _no_list() -> Invalid:
    return Invalid("argument", "the value is no list: nothing can be appended", hint="append to a list object")


# --- from value to tree ------------------------------------------------------------------------------------------------


def _new_item(element: Any, keep: Keep) -> bytes:
    """Return the item of one more element of a list.

    Raises:
        Invalid: `invalid.argument`, it is not data.
    """
    data = codec.encode(codec.plain(element))
    try:
        return _expected(data) if len(data) <= trees.ITEM_BYTES_MAX else _Packer(keep, Memo()).large(data)
    except _Unfit as error:
        raise Invalid("argument", f"value cannot be stored: {error}", hint="use JSON types or bytes") from error


def _is_branching(data: bytes) -> bool:
    """Tell whether an encoded value is a list, or a dict with a large list or dict in it."""
    if _is_list(data):
        return True
    if not _is_dict(data):
        return False
    try:
        parts = map(bytes, _split_dict(data).values())
    except msgspec.DecodeError:
        return False
    return any(len(part) > trees.ITEM_BYTES_MAX and (_is_list(part) or _is_dict(part)) for part in parts)


def _is_list(data: bytes) -> bool:
    return data[0] & 0xF0 == 0x90 or data[0] in (0xDC, 0xDD)


def _is_dict(data: bytes) -> bool:
    return data[0] & 0xF0 == 0x80 or data[0] in (0xDE, 0xDF)


def _expected(data: bytes) -> bytes:
    """Return `data` if it is the canonical encoding of plain data: what is decoded from it later is encoded as the same bytes."""
    if _encode(_strict(data)) != data:
        raise _Unfit("it is not encoded in order")
    return data


def _expect_all(parts: list[bytes]) -> None:
    """As `_expected`, of many small parts at once."""
    if parts:
        _expected(trees.array_header(len(parts)) + b"".join(parts))


class _Packer:
    """From encoded parts to items."""

    __slots__ = ("_keep", "_memo")

    def __init__(self, keep: Keep, memo: Memo) -> None:
        self._keep = keep
        self._memo = memo

    def large(self, data: bytes) -> bytes:
        """Return the item of a part of more than trees.ITEM_BYTES_MAX.

        Raises:
            _Unfit: it is not the canonical encoding of plain data.
            RecursionError: it is nested too deep; reading it back takes half the stack that this does.
            ValueError: it is not MessagePack.
        """
        if len(data) > _RECENT_PART_BYTES_MAX:
            return self._item(data)
        item = self._memo.items.get(data)
        if item is None:
            self._memo.items.put(data, item := self._item(data))
        return item

    def _item(self, data: bytes) -> bytes:
        if len(data) <= trees.WHOLE_BYTES_MAX:
            return trees.link(trees.WHOLE, self._keep(_expected(data)))
        if _is_list(data):
            return self._list(data)
        return self._dict(data) if _is_dict(data) else self._text(data)

    def _text(self, data: bytes) -> bytes:
        value = _strict(_expected(data))
        if isinstance(value, str):
            return trees.link(trees.TEXT, self._pieces(value.encode()))
        assert isinstance(value, bytes), "nothing else is as large"
        return trees.link(trees.BYTES, self._pieces(value))

    def _pieces(self, data: bytes) -> bytes:
        """Return the name of the tree of a long text or bytes."""
        pieces = (data[start : start + trees.PIECE_BYTES] for start in range(0, len(data), trees.PIECE_BYTES))
        items = [_encode(self._keep(piece)) for piece in pieces]
        return _tree([self._keep(trees.node(0, group)) for group in _by_sum(items)], self._keep)

    def _list(self, data: bytes) -> bytes:
        parts = _split_list(data)
        if not data.startswith(trees.array_header(len(parts))):
            raise _Unfit("it is not encoded shortly")
        names: list[bytes] = []
        at, begin = 0, len(trees.array_header(len(parts)))
        while at < len(parts):
            first = bytes(parts[at])
            run = self._memo.runs.get(first)
            if run is None or not data.startswith(run[0], begin):
                group, is_full = self._group(parts, at)
                if not names and at + len(group) == len(parts) and sum(map(len, group)) <= trees.ITEM_BYTES_MAX:
                    return trees.array_header(len(group)) + b"".join(group)
                end = begin + sum(map(len, parts[at : at + len(group)]))
                run = data[begin:end], len(group), self._keep(trees.node(0, group))
                if is_full and len(run[0]) <= _RECENT_RUN_BYTES_MAX:
                    self._memo.runs.put(first, run, len(run[0]))
            names.append(run[2])
            at, begin = at + run[1], begin + len(run[0])
        return trees.link(trees.LIST, _tree(names, self._keep))

    def _group(self, parts: Sequence[msgspec.Raw], at: int) -> tuple[list[bytes], bool]:
        """Return the items of the node that begins with part `at`, and whether it ends there whatever follows."""
        group: list[bytes] = []
        small: list[bytes] = []
        size, is_full = 0, False
        while not is_full and at < len(parts):
            part = item = bytes(parts[at])
            if len(part) <= trees.ITEM_BYTES_MAX:
                small.append(part)
            else:
                item = self.large(part)
            group.append(item)
            at, size = at + 1, size + len(item)
            is_full = _is_full(item, size)
        _expect_all(small)
        return group, is_full

    def _dict(self, data: bytes) -> bytes:
        found = _split_dict(data)
        keys, parts = list(map(_encode, found)), list(map(bytes, found.values()))
        empty = trees.map_header(len(keys)) + b"".join(
            key + _NONE for key in keys
        )  # compared with its values left out: they are large
        if _encode(dict.fromkeys(found)) != empty or len(data) != len(empty) - len(keys) + sum(map(len, parts)):
            raise _Unfit("its keys are not in order")
        _expect_all([part for part in parts if len(part) <= trees.ITEM_BYTES_MAX])
        items = [part if len(part) <= trees.ITEM_BYTES_MAX else self.large(part) for part in parts]
        return _dict(sorted(zip(keys, items, strict=True)), self._keep)


def _branch(items: list[bytes], keep: Keep) -> bytes:
    """Return the item of a list of items."""
    if sum(map(len, items)) <= trees.ITEM_BYTES_MAX:
        return trees.array_header(len(items)) + b"".join(items)
    return trees.link(trees.LIST, _tree([keep(trees.node(0, group)) for group in _by_sum(items)], keep))


def _dict(pairs: list[tuple[bytes, bytes]], keep: Keep) -> bytes:
    """Return the item of a dict, given its encoded keys with their items, sorted."""
    if sum(len(key) + len(item) for key, item in pairs) <= trees.ITEM_BYTES_MAX:
        return trees.map_header(len(pairs)) + b"".join(key + item for key, item in pairs)
    level, items = 0, [(_height(key) if len(key) > _FIELD_BYTES_MAX else _field_height(key), key + item) for key, item in pairs]
    while True:
        nodes: list[tuple[int, bytes]] = []
        for ended, group in _by_height(items, level):
            nodes.append((ended, keep(trees.node(level, group, 2 if level == 0 else 1))))
        if len(nodes) == 1:
            return trees.link(trees.DICT, nodes[0][1])
        level, items = level + 1, [(height, _encode(name)) for height, name in nodes]


def _height(key: bytes) -> int:
    """Return how many levels of nodes end after `key`: each with one chance in 16, decided by the key alone."""
    bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    zeros = (bits & -bits).bit_length() - 1 if bits else 64
    return zeros // _FANOUT_BITS


_field_height = lru_cache(maxsize=4096)(_height)  # names of fields come again with every value


def _by_height(items: list[tuple[int, bytes]], level: int) -> Iterator[tuple[int, list[bytes]]]:
    """Cut items into nodes of `level`; gives each node's height, which is that of its last key."""
    group: list[bytes] = []
    for at, (height, item) in enumerate(items):
        group.append(item)
        if height > level or at == len(items) - 1:
            yield height, group
            group = []


def _tree(names: list[bytes], keep: Keep) -> bytes:
    """Return the name of the top node over the nodes of level 0."""
    level = 0
    while len(names) > 1:
        level += 1
        names = [keep(trees.node(level, group)) for group in _by_sum(map(_encode, names))]
    return names[0]


def _by_sum(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut items into nodes."""
    group: list[bytes] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item)
        if _is_full(item, size):
            yield group
            group, size = [], 0
    if group:
        yield group


def _is_full(item: bytes, size: int) -> bool:
    """Tell whether a node of `size` bytes ends with `item`: where its checksum is small for its size, so once in so many bytes."""
    return size >= _NODE_BYTES_MIN and (crc32(item) < len(item) << _END_SHIFT or size >= _NODE_BYTES_MAX)


def _grown(top: bytes, item: bytes, keep: Keep, load: trees.Load) -> bytes:
    """Return the name of the top node of the list tree `top` with one more item at its end."""
    spine: list[list[bytes]] = []  # the items of the last node of each level, highest first
    name = top
    while True:
        level, *parts = trees.parse(load(name))
        spine.append([_encode(part) for part in parts])
        if level == 0:
            break
        name = parts[-1]
    grown = [*spine.pop(), item]
    level = 0
    while True:
        names = [keep(trees.node(level, group)) for group in _by_sum(grown)]
        if not spine:
            return names[0] if len(names) == 1 else _raised(names, level + 1, keep)
        level, grown = level + 1, [*spine.pop()[:-1], *map(_encode, names)]


def _raised(names: list[bytes], level: int, keep: Keep) -> bytes:
    """Return the name of a new top over two nodes."""
    return keep(trees.node(level, [_encode(name) for name in names]))
