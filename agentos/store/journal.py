"""The journal: append in order, commit in groups, acknowledge what is durable.

Protocol: `append` gives a row its number and buffers it with its state changes, without await. `durable` waits for the commit: the
first waiter becomes the leader, lets every ready task add its rows, seals the buffer and writes all sealed batches in order;
everybody else waits for the leader's event. Short commits run on the event loop, long ones in a worker thread while the next
buffer fills. `run` leads for rows that nobody waits for.

    buffer --seal--> sealed batches --drain, under the lock, oldest first--> file --> durable_seq

INVARIANT committed-survives: `durable_seq` moves only after a commit returned, batches are committed in the order of their numbers,
and after the first failure nothing is acknowledged any more.
INVARIANT no-waiter-hangs: whenever a leader leaves, for whatever reason, its event is set and a waiter takes over.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from agentos.abi.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX, COMMIT_INLINE_S, HASH_BYTES
from agentos.abi.place import Place
from agentos.abi.probe import reached
from agentos.abi.protocols import Clock
from agentos.abi.records import Change, Row
from agentos.errors import AgentOSError, Invalid, KernelPanic
from agentos.store import blobs, chain, packing
from agentos.store.batch import Batch
from agentos.store.database import Database, Lease
from agentos.store.faults import refusal
from agentos.store.sqlite import eager
from agentos.store.tables import JOURNAL, Table, table_of

__all__ = ["Journal"]

_YIELDS_MAX: Final = 8  # turns of the loop that a leader gives to others while the buffer keeps growing
_IDLE_YIELDS_MAX: Final = 64  # the same for rows that nobody waits for
_KNOWN_OBJECTS_MAX: Final = 8192  # hashes of objects lately written, which need not be written again
_NUMBER_MAX: Final = 2**63
_UNSIGNED: Final = b"\xcf"  # how MessagePack begins a whole number of 64 bits without a sign
_NOT_FINITE: Final = (b"\xcb\x7f", b"\xcb\xff")  # and a float that is huge, infinite or not a number
_ARGS: Final = JOURNAL.columns.index("args")
_SMOOTHING: Final = 0.3  # weight of the latest commit in the expected commit time
_encode = msgspec.msgpack.Encoder().encode


class Journal:
    """The writer's journal.

    Attributes:
        head: Number of the last appended row (for a reader: when it was opened).
        durable_seq: Number of the last row that is committed.
        statements: SQL statements executed for batches so far.
        commits: Batches committed so far.
        lease: What makes this the one writer; None in memory and for a reader.
        memo: What parts of values became that were packed lately.
    """

    def __init__(
        self, connection: Database | None, clock: Clock, epoch: int, head: tuple[int, bytes], *, path: Place | None
    ) -> None:
        """Continue after `head`, the number and hash of the last row. Without a connection every append is refused."""
        self.lease: Lease | None = None
        self.memo = packing.Memo()
        self.head, self._hash = head
        self.durable_seq = self.head
        self.statements = 0
        self.commits = 0
        self._connection = connection
        self._path = path
        self._clock = clock
        self._epoch = epoch
        self._buffer = Batch(epoch)
        self._sealed: deque[Batch] = deque()
        self._lock = threading.Lock()
        self._refuses_nul = connection is not None and not connection.keeps_nul
        self._failure: AgentOSError | KernelPanic | None = None
        if connection is None:
            self._failure = refusal("readonly", path, "it was opened for reading")
        self._leading = False
        self._is_awaited = False
        self._settled: anyio.Event | None = None
        self._filled: anyio.Event | None = None
        self._limiter: anyio.CapacityLimiter | None = None
        self._commit_s = 0.0
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._watched: set[bytes] | None = None

    # --- adding --------------------------------------------------------------------------------------------------------

    def append(self, row: Row, changes: Sequence[Change] = ()) -> int:
        """Number `row`, stamp its changes, and buffer copies of them all; commits first when the buffer is full.

        Returns:
            The journal number, also in `row.seq` and in each change's record.

        Raises:
            Invalid: `invalid.argument`, a text or number cannot be stored (nothing was appended); `invalid.store`, the store failed.
            KernelPanic: a change replaces a version that is not current.
        """
        self.check()
        reached("append.before")
        seq = self.head + 1
        row.seq = seq
        if not row.at:
            row.at = self._clock.now()
        sealed, changed = self._copy(row, changes, seq)
        batch = self._buffer
        if not batch.rows and self._filled is not None:
            self._filled.set()
        self.head = seq
        batch.add_row(sealed, row.pid, seq)
        try:
            for change, columns in changed:
                batch.add_change(change, columns, seq)
        except KernelPanic as error:
            self._failure = error
            raise
        reached("append.done")
        if len(batch.rows) >= BATCH_ROWS_MAX or batch.bytes >= BATCH_BYTES_MAX:
            self.flush()
        return seq

    def _copy(self, row: Row, changes: Sequence[Change], seq: int) -> tuple[chain.Sealed, list[tuple[Change, tuple[Any, ...]]]]:
        """Return row and changes as columns. All or nothing: text that cannot be stored is refused here, and no stamp stays."""
        stamped = [change.record.seq for change in changes]
        try:
            columns = self._columns(row)
            stored = self._spill(columns, JOURNAL)
            sealed = chain.seal(stored, self._epoch, is_spilled=stored is not columns)
            _check_numbers(sealed[1], sealed[0], JOURNAL)
            changed = []
            for change in changes:
                change.record.seq = seq
                table = table_of(type(change.record))
                columns = self._spill(self._columns(change.record), table)
                encoded = _encode(columns)
                _check_numbers(encoded, columns, table)
                self._buffer.bytes += len(encoded)
                changed.append((change, columns))
        except (UnicodeEncodeError, OverflowError) as error:
            row.seq = 0
            for change, before in zip(changes, stamped, strict=True):
                change.record.seq = before
            message = f"a text or number of `{row.op}` cannot be stored: {error}"
            raise Invalid("argument", message, hint="use valid Unicode and numbers of 64 bits") from error
        return sealed, changed

    def _columns(self, record: msgspec.Struct) -> tuple[Any, ...]:
        """Return the fields of a record as they are now, if the database can hold their texts."""
        columns = msgspec.structs.astuple(record)
        if self._refuses_nul:
            for text in columns:
                if isinstance(text, str) and "\0" in text:
                    raise UnicodeEncodeError(
                        "utf-8", text, text.index("\0"), text.index("\0") + 1, "this database keeps no NUL"
                    )
        return columns

    def _spill(self, columns: tuple[Any, ...], table: Table) -> tuple[Any, ...]:
        """Move values that are too large for a row into objects."""
        for at in table.blobs:
            if at < len(columns) and len(columns[at]) > HASH_BYTES and blobs.is_large(columns[at]):
                moved = list(columns)
                for other in table.blobs:
                    if other < len(moved) and blobs.is_large(moved[other]):
                        moved[other] = self._moved(table, other, moved[other])
                return tuple(moved)
        return columns

    def _moved(self, table: Table, at: int, data: bytes) -> bytes:
        """Keep a value in objects and return the reference.

        Arguments often repeat those of the call before, as a prompt does: they cost what is new in them. Results hardly ever do, and one
        object costs less than many.
        """
        item = packing.pack_bytes(data, self.keep, self.memo) if table is JOURNAL and at == _ARGS else None
        return blobs.reference(self.keep(data)) if item is None else blobs.tree(blobs.name_of(data), item)

    def keep(self, data: bytes) -> bytes:
        """Buffer `data` as an object and return its hash; what was written lately is not buffered again.

        Raises:
            Invalid: `invalid.store`, the store failed.
        """
        self.check()
        name = blobs.name_of(data)
        if self._watched is not None:
            self._watched.add(name)
        if name in self._known:
            self._known.move_to_end(name)
            return name
        batch = self._buffer
        batch.objects[name] = blobs.pack_body(name, data)
        batch.bytes += len(data)
        self._known[name] = None
        if len(self._known) > _KNOWN_OBJECTS_MAX:
            self._known.popitem(last=False)
        if len(batch.objects) >= BATCH_ROWS_MAX or batch.bytes >= BATCH_BYTES_MAX:
            self.flush()
        return name

    def watch(self, without: Iterable[bytes] = ()) -> None:
        """Commit everything, and remember from here on every object that is kept: none of these is collected (`collect`).

        Objects that were kept lately count as kept now, except `without`: their content was erased, whoever needs it has to keep it again.
        """
        self.flush()
        self.memo.clear()
        for name in without:
            self._known.pop(name, None)
        self._watched = set(self._known)

    def unwatch(self) -> None:
        """End what `watch` began."""
        self._watched = None

    def is_watched(self, name: bytes) -> bool:
        """Tell whether an object was kept since `watch`. Any thread."""
        return self._watched is None or name in self._watched

    def leave_loop(self) -> None:
        """Have the next commits run in a thread: the database is about to be held for long, which must not hold the event loop too."""
        self._commit_s = max(self._commit_s, 16 * COMMIT_INLINE_S)

    # --- what is not in the file yet --------------------------------------------------------------------------------------

    def buffers(self, test: Callable[[Batch], bool]) -> bool:
        """Tell whether `test` holds for anything that is not committed yet."""
        return (bool(self._sealed) and any(test(batch) for batch in tuple(self._sealed))) or test(self._buffer)

    def buffered_object(self, name: bytes) -> bytes | None:
        """Return the bytes of an object that is not committed yet."""
        for batch in (*tuple(self._sealed), self._buffer):
            if name in batch.objects:
                return blobs.unpack_body(*batch.objects[name])
        return None

    # --- committing ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise the failure that stopped this journal, if there was one."""
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, AgentOSError):
            code = failure.code.partition(".")[2]
            raise Invalid(code, failure.message, hint=failure.hint, **failure.fields) from failure
        raise KernelPanic(*failure.args) from failure

    def check_lease(self) -> None:
        """Refuse when this may no longer be the store's writer: asked right before an effect, so that two kernels never act as one.

        Raises:
            Invalid: `invalid.store`, lease_lost; from now on everything is refused.
        """
        if self.lease is None:
            return
        try:
            self.lease.check()
        except Invalid as error:
            self.stop(error)
            raise

    def verdict(self, error: Exception) -> AgentOSError | KernelPanic:
        """Return what a failure of the database means: the end of the lease, where it has ended, for who takes it ends our connection."""
        try:
            if self.lease is not None:
                self.lease.check()
        except Invalid as ended:
            return ended
        assert self._connection is not None, "only a writer writes"
        return self._connection.verdict(error)

    def stop(self, failure: AgentOSError) -> None:
        """Refuse everything from now on, for this reason, unless it has failed already. Any thread."""
        self._failure = self._failure or failure

    def flush(self) -> None:
        """Commit everything buffered before returning; waits for a commit that is under way.

        Raises:
            Invalid: `invalid.store`, the store failed now or before; nothing further was acknowledged.
            KernelPanic: the store is not what this writer knew it to be.
        """
        self.check()
        self._seal()
        self._drain()

    def close(self) -> None:
        """Commit what is buffered, then refuse everything. A journal that has failed before only stays failed.

        Raises:
            Invalid: `invalid.store`, the last rows could not be committed.
        """
        with self._lock:  # a commit under way in a thread is finished first
            failed = self._failure
        if failed is None:
            self.flush()
            self._failure = refusal("closed", self._path)

    async def durable(self, seq: int) -> None:
        """Return once row `seq` is committed.

        Raises:
            Invalid: `invalid.store`, the store failed before the row was acknowledged.
            KernelPanic: the store is not what this writer knew it to be.

        Cancellation: safe; the row is committed with the next batch all the same, by another waiter or by `run`.
        """
        assert seq <= self.head, f"row {seq} was never appended"
        while self.durable_seq < seq:
            self.check()
            if self._leading:
                assert self._settled is not None, "a leader has an event"
                self._is_awaited = True
                await self._settled.wait()
            else:
                await self._lead(_YIELDS_MAX)

    async def run(self) -> None:
        """Commit rows that nobody waits for, soon after they were appended. Runs until cancelled or the store fails.

        Raises:
            Invalid: `invalid.store`, the store failed.

        Cancellation: safe; rows still buffered are committed by `flush` or `close`.
        """
        while True:
            self._filled = anyio.Event()
            if not self._buffer.rows:
                await self._filled.wait()
            if self._leading and self._settled is not None:
                await self._settled.wait()
            elif self._buffer.rows:
                await self._lead(_IDLE_YIELDS_MAX)
            self.check()

    async def _lead(self, yields_max: int) -> None:
        """Gather what ready tasks add, then commit it for everybody."""
        self._leading, self._settled, self._is_awaited = True, anyio.Event(), False
        try:
            rows = -1
            for gathered in range(yields_max):
                if len(self._buffer.rows) == rows or (self._is_awaited and gathered >= _YIELDS_MAX):
                    break
                rows = len(self._buffer.rows)
                await anyio.lowlevel.checkpoint()
            self._seal()
            if self._commit_s < COMMIT_INLINE_S:
                self._drain()
            else:
                if self._limiter is None:
                    self._limiter = anyio.CapacityLimiter(1)
                await anyio.to_thread.run_sync(self._drain, limiter=self._limiter)
        finally:
            self._leading = False
            self._settled.set()

    def _seal(self) -> None:
        """Close the buffer and open the next one."""
        if self._buffer:
            batch, self._buffer = self._buffer, Batch(self._epoch)
            batch.last = batch.last or self.head
            self._sealed.append(batch)

    def _drain(self) -> None:
        """Commit every sealed batch, oldest first. Any thread."""
        with self._lock:
            self.check()
            while self._sealed:
                self._commit(self._sealed[0])
                self._sealed.popleft()

    def _commit(self, batch: Batch) -> None:
        """Write one batch; the first failure ends this journal."""
        assert self._connection is not None, "a reader's journal has failed from the start"
        begun, statements = time.perf_counter(), self._connection.statements
        reached("commit.before")
        try:
            with eager():
                self._hash = batch.write(self._connection, self._hash)
        except self._connection.failures as error:
            self._failure = self.verdict(error)
            raise self._failure from error
        except Invalid as error:
            self._failure = error
            raise
        except BaseException as error:
            self._failure = KernelPanic(f"a batch could not be written: {error}")
            raise
        reached("commit.after")
        self.durable_seq = batch.last
        self.commits += 1
        self.statements += self._connection.statements - statements
        self._commit_s += _SMOOTHING * (time.perf_counter() - begun - self._commit_s)


def _check_numbers(encoded: bytes, columns: tuple[Any, ...], table: Table) -> None:
    """Refuse what no column holds, given its MessagePack, which has refused whole numbers of more than 64 bits already.

    What is left, 2**63 and above and what is not a number, begins with marks of its own there. A text may look like one, so the numbers
    are then looked at; else no number of any record has to be.

    Raises:
        OverflowError: a number does not fit a column.
    """
    if _UNSIGNED in encoded or _NOT_FINITE[0] in encoded or _NOT_FINITE[1] in encoded:
        for number in table.numbers_of(columns):
            if number != number or (isinstance(number, int) and not -_NUMBER_MAX <= number < _NUMBER_MAX):  # noqa: PLR0124 - not a number
                raise OverflowError(f"{number} does not fit a column")
