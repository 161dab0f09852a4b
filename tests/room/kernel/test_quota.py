"""Counters of limits in a real store: a crash gives nothing back, and what is kept does not grow with history."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import agentos
from agentos.abi.records import AccountRecord, Change, ProcessRecord, QuotaRecord
from agentos.errors import Denied
from agentos.kernel.budget import Account
from agentos.kernel.process import AgentProcess
from agentos.kernel.quota import QuotaTable
from agentos.policy.flow import Charge
from agentos.store import Store
from tests.room.store.builders import file_store, intent, result, row

NOW = 1_000_000_000.0
PROCESS = AgentProcess(ProcessRecord(pid=1, tree=1), None, agentos.Image.host(), Account(AccountRecord(pid=1), {}, None))
CHARGES = (
    Charge("calls", "p:1", 1, 2, "process", text="limit bank.pay 2 per process"),
    Charge("day", "p:2", 1, 2, "window", 86_400.0, text="limit bank.pay 2 per 1d"),
    Charge("spent", "p:3", 0, 100, "tree", of="tokens", text="limit bank.pay 100 of tokens per tree"),
    Charge("count/bank.pay", "", 1, None, "tree"),
    Charge("after/bank.pay", "", 1, None, "tree", succeeded=True),
)


def loaded(store: Store) -> QuotaTable:
    table = QuotaTable()
    for record in store.current(QuotaRecord):
        table.load(record)
    return table


def admit(store: Store, table: QuotaTable) -> object:
    """What the broker does before an effect: take, and append what was taken with the intent."""
    changes: list[Change] = []
    reservation = table.reserve(CHARGES, PROCESS, NOW)
    table.changes(reservation, changes)
    store.journal.append(intent(), changes)
    return reservation


def call(store: Store, table: QuotaTable, tokens: int = 10) -> None:
    """One whole call."""
    changes: list[Change] = []
    reservation = admit(store, table)
    parent = store.journal.head
    table.settle(reservation, {"tokens": tokens}, True, NOW, changes)
    store.journal.append(result(parent), changes)


def used(table: QuotaTable) -> list[float]:
    return [table.used(charge, PROCESS, NOW) for charge in CHARGES]


def killed_after(folder: Path, step: str) -> Store:
    """The store that a process left which made one call and was killed in the second, after `step`."""
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.room.kernel import test_quota as t;"
        "store = t.file_store(Path(sys.argv[1])); table = t.loaded(store); t.call(store, table); store.journal.flush();"
        "t.admit(store, table);"
        "store.journal.flush() if sys.argv[2] == 'committed' else None;"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), step], cwd=root, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL
    return file_store(folder)


def test_a_limit_holds_after_a_kill_right_after_the_admission(tmp_path: Path) -> None:
    with killed_after(tmp_path, "committed") as store:
        table = loaded(store)
        assert used(table) == [2, 2, 10, 2, 1]
        with pytest.raises(Denied, match="2 of 2 used"):
            table.reserve(CHARGES, PROCESS, NOW)


def test_a_call_that_was_never_admitted_counts_no_more_than_its_row(tmp_path: Path) -> None:
    with killed_after(tmp_path, "appended") as store:
        assert used(loaded(store)) == [1, 1, 10, 1, 1]
        assert store.journal.head == 2


def test_a_row_and_its_counters_are_in_the_same_commit(tmp_path: Path) -> None:
    """At every commit of a run the file has as many admissions in the journal as in the counters."""
    copy = tmp_path / "copy"
    copy.mkdir()
    with file_store(tmp_path) as store:
        table = QuotaTable()
        for step in (admit, call):
            step(store, table)
            store.journal.flush()
            for name in ("store.db", "store.db-wal"):
                shutil.copy(tmp_path / name, copy / name)
            with file_store(copy) as crashed:
                intents = [found for found in crashed.rows(0, 100) if found.kind == "intent"]
                assert loaded(crashed).count(1, "bank.pay") == len(intents)
            for left in copy.iterdir():
                left.unlink()


def test_what_ended_is_gone_from_the_store(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        table, changes = QuotaTable(), []
        call(store, table)
        table.end_process(1, changes)
        table.end_tree(1, changes)
        store.journal.append(row(), changes)
        assert [record.key for record in store.current(QuotaRecord, live=None)] == ["day/w86400000000"]
    with file_store(tmp_path) as store:
        assert used(loaded(store)) == [0, 1, 0, 0, 0]


def test_the_table_follows_what_is_in_use_while_values_come_and_go(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        table, most = QuotaTable(), 0
        for number in range(2_000):
            charge = Charge("k", "p:1", 1, 1, "window", 60.0, by=str(number % 700))
            changes: list[Change] = []
            reservation = table.reserve([charge], PROCESS, NOW + number)
            table.changes(reservation, changes)
            table.settle(reservation, None, True, NOW + number, changes)
            store.journal.append(row(), changes)
            if number % 100 == 0:
                most = max(most, len(store.current(QuotaRecord)))
                assert store._reader.fetch("SELECT count(*) FROM quota")[0][0] == len(store.current(QuotaRecord))
        assert 0 < most <= 100
        assert store.verify().ok
