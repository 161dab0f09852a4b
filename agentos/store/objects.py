"""Content-addressed objects: bytes by hash, and big values as trees of them.

Protocol: writing buffers in the journal's batch and is committed with it; reading sees what is buffered. Every read checks the hash.
Not here: the shape of trees (`trees`), bodies and references (`blobs`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from agentos.errors import Invalid, KernelPanic, Unavailable
from agentos.store import blobs, packing, trees
from agentos.store.database import Database
from agentos.store.journal import Journal

__all__ = ["Objects"]

_CACHE_BYTES_MAX: Final = 4 * 1024 * 1024


class Objects:
    """The objects of one store. Without a journal they can only be read."""

    def __init__(self, reader: Database, journal: Journal) -> None:
        self._reader = reader
        self._journal = journal
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached_bytes = 0

    def put(self, data: bytes) -> str:
        """Buffer `data` and return its hash in hex; equal bytes are kept once.

        Raises:
            Invalid: `invalid.store`, the store failed or is read-only.
        """
        return self._journal.keep(data).hex()

    def get(self, name: str) -> bytes:
        """Return the bytes whose hash is `name` in hex.

        Raises:
            Invalid: `invalid.argument`, `name` is no hash.
            Unavailable: `unavailable.missing`, there is no such object.
            KernelPanic: the stored bytes are damaged.
        """
        try:
            raw = bytes.fromhex(name)
        except ValueError as error:
            raise Invalid("argument", f"`{name}` is not an object hash", hint="give the hash in hex", field="hash") from error
        data = self._find(raw)
        if data is None:
            raise Unavailable("missing", f"object `{name}` is not in the store", hint="it may have been erased")
        return data

    def pack(self, value: Any) -> bytes:
        """Return `value` as bytes for a record: inline when small, else the root of a tree that shares what did not change.

        Raises:
            Invalid: `invalid.argument`, the value is not data; `invalid.store`, the store failed or is read-only.
        """
        return packing.pack(value, self._journal.keep, self._journal.memo)

    def unpack(self, root: bytes) -> Any:
        """Return the value that `pack` or `append` gave `root` for; equals ``codec.plain`` of it.

        Raises:
            KernelPanic: the root or an object below it is damaged or missing.
        """
        return trees.unpack(root, self.load)

    def append(self, root: bytes, element: Any) -> bytes:
        """Return the root of a list with one more element; costs O(log n).

        Raises:
            Invalid: `invalid.argument`, `root` is no list or the element is not data; `invalid.store`, the store failed.
            KernelPanic: the root or an object below it is damaged or missing.
        """
        return packing.append(root, element, self._journal.keep, self.load)

    def resolve(self, column: bytes) -> bytes:
        """Return the value of a bytes column, which may lie in an object or in a tree of them.

        Raises:
            KernelPanic: an object is damaged or missing.
        """
        return trees.resolve(column, self.load)

    def load(self, name: bytes) -> bytes:
        """Return the bytes of an object that something refers to.

        Raises:
            KernelPanic: the object is damaged or missing.
        """
        data = self._find(name)
        if data is None:
            raise KernelPanic(f"object {name.hex()} is missing")
        return data

    def clear(self) -> None:
        """Drop what is at hand: objects were removed."""
        self._cache.clear()
        self._cached_bytes = 0

    def missing(self, column: bytes) -> bool:
        """Tell whether a bytes column refers to an object that is not there."""
        name = blobs.name_in(column)
        return name is not None and not self._reader.fetch("SELECT 1 FROM object WHERE hash = ?", (name,))

    def _find(self, name: bytes) -> bytes | None:
        """Look in the cache, in what is buffered, then in the file."""
        data = self._cache.get(name)
        if data is not None:
            self._cache.move_to_end(name)
            return data
        data = self._journal.buffered_object(name)
        if data is None:
            found = self._reader.fetch("SELECT hash, codec, size, body FROM object WHERE hash = ?", (name,))
            data = blobs.unpack_body(*found[0]) if found else None
        if data is not None:
            self._remember(name, data)
        return data

    def _remember(self, name: bytes, data: bytes) -> None:
        """Keep small objects at hand: the inner nodes of trees are read again and again."""
        if len(data) > _CACHE_BYTES_MAX // 64:
            return
        self._cache[name] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > _CACHE_BYTES_MAX:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)
