"""Every read of rows, one function per sentence; those of state are in `states`.

Protocol: SQL texts are made once per shape from the table descriptions and run on the reader's connection; SQLAlchemy would cost 0.2 s
of import on `agentos ps`, which has 0.5 s in all. What is still buffered is committed first when the answer could depend on it.
Every list is bounded and has its index; values that lie in objects are given back as bytes.

INVARIANT cost-is-local: no read here scans the journal or a versioned table (tests ask EXPLAIN QUERY PLAN).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from agentos.abi.limits import PAGE_ROWS
from agentos.abi.records import Row, StateRecord
from agentos.store.states import StateReads
from agentos.store.tables import JOURNAL

__all__ = ["ENTRIES_LOOKED_AT_MAX", "Reads"]

Record = TypeVar("Record", bound=StateRecord)

ENTRIES_LOOKED_AT_MAX: Final = 10_000
"""Journal numbers that one audit page looks at when its filter lets few rows pass."""

_ROW_COLUMNS: Final = ", ".join(Row.__struct_fields__)
_ROW_BLOBS: Final = tuple(at for at in JOURNAL.blobs if at < len(Row.__struct_fields__))
_TAPE: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_NEWEST: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND seq <= ? ORDER BY seq DESC LIMIT ?"
_LAST_SEQ: Final = "SELECT seq FROM journal WHERE pid = ? ORDER BY seq DESC LIMIT 1"
_OPEN_INTENTS: Final = (
    f"SELECT {_ROW_COLUMNS} FROM journal AS i WHERE pid = ? AND seq > ? AND kind = 'intent' AND NOT EXISTS "
    "(SELECT 1 FROM journal AS r WHERE r.kind = 'result' AND r.parent = i.seq) ORDER BY seq"
)
_KEYED: Final = (
    f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND key = ? AND key <> '' AND kind <> 'result' ORDER BY seq DESC LIMIT 1"
)
_AFTER: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
_RESULT_OF: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE kind = 'result' AND parent = ? ORDER BY seq DESC LIMIT 1"
_HEADS: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE seq > ? AND seq <= ? AND kind IN ('call', 'intent')"
_SEQ_MAX: Final = 2**63 - 1


class Reads(StateReads):
    """Reads of one store; a base of `Store`."""

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return at most `limit` rows of process `pid` numbered after `after_seq` and not after `upto`, in order."""
        self._see_pid(pid)
        return self._rows(_TAPE, (pid, after_seq, _SEQ_MAX if upto is None else upto, limit))

    def newest(self, pid: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return the last `limit` rows of process `pid` that are not after `upto`, in order."""
        self._see_pid(pid)
        return self._rows(_NEWEST, (pid, _SEQ_MAX if upto is None else upto, limit))[::-1]

    def rows(self, after_seq: int, limit: int) -> list[Row]:
        """Return at most `limit` rows of any process numbered after `after_seq`, in order."""
        self._see_rows()
        return self._rows(_AFTER, (after_seq, limit))

    def last_seqs(self, pids: Iterable[int]) -> dict[int, int]:
        """Return the number of the last row of each process that has one; one index probe each."""
        last: dict[int, int] = {}
        for pid in pids:
            self._see_pid(pid)
            found = self._reader.fetch(_LAST_SEQ, (pid,))
            if found:
                last[pid] = found[0][0]
        return last

    def open_intents(self, pid: int, after_seq: int) -> list[Row]:
        """Return the intents of process `pid` after `after_seq` that have no result."""
        self._see_pid(pid)
        return self._rows(_OPEN_INTENTS, (pid, after_seq))

    def keyed(self, pid: int, key: str) -> Row | None:
        """Return the latest call or intent that process `pid` issued under `key`."""
        self._see_pid(pid)
        return self._row(_KEYED, (pid, key))

    def result_of(self, seq: int) -> Row | None:
        """Return the (last) result of intent `seq`."""
        self._see_rows()
        return self._row(_RESULT_OF, (seq,))

    def entries(
        self, since: int, limit: int, pid: int | None = None, op: str | None = None, outcome: str | None = None
    ) -> tuple[list[tuple[Row, Row | None]], int]:
        """Return one page of the audit trail: each call or intent with its result, in order.

        Args:
            since: Number after which to look.
            limit: At most this many entries.
            pid: Only this process.
            op: Only this op.
            outcome: Only this outcome; `pending` is an intent without result.

        Returns:
            The entries, and the number to pass as the next `since`. There is nothing further when that equals `since`; a page of a
            rare filter may be empty before, because one page looks at ENTRIES_LOOKED_AT_MAX numbers at most.
        """
        self._see_rows()
        last = self._last_seq()
        end = last if pid is not None else min(since + ENTRIES_LOOKED_AT_MAX, last)  # the rows of one process have their index
        found: list[tuple[Row, Row | None]] = []
        looked_at = 0
        while since < end and looked_at < ENTRIES_LOOKED_AT_MAX:
            heads = self._heads(since, end, pid, op)
            looked_at += len(heads)
            for head, result in self._paired(heads):
                since = head.seq
                if outcome is None or outcome == _outcome(head, result):
                    found.append((head, result))
                    if len(found) == limit:
                        return found, since
            if len(heads) < PAGE_ROWS:
                since = end
        return found, since

    def _heads(self, since: int, end: int, pid: int | None, op: str | None) -> list[Row]:
        """Return the next calls and intents."""
        text = _HEADS
        parameters: list[Any] = [since, end]
        for column, value in (("pid", pid), ("op", op)):
            if value is not None:
                text += f" AND {column} = ?"
                parameters.append(value)
        return self._rows(f"{text} ORDER BY seq LIMIT {PAGE_ROWS}", parameters)

    def _paired(self, heads: Sequence[Row]) -> list[tuple[Row, Row | None]]:
        """Return each head with its last result."""
        intents = [head.seq for head in heads if head.kind == "intent"]
        results: dict[int, Row] = {}
        if intents:
            marks = ", ".join("?" * len(intents))
            text = f"SELECT {_ROW_COLUMNS} FROM journal WHERE kind = 'result' AND parent IN ({marks}) ORDER BY parent, seq"
            results = {row.parent: row for row in self._rows(text, intents)}
        return [(head, results.get(head.seq)) for head in heads]

    def _last_seq(self) -> int:
        """Return the number of the last row in the file."""
        return int(self._reader.fetch("SELECT seq FROM head")[0][0])

    # --- seeing what is buffered ---------------------------------------------------------------------------------------

    def _see_pid(self, pid: int) -> None:
        if self.journal.buffers(lambda batch: pid in batch.pids):
            self.journal.flush()

    def _see_rows(self) -> None:
        if self.journal.buffers(lambda batch: bool(batch.rows)):
            self.journal.flush()

    # --- from columns to rows ------------------------------------------------------------------------------------------

    def _rows(self, text: str, parameters: Sequence[Any]) -> list[Row]:
        rows = [Row(*self._resolved(columns, _ROW_BLOBS)) for columns in self._reader.fetch(text, parameters)]
        for row in rows:
            row.resource = row.resource or ""  # NULL once erased
        return rows

    def _row(self, text: str, parameters: Sequence[Any]) -> Row | None:
        rows = self._rows(text, parameters)
        return rows[0] if rows else None


def _outcome(head: Row, result: Row | None) -> str:
    """Return the outcome of an entry as the audit shows it."""
    if head.kind != "intent":
        return head.outcome
    return "pending" if result is None else result.outcome
