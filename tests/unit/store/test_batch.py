"""Versions of one table within a batch."""

from __future__ import annotations

import msgspec
import pytest

from agentos.abi.records import ProcessRecord
from agentos.errors import KernelPanic
from agentos.store.batch import Versions
from agentos.store.tables import table_of

TABLE = table_of(ProcessRecord)


def add(versions: Versions, seq: int, replaces: int, pid: int = 1) -> None:
    versions.add(msgspec.structs.astuple(ProcessRecord(pid=pid, seq=seq)), replaces, seq)


def spans(versions: Versions) -> list[tuple[int, int | None]]:
    return [(row[TABLE.seq_at], row[-1]) for row in versions.rows]


def test_only_the_first_version_of_a_key_closes_one_in_the_file() -> None:
    versions = Versions(TABLE)
    add(versions, 8, 5)
    add(versions, 9, 8)
    add(versions, 12, 9)
    assert versions.closes == [(1, 5, 8)]
    assert spans(versions) == [(8, 9), (9, 12), (12, None)]


def test_a_new_record_closes_nothing() -> None:
    versions = Versions(TABLE)
    add(versions, 8, 0)
    add(versions, 8, 0, pid=2)
    assert (versions.closes, spans(versions)) == ([], [(8, None), (8, None)])


@pytest.mark.parametrize("replaces", [5, 8])
def test_two_changes_by_one_row_are_one_version(replaces: int) -> None:
    versions = Versions(TABLE)
    add(versions, 8, 5)
    add(versions, 8, replaces)
    assert (versions.closes, spans(versions)) == ([(1, 5, 8)], [(8, None)])


@pytest.mark.parametrize("replaces", [0, 5, 7])
def test_replacing_another_version_than_the_buffered_one_is_a_panic(replaces: int) -> None:
    versions = Versions(TABLE)
    add(versions, 8, 5)
    with pytest.raises(KernelPanic, match="version 8 is current"):
        add(versions, 9, replaces)
