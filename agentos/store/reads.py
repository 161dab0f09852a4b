"""Every read of rows, one function per sentence; those of state are in `states`.

Rows may have moved from the journal to pages (`segment`); every read here looks in both, the journal first.

Protocol: SQL texts are made once per shape from the table descriptions and run on the reader's connection; SQLAlchemy would cost 0.2 s
of import on `agentos ps`, which has 0.5 s in all. What is still buffered is committed first when the answer could depend on it.
Every list is bounded and has its index; values that lie in objects are given back as bytes.

INVARIANT cost-is-local: no read here scans the journal or a versioned table (tests ask EXPLAIN QUERY PLAN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice, takewhile
from typing import Any, Final, TypeVar

from agentos.abi.limits import PAGE_ROWS
from agentos.abi.records import Row, StateRecord
from agentos.store.database import Database
from agentos.store.journal import Journal
from agentos.store.objects import Objects
from agentos.store.segment import Columns, Segments
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
_SPENT: Final = (
    "SELECT r.seq, r.pid, CASE WHEN r.kind = 'result' THEN i.op ELSE r.op END, "
    "CASE WHEN r.kind = 'result' THEN i.resource ELSE r.resource END, r.at, r.cost "
    "FROM journal AS r LEFT JOIN journal AS i ON i.seq = r.parent "
    "WHERE r.seq > ? AND r.seq <= ? AND r.kind <> 'intent' AND length(r.cost) > 0"
)
_SEQ_MAX: Final = 2**63 - 1
_SEQ, _KIND, _OP, _KEY, _PARENT, _OUTCOME, _PID, _AT, _COST, _RESOURCE = (
    JOURNAL.columns.index(name) for name in ("seq", "kind", "op", "key", "parent", "outcome", "pid", "at", "cost", "resource")
)


class Reads(StateReads):
    """Reads of one store; a base of `Store`.

    Attributes:
        segments: The archived rows.
    """

    def __init__(self, reader: Database, journal: Journal, objects: Objects) -> None:
        super().__init__(reader, journal, objects)
        self.segments = Segments(reader)

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return at most `limit` rows of process `pid` numbered after `after_seq` and not after `upto`, in order."""
        self._see_pid(pid)
        last = _SEQ_MAX if upto is None else upto
        found = self._rows(_TAPE, (pid, after_seq, last, limit))
        return self._with_archived(found, lambda: self.segments.rows(after_seq, last, pid), limit)

    def newest(self, pid: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return the last `limit` rows of process `pid` that are not after `upto`, in order."""
        self._see_pid(pid)
        last = _SEQ_MAX if upto is None else upto
        found = self._rows(_NEWEST, (pid, last, limit))
        return self._with_archived(found, lambda: self.segments.newest(pid, last), limit, back=True)[::-1]

    def rows(self, after_seq: int, limit: int) -> list[Row]:
        """Return at most `limit` rows of any process numbered after `after_seq`, in order."""
        self._see_rows()
        found = self._rows(_AFTER, (after_seq, limit))
        return self._with_archived(found, lambda: self.segments.rows(after_seq, _SEQ_MAX), limit)

    def last_seqs(self, pids: Iterable[int]) -> dict[int, int]:
        """Return the number of the last row of each process that has one; one index probe each."""
        last: dict[int, int] = {}
        for pid in pids:
            self._see_pid(pid)
            found = self._reader.fetch(_LAST_SEQ, (pid,))
            if found:
                last[pid] = found[0][0]
            elif self.segments:
                last.update((pid, row.seq) for row in self._taken(self.segments.newest(pid, _SEQ_MAX), 1))
        return last

    def open_intents(self, pid: int, after_seq: int) -> list[Row]:
        """Return the intents of process `pid`, which lives, after `after_seq` that have no result; what lives is not archived."""
        self._see_pid(pid)
        return self._rows(_OPEN_INTENTS, (pid, after_seq))

    def keyed(self, pid: int, key: str) -> Row | None:
        """Return the latest call or intent that process `pid` issued under `key`."""
        self._see_pid(pid)
        found = self._rows(_KEYED, (pid, key))
        if not found and key and self.segments:
            archived = self.segments.newest(pid, _SEQ_MAX)
            found = self._taken((row for row in archived if row[_KEY] == key and row[_KIND] != "result"), 1)
        return found[0] if found else None

    def result_of(self, seq: int) -> Row | None:
        """Return the (last) result of intent `seq`."""
        self._see_rows()
        found = self._rows(_RESULT_OF, (seq,))
        if not found and self.segments and (intent := self.segments.row(seq)) is not None:
            return self._archived_results(self._taken([intent], 1)).get(seq)
        return found[0] if found else None

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

    def spent(self, since: int, pid: int | None = None) -> tuple[list[tuple[int, str, str, float, bytes]], int]:
        """Return what calls cost beside themselves: one page of (pid, op, resource, at, encoded cost), without their content.

        Args:
            since: Number after which to look.
            pid: Only this process.

        Returns:
            The page, and the number to pass as the next `since`; there is nothing further when that equals `since`. One page looks at
            ENTRIES_LOOKED_AT_MAX numbers at most.
        """
        self._see_rows()
        last = self._last_seq()
        end = last if pid is not None else min(since + ENTRIES_LOOKED_AT_MAX, last)  # the rows of one process have their index
        of, which = (" AND r.pid = ?", (pid,)) if pid is not None else ("", ())
        text = f"{_SPENT}{of} ORDER BY r.seq LIMIT {ENTRIES_LOOKED_AT_MAX}"
        found = {row[0]: tuple(row[1:]) for row in self._reader.fetch(text, (since, end, *which))}
        end = max(found) if len(found) == ENTRIES_LOOKED_AT_MAX else end
        if self.segments:
            for row in self.segments.rows(since, end, pid):
                if row[_COST] and row[_KIND] != "intent" and row[_SEQ] not in found:
                    made = self.segments.row(row[_PARENT]) if row[_KIND] == "result" else row
                    op, resource = (made[_OP], made[_RESOURCE]) if made is not None else (row[_OP], "")
                    found[row[_SEQ]] = (row[_PID], op, resource, row[_AT], row[_COST])
        page = [
            (number, op, resource or "", at, self.objects.resolve(cost)) for number, op, resource, at, cost in found.values()
        ]
        return page, end

    def _heads(self, since: int, end: int, pid: int | None, op: str | None) -> list[Row]:
        """Return the next calls and intents."""
        text = _HEADS
        parameters: list[Any] = [since, end]
        for column, value in (("pid", pid), ("op", op)):
            if value is not None:
                text += f" AND {column} = ?"
                parameters.append(value)
        found = self._rows(f"{text} ORDER BY seq LIMIT {PAGE_ROWS}", parameters)
        return self._with_archived(found, lambda: filter(_is_head(op), self.segments.rows(since, end, pid)), PAGE_ROWS)

    def _paired(self, heads: Sequence[Row]) -> list[tuple[Row, Row | None]]:
        """Return each head with its last result."""
        intents = [head.seq for head in heads if head.kind == "intent"]
        results: dict[int, Row] = {}
        if intents:
            marks = ", ".join("?" * len(intents))
            text = f"SELECT {_ROW_COLUMNS} FROM journal WHERE kind = 'result' AND parent IN ({marks}) ORDER BY parent, seq"
            results = {row.parent: row for row in self._rows(text, intents)}
            if len(results) < len(intents) and self.segments:
                unpaired = [head for head in heads if head.kind == "intent" and head.seq not in results]
                results |= self._archived_results(unpaired)
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
        return self._as_rows(self._reader.fetch(text, parameters))

    def _as_rows(self, found: Iterable[Columns]) -> list[Row]:
        rows = [Row(*self._resolved(columns, _ROW_BLOBS)) for columns in found]
        for row in rows:
            row.resource = row.resource or ""  # NULL once erased
        return rows

    # --- from the archive ----------------------------------------------------------------------------------------------

    def _with_archived(
        self, found: list[Row], archived: Callable[[], Iterable[Columns]], limit: int, *, back: bool = False
    ) -> list[Row]:
        """Return the first `limit` of the rows that were found in the journal and of those in the archive, both in order."""
        if not self.segments:
            return found
        sign = -1 if back else 1
        rows = {row.seq: row for row in found}
        within = (
            archived() if len(found) < limit else takewhile(lambda row: sign * row[_SEQ] < sign * found[-1].seq, archived())
        )
        for row in self._taken(within, limit):
            rows.setdefault(row.seq, row)
        return sorted(rows.values(), key=lambda row: sign * row.seq)[:limit]

    def _archived_results(self, intents: Sequence[Row]) -> dict[int, Row]:
        """Return the last archived result of each intent that has one: a result comes after its intent, from the same process."""
        results: dict[int, Row] = {}
        for pid in {intent.pid for intent in intents}:
            wanted = {intent.seq for intent in intents if intent.pid == pid}
            for row in self.segments.rows(min(wanted), _SEQ_MAX, pid):
                if row[_KIND] != "result" or row[_PARENT] not in wanted:
                    continue
                results[row[_PARENT]] = self._taken([row], 1)[0]
                if row[_OUTCOME] != "unknown":  # a person may still have said what became of it
                    wanted.discard(row[_PARENT])
                if not wanted:
                    break
        return results

    def _taken(self, archived: Iterable[Columns], limit: int) -> list[Row]:
        return self._as_rows(row[: len(Row.__struct_fields__)] for row in islice(archived, limit))


def _is_head(op: str | None) -> Callable[[Columns], bool]:
    """Return the test for the calls and intents of an op, or of any."""
    return lambda row: row[_KIND] in ("call", "intent") and op in (None, row[_OP])


def _outcome(head: Row, result: Row | None) -> str:
    """Return the outcome of an entry as the audit shows it."""
    if head.kind != "intent":
        return head.outcome
    return "pending" if result is None else result.outcome
