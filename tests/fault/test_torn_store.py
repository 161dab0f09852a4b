"""A store whose files were torn or damaged: every frame of the WAL, every page of the database.

A damaged WAL is a shorter one: the store holds the commits before the damage, whole, and nothing that was copied back into the database is
lost. A damaged database is refused or reported; what the journal and the objects say is right or not said at all.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentos.abi.records import AskRecord, NameRecord, ProcessRecord
from agentos.errors import Invalid
from agentos.store import Store
from agentos.store.archive import archive
from agentos.store.blobs import unpack_body
from agentos.store.inspect import inspect
from agentos.store.tables import JOURNAL, state_tables
from tests.room.store.builders import change, file_store, row, spawned

PAGE = 4096
HEADER, FRAME = 32, 24 + PAGE
FIELDS = {
    "page number": 0,
    "size at commit": 4,
    "salt": 8,
    "checksum": 16,
    "start of the page": 24,
    "end of the page": FRAME - 8,
}


@dataclass
class Torn:
    """A store of which the last commits are in the WAL, to be damaged copy by copy."""

    folder: Path
    first: int
    commits: list[tuple[int, int]]  # (frames of the WAL up to here, head of the journal)

    @property
    def wal(self) -> bytes:
        return (self.folder / "store.db-wal").read_bytes()

    @property
    def frames(self) -> int:
        return self.commits[-1][0]

    def head_of(self, frames: int) -> int:
        """The head of the journal when only so many frames count."""
        return max((head for ends, head in self.commits if ends <= frames), default=self.first)

    def reopened(self, wal: bytes) -> int:
        """Open a copy with another WAL; check that it is whole up to its head, goes on, and return the head."""
        copy = shutil.copytree(self.folder, self.folder.with_name("copy"), ignore=lambda *_: ["store.db-shm"])
        (copy / "store.db-wal").write_bytes(wal)
        with file_store(copy) as store:
            head = store.journal.head
            assert store.verify().ok
            record = store.get(ProcessRecord, 1)
            assert record is not None
            assert record.seq == head
            assert [found.args[:1] for found in store.tape(1, 1, 99)] == [bytes([seq]) for seq in range(2, head + 1)]
            store.journal.append(row())
            assert store.verify().ok
        shutil.rmtree(copy)
        return head


def work(store: Store, batches: int) -> Iterator[int]:
    """Commit batch after batch of three rows, a changed process and an object each; yields the head after each."""
    process = store.get(ProcessRecord, 1)
    assert process is not None
    for _ in range(batches):
        for _ in range(3):
            seq = store.journal.head + 1
            store.journal.append(row(1, args=bytes([seq]) * 2_500), [change(process)])
        store.journal.flush()
        yield store.journal.head


def torn(folder: Path, *, checkpointed: int = 0) -> Torn:
    """Make the store; the first `checkpointed` batches were copied into the database and their frames are overwritten from the start."""
    live = folder / "live"
    with file_store(live) as store:
        spawned(store, 1)
    with file_store(live) as store:
        first = [1, *work(store, checkpointed)][-1]
        if checkpointed:
            assert store._writer is not None
            assert store._writer.fetch("PRAGMA wal_checkpoint(RESTART)")[0][0] == 0
        heads = list(work(store, 4))
        shutil.copytree(live, folder / "whole")
    made = Torn(folder / "whole", first, [])
    ends = list(_commits(made.wal))
    made.commits = list(zip(ends, [first] * (len(ends) - len(heads)) + heads, strict=True))
    assert made.reopened(made.wal) == heads[-1]
    return made


def _commits(wal: bytes) -> Iterator[int]:
    """Yield the number of frames up to each commit of the WAL's present generation."""
    for number in range((len(wal) - HEADER) // FRAME):
        frame = HEADER + number * FRAME
        if wal[frame + 8 : frame + 16] != wal[16:24]:
            return
        if any(wal[frame + 4 : frame + 8]):
            yield number + 1


@pytest.fixture(params=[0, 6], ids=["new", "restarted"])
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Torn:
    return torn(tmp_path, checkpointed=request.param)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.timeout(180)
def test_a_wal_cut_anywhere_holds_the_commits_before_the_cut(store_of: Torn) -> None:
    wal = store_of.wal
    for frame in range(store_of.frames + 1):
        for more in (0, 1, 24, FRAME // 2, FRAME - 1):
            cut = wal[: HEADER + frame * FRAME + more]
            assert store_of.reopened(cut) == store_of.head_of(frame)
    for cut in range(0, HEADER, 5):
        assert store_of.reopened(wal[:cut]) == store_of.first


@pytest.mark.timeout(180)
@pytest.mark.parametrize("field", FIELDS)
def test_a_wal_with_a_bit_flipped_in_any_frame_holds_the_commits_before_it(store_of: Torn, field: str) -> None:
    wal = store_of.wal
    for frame in range(store_of.frames):
        at = HEADER + frame * FRAME + FIELDS[field]
        assert store_of.reopened(changed(wal, at, bytes([wal[at] ^ 0x10]))) == store_of.head_of(frame)


@pytest.mark.timeout(180)
def test_a_wal_with_a_frame_zeroed_doubled_or_gone_holds_the_commits_before_it(store_of: Torn) -> None:
    wal = store_of.wal
    for number in range(store_of.frames):
        start = HEADER + number * FRAME
        frame = wal[start : start + FRAME]
        zeroed, gone = changed(wal, start, bytes(FRAME)), wal[:start] + wal[start + FRAME :]
        assert store_of.reopened(zeroed) == store_of.reopened(gone) == store_of.head_of(number)
        doubled, over_the_next = wal[:start] + frame + wal[start:], changed(wal, start + FRAME, frame)
        assert store_of.reopened(doubled) == store_of.reopened(over_the_next) == store_of.head_of(number + 1)


def test_a_wal_with_a_damaged_header_holds_what_was_copied_into_the_database(store_of: Torn) -> None:
    wal = store_of.wal
    for at in (*range(4, 8), *range(16, HEADER)):
        assert store_of.reopened(changed(wal, at, bytes([wal[at] ^ 0x10]))) == store_of.first


@pytest.mark.timeout(180)
def test_a_copy_back_into_the_database_that_was_cut_at_any_page_is_made_good_from_the_wal(store_of: Torn) -> None:
    folder, wal = store_of.folder, store_of.wal
    before = (folder / "store.db").read_bytes()
    after = copied_back(folder)
    pages = len(after) // PAGE
    for cut in range(pages + 1):
        for torn_bytes in (0, PAGE // 2):
            at = min(cut * PAGE + torn_bytes, len(after))
            (folder / "store.db").write_bytes(after[:at] + before[at:])
            assert store_of.reopened(wal) == store_of.commits[-1][1]


def copied_back(folder: Path) -> bytes:
    """The database once its whole WAL was copied back."""
    copy = shutil.copytree(folder, folder.with_name("copied"), ignore=lambda *_: ["store.db-shm"])
    with closing(sqlite3.connect(copy / "store.db", isolation_level=None)) as raw:
        assert raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    return (copy / "store.db").read_bytes()


def test_a_hash_that_begins_like_a_reference_is_no_damage(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        spawned(store, 1)
        store.journal.append(row(), [change(AskRecord(ask=1, pid=1, digest=b"\xc1" + bytes(15)))])
        store.journal.flush()
        assert [finding.detail for finding in inspect(store) if finding.state == "bad"] == []


# --- the database itself -----------------------------------------------------------------------------------------------------


def filled(folder: Path) -> bytes:
    """The database of a store with rows, archived ones too, objects and state that was closed in order."""
    with file_store(folder) as store:
        for pid in range(1, 13):
            process = spawned(store, pid, goal=bytes([pid]) * 700, name=f"process {pid}")
            process.state = "waiting"
            store.journal.append(row(pid, args=bytes([pid]) * 2_500, result=b"result" * 40), [change(process)])
        value = store.objects.pack({f"key {number}": [number] * 9 for number in range(300)})
        store.journal.append(row(), [change(NameRecord(namespace="n", name="large", value=value))])
        store.journal.flush()
        assert archive(store, [2, 3, 4]).rows == 6
    return (folder / "store.db").read_bytes()


def truth_of(store: Store) -> list[Any]:
    """What the journal and the objects say: all that the chain and the hashes answer for."""
    columns = ", ".join(JOURNAL.columns)
    rows = store._reader.fetch(f"SELECT {columns} FROM journal ORDER BY seq")
    objects = [
        unpack_body(*columns) for columns in store._reader.fetch("SELECT hash, codec, size, body FROM object ORDER BY hash")
    ]
    return [rows, objects, store.rows(0, 999), [store.tape(pid, 0, 99) for pid in range(1, 13)]]


def state_of(store: Store) -> list[Any]:
    """What the state tables say."""
    return [store.current(kind, live=None) for kind, _ in state_tables()]


def seen(folder: Path, data: bytes, truth: list[Any], state: list[Any]) -> str:
    """Open a damaged database for reading: `refused`, `reported`, `harmless`, or `state`, where only state tables differ unseen."""
    folder.mkdir(exist_ok=True)
    (folder / "store.db").write_bytes(data)
    try:
        with file_store(folder, writer=False) as store:
            if not store.verify().ok:
                return "reported"
            assert truth_of(store) == truth, "a wrong answer that nobody saw"
            return "harmless" if state_of(store) == state else "state"
    except Invalid as error:
        return "refused" if error.code == "invalid.store" and error.reason in ("corrupt", "schema") else str(error)


def outcomes(folder: Path, damage: Callable[[bytes], Iterator[bytes]]) -> dict[str, int]:
    """Damage a store in every way and count what was seen."""
    data = filled(folder)
    with file_store(folder, writer=False) as store:
        truth, state = truth_of(store), state_of(store)
    found = dict.fromkeys(("refused", "reported", "harmless", "state"), 0)
    for damaged in damage(data):
        found[seen(folder / "copy", damaged, truth, state)] += 1  # a refusal for another reason is no key
    return found


def test_a_database_cut_at_any_page_is_refused(tmp_path: Path) -> None:
    def cut(data: bytes) -> Iterator[bytes]:
        for end in range(PAGE, len(data), PAGE):
            yield data[:end]
            yield data[: end - PAGE // 2]

    found = outcomes(tmp_path, cut)
    assert found["refused"] + found["reported"] == sum(found.values()) > 50


def test_a_zeroed_page_is_refused_or_reported(tmp_path: Path) -> None:
    def zero(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), PAGE):
            yield changed(data, start, bytes(PAGE))

    found = outcomes(tmp_path, zero)
    assert found["refused"] + found["reported"] == sum(found.values()) > 25


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("bit", [0x04, 0x80])
def test_a_flipped_bit_never_gives_a_wrong_row_or_object(tmp_path: Path, bit: int) -> None:
    def flip(data: bytes) -> Iterator[bytes]:
        for at in range(7, len(data), 809):
            yield changed(data, at, bytes([data[at] ^ bit]))

    found = outcomes(tmp_path, flip)
    assert found["refused"] + found["reported"] > 20
    assert found["state"] > 0, "state tables are outside of the chain: see caveats"
