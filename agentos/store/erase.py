"""Erasure: content leaves rows, pages and state versions; number, facts and hashes stay, and the chain verifies.

Protocol: first the versions of state records that belong to the given processes, then their rows, in the journal and in pages, a batch per
transaction; when all of a process goes, so do the replaced versions of what was its own. What the erased content alone referred to
is collected afterwards (`collect`), with `Erasing.names` as what must not count as kept; at last the file is written anew (`scrub`).
Each step may be said again: what is erased already is passed over.
Not here: who may be erased, and when.

INVARIANT erased-is-gone: after the last step no byte of the erased content is in a table, the log or a free page of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.limits import UPKEEP_ROWS
from agentos.abi.probe import reached
from agentos.store import blobs, chain
from agentos.store.archive import write_page
from agentos.store.collect import names_in_row, names_in_state, names_in_value, state_rows
from agentos.store.segment import Columns, unpack_page
from agentos.store.tables import JOURNAL, Table, state_tables

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["CONTENT", "Erasing", "Scope", "erase"]

Blank = Callable[[bytes], bytes]

CONTENT: Final[Mapping[str, tuple[str, ...]]] = {
    "ask": ("args", "preview", "digest", "answer", "resource", "question", "offer", "remember", "because"),
    "checkpoint": ("note",),
    "message": ("value",),
    "name": ("value", "tags", "sources", "digest"),
    "overlay": ("object", "base"),
    "process": ("goal", "args", "save_state", "waits", "exit", "own_layer", "options"),
    "standing": ("text", "reason", "rule"),
}
"""What of a state record is content: it becomes empty. Numbers, times, states, rules and whose it was stay."""
_LABEL: Final = {"ask": "labels", "message": "labels", "name": "labels", "process": "label"}
_COLUMNS: Final = ", ".join(JOURNAL.columns)
_SEQ, _PID, _OP, _RESOURCE, _LABELS = (JOURNAL.columns.index(name) for name in ("seq", "pid", "op", "resource", "labels"))
_CHANGED: Final = ("args", "resource", "result", "digest", "key", "salt", "content_hash")
_REWRITE: Final = f"UPDATE journal SET {', '.join(f'{name} = ?' for name in _CHANGED)} WHERE seq = ?"
_CHANGED_AT: Final = [JOURNAL.columns.index(name) for name in _CHANGED]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose content, and which of it.

    Attributes:
        pids: Processes; all have ended.
        namespace: Only objects of this namespace and of those below it, and the calls that name them.
        label: Only what carries at least these bits, and the rows that made such versions; 0 is everything.
    """

    pids: tuple[int, ...]
    namespace: str | None = None
    label: int = 0


@dataclass(slots=True)
class Erasing:
    """What was erased so far; `names` are the objects that it referred to, `made_by` the rows that made the versions in scope."""

    rows: int = 0
    records: int = 0
    names: set[bytes] = field(default_factory=set)
    made_by: set[int] = field(default_factory=set)


def erase(store: Store, scope: Scope, blank: Mapping[tuple[str, str], Blank], *, dry_run: bool = False) -> Erasing:
    """Erase the content in `scope` from rows and records. Any thread; blocks.

    Args:
        store: The store, opened for writing, with everything committed.
        scope: What.
        blank: What becomes of a content column (table, column) that must not be empty.
        dry_run: Count only.

    Raises:
        Invalid: `invalid.store`, the store failed. What was erased stays so.
    """
    done = Erasing()
    for start in range(0, len(scope.pids), UPKEEP_ROWS):
        some = replace(scope, pids=scope.pids[start : start + UPKEEP_ROWS])
        for _, table in state_tables():
            if table.name in CONTENT and (scope.namespace is None or table.name == "name"):
                _erase_records(store, table, some, blank, done, dry_run=dry_run)
        _erase_rows(store, some, done, dry_run=dry_run)
        _erase_pages(store, some, done, dry_run=dry_run)
        if scope.namespace is None and not scope.label and not dry_run:
            _drop_versions(store, some.pids)
    _follow(store, done.names)
    return done


# --- rows ---------------------------------------------------------------------------------------------------------------


def _erase_rows(store: Store, scope: Scope, done: Erasing, *, dry_run: bool) -> None:
    text = f"SELECT {_COLUMNS} FROM journal WHERE pid = ? AND seq > ? ORDER BY seq LIMIT {UPKEEP_ROWS}"
    for pid in scope.pids:
        after = 0
        while page := store.reader.fetch(text, (pid, after)):
            after = page[-1][_SEQ]
            blanks = _blanked(store, page, scope, done)
            if blanks and not dry_run:
                with store.upkeep() as connection:
                    for row in blanks.values():
                        connection.execute(_REWRITE, [*(row[at] for at in _CHANGED_AT), row[_SEQ]])
                    reached("erase.rows")


def _erase_pages(store: Store, scope: Scope, done: Erasing, *, dry_run: bool) -> None:
    text = f"SELECT DISTINCT page FROM segment_pid WHERE pid IN ({_marks(scope.pids)}) ORDER BY page"
    for (page,) in store.reader.fetch(text, scope.pids):
        stored = store.reader.fetch("SELECT codec, size, body FROM segment WHERE page = ?", (page,))[0]
        rows = unpack_page(page, *stored)
        blanks = _blanked(store, [row for row in rows if row[_PID] in scope.pids], scope, done)
        if blanks and not dry_run:
            with store.upkeep() as connection:
                write_page(connection, page, [blanks.get(row[_SEQ], row) for row in rows])
                reached("erase.page")


def _blanked(store: Store, rows: Iterable[Columns], scope: Scope, done: Erasing) -> dict[int, Columns]:
    """Return the rows in scope that have content, without it, by number; note what they referred to."""
    blanks = {}
    for row in rows:
        is_in = row[_SEQ] in done.made_by or _is_row_in(scope, row)
        blank = chain.erased(row, store.salted_from) if is_in else row
        if blank is not row:
            blanks[row[_SEQ]] = blank
            done.names |= names_in_row(row)
    done.rows += len(blanks)
    return blanks


def _is_row_in(scope: Scope, row: Columns) -> bool:
    if row[_LABELS] & scope.label != scope.label:
        return False
    if scope.namespace is None:
        return True
    return row[_OP].startswith("obj.") and f"{row[_RESOURCE] or ''}/".startswith(f"{scope.namespace}/")


# --- state records --------------------------------------------------------------------------------------------------------


def _erase_records(
    store: Store, table: Table, scope: Scope, blank: Mapping[tuple[str, str], Blank], done: Erasing, *, dry_run: bool
) -> None:
    batch: list[tuple[Columns, Columns]] = []
    for columns in state_rows(store.reader, table, *_owned(table, scope.pids)):
        if not _is_record_in(scope, table, columns):
            continue
        if scope.label or scope.namespace is not None:  # otherwise every row is in scope
            done.made_by.add(columns[table.seq_at])
        erased = _without_content(store, table, columns, blank)
        if erased != columns:
            batch.append((columns, erased))
            done.names |= names_in_state(table, columns)
            if len(batch) == UPKEEP_ROWS:
                _write_records(store, table, batch, dry_run=dry_run)
                done.records, batch = done.records + len(batch), []
    _write_records(store, table, batch, dry_run=dry_run)
    done.records += len(batch)


def _owned(table: Table, pids: Sequence[int]) -> tuple[str, Sequence[Any]]:
    """Return which versions of a table belong to `pids`."""
    marks = _marks(pids)
    if table.name == "message":  # what was sent to another process is that one's as long as it is unread
        return f"(pid IN ({marks}) OR (sender IN ({marks}) AND live = 0))", (*pids, *pids)
    if table.name == "name":
        return f"(pid IN ({marks}) OR namespace IN ({marks}))", (*pids, *(f"proc/{pid}" for pid in pids))
    if table.name == "standing":
        return f"(scope IN ('process', 'tree') AND live = 0 AND holder IN ({marks}))", tuple(str(pid) for pid in pids)
    return f"pid IN ({marks})", tuple(pids)


def _is_record_in(scope: Scope, table: Table, columns: Columns) -> bool:
    if scope.label:
        carried = columns[table.columns.index(_LABEL[table.name])] if table.name in _LABEL else 0
        if carried & scope.label != scope.label:
            return False
    if scope.namespace is None:
        return True
    return f"{columns[table.columns.index('namespace')]}/".startswith(f"{scope.namespace}/")


def _without_content(store: Store, table: Table, columns: Columns, blank: Mapping[tuple[str, str], Blank]) -> Columns:
    changed = list(columns)
    for name in CONTENT[table.name]:
        at = table.columns.index(name)
        empty = blank.get((table.name, name))
        if columns[at] and empty is not None:
            changed[at] = empty(store.objects.resolve(columns[at]))
        elif columns[at]:
            changed[at] = table.kinds[at]()
    return tuple(changed)


def _write_records(store: Store, table: Table, batch: Sequence[tuple[Columns, Columns]], *, dry_run: bool) -> None:
    if not batch or dry_run:
        return
    content = CONTENT[table.name]
    same = " AND ".join(f"{name} = ?" for name in (*table.keys, "seq"))
    text = f"UPDATE {table.name} SET {', '.join(f'{name} = ?' for name in content)} WHERE {same}"
    at, key_at = [table.columns.index(name) for name in content], [table.columns.index(name) for name in (*table.keys, "seq")]
    with store.upkeep() as connection:
        for _, erased in batch:
            connection.execute(text, [*(erased[i] for i in at), *(erased[i] for i in key_at)])
        reached("erase.records")


def _drop_versions(store: Store, pids: Sequence[int]) -> None:
    """Remove the replaced versions of what belonged to processes: nobody goes back to them, and they have no content any more.

    Names keep theirs, because others may know them by number.
    """
    for _, table in state_tables():
        if "pid" not in table.columns or not table.versioned or table.name == "name":
            continue
        old = (
            f"SELECT seq FROM {table.name} WHERE pid IN ({_marks(pids)}) AND until IS NOT NULL ORDER BY seq LIMIT {UPKEEP_ROWS}"
        )
        while seqs := sorted({seq for (seq,) in store.reader.fetch(old, pids)}):
            with store.upkeep() as connection:
                where = f"pid IN ({_marks(pids)}) AND until IS NOT NULL AND seq IN ({_marks(seqs)})"
                connection.execute(f"DELETE FROM {table.name} WHERE {where}", (*pids, *seqs))
                reached("erase.versions")


def _follow(store: Store, names: set[bytes]) -> None:
    """Add the objects that those of `names` lead to."""
    todo = list(names)
    while todo:
        some, todo = todo[: UPKEEP_ROWS // 10], todo[UPKEEP_ROWS // 10 :]
        text = f"SELECT hash, codec, size, body FROM object WHERE hash IN ({_marks(some)})"
        for found in store.reader.fetch(text, some):
            fresh = names_in_value(blobs.unpack_body(*found)) - names
            names |= fresh
            todo.extend(fresh)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
