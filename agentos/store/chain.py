"""The hash chain of the journal, and its verification.

    hash = blake2b-256(previous hash, content hash, canonical row without its content)
    content hash = blake2b-256(canonical content; salt = 16 random bytes of the row)

Content is args, resource, result, digest and key. Rows of epochs before `salted_from` (written under an older schema) have digest and key
among their facts: what short arguments were could be guessed from those after an erasure.

Protocol: the chain starts at the store's random genesis and continues over every writer (the epoch is a hashed column). The head
row repeats the last number and hash, written in the same transaction, so lost last rows are seen; a head kept elsewhere
(``"SEQ:HEX"``) shows a rewrite of everything. Erasing content (`erased`) stores the content hash and clears content and salt: the chain
stays whole and leaves nothing to guess. A large value is covered through its hash, whether one object holds it or a tree of them.

INVARIANT journal-is-append-only: any changed, removed, inserted or reordered row makes `verify` name the first bad number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final

import msgspec

from agentos.abi.limits import HASH_BYTES
from agentos.abi.records import Row
from agentos.errors import Invalid
from agentos.store import blobs
from agentos.store.tables import JOURNAL

__all__ = ["AuditReport", "Layout", "Sealed", "check", "content_hash_of", "erased", "layout_of", "link", "parse_head", "seal"]

_FIELDS: Final = Row.__struct_fields__
_EPOCH, _SALT, _CONTENT_HASH, _HASH = (JOURNAL.columns.index(name) for name in ("epoch", "salt", "content_hash", "hash"))
_SEQ: Final = JOURNAL.columns.index("seq")
_NEVER_NULL: Final = {"digest": b"", "key": ""}
_encode = msgspec.msgpack.Encoder().encode


class Layout:
    """What of a row is content, and what its facts.

    Attributes:
        content: Names of the content columns.
        blank: What they hold once they are erased.
        content_of: Gives the content of a row's columns.
        facts_of: Gives the rest of the columns that a `Row` has.
    """

    __slots__ = ("blank", "content", "content_of", "facts_of")

    def __init__(self, *content: str) -> None:
        self.content = content
        self.blank = tuple(_NEVER_NULL.get(name) for name in content)
        self.content_of = itemgetter(*(_FIELDS.index(name) for name in content))
        self.facts_of = itemgetter(*(_FIELDS.index(name) for name in _FIELDS if name not in content))


_OLD: Final = Layout("args", "resource", "result")
_NEW: Final = Layout("args", "resource", "result", "digest", "key")


def layout_of(epoch: int, salted_from: int) -> Layout:
    """Return the layout of the rows that the writer `epoch` wrote in a store whose newer layout began with `salted_from`."""
    return _NEW if isinstance(epoch, int) and epoch >= salted_from else _OLD  # a damaged row may hold anything


Sealed = tuple[tuple[Any, ...], bytes, bytes]
"""A row ready for the chain: its columns as stored, its canonical facts, its canonical content."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a verification found.

    Attributes:
        ok: True when every row, the head and every object are as they were written.
        rows: Rows that were checked and found right.
        first_bad_seq: Journal number of the first row that is not; None when there is none or no row is to blame.
        reason: What is wrong, lower-case, empty when `ok`.
        head: Number and hash of the last right row as ``"SEQ:HEX"``: keep it elsewhere and verify against it later.
    """

    ok: bool
    rows: int
    first_bad_seq: int | None
    reason: str
    head: str


def seal(columns: tuple[Any, ...], epoch: int, *, is_spilled: bool = False) -> Sealed:
    """Encode a row once, for its size, for the chain, and to refuse text that cannot be stored before anything is buffered.

    Args:
        columns: The row's columns.
        epoch: The writer's epoch.
        is_spilled: True when a column may refer to a value elsewhere.

    Raises:
        UnicodeEncodeError: a text column holds a lone surrogate.
        OverflowError: a number does not fit 64 bits.
    """
    content = _NEW.content_of(columns)
    return columns, _encode((*_NEW.facts_of(columns), epoch)), _encode(_covered(content) if is_spilled else content)


def link(previous: bytes, rows: Iterable[Sealed], salts: bytes, epoch: int) -> tuple[list[tuple[Any, ...]], bytes]:
    """Return the full journal columns of `rows`, chained to `previous`, and the new head hash.

    Args:
        previous: Hash of the row before the first one.
        rows: Sealed rows in order.
        salts: At least one salt's worth of random bytes per row.
        epoch: The writer's epoch, as it was sealed.
    """
    linked: list[tuple[Any, ...]] = []
    at = 0
    for columns, facts, content in rows:
        salt = salts[at : at + 16]
        at += 16
        previous = _hash(previous, _content_hash(content, salt), facts)
        linked.append((*columns, epoch, salt, None, previous))
    return linked, previous


def erased(row: tuple[Any, ...], salted_from: int) -> tuple[Any, ...]:
    """Return the columns of `row` without its content; a row that is erased already, or damaged, is returned as it is."""
    layout = layout_of(row[_EPOCH], salted_from)
    kept = content_hash_of(row, salted_from)
    if kept is None or row[_CONTENT_HASH] is not None:
        return row
    columns = list(row)
    for name, blank in zip(layout.content, layout.blank, strict=True):
        columns[_FIELDS.index(name)] = blank
    columns[_SALT], columns[_CONTENT_HASH] = None, kept
    return tuple(columns)


def check(
    rows: Iterable[tuple[Any, ...]], start: tuple[int, bytes], heads: Sequence[tuple[int, bytes]],
    missing: Callable[[bytes], bool], *, salted_from: int,
) -> AuditReport:  # fmt: skip
    """Walk the chain from `start` and report the first row that does not follow. Constant memory.

    Args:
        rows: All journal rows after `start` by number, in the columns of the journal.
        start: Number and hash that the first row follows: 0 and the genesis for a whole journal.
        heads: Numbers and the hashes their rows must have. None may lie after the last row.
        missing: Tells whether a stored bytes column refers to an object that is not there.
        salted_from: First epoch of the newer layout.
    """
    (last, previous), count = start, 0
    for row in rows:
        seq = row[_SEQ]
        reason = _fault(row, previous, last, heads, salted_from) or _lost(row, missing)
        if reason:
            return AuditReport(False, count, _blame(seq, last), reason, f"{last}:{previous.hex()}")
        previous, last, count = row[_HASH], seq, count + 1
    end = max((seq for seq, _ in heads), default=last)
    if last < end:
        return AuditReport(False, count, last + 1, f"the last {end - last} rows are missing", f"{last}:{previous.hex()}")
    if start not in heads and any(seq == start[0] for seq, _ in heads):
        return AuditReport(False, count, None, "the journal starts elsewhere than the head says", f"{last}:{previous.hex()}")
    return AuditReport(True, count, None, "", f"{last}:{previous.hex()}")


def parse_head(text: str) -> tuple[int, bytes]:
    """Return number and hash of a head written as ``"SEQ:HEX"``.

    Raises:
        Invalid: `invalid.argument`, `text` is no head.
    """
    seq, _, digest = text.partition(":")
    try:
        parsed = int(seq), bytes.fromhex(digest)
    except ValueError as error:
        raise _no_head(text) from error
    if parsed[0] < 0 or len(parsed[1]) != HASH_BYTES:
        raise _no_head(text)
    return parsed


def _no_head(text: str) -> Invalid:
    return Invalid(
        "argument", f"`{text}` is not a journal head", hint="give it as `SEQ:HEX`, as an earlier check printed it", field="head"
    )


def _hash(previous: bytes, content_hash: bytes, facts: bytes) -> bytes:
    return blake2b(previous + content_hash + facts, digest_size=HASH_BYTES).digest()


def _content_hash(content: bytes, salt: bytes) -> bytes:
    return blake2b(content, digest_size=HASH_BYTES, salt=salt).digest()


def _covered(content: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return content as it is covered; arguments and result are its first and third part in every layout."""
    args, result = content[0], content[2]
    if blobs.is_tree(args) or blobs.is_tree(result):
        return (blobs.covered(args), content[1], blobs.covered(result), *content[3:])
    return content


def _blame(seq: int, last: int) -> int:
    """Return the first number that is wrong: a gap blames the missing number, everything else the row itself."""
    return min(seq, last + 1)


def _fault(row: tuple[Any, ...], previous: bytes, last: int, heads: Sequence[tuple[int, bytes]], salted_from: int) -> str:
    """Return what is wrong with `row` as the successor of number `last`, or an empty text."""
    seq = row[_SEQ]
    if seq != last + 1:
        return f"row {last + 1} is missing" if seq > last else f"row {seq} is out of order"
    content_hash = content_hash_of(row, salted_from)
    if content_hash is None:
        return f"row {seq} has been changed"
    facts = layout_of(row[_EPOCH], salted_from).facts_of(row)
    if _hash(previous, content_hash, _encode((*facts, row[_EPOCH]))) != row[_HASH]:
        return f"row {seq} has been changed"
    if any(number == seq and digest != row[_HASH] for number, digest in heads):
        return f"row {seq} is not the one of the head: the journal has been rewritten"
    return ""


def content_hash_of(row: tuple[Any, ...], salted_from: int) -> bytes | None:
    """Return the hash of the row's content, kept where the content was erased; None when the row is neither whole nor erased."""
    layout = layout_of(row[_EPOCH], salted_from)
    content, salt, kept = layout.content_of(row), row[_SALT], row[_CONTENT_HASH]
    if kept is None:
        whole = isinstance(salt, bytes) and len(salt) == 16
        return _content_hash(_encode(_covered(content)), salt) if whole else None
    return kept if salt is None and content == layout.blank and isinstance(kept, bytes) else None


def _lost(row: tuple[Any, ...], missing: Callable[[bytes], bool]) -> str:
    """Return a complaint when a value of the row lies in objects that are gone, or not what they were."""
    gone = any(missing(row[at]) for at in JOURNAL.blobs if isinstance(row[at], bytes))
    return f"an object of row {row[_SEQ]} is missing" if gone else ""
