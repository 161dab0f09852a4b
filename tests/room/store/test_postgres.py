"""What only a store on a PostgreSQL server has: its address, its lease, its settings, and its ways to fail."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import anyio
import psycopg
import pytest

from agentos.abi.place import Dsn, place_of
from agentos.abi.records import AskRecord, Change, ProcessRecord, TimerRecord
from agentos.errors import Invalid, KernelPanic
from agentos.runtime.asklink import Keys
from agentos.runtime.places import control_path, refuse_inside
from agentos.store import Store, freed, is_made, open_store, schema
from agentos.store.postgres import _insert, _replace, _translated
from agentos.store.tables import JOURNAL, state_tables, table_of
from tests.room.store.builders import FixedClock, change, row, spawned

pytestmark = pytest.mark.anyio
CLOCK = FixedClock()
Addresses = Callable[[], str]


def opened(address: str, **options: object) -> Store:
    return open_store(address, **{"clock": CLOCK, "durability": "fast", **options})


def refused(address: str, **options: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        opened(address, **options)
    assert (caught.value.code, bool(caught.value.hint)) == ("invalid.store", True)
    return caught.value


def raw(address: str) -> psycopg.Connection:
    return psycopg.connect(address, autocommit=True)


# --- addresses ---------------------------------------------------------------------------------------------------------------

SECRETS = [
    "postgresql://ann:hunter2@host:5432/db", "postgres://ann:hunter2@host/db?sslmode=require", "postgresql://host/db?password=hunter2",
    "postgresql://ann@host/db?passwor%64=hunter2&application_name=x", "postgresql://host/db?sslpassword=hunter2",
    "postgresql://host/db?scram_client_key=hunter2", "postgresql://host/db?oauth_client_secret=hunter2",
]  # fmt: skip


@pytest.mark.parametrize("address", SECRETS)
def test_an_address_never_shows_its_password(address: str) -> None:
    """INVARIANT secrets-stay-in-addresses."""
    dsn = place_of(address)
    shown = f"{dsn} {dsn!r} {[dsn]} {dsn.key} {control_path(dsn)} {Keys(dsn).path('link')}"
    assert "hunter2" not in shown
    assert dsn.secret == address


@pytest.mark.parametrize(
    "address", ["postgresql://ann:hun#ter2@host/db", "postgresql://ann:hunt/er2@host/db", "postgresql://ann:hunt?er2@host/db", "postgresql://a:b:hunter2@h@/x",
     "postgresql:ann:hunter2@host/db", "host=h password=hunter2 dbname=db", "password = hunter2"]
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_not_repeated(address: str) -> None:
    with pytest.raises(Invalid) as caught:
        place_of(address)
    assert "er2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("address", ["postgresql://ann:hunter2@127.0.0.1:1/db", "postgresql://ann:hunter2@127.0.0.1:port/db"])
def test_a_server_that_does_not_answer_is_said_without_the_password(address: str) -> None:
    error = refused(address)
    assert error.reason == "connection"
    assert "hunter2" not in f"{error} {error.to_data()}" + "".join(traceback.format_exception(error))


def test_a_password_makes_no_other_place() -> None:
    with_password, without = place_of("postgresql://ann:x@host/db"), place_of("postgresql://ann@host/db")
    assert control_path(with_password) == control_path(without)
    assert isinstance(with_password, Dsn)


def test_the_keys_of_a_database_lie_in_no_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    with pytest.raises(Invalid, match="lies inside the mount"):
        refuse_inside(place_of("postgresql://host/db"), {"/": (tmp_path, False)})


# --- making and opening ------------------------------------------------------------------------------------------------------


def test_a_store_is_made_once_and_found_again(postgres: Addresses) -> None:
    address = postgres()
    assert not is_made(place_of(address))
    assert refused(address, writer=False).reason == "missing"
    opened(address).close()
    assert is_made(place_of(address))
    with opened(address) as store:
        assert (store.epoch, schema.differences(store._reader)) == (2, [])


CHANGED = [
    "ALTER TABLE journal ADD x BIGINT", "ALTER TABLE process ALTER weight TYPE real", "DROP INDEX cap_of_pid",
    "ALTER TABLE head ALTER pid DROP NOT NULL",
]  # fmt: skip


@pytest.mark.parametrize("change_made", CHANGED)
def test_a_schema_that_is_not_as_described_is_noticed(postgres: Addresses, change_made: str) -> None:
    address = postgres()
    with opened(address) as store, raw(address) as other:
        other.execute(change_made)
        assert len(schema.differences(store._reader)) == 1


def test_a_schema_of_something_else_is_refused_untouched(postgres: Addresses) -> None:
    address = postgres()
    with raw(address) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
        assert refused(address).reason == "corrupt"
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        assert other.execute(tables).fetchall() == [("customers",)]


def test_a_search_path_without_a_schema_is_refused(postgres_server: str) -> None:
    assert refused(f"{postgres_server}?options=-csearch_path%3Dnowhere").reason == "missing"


def test_a_newer_schema_is_refused(postgres: Addresses) -> None:
    address = postgres()
    opened(address).close()
    with raw(address) as other:
        other.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    assert refused(address).reason == "schema"
    with raw(address) as other:  # the lease that was taken to look is given back
        assert other.execute("SELECT expires = '-infinity' FROM lease").fetchall() == [(True,)]


@pytest.mark.parametrize(("durability", "level"), [("strict", "on"), ("fast", "off")])
def test_durability_sets_how_commits_reach_the_disk(postgres: Addresses, durability: str, level: str) -> None:
    with opened(postgres(), durability=durability) as store:
        assert store._writer.fetch("SHOW synchronous_commit") == [(level,)]
    assert store._writer.path is store.path


def test_a_database_in_memory_is_no_database_on_a_server(postgres: Addresses) -> None:
    with pytest.raises(Invalid, match="not in memory"):
        opened(postgres(), durability="memory")


def test_a_reader_cannot_write(postgres: Addresses) -> None:
    address = postgres()
    opened(address).close()
    with opened(address, writer=False) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader._reader.execute("DELETE FROM journal")


# --- rows --------------------------------------------------------------------------------------------------------------------


def test_a_text_with_nul_is_refused_before_anything_is_appended(postgres: Addresses) -> None:
    with opened(postgres()) as store:
        for bad, changes in ((row(resource="a\0b"), []), (row(), [Change(ProcessRecord(pid=1, name="\0"))])):
            with pytest.raises(Invalid, match=r"invalid\.argument"):
                store.journal.append(bad, changes)
        assert (store.journal.head, store.journal._buffer.bytes >= 0) == (0, True)
        store.journal.append(row(args=b"\0", resource="ä"))
        assert store.tape(1, 0, 9)[0].args == b"\0"


def test_texts_are_ordered_by_code_point_as_in_a_file(postgres: Addresses) -> None:
    with opened(postgres()) as store:
        numbers = ["b", "B", "a", "_", "ä", "Z", "1.10", "1.2"]
        store.journal.append(row(), [Change(TimerRecord(pid=1, number=number)) for number in numbers])
        assert [timer.number for timer in store.current(TimerRecord)] == sorted(numbers)


def test_marks_inside_of_texts_stay_what_they_are() -> None:
    assert _translated("SELECT '?%' || ? WHERE a % 2 = ?") == "SELECT '?%%' || %s WHERE a %% 2 = %s"


def test_every_query_of_a_hot_table_uses_an_index(postgres: Addresses) -> None:
    """INVARIANT cost-is-local: also before anybody gathered statistics."""
    with opened(postgres()) as store:
        asked = [
            "SELECT * FROM journal WHERE pid = 1 AND seq > 5 AND seq <= 9 ORDER BY seq LIMIT 10",
            "SELECT * FROM journal WHERE kind = 'result' AND parent = 5 ORDER BY seq DESC LIMIT 1",
            "SELECT * FROM journal WHERE pid = 1 AND key = 'x' AND key <> '' ORDER BY seq DESC LIMIT 1",
            "SELECT * FROM process WHERE until IS NULL AND live = 1 ORDER BY pid",
            "SELECT max(pid) FROM process",
        ]
        for text in asked:
            plan = "\n".join(line for (line,) in store._reader.fetch(f"EXPLAIN {text}"))
            assert "Seq Scan" not in plan, plan
        for _, table in state_tables():
            assert "unnest" in _replace(table)
            assert "unnest" in _insert(table, ignore_known=False)


# --- the lease ---------------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_holds_the_store(postgres: Addresses) -> None:
    """INVARIANT one-writer."""
    address = postgres()
    with opened(address):
        error = refused(address)
    assert (error.reason, error.pid, bool(error.host)) == ("held", os.getpid(), True)
    opened(address).close()


def test_a_lease_that_ended_is_taken_and_the_stale_writer_commits_nothing(postgres: Addresses) -> None:
    """INVARIANT one-writer, compare-and-set."""
    address = postgres()
    stale = opened(address, lease_ttl_s=0.5)
    spawned(stale, 1)
    stale.journal.flush()
    time.sleep(0.6)
    with opened(address) as store:
        assert store.epoch == 2
        spawned(stale, 2)
        with pytest.raises(Invalid) as caught:
            stale.journal.flush()
        assert caught.value.reason == "lease_lost"
        store.journal.append(row())
        assert store.verify().ok
        stale.close()
        assert store._reader.fetch("SELECT expires > clock_timestamp() FROM lease") == [(True,)]
    assert stale.journal.durable_seq == 1


def test_a_writer_that_was_succeeded_never_blames_its_connection(postgres: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a moment, in which another thread may look why the store has failed."""
    address, asked = postgres(), []
    monkeypatch.setattr("agentos.store.postgres.ServerConnection.verdict", lambda *_: asked.append("why"))
    stale = opened(address, lease_ttl_s=0.5)
    spawned(stale, 1)
    time.sleep(0.6)
    with opened(address):
        for use in (lambda: stale.upkeep().__enter__(), stale.journal.flush):
            with pytest.raises(Invalid) as caught:
                use()
            assert (caught.value.reason, asked) == ("lease_lost", [])
        stale.close()


def test_a_commit_after_the_lease_ended_is_refused_although_nobody_took_it(postgres: Addresses) -> None:
    store = opened(postgres(), lease_ttl_s=0.5)
    store.journal.append(row())
    time.sleep(0.6)
    with pytest.raises(Invalid) as caught:
        store.journal.flush()
    assert caught.value.reason == "lease_lost"
    assert store._reader.fetch("SELECT count(*) FROM journal") == [(0,)]
    store.close()


def test_objects_alone_are_not_committed_by_a_stale_writer(postgres: Addresses) -> None:
    store = opened(postgres(), lease_ttl_s=0.5)
    time.sleep(0.6)
    store.objects.put(b"x" * 5_000)
    with pytest.raises(Invalid):
        store.journal.flush()
    assert store._reader.fetch("SELECT count(*) FROM object") == [(0,)]
    store.close()


def test_a_holder_stops_a_tenth_before_its_lease_ends(postgres: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("agentos.store.term._now", lambda: now[0])
    with opened(postgres(), lease_ttl_s=10.0) as store:
        now[0] = 108.9
        store.journal.check_lease()
        now[0] = 109.0
        with pytest.raises(Invalid, match="the lease ended"):
            store.journal.check_lease()
        assert store._reader.fetch("SELECT expires > clock_timestamp() FROM lease") == [(True,)]
        with pytest.raises(Invalid, match="the lease ended"):
            store.journal.append(row())


async def test_a_lease_that_is_kept_outlives_its_term(postgres: Addresses) -> None:
    with opened(postgres(), lease_ttl_s=0.5) as store:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.keep_lease)
            await anyio.sleep(1.2)
            store.journal.check_lease()
            await store.journal.durable(store.journal.append(row()))
            tasks.cancel_scope.cancel()


async def test_a_lease_that_somebody_took_ends_the_one_who_keeps_it(postgres: Addresses) -> None:
    address = postgres()
    with opened(address, lease_ttl_s=0.5) as store:
        with raw(address) as other:
            other.execute("UPDATE head SET epoch = epoch + 1")
        with pytest.raises(Invalid) as caught:
            await store.keep_lease()
        assert caught.value.reason == "lease_lost"
        with pytest.raises(Invalid, match="lease"):
            store.journal.append(row())


def test_who_takes_the_lease_ends_a_batch_that_the_last_holder_left_open(postgres: Addresses) -> None:
    """A writer that was stopped in the middle of a batch holds the head: without this nobody would ever get past it."""
    address = postgres()
    stopped = opened(address, lease_ttl_s=0.5)
    stopped._writer.execute("BEGIN")
    stopped._writer.execute("UPDATE head SET seq = seq")
    time.sleep(0.6)
    begun = time.monotonic()
    with opened(address) as store:
        assert (store.epoch, time.monotonic() - begun < 5) == (2, True)
    stopped.close()


async def test_who_waits_is_woken_when_the_lease_is_given_back(postgres: Addresses) -> None:
    address = postgres()
    store = opened(address)
    begun = time.monotonic()
    await freed(place_of(address))
    assert time.monotonic() - begun >= 0.4
    store.close()
    begun = time.monotonic()
    await freed(place_of(address))
    assert time.monotonic() - begun < 0.4


# --- failing -----------------------------------------------------------------------------------------------------------------


def ended(address: str, store: Store) -> None:
    """End the connections of a store, as a server that restarts does."""
    for connection in (store._reader, store._writer):
        with raw(address) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.raw.info.backend_pid,))


def test_a_lost_connection_stops_the_store_and_loses_nothing_acknowledged(postgres: Addresses) -> None:
    """INVARIANT committed-survives."""
    address = postgres()
    store = opened(address)
    spawned(store, 1)
    store.journal.flush()
    ended(address, store)
    spawned(store, 2)
    for use in (store.journal.flush, lambda: store.journal.append(row()), lambda: store.current(AskRecord)):
        with pytest.raises(Invalid) as caught:
            use()
        assert caught.value.reason == "connection"
    assert store.journal.durable_seq == 1
    store.close()
    with opened(address) as again:
        assert (again.journal.head, again.verify().ok) == (1, True)


def test_a_version_that_is_not_current_leaves_no_trace(postgres: Addresses) -> None:
    """INVARIANT compare-and-set."""
    address = postgres()
    store = opened(address)
    process = spawned(store)
    store.journal.flush()
    process.seq = 7
    store.journal.append(row(), [change(process)])
    with pytest.raises(KernelPanic):
        store.journal.flush()
    store.close()
    with opened(address) as again:
        assert (again.journal.head, again.get(ProcessRecord, 1).seq) == (1, 1)
        assert again._reader.fetch(f"SELECT count(*) FROM {JOURNAL.name}") == [(1,)]
        assert again.max_key(ProcessRecord) == 1
    assert table_of(ProcessRecord).versioned
