"""Big values as trees of small objects, so that a new version of a value costs what is new in it.

Protocol: a value is encoded once; its parts are cut out of that encoding, not decoded. A part becomes an *item*: its own bytes where it
has at most ITEM_BYTES_MAX, else a link (an extension type: what kind of tree, and the hash of its top node). A node is an array: its
level, then items (level 0) or names of nodes (above). Where a node ends depends on what is in it, so that it ends there again when
something before it, or long after it, has changed:

    whole               a part of at most WHOLE_BYTES_MAX is one object: its bytes
    list, text, bytes   a node ends after an item with a small checksum, one about every NODE_BYTES
    dict                sorted by encoded key; a node ends after a key whose hash has enough zero bits, so an insert moves no other node

A *root* is what a record holds: the canonical encoding of a small value, or ``0xc1`` and the top item.
Equal values have equal roots, and a root unpacks to ``codec.plain(value)``. A row of the journal keeps the item alone, and has to get the
very bytes back (`unpack_bytes`).
Not here: how a value becomes a tree (`packing`), and where nodes are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from agentos.abi import codec
from agentos.abi.limits import KIB, RESULT_BYTES_MAX
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs

__all__ = [
    "BYTES", "DICT", "ITEM_BYTES_MAX", "LIST", "NODE_BYTES", "PIECE_BYTES", "ROOT", "TEXT", "WHOLE", "WHOLE_BYTES_MAX", "Load", "Walk",
    "array_header", "link", "links", "map_header", "node", "opened", "parse", "resolve", "unpack", "unpack_bytes",
]  # fmt: skip

Load = Callable[[bytes], bytes]

ITEM_BYTES_MAX: Final = 256  # a larger part of a value is an object or a tree of its own
WHOLE_BYTES_MAX: Final = 2 * KIB  # up to this it is one object
NODE_BYTES: Final = 512  # of a node, about: 15 names, or as many small items
PIECE_BYTES: Final = 4 * KIB  # long texts and bytes are cut into pieces of this size
ROOT: Final = b"\xc1"
_PIECE, LIST, DICT, TEXT, BYTES, WHOLE = range(6)
_LOADED_BYTES_MAX: Final = 2 * RESULT_BYTES_MAX  # for one row: in a forged file a few nodes may stand for any size
_SEEN_MAX: Final = 100_000
_encode = msgspec.msgpack.Encoder().encode


def unpack(root: bytes, load: Load) -> Any:
    """Return the value of `root`, loading its nodes with `load`.

    Raises:
        KernelPanic: the root or a node is damaged.
    """
    if root[:1] != ROOT:
        return codec.decode(root)
    return _value(parse(root[1:]), load, codec.decode)


def unpack_bytes(item: bytes, load: Load) -> bytes:
    """Return the bytes that `pack_bytes` gave `item` for.

    Raises:
        KernelPanic: the item or a node is damaged.
    """
    left = _LOADED_BYTES_MAX

    def bounded(name: bytes) -> bytes:
        nonlocal left
        data = load(name)
        left -= len(data)
        if left < 0:
            raise KernelPanic("a stored value is larger than any value is")
        return data

    try:
        return codec.encode(_value(parse(item), bounded, msgspec.Raw))
    except (TypeError, ValueError, LookupError, RuntimeError, StopIteration, Invalid) as error:
        raise KernelPanic(f"a stored value is damaged: {error}") from error


def resolve(column: bytes, load: Load) -> bytes:
    """Return the value of a bytes column, which may lie in an object or in a tree of them.

    Raises:
        KernelPanic: an object is damaged or missing, or the tree has another value than was kept in it.
    """
    name = blobs.name_in(column)
    if name is not None:
        return load(name)
    tree = blobs.tree_in(column)
    if tree is None:
        return column
    data = unpack_bytes(tree[1], load)
    if blobs.name_of(data) != tree[0]:
        raise KernelPanic(f"value {tree[0].hex()} is damaged: its parts have another hash")
    return data


class Walk:
    """Goes through trees and names what lies below, each object once: many trees that share most of their nodes cost one."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._seen: set[tuple[int, bytes]] = set()

    def names(self, item: bytes) -> Iterator[bytes]:
        """Yield the names of the objects below `item`; not all of those that were yielded lately.

        Raises:
            KernelPanic: the item or a node is damaged or missing.
        """
        todo = _ends(parse(item))
        while todo:
            kind, name = todo.pop()
            if (kind, name) in self._seen:
                continue
            yield name
            if len(self._seen) >= _SEEN_MAX:
                self._seen.clear()
            self._seen.add((kind, name))
            if kind in (_PIECE, WHOLE):
                continue
            level, parts = opened(self._load(name))
            if level == 0 and kind in (LIST, DICT):
                todo += _ends(parts)
            else:
                todo += [(kind if level else _PIECE, part) for part in parts]


def links(item: bytes) -> list[bytes]:
    """Return the names of the objects that an item leads to, not what those lead to.

    Raises:
        KernelPanic: the item is damaged.
    """
    return [name for _, name in _ends(parse(item))]


# --- the parts of a tree -----------------------------------------------------------------------------------------------


def node(level: int, items: list[bytes], values_per_item: int = 1) -> bytes:
    """Return the bytes of a node."""
    return array_header(1 + len(items) * values_per_item) + _encode(level) + b"".join(items)


def link(kind: int, name: bytes) -> bytes:
    """Return the item that leads to a tree of this kind."""
    return _encode(Ext(kind, name))


def array_header(count: int) -> bytes:
    """Return the MessagePack header of an array."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def map_header(count: int) -> bytes:
    """Return the MessagePack header of a map."""
    if count < 16:
        return bytes([0x80 | count])
    return b"\xde" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdf" + count.to_bytes(4, "big")


# --- from tree to value ------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Any:
    """Decode a root's item or a node.

    Raises:
        KernelPanic: it is damaged.
    """
    return codec.decode(data)


def opened(node: bytes) -> tuple[int, list[Any]]:
    """Return level and parts of a node.

    Raises:
        KernelPanic: it is none.
    """
    found = parse(node)
    if not isinstance(found, list) or not found or not isinstance(found[0], int):
        raise KernelPanic("a stored value leads to what is no node")
    return found[0], found[1:]


def _ends(part: Any) -> list[tuple[int, bytes]]:
    """Return kind and name of every link in a decoded item, or in several."""
    if isinstance(part, Ext):
        return [(part.code, bytes(part.data))]
    inner = part if isinstance(part, list) else part.values() if isinstance(part, dict) else ()
    return [end for each in inner for end in _ends(each)]


def _value(item: Any, load: Load, whole: Callable[[bytes], Any]) -> Any:
    """Return the plain value of a decoded item; `whole` makes it from the bytes of a part that is one object."""
    if isinstance(item, Ext):
        return _linked(item.code, bytes(item.data), load, whole)
    if isinstance(item, list):
        return [_value(element, load, whole) for element in item]
    if isinstance(item, dict):
        return {key: _value(element, load, whole) for key, element in item.items()}
    return item


def _linked(kind: int, name: bytes, load: Load, whole: Callable[[bytes], Any]) -> Any:
    """Return the plain value that a link leads to."""
    if kind == WHOLE:
        return whole(load(name))
    parts = _leaves(name, load)
    if kind == LIST:
        return [_value(part, load, whole) for part in parts]
    if kind == DICT:
        return {key: _value(next(parts), load, whole) for key in parts}
    if kind in (TEXT, BYTES):
        data = b"".join(load(piece) for piece in parts)
        return data.decode() if kind == TEXT else data
    raise KernelPanic(f"a stored value has a link of unknown kind {kind}")


def _leaves(name: bytes, load: Load) -> Iterator[Any]:
    """Yield the items of the tree below the node `name`, in order."""
    level, parts = opened(load(name))
    if level == 0:
        yield from parts
        return
    for part in parts:
        yield from _leaves(part, load)
