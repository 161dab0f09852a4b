r"""The journal as text, one JSON object per line, and the verification of such a file without its store.

    {"journal": 1, "store": .., "after": .., "previous": .., "pid": .., "salted_from": ..}     the first line
    {"seq": .., "pid": .., "op": .., .., "args": BASE64, .., "previous": .., "hash": .., "shown": {..}}    a row each
    {"end": true, "rows": .., "head": "SEQ:HEX"}                                                the last line

Columns are as they are stored, bytes in base64; a value that lies in an object is written out, and its hash is what the chain covers.
`shown` repeats the arguments and the result for readers; it follows from the columns and is checked against them. A file of all rows
proves their order up to its head; one of a single process (`pid`) only that each row is one that was chained behind `previous`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentos.abi.codec import decode, to_json
from agentos.abi.limits import MIB
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs, chain, trees
from agentos.store.database import Database
from agentos.store.faults import refusal, unmade
from agentos.store.segment import Columns
from agentos.store.tables import JOURNAL
from agentos.store.verify import all_rows, loader

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["export", "export_lines", "verify_lines"]

FORMAT: Final = 1
_AT_HAND_BYTES: Final = 8 * MIB
_SEQ, _PID, _HASH = (JOURNAL.columns.index(name) for name in ("seq", "pid", "hash"))
_KEPT: Final = frozenset({"salt", "content_hash", "hash", "digest"})  # bytes that are never an object's name
_FIRST: Final = {"journal", "store", "after", "previous", "pid", "salted_from"}
_END: Final = {"end", "rows", "head"}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def export(store: Store, path: Path, *, since: int = 0, pid: int | None = None) -> int:
    """Write an export into the new file `path` (0600) and return how many rows it has; arguments and errors as of `export_lines`.

    Raises:
        Invalid: `invalid.argument`, there is something at `path`; `invalid.store`, the disk failed. There is no file then.
    """
    path = path.expanduser()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        hint = "an export is a new file: give another path"
        raise Invalid("argument", f"there is something at `{path}` already", hint=hint, field="path") from error
    except OSError as error:
        raise unmade(path, error) from error
    lines = 0
    try:
        with os.fdopen(fd, "wb") as file:
            for line in export_lines(store, since=since, pid=pid):
                file.write(line)
                lines += 1
    except OSError as error:
        path.unlink()
        raise refusal("io", path, str(error.strerror).lower()) from error
    except BaseException:
        path.unlink()
        raise
    return lines - 2  # the first and the last line are no rows


def export_lines(store: Store, *, since: int = 0, pid: int | None = None) -> Iterator[bytes]:
    """Yield the lines of an export, each with its end. Any thread; reads one state of the store, in constant memory.

    Args:
        store: The store.
        since: Only rows after this number.
        pid: Only rows of this process.

    Raises:
        Invalid: `invalid.store`, the store failed; `invalid.argument`, there is no row `since`.
        KernelPanic: something in it is damaged.
    """
    with store.scan() as connection:
        genesis, seq, _ = connection.fetch("SELECT genesis, seq, hash FROM head")[0]
        previous = genesis if since == 0 else _hash_of(connection, since)
        head = {"journal": FORMAT, "store": store.identity, "after": since, "previous": previous.hex(), "pid": pid}
        yield to_json({**head, "salted_from": store.salted_from}) + b"\n"
        rows, last, load = 0, since, loader(connection, _AT_HAND_BYTES)
        for row in all_rows(connection, since, seq):
            if pid in (None, row[_PID]):
                yield to_json(_shown(row, previous, load)) + b"\n"
                rows += 1
            previous, last = row[_HASH], row[_SEQ]
        yield to_json({"end": True, "rows": rows, "head": f"{last}:{previous.hex()}"}) + b"\n"


def verify_lines(lines: Iterable[bytes], head: str | None = None) -> chain.AuditReport:
    """Check an exported file. Constant memory.

    Args:
        lines: Its lines.
        head: A head that an earlier check printed: the file must have that row.

    Returns:
        As for a store; `reason` is also set where the file is cut short.

    Raises:
        Invalid: `invalid.argument`, it is no export, or `head` is no head.
    """
    kept = chain.parse_head(head) if head is not None else None
    reader = _Reader(iter(lines))
    if reader.pid is not None and kept is not None:
        raise Invalid("argument", "a head proves a whole journal, not one process", hint="export without --pid", field="head")
    try:
        if reader.pid is not None:
            report = reader.check_each()
        else:
            heads = [] if kept is None else [kept]
            report = chain.check(reader.rows(), reader.start, heads, lambda _: False, salted_from=reader.salted_from)
    except (KernelPanic, LookupError, TypeError, ValueError, OverflowError, RecursionError, msgspec.DecodeError) as error:
        return chain.AuditReport(False, reader.count, None, f"line {reader.line} cannot be read: {error}", reader.head)
    reason = reader.complaint(report)
    return chain.AuditReport(False, report.rows, None, reason, report.head) if reason else report


class _Reader:
    """The lines of one file, as columns."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.line = 1
        self.count = 0
        self.end: dict[str, Any] | None = None
        try:
            first = _decode(next(lines, b""))
            self.pid: int | None = first["pid"]
            self.start = (int(first["after"]), bytes.fromhex(first["previous"]))
            self.salted_from = int(first["salted_from"])
            known = first["journal"] == FORMAT and first.keys() == _FIRST
        except (msgspec.DecodeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise _no_export(str(error)) from error
        if not known:
            raise _no_export(f"its format is {first['journal']!r}")
        self.head = f"{self.start[0]}:{self.start[1].hex()}"
        self.previous = b""

    def rows(self) -> Iterator[Columns]:
        """Yield the rows; the last line ends them."""
        for line in self._lines:
            self.line += 1
            data = _decode(line)
            if "end" in data:
                self.end = data if data.keys() == _END else None
                return
            columns = _columns(data)
            self.previous = bytes.fromhex(data["previous"])
            self.count += 1
            yield columns

    def check_each(self) -> chain.AuditReport:
        """Check rows that do not follow each other, each behind the hash that it names."""
        last, head = self.start[0], self.head
        for row in self.rows():
            if row[_PID] != self.pid or row[_SEQ] <= last:
                return chain.AuditReport(False, self.count - 1, row[_SEQ], f"row {row[_SEQ]} does not belong here", self.head)
            start = (row[_SEQ] - 1, self.previous)
            report = chain.check([row], start, (), lambda _: False, salted_from=self.salted_from)
            if not report.ok:
                return chain.AuditReport(False, self.count - 1, row[_SEQ], report.reason, self.head)
            last, head = row[_SEQ], report.head
        return chain.AuditReport(True, self.count, None, "", head)

    def complaint(self, report: chain.AuditReport) -> str:
        """Return what is wrong with the end of the file, or an empty text."""
        if not report.ok:
            return ""
        if self.end is None:
            return "the file is cut short: its last line is missing"
        if self.end.get("rows") != report.rows or (self.pid is None and self.end.get("head") != report.head):
            return "the last line says otherwise than the rows"
        return "there is something after the last line" if next(self._lines, b"") else ""


def _shown(row: Columns, previous: bytes, load: Callable[[bytes], bytes]) -> dict[str, Any]:
    """Return a row as data for JSON."""
    data: dict[str, Any] = {}
    for name, value in zip(JOURNAL.columns, row, strict=True):
        if isinstance(value, bytes):
            if name not in _KEPT:
                value = trees.resolve(value, load)  # noqa: PLW2901 - written out
            data[name] = base64.b64encode(value).decode()
        else:
            data[name] = value
    return {**data, "previous": previous.hex(), "shown": _readable(data)}


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """Return arguments and result as they can be read, as far as they can be."""
    return {name: _as_json(base64.b64decode(data[name])) for name in ("args", "result") if data.get(name)}


def _as_json(value: bytes) -> Any:
    return msgspec.json.decode(to_json(decode(value)))


def _columns(data: dict[str, Any]) -> Columns:
    """Return the columns of a line as they were stored.

    Raises:
        ValueError: what it shows is not what it holds.
    """
    if data["shown"] != _readable(data):
        raise ValueError("what it shows is not what it holds")
    if len(data) != len(JOURNAL.columns) + 2:  # with `previous` and `shown`; what is missing is found below
        raise ValueError("it says more than a row has")
    columns = []
    for name, kind in zip(JOURNAL.columns, JOURNAL.kinds, strict=True):
        value = data[name]
        if kind is bytes and value is not None:
            value = base64.b64decode(value, validate=True)
            if name not in _KEPT and blobs.is_large(value):
                value = blobs.reference(blobs.name_of(value))
        elif kind is float and type(value) is int:
            value = float(value)
        columns.append(value)
    return tuple(columns)


def _hash_of(connection: Database, seq: int) -> bytes:
    for row in all_rows(connection, seq - 1, seq):
        return bytes(row[_HASH])
    raise Invalid("argument", f"there is no row {seq}", hint="see `agentos audit`", field="since")


def _no_export(detail: str) -> Invalid:
    return Invalid(
        "argument", f"this is no export of a journal: {detail}", hint="give a file that `agentos audit --export` wrote"
    )
