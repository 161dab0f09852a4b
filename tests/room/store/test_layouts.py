"""Two layouts of the chain in one store: rows of older writers have their digest among the facts, later ones among the content."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from agentos.store import Store
from agentos.store.archive import archive, pids_in_journal
from agentos.store.erase import Scope, erase
from tests.room.store.builders import file_store, row

STORES = Path(__file__).parents[2] / "fault" / "stores"


@pytest.fixture(params=["v1", "v2"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a store that an older schema made."""
    (tmp_path / "store.db").write_bytes(gzip.decompress((STORES / f"{request.param}.db.gz").read_bytes()))
    return tmp_path


def later(store: Store) -> int:
    """Append a row in the newer layout, and one after it; returns its number."""
    seq = store.journal.append(row(1, args=b"later", digest=b"d" * 32, key="k"))
    store.journal.append(row(0))
    store.journal.flush()
    return seq


def test_rows_of_both_layouts_verify(old: Path) -> None:
    with file_store(old) as store:
        before = store.verify()
        assert before.ok
        assert store.salted_from == store.epoch > 1
        later(store)
        assert store.verify(before.head).rows == before.rows + 2
    with file_store(old) as store:
        assert store.salted_from == store.epoch - 1
        assert store.verify(before.head).ok


def test_archived_rows_of_both_layouts_verify_and_are_read(old: Path) -> None:
    with file_store(old) as store:
        later(store)
        rows, before = store.rows(0, 100_000), store.verify()
        archive(store, list(pids_in_journal(store)))
        assert store.verify(before.head) == before
        assert store.rows(0, 100_000) == rows


@pytest.mark.parametrize("is_archived", [False, True])
def test_an_erased_row_of_the_old_layout_keeps_its_digest(old: Path, is_archived: bool) -> None:
    with file_store(old) as store:
        seq, before = later(store), store.verify()
        if is_archived:
            archive(store, [1])
        digests = {each.seq: each.digest for each in store.tape(1, 0, 100_000) if each.seq < seq}
        erase(store, Scope((1,)), {})
        after = {each.seq: each for each in store.tape(1, 0, 100_000)}
        assert {number: after[number].digest for number in digests} == digests
        assert (after[seq].digest, after[seq].key) == (b"", "")
        assert {each.args for each in after.values()} == {b""}
        assert store.verify() == store.verify(before.head)
        assert store.verify().ok


def test_a_store_that_lies_about_its_layout_does_not_verify(old: Path) -> None:
    with file_store(old) as store:
        later(store)
        for said in ("1", "99"):
            with store.upkeep() as connection:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'salted_from'", (said,))
            assert not store.verify().ok
