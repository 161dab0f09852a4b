"""INVARIANT cost-is-local, in bytes: what a growing value and a history cost in the file."""

from __future__ import annotations

import random
from pathlib import Path

from agentos.abi.records import Change, ProcessRecord
from tests.room.store.builders import file_store, row


def test_a_thousand_steps_of_one_more_kilobyte_cost_three_megabytes(tmp_path: Path) -> None:
    noise = random.Random(1)
    with file_store(tmp_path) as store:
        process, log = ProcessRecord(pid=1), []
        for _ in range(1_000):
            log.append(noise.randbytes(1_024).hex()[:1_024])
            replaced, process.save_state = process.seq, store.objects.pack({"log": log, "turn": len(log)})
            store.journal.append(row(1, op="proc.save"), [Change(process, replaced)])
            store.journal.flush()
        root = process.save_state
    assert (tmp_path / "store.db").stat().st_size <= 3_000_000
    with file_store(tmp_path) as store:
        assert store.objects.unpack(root) == {"log": log, "turn": 1_000}


def test_a_list_that_is_appended_to_a_thousand_times_costs_as_little(tmp_path: Path) -> None:
    noise = random.Random(2)
    with file_store(tmp_path) as store:
        root = store.objects.pack([])
        process = ProcessRecord(pid=1)
        for _ in range(1_000):
            root = store.objects.append(root, noise.randbytes(1_024))
            replaced, process.save_state = process.seq, root
            store.journal.append(row(1, op="obj.append"), [Change(process, replaced)])
        assert len(store.objects.unpack(root)) == 1_000
    assert (tmp_path / "store.db").stat().st_size <= 3_000_000
