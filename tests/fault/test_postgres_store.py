"""INVARIANT committed-survives, on a PostgreSQL server: killed writers, failing statements, and a server that goes away under the store.

AGENTOS_SOAK=1 kills at every statement and lets every one fail; otherwise it is one in STEP.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

import agentos
from agentos.abi.records import ProcessRecord
from agentos.errors import Invalid, KernelPanic
from agentos.store import Store, open_store
from agentos.store.postgres import ServerConnection
from tests.builders import host, opened
from tests.postgres import Server, removed, schema_of, started
from tests.room.store.builders import FixedClock, change, intent, row, spawned

pytestmark = pytest.mark.anyio
Addresses = Callable[[], str]
TURNS = 3
STEP = 1 if os.environ.get("AGENTOS_SOAK") else 4


def store_at(address: str, **options: object) -> Store:
    return open_store(address, **{"clock": FixedClock(), "durability": "strict", **options})


def work(store: Store, acknowledged: Callable[[int], None]) -> None:
    """Commit a few batches, each with a row, a big value and a version of two processes, and tell what is durable."""
    processes = [spawned(store, store.max_key(ProcessRecord) + 1) for _ in range(2)]
    for turn in range(TURNS):
        for process in processes:
            process.state = f"turn {turn}"
            store.journal.append(intent(process.pid, args=bytes([turn]) * 3_000), [change(process)])
        store.journal.flush()
        acknowledged(store.journal.durable_seq)
        store.journal.append(row())


def check_whole(store: Store) -> int:
    """Check that state and journal belong together; return the last number."""
    assert store.verify().ok
    rows = store._reader.fetch("SELECT seq, pid, op FROM journal ORDER BY seq")
    assert [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1))
    assert store._reader.fetch("SELECT seq, pid FROM process ORDER BY seq") == [
        (seq, pid) for seq, pid, op in rows if op != "clock.now"
    ]
    for process in store.current(ProcessRecord):
        assert process.seq == max(seq for seq, pid, op in rows if pid == process.pid and op != "clock.now")
    return len(rows)


def killed_at(number: int) -> None:
    """Kill this process before its statement `number`."""
    execute, count = ServerConnection._execute, itertools.count(1)

    def counted(*args: object) -> object:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*args)

    ServerConnection._execute = counted


def outlives(address: str, number: int) -> tuple[bool, int]:
    """Work in a child that is killed; say whether it came to its end, and what it acknowledged last."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            killed_at(number)
            with store_at(address) as store:
                work(store, lambda seq: os.write(write, f"{seq}\n".encode()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        told = lines.read().split()
    return os.WIFEXITED(os.waitpid(pid, 0)[1]), int(told[-1]) if told else 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_writer_killed_at_any_statement_loses_nothing_acknowledged(postgres: Addresses) -> None:
    address = postgres()
    for number in itertools.count(1, STEP):
        ended, acknowledged = outlives(address, number)
        with store_at(address) as store:
            assert check_whole(store) >= acknowledged
        if ended:
            break
    assert number > 30
    assert acknowledged


FAILURES = {
    "full": psycopg.errors.DiskFull("could not extend file"), "io": psycopg.errors.SerializationFailure("could not serialize access"),
    "connection": psycopg.OperationalError("server closed the connection unexpectedly"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("reason", list(FAILURES))
def test_a_failure_at_any_statement_acknowledges_nothing_after_it(
    postgres: Addresses, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    address = postgres()
    with store_at(address) as store:
        work(store, lambda _: None)
    execute = ServerConnection._execute
    for number in itertools.count(1, STEP):
        store = store_at(address)
        monkeypatch.setattr(ServerConnection, "_execute", failing(store, number, FAILURES[reason]))
        found = failure_of(store)
        monkeypatch.setattr(ServerConnection, "_execute", execute)
        assert found in ("", reason)
        if found:
            with pytest.raises(Invalid):
                store.journal.append(row())
            store.close()
            with store_at(address) as again:
                assert check_whole(again) == store.journal.durable_seq
        else:
            store.close()
            break
    assert number > 15


def failing(store: Store, number: int, error: Exception) -> Callable[..., object]:
    """What a connection does when the writer's statement `number` fails."""
    execute, left = ServerConnection._execute, itertools.count(1)

    def execute_or_fail(connection: object, *args: object) -> object:
        if connection is store._writer and next(left) == number:
            raise error
        return execute(connection, *args)

    return execute_or_fail


def failure_of(store: Store) -> str:
    """Work, and return why the store stopped, if it did."""
    try:
        work(store, lambda _: None)
        store.journal.flush()
    except Invalid as error:
        return str(error.reason)
    return ""


# --- a server that goes away -------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test alone."""
    made = started()
    yield made
    removed(made)


async def put_until_it_fails(address: str, acknowledged: list[int], stopping: threading.Timer) -> None:
    """Put objects, one after the other, into a store whose server will be stopped."""
    async with opened(address, durability="strict", lease_ttl_s=3.0) as kernel:
        process = await host(kernel)
        stopping.start()
        for number in itertools.count():
            await process.call("obj.put", value=number, name=f"n{number}")
            acknowledged.append(number)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT])
async def test_a_server_that_restarts_under_a_kernel_stops_it_and_loses_nothing(server: Server, sign: int) -> None:
    address = schema_of(server.address)
    acknowledged: list[int] = []
    stopping = threading.Timer(0.3, server.stop, (sign,))
    with pytest.raises(agentos.Invalid) as caught:
        await put_until_it_fails(address, acknowledged, stopping)
    assert caught.value.reason == "connection"
    stopping.join()
    server.start()
    async with opened(address, standby=True) as kernel:
        assert (await kernel.verify_audit()).ok
        for number in acknowledged[-20:]:
            assert await kernel.process(1).call("obj.get", name=f"n{number}") == number
    assert acknowledged


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_server_that_stands_still_is_waited_for_a_bounded_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing hangs: neither the commit, nor whoever waits for it."""
    monkeypatch.setattr("agentos.store.postgres.SERVER_REPLY_S", 1.0)
    store = store_at(schema_of(server.address))
    backends = [connection.raw.info.backend_pid for connection in (store._reader, store._writer)]
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises((Invalid, KernelPanic)) as caught:
        await store.journal.durable(store.journal.append(row()))
    assert time.monotonic() - begun < 10
    assert isinstance(caught.value, Invalid)
    assert caught.value.reason == "connection"
    store.close()
    for pid in backends:
        os.kill(pid, signal.SIGCONT)
