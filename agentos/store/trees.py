"""Big values as trees of small objects, so that a new version of a value costs what is new in it.

Protocol: a value is encoded once into *items*. An item is canonical MessagePack in which every part larger than ITEM_BYTES_MAX is replaced
by a link (an extension type: what kind of tree, and the hash of its top node). A node is an array: its level, then items (level 0)
or names of nodes (above). The end of a node depends only on what lies before it:

    list, text, bytes   a node is full after NODE_BYTES, so a value that grows at its end shares all full nodes
    dict                sorted by encoded key; a node ends after a key whose hash has enough zero bits, so an insert moves no other node

A *root* is what a record holds: the canonical encoding of a small value, or ``0xc1`` and the top item.
Equal values have equal roots, and a root unpacks to ``codec.plain(value)``.
Not here: where nodes are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.abi.limits import INLINE_BYTES_MAX, KIB
from agentos.errors import Invalid, KernelPanic

__all__ = ["append", "pack", "unpack"]

Keep = Callable[[bytes], bytes]
Load = Callable[[bytes], bytes]

ITEM_BYTES_MAX: Final = 256  # a larger part of a value is a tree of its own
NODE_BYTES: Final = 512  # a node is full at this size: about 14 names, or as many small items
PIECE_BYTES: Final = 4 * KIB  # long texts and bytes are cut into pieces of this size
_FANOUT_BITS: Final = 4  # a node of a dict ends after one key in 16

_ROOT: Final = b"\xc1"
_LIST, _DICT, _TEXT, _BYTES = 1, 2, 3, 4
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder().decode


def pack(value: Any, keep: Keep) -> bytes:
    """Return the root of `value`, keeping its nodes with `keep`.

    Raises:
        Invalid: `invalid.argument`, the value is not data or is nested too deep.
    """
    data = codec.encode(value)
    if len(data) <= INLINE_BYTES_MAX:
        return data
    try:
        return _ROOT + _item(codec.decode(data), keep)
    except RecursionError as error:
        raise Invalid("argument", "value is nested too deep to be stored", hint="flatten it") from error


def unpack(root: bytes, load: Load) -> Any:
    """Return the value of `root`, loading its nodes with `load`.

    Raises:
        KernelPanic: the root or a node is damaged.
    """
    if root[:1] != _ROOT:
        return codec.decode(root)
    return _value(_parse(root[1:]), load)


def append(root: bytes, element: Any, keep: Keep, load: Load) -> bytes:
    """Return the root of the list `root` with one more element; costs O(log n), and equals packing the longer list.

    Raises:
        Invalid: `invalid.argument`, `root` is no list or the element is not data.
        KernelPanic: the root or a node is damaged.
    """
    if root[:1] != _ROOT:
        value = codec.decode(root)
        if not isinstance(value, list):
            raise _no_list()
        return pack([*value, element], keep)
    top = _parse(root[1:])
    if isinstance(top, list):  # few, but large elements: the list itself is inline
        return _ROOT + _branch([*map(_encode, top), _item(codec.plain(element), keep)], keep)
    if not isinstance(top, Ext) or top.code != _LIST:
        raise _no_list()
    item = _item(codec.plain(element), keep)
    return _ROOT + _link(_LIST, _grown(bytes(top.data), item, keep, load))


def _no_list() -> Invalid:
    return Invalid("argument", "the value is no list: nothing can be appended", hint="append to a list object")


# --- from value to tree ------------------------------------------------------------------------------------------------


def _item(value: Any, keep: Keep) -> bytes:
    """Return the item of a plain value."""
    if isinstance(value, str):
        data = value.encode()
        return _encode(value) if len(data) <= ITEM_BYTES_MAX else _link(_TEXT, _tree(_pieces(data, keep), keep))
    if isinstance(value, bytes):
        return _encode(value) if len(value) <= ITEM_BYTES_MAX else _link(_BYTES, _tree(_pieces(value, keep), keep))
    if isinstance(value, list):
        return _branch([_item(element, keep) for element in value], keep)
    if isinstance(value, dict):
        return _dict(value, keep)
    if isinstance(value, Ext):
        raise Invalid("argument", "value cannot be stored: it holds a MessagePack extension", hint="use JSON types or bytes")
    return _encode(value)


def _branch(items: list[bytes], keep: Keep) -> bytes:
    """Return the item of a list of items."""
    if sum(map(len, items)) <= ITEM_BYTES_MAX:
        return _array_header(len(items)) + b"".join(items)
    return _link(_LIST, _tree(items, keep))


def _dict(value: dict[str, Any], keep: Keep) -> bytes:
    """Return the item of a dict."""
    pairs = sorted((_encode(key), _item(element, keep)) for key, element in value.items())
    if sum(len(key) + len(item) for key, item in pairs) <= ITEM_BYTES_MAX:
        return _map_header(len(pairs)) + b"".join(key + item for key, item in pairs)
    level, items = 0, [(_height(key), key + item) for key, item in pairs]
    while True:
        nodes: list[tuple[int, bytes]] = []
        for ended, group in _by_height(items, level):
            nodes.append((ended, keep(_node(level, group, 2 if level == 0 else 1))))
        if len(nodes) == 1:
            return _link(_DICT, nodes[0][1])
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
    """Return the name of the top node over `items`, nodes filled by size."""
    level = 0
    while True:
        names = [keep(_node(level, group)) for group in _by_size(items)]
        if len(names) == 1:
            return names[0]
        level, items = level + 1, [_encode(name) for name in names]


def _by_size(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut items into nodes that are full at NODE_BYTES."""
    group: list[bytes] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item)
        if size >= NODE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _grown(top: bytes, item: bytes, keep: Keep, load: Load) -> bytes:
    """Return the name of the top node of the list tree `top` with one more item at its end."""
    spine: list[list[bytes]] = []  # the items of the last node of each level, highest first
    name = top
    while True:
        level, *parts = _parse(load(name))
        spine.append([_encode(part) for part in parts])
        if level == 0:
            break
        name = parts[-1]
    grown = [*spine.pop(), item]
    level = 0
    while True:
        names = [keep(_node(level, group)) for group in _by_size(grown)]
        if not spine:
            return names[0] if len(names) == 1 else _raised(names, level + 1, keep)
        level, grown = level + 1, [*spine.pop()[:-1], *map(_encode, names)]


def _raised(names: list[bytes], level: int, keep: Keep) -> bytes:
    """Return the name of a new top over two nodes."""
    return keep(_node(level, [_encode(name) for name in names]))


def _node(level: int, items: list[bytes], values_per_item: int = 1) -> bytes:
    """Return the bytes of a node."""
    return _array_header(1 + len(items) * values_per_item) + _encode(level) + b"".join(items)


def _link(kind: int, name: bytes) -> bytes:
    return _encode(Ext(kind, name))


def _array_header(count: int) -> bytes:
    """Return the MessagePack header of an array."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def _map_header(count: int) -> bytes:
    """Return the MessagePack header of a map; one that fits an item is short."""
    return bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")


# --- from tree to value ------------------------------------------------------------------------------------------------


def _parse(data: bytes) -> Any:
    """Decode a root's item or a node.

    Raises:
        KernelPanic: it is damaged.
    """
    return codec.decode(data)


def _value(item: Any, load: Load) -> Any:
    """Return the plain value of a decoded item."""
    if isinstance(item, list):
        return [_value(element, load) for element in item]
    if isinstance(item, dict):
        return {key: _value(element, load) for key, element in item.items()}
    if not isinstance(item, Ext):
        return item
    parts = _leaves(bytes(item.data), load)
    if item.code == _LIST:
        return [_value(part, load) for part in parts]
    if item.code == _DICT:
        return {key: _value(next(parts), load) for key in parts}
    if item.code in (_TEXT, _BYTES):
        data = b"".join(load(piece) for piece in parts)
        return data.decode() if item.code == _TEXT else data
    raise KernelPanic(f"a stored value has a link of unknown kind {item.code}")


def _leaves(name: bytes, load: Load) -> Iterator[Any]:
    """Yield the items of the tree below the node `name`, in order."""
    level, *parts = _parse(load(name))
    if level == 0:
        yield from parts
        return
    for part in parts:
        yield from _leaves(part, load)
