"""Objects as bytes: their name, their body, and how a column refers to them.

Protocol: an object is named by the blake2b-256 hash of its bytes. A bytes column holds its value, or a reference, which begins with
``0xc1``:

    0xc1, hash              the object of that name holds the value
    0xc1, 0xc1, hash, item  the tree below that item does (`trees`); the value has that hash

A value that would look like a reference is moved to an object itself, so there is no doubt. Whatever keeps a value, `covered` is the same:
the hash chain covers a large value through its hash.
Not here: the tables, the buffer.
"""

from __future__ import annotations

import zlib
from hashlib import blake2b
from typing import Any, Final, TypeGuard

from agentos.abi.limits import HASH_BYTES, INLINE_BYTES_MAX, KIB
from agentos.errors import KernelPanic

__all__ = ["covered", "is_large", "is_tree", "name_in", "name_of", "pack_body", "reference", "tree", "tree_in", "unpack_body"]

_MARK: Final = b"\xc1"  # a byte that no MessagePack value begins with
_REFERENCE_BYTES: Final = 1 + HASH_BYTES
_TREE_MARK: Final = b"\xc1\xc1"  # neither is there a root that begins so: an item is MessagePack
_TREE_BYTES_MIN: Final = len(_TREE_MARK) + HASH_BYTES + 3 + HASH_BYTES  # an item leads to an object at least
_NAME_MARKS: Final = (b"\xc4\x20", b"\xc7\x20")  # before a hash in a node: hashes do not shrink; no text has these
_COMPRESS_BYTES: Final = range(512, 64 * KIB + 1)  # below it gains nothing, above it holds the event loop


def name_of(data: bytes) -> bytes:
    """Return the name of the object that holds `data`."""
    return blake2b(data, digest_size=HASH_BYTES).digest()


def is_large(data: bytes) -> bool:
    """Tell whether a column keeps `data` in an object."""
    size = len(data)
    return size > INLINE_BYTES_MAX or (size == _REFERENCE_BYTES and data[:1] == _MARK) or is_tree(data)


def reference(name: bytes) -> bytes:
    """Return what a column holds in place of the object `name`."""
    return _MARK + name


def name_in(column: bytes) -> bytes | None:
    """Return the name of the object that `column` refers to, None when it holds a plain value."""
    if len(column) == _REFERENCE_BYTES and column[:1] == _MARK:
        return column[1:]
    return None


def tree(name: bytes, item: bytes) -> bytes:
    """Return what a column holds in place of the value with this hash that lies in the tree below `item`."""
    return _TREE_MARK + name + item


def tree_in(column: bytes) -> tuple[bytes, bytes] | None:
    """Return hash and item of the value that a column keeps as a tree, None when it does not."""
    if not is_tree(column):
        return None
    return column[len(_TREE_MARK) : len(_TREE_MARK) + HASH_BYTES], column[len(_TREE_MARK) + HASH_BYTES :]


def is_tree(column: Any) -> TypeGuard[bytes]:
    """Tell whether a column, which in a damaged row may hold anything, keeps its value as a tree."""
    return isinstance(column, bytes) and len(column) >= _TREE_BYTES_MIN and column[:2] == _TREE_MARK


def covered(column: Any) -> Any:
    """Return what the hash chain covers of a column: of a value in a tree its hash, as if one object held it."""
    return column[1 : 1 + _REFERENCE_BYTES] if is_tree(column) else column


def pack_body(name: bytes, data: bytes) -> tuple[bytes, str, int, bytes]:
    """Return name, codec, size and body of an object, compressed where that saves an eighth."""
    if len(data) in _COMPRESS_BYTES and sum(map(data.count, _NAME_MARKS)) * HASH_BYTES < len(data) // 2:
        small = zlib.compress(data, 1)
        if len(small) <= len(data) * 7 // 8:
            return name, "zlib", len(data), small
    return name, "raw", len(data), data


def unpack_body(name: bytes, codec: str, size: int, body: bytes) -> bytes:
    """Return the bytes of an object.

    Raises:
        KernelPanic: the body is not what was stored under this name.
    """
    if not (isinstance(name, bytes) and isinstance(size, int) and isinstance(body, bytes)):
        raise KernelPanic(f"an object is damaged: `{name!r}` is no name, or it holds no bytes")
    if codec not in ("raw", "zlib"):
        raise KernelPanic(f"object {name.hex()} has the unknown codec `{codec}`")
    if codec == "zlib" and size not in _COMPRESS_BYTES:  # a size is of whoever wrote the file, and would be memory
        raise KernelPanic(f"object {name.hex()} is damaged: {size} bytes are never compressed")
    try:
        data = body if codec == "raw" else _inflate(body, size)
    except zlib.error as error:
        raise KernelPanic(f"object {name.hex()} is damaged: {error}") from error
    if len(data) != size or name_of(data) != name:
        raise KernelPanic(f"object {name.hex()} is damaged: its bytes have another hash")
    return data


def _inflate(body: bytes, size: int) -> bytes:
    """Decompress at most one byte more than `size`, so that a damaged body cannot fill the memory."""
    return zlib.decompressobj().decompress(body, size + 1)
