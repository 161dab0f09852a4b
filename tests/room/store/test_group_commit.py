"""Group commit: who commits, when, and what everybody else gets."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import psycopg
import pytest

from agentos.abi import limits
from agentos.abi.records import Change, ProcessRecord
from agentos.errors import Invalid, KernelPanic
from agentos.store import Store, open_store
from agentos.store.batch import Batch
from tests.room.store.builders import FixedClock, change, row, spawned

pytestmark = pytest.mark.anyio


def in_threads(store: Store) -> None:
    """Make every commit look long, so that it goes to a thread."""
    store.journal._commit_s = 1_000.0


def hold(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Make every batch say when it begins to be written and wait until it may."""
    begun, go = threading.Event(), threading.Event()
    write = Batch.write

    def held(batch: Batch, *args: object) -> bytes:
        begun.set()
        assert go.wait(10)
        return write(batch, *args)

    monkeypatch.setattr(Batch, "write", held)
    return begun, go


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make every batch fail."""

    def refused(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(Batch, "write", refused)


def full(store: Store) -> Exception:
    """What the driver of the store's database raises when there is no room."""
    if store._writer.dialect == "postgresql":
        return psycopg.errors.DiskFull("could not extend file: no space left")
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


async def append_and_wait(store: Store, pid: int) -> None:
    await store.journal.durable(store.journal.append(row(pid)))


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("threads", [False, True])
async def test_a_hundred_waiters_share_one_commit(store: Store, threads: bool) -> None:
    if threads:
        in_threads(store)
    async with anyio.create_task_group() as group:
        for pid in range(100):
            group.start_soon(append_and_wait, store, pid)
    assert (store.journal.commits, store.journal.durable_seq) == (1, 100)


async def test_waiting_for_a_durable_row_commits_nothing(store: Store) -> None:
    await append_and_wait(store, 1)
    await store.journal.durable(1)
    assert store.journal.commits == 1


async def test_rows_appended_during_a_commit_form_the_next_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(store)
    begun, go = hold(monkeypatch)
    async with anyio.create_task_group() as group:
        group.start_soon(append_and_wait, store, 1)
        await until(begun)
        for pid in range(2, 12):
            group.start_soon(append_and_wait, store, pid)
        await anyio.wait_all_tasks_blocked()
        assert (store.journal.head, store.journal.durable_seq) == (11, 0)
        go.set()
    assert (store.journal.commits, store.journal.durable_seq) == (2, 11)


async def test_a_flush_during_a_threaded_commit_waits_for_it_and_keeps_the_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads(store)
    begun, go = hold(monkeypatch)
    async with anyio.create_task_group() as group:
        group.start_soon(append_and_wait, store, 1)
        await until(begun)
        store.journal.append(row(2))
        threading.Timer(0.05, go.set).start()
        store.journal.flush()
        assert store.journal.durable_seq == 2
    assert store.verify().ok


async def test_a_cancelled_leader_hands_over(store: Store) -> None:
    """INVARIANT no-waiter-hangs."""
    done = []

    async def wait(pid: int, scope: anyio.CancelScope) -> None:
        with scope:
            await append_and_wait(store, pid)
            done.append(pid)

    async with anyio.create_task_group() as group:
        leader = anyio.CancelScope()
        group.start_soon(wait, 1, leader)
        for pid in (2, 3):
            group.start_soon(wait, pid, anyio.CancelScope())
        await anyio.lowlevel.checkpoint()
        assert store.journal._leading
        leader.cancel()
    assert done == [2, 3]
    assert store.journal.durable_seq == 3


async def test_a_leader_cancelled_during_a_threaded_commit_sees_it_through(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_threads(store)
    begun, go = hold(monkeypatch)
    async with anyio.create_task_group() as group:
        leader = anyio.CancelScope()

        async def lead() -> None:
            with leader:
                await append_and_wait(store, 1)

        group.start_soon(lead)
        await until(begun)
        group.start_soon(append_and_wait, store, 2)
        leader.cancel()
        threading.Timer(0.05, go.set).start()
    assert store.journal.durable_seq == 2
    assert store.verify().ok


async def test_rows_nobody_waits_for_are_committed_soon(store: Store) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(store.journal.run)
        for pid in range(3):
            store.journal.append(row(pid))
            while store.journal.durable_seq < store.journal.head:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert store.journal.durable_seq == 3


async def test_an_idle_committer_does_nothing(store: Store) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(store.journal.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert store.journal.commits == 0


def test_a_full_buffer_commits_before_append_returns(store: Store) -> None:
    for _ in range(limits.BATCH_ROWS_MAX):
        store.journal.append(row())
    assert store.journal.durable_seq == limits.BATCH_ROWS_MAX
    store.journal.append(row(result=b"x" * 100))
    for _ in range(9):
        store.journal.append(row(result=bytes([_]) * (limits.BATCH_BYTES_MAX // 8)))
    assert store.journal.durable_seq > limits.BATCH_ROWS_MAX


@pytest.mark.parametrize("threads", [False, True])
async def test_a_failed_commit_fails_every_waiter_and_everything_after(
    store: Store, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    if threads:
        in_threads(store)
    refuse(monkeypatch, full(store))
    failed = []

    async def wait(pid: int) -> None:
        with pytest.raises(Invalid) as caught:
            await append_and_wait(store, pid)
        failed.append(caught.value.reason)

    async with anyio.create_task_group() as group:
        for pid in range(5):
            group.start_soon(wait, pid)
    assert failed == ["full"] * 5
    monkeypatch.undo()
    for act in (lambda: store.journal.append(row()), store.journal.flush, lambda: store.objects.put(b"x" * 5_000)):
        with pytest.raises(Invalid) as caught:
            act()
        assert (caught.value.code, caught.value.reason) == ("invalid.store", "full")
    with pytest.raises(Invalid, match="no space"):
        await store.journal.durable(1)
    assert store.journal.durable_seq == 0


async def test_a_failed_store_ends_the_background_committer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, full(store))
    store.journal.append(row())
    with pytest.raises(Invalid, match="no space"):
        await store.journal.run()


async def test_a_bug_in_a_batch_is_a_panic_for_everybody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        await append_and_wait(store, 1)
    with pytest.raises(KernelPanic):
        store.journal.append(row())


def test_another_writer_that_moved_the_head_stops_this_one(store: Store) -> None:
    """INVARIANT compare-and-set, for the head."""
    store.journal.append(row())
    store.journal.flush()
    store._writer.execute("UPDATE head SET epoch = epoch + 1")
    store.journal.append(row())
    with pytest.raises((KernelPanic, Invalid), match=r"another (writer|kernel)"):
        store.journal.flush()
    assert store._reader.fetch("SELECT count(*) FROM journal") == [(1,)]


def test_a_read_commits_what_it_must_see_and_nothing_else(store: Store) -> None:
    spawned(store, 1)
    store.journal.flush()
    spawned(store, 2)
    assert store.get(ProcessRecord, 1) is not None
    assert store.tape(1, 0, 10)
    assert store.journal.commits == 1
    assert store.get(ProcessRecord, 2) is not None
    assert store.journal.commits == 2


def test_a_reopened_store_continues_the_chain_in_the_next_epoch(kept: str | Path) -> None:
    for epoch in (1, 2, 3):
        with open_store(kept, clock=FixedClock()) as store:
            assert store.epoch == epoch
            store.journal.append(row(args=bytes([epoch])))
    with open_store(kept, clock=FixedClock(), writer=False) as reader:
        assert [found.args for found in reader.tape(1, 0, 9)] == [b"\x01", b"\x02", b"\x03"]
        assert reader.verify().ok


def test_closing_commits_what_is_buffered(kept: str | Path) -> None:
    with open_store(kept, clock=FixedClock()) as store:
        spawned(store)
    with open_store(kept, clock=FixedClock(), writer=False) as reader:
        assert len(reader.current(ProcessRecord)) == 1


# --- a batch is a constant number of statements ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 10, 500])
def test_a_batch_is_a_constant_number_of_statements(store: Store, rows: int) -> None:
    """INVARIANT rows-are-exact."""
    processes = [ProcessRecord(pid=pid) for pid in range(rows)]
    for process in processes:
        store.journal.append(row(process.pid), [Change(process)])
    store.journal.flush()
    for process in processes:
        store.journal.append(row(process.pid, result=bytes([process.pid % 256]) * 4_000), [change(process)])
    traced: list[str] = []
    if store._writer.dialect == "sqlite":
        store._writer.raw.set_trace_callback(traced.append)
    else:
        execute = store._writer._execute
        store._writer._execute = lambda text, values: traced.append(text) or execute(text, values)
    before = store.journal.statements
    store.journal.flush()
    assert [text.split()[0] for text in traced] == ["BEGIN", "INSERT", "INSERT", "UPDATE", "INSERT", "UPDATE", "COMMIT"]
    assert store.journal.statements - before == 7


def test_time_comes_from_the_injected_clock(where: str | Path) -> None:
    clock = FixedClock(5.0)
    with open_store(where, clock=clock) as store:
        store.journal.append(row())
        clock.at = 3.0
        store.journal.append(row())
        assert [found.at for found in store.tape(1, 0, 9)] == [5.0, 3.0]
