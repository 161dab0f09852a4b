"""From values to trees: cutting, naming, and remembering what was cut lately.

Protocol: a value is encoded once, and its parts are cut out of that encoding without being decoded. What a part became is remembered by
its bytes, so that of a list which was packed lately only the new elements are looked at; the nodes above are made anew each time.
Not here: what a tree looks like, and reading it (`trees`).

INVARIANT known-parts-are-kept: a part is taken from the memo only while every object below its item is in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.abi.limits import INLINE_BYTES_MAX, KIB, MIB
from agentos.errors import Invalid
from agentos.store.trees import (
    BYTES, DICT, ITEM_BYTES_MAX, LIST, NODE_BYTES, PIECE_BYTES, ROOT, TEXT, WHOLE, WHOLE_BYTES_MAX, Load, array_header, link, map_header,
    node, parse,
)  # fmt: skip

__all__ = ["Memo", "append", "pack", "pack_bytes"]

Keep = Callable[[bytes], bytes]

_NODE_BYTES_MIN: Final = NODE_BYTES // 2
_NODE_BYTES_MAX: Final = 2 * NODE_BYTES  # for items that all have the same checksum
_END_SHIFT: Final = 24  # past its minimum a node ends once in 2**(32 - 24) = 256 bytes
_FANOUT_BITS: Final = 4  # a node of a dict ends after one key in 16
_MEMO_BYTES_MAX: Final = 8 * MIB
_MEMO_PART_BYTES_MAX: Final = 16 * KIB
_MEMO_ENTRY_BYTES: Final = 200  # what an entry takes beside its bytes

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_split_list = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_split_dict = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


class _Unfit(Exception):
    """A part is not what `codec` would make of it, or holds what looks like a link."""


def _refuse(_code: int, _data: memoryview) -> None:
    raise _Unfit("it holds a MessagePack extension")


_strict = msgspec.msgpack.Decoder(ext_hook=_refuse).decode


class Memo:
    """The items of parts that were packed lately, by their bytes. Bounded: what was not asked for since it was half full may go.

    Whoever removes objects clears it before (`Journal.watch`).
    """

    __slots__ = ("_bytes", "_old", "young")

    def __init__(self) -> None:
        self.young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._bytes = 0

    def get(self, part: bytes) -> bytes | None:
        """Return the item of a part that was packed lately."""
        item = self.young.get(part)
        if item is None and (item := self._old.get(part)) is not None:
            self.put(part, item)
        return item

    def put(self, part: bytes, item: bytes) -> None:
        """Remember the item of a part."""
        if len(part) > _MEMO_PART_BYTES_MAX:
            return
        self.young[part] = item
        self._bytes += len(part) + len(item) + _MEMO_ENTRY_BYTES
        if self._bytes > _MEMO_BYTES_MAX // 2:
            self._old, self.young, self._bytes = self.young, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self.young, self._old, self._bytes = {}, {}, 0


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
            return ROOT + packer.large(data)
        except _Unfit:  # values with types have their fields in an order of their own
            return ROOT + packer.large(codec.encode(codec.decode(data)))
    except _Unfit as error:
        raise Invalid("argument", f"value cannot be stored: {error}", hint="use JSON types or bytes") from error
    except RecursionError as error:
        raise Invalid("argument", "value is nested too deep to be stored", hint="flatten it") from error


def pack_bytes(data: bytes, keep: Keep, memo: Memo) -> bytes | None:
    """Return the item of an encoded value of more than WHOLE_BYTES_MAX, or None where a tree is of no use.

    That is, where there is no list or dict in it that could have a part in common with another, and where it is not encoded as `codec`
    does it: its very bytes would not come back.
    """
    if not _is_branching(data):
        return None
    try:
        return _Packer(keep, memo).large(data)
    except (_Unfit, msgspec.DecodeError, RecursionError):
        return None


def append(root: bytes, element: Any, keep: Keep, load: Load) -> bytes:
    """Return the root of the list `root` with one more element; costs O(log n), and equals packing the longer list.

    Raises:
        Invalid: `invalid.argument`, `root` is no list or the element is not data.
        KernelPanic: the root or a node is damaged.
    """
    if root[:1] != ROOT:
        value = codec.decode(root)
        if not isinstance(value, list):
            raise _no_list()
        return pack([*value, element], keep)
    top = parse(root[1:])
    if isinstance(top, list):  # few, but large elements: the list itself is inline
        return ROOT + _branch([*map(_encode, top), _new_item(element, keep)], keep)
    if not isinstance(top, Ext) or top.code != LIST:
        raise _no_list()
    item = _new_item(element, keep)
    return ROOT + link(LIST, _grown(bytes(top.data), item, keep, load))


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
        return _expected(data) if len(data) <= ITEM_BYTES_MAX else _Packer(keep, Memo()).large(data)
    except _Unfit as error:
        raise Invalid("argument", f"value cannot be stored: {error}", hint="use JSON types or bytes") from error


def _is_branching(data: bytes) -> bool:
    """Tell whether an encoded value is a list, or a dict with a large list or dict in it."""
    if _is_list(data):
        return True
    if not _is_dict(data):
        return False
    try:
        parts = [bytes(part[:1]) for part in map(memoryview, _split_dict(data).values()) if len(part) > ITEM_BYTES_MAX]
    except (msgspec.DecodeError, TypeError):
        return False
    return any(_is_list(first) or _is_dict(first) for first in parts)


def _is_list(data: bytes) -> bool:
    return data[0] & 0xF0 == 0x90 or data[0] in (0xDC, 0xDD)


def _is_dict(data: bytes) -> bool:
    return data[0] & 0xF0 == 0x80 or data[0] in (0xDE, 0xDF)


def _expected(data: bytes) -> bytes:
    """Return `data` if it is the canonical encoding of plain data: what is decoded from it later is encoded as the same bytes."""
    if _encode(_strict(data)) != data:
        raise _Unfit("it is not encoded in order")
    return data


class _Packer:
    """From encoded parts to items."""

    __slots__ = ("_keep", "_memo")

    def __init__(self, keep: Keep, memo: Memo) -> None:
        self._keep = keep
        self._memo = memo

    def large(self, data: bytes) -> bytes:
        """Return the item of a part of more than ITEM_BYTES_MAX.

        Raises:
            _Unfit: it is not the canonical encoding of plain data.
            RecursionError: it is nested too deep; reading it back takes half the stack that this does.
            msgspec.DecodeError: it is not MessagePack.
        """
        item = self._memo.get(data)
        if item is None:
            self._memo.put(data, item := self._item(data))
        return item

    def _item(self, data: bytes) -> bytes:
        if len(data) <= WHOLE_BYTES_MAX:
            return link(WHOLE, self._keep(_expected(data)))
        if _is_list(data):
            return self._list(data)
        return self._dict(data) if _is_dict(data) else self._text(data)

    def _text(self, data: bytes) -> bytes:
        value = _strict(_expected(data))
        if isinstance(value, str):
            return link(TEXT, _tree(_pieces(value.encode(), self._keep), self._keep))
        assert isinstance(value, bytes), "nothing else is as large"
        return link(BYTES, _tree(_pieces(value, self._keep), self._keep))

    def _list(self, data: bytes) -> bytes:
        parts = list(map(bytes, _split_list(data)))
        if not data.startswith(array_header(len(parts))):
            raise _Unfit("it is not encoded shortly")
        return _branch(self._items(parts), self._keep)

    def _items(self, parts: list[bytes]) -> list[bytes]:
        """Return the items of parts. The small ones are checked all at once."""
        known, large = self._memo.young.get, self.large
        items = [part if len(part) <= ITEM_BYTES_MAX else known(part) or large(part) for part in parts]
        small = [part for part in parts if len(part) <= ITEM_BYTES_MAX]
        if small:
            _expected(array_header(len(small)) + b"".join(small))
        return items

    def _dict(self, data: bytes) -> bytes:
        found = _split_dict(data)
        if _encode(found) != data:
            raise _Unfit("its keys are not in order")
        items = self._items(list(map(bytes, found.values())))
        return _dict(sorted(zip(map(_encode, found), items, strict=True)), self._keep)


def _branch(items: list[bytes], keep: Keep) -> bytes:
    """Return the item of a list of items."""
    if sum(map(len, items)) <= ITEM_BYTES_MAX:
        return array_header(len(items)) + b"".join(items)
    return link(LIST, _tree(items, keep))


def _dict(pairs: list[tuple[bytes, bytes]], keep: Keep) -> bytes:
    """Return the item of a dict, given its encoded keys with their items, sorted."""
    if sum(len(key) + len(item) for key, item in pairs) <= ITEM_BYTES_MAX:
        return map_header(len(pairs)) + b"".join(key + item for key, item in pairs)
    level, items = 0, [(_height(key), key + item) for key, item in pairs]
    while True:
        nodes: list[tuple[int, bytes]] = []
        for ended, group in _by_height(items, level):
            nodes.append((ended, keep(node(level, group, 2 if level == 0 else 1))))
        if len(nodes) == 1:
            return link(DICT, nodes[0][1])
        level, items = level + 1, [(height, _encode(name)) for height, name in nodes]


def _height(key: bytes) -> int:
    """Return how many levels of nodes end after `key`: each with one chance in 16, decided by the key alone."""
    bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    zeros = (bits & -bits).bit_length() - 1 if bits else 64
    return zeros // _FANOUT_BITS


def _by_height(items: list[tuple[int, bytes]], level: int) -> Iterator[tuple[int, list[bytes]]]:
    """Cut items into nodes of `level`; gives each node's height, which is that of its last key."""
    group: list[bytes] = []
    for at, (height, item) in enumerate(items):
        group.append(item)
        if height > level or at == len(items) - 1:
            yield height, group
            group = []


def _pieces(data: bytes, keep: Keep) -> list[bytes]:
    """Return one item per piece of `data`."""
    return [_encode(keep(data[start : start + PIECE_BYTES])) for start in range(0, len(data), PIECE_BYTES)]


def _tree(items: list[bytes], keep: Keep) -> bytes:
    """Return the name of the top node over `items`."""
    level = 0
    while True:
        names = [keep(node(level, group)) for group in _by_sum(items)]
        if len(names) == 1:
            return names[0]
        level, items = level + 1, [_encode(name) for name in names]


def _by_sum(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut items into nodes, each ending after an item whose checksum is small for its size."""
    group: list[bytes] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item)
        if size >= _NODE_BYTES_MIN and (crc32(item) < len(item) << _END_SHIFT or size >= _NODE_BYTES_MAX):
            yield group
            group, size = [], 0
    if group:
        yield group


def _grown(top: bytes, item: bytes, keep: Keep, load: Load) -> bytes:
    """Return the name of the top node of the list tree `top` with one more item at its end."""
    spine: list[list[bytes]] = []  # the items of the last node of each level, highest first
    name = top
    while True:
        level, *parts = parse(load(name))
        spine.append([_encode(part) for part in parts])
        if level == 0:
            break
        name = parts[-1]
    grown = [*spine.pop(), item]
    level = 0
    while True:
        names = [keep(node(level, group)) for group in _by_sum(grown)]
        if not spine:
            return names[0] if len(names) == 1 else _raised(names, level + 1, keep)
        level, grown = level + 1, [*spine.pop()[:-1], *map(_encode, names)]


def _raised(names: list[bytes], level: int, keep: Keep) -> bytes:
    """Return the name of a new top over two nodes."""
    return keep(node(level, [_encode(name) for name in names]))
