"""Opening a store: who may, what it costs, and what is said when it cannot be."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.records import ProcessRecord
from agentos.errors import Invalid
from agentos.store import open_store
from tests.room.store.builders import FixedClock, file_store, row, spawned

CLOCK = FixedClock()


def refused(where: str | Path, **options: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        open_store(where, clock=CLOCK, **options)
    assert caught.value.code == "invalid.store"
    assert caught.value.hint
    return caught.value


def test_a_new_store_and_its_folder_are_private(tmp_path: Path) -> None:
    where = tmp_path / "new" / "store.db"
    with open_store(where, clock=CLOCK) as store:
        store.journal.append(row())
        store.journal.flush()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [where.parent, *where.parent.iterdir()]}
    assert modes.pop("new") == 0o700
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}


def test_a_second_writer_is_told_who_holds_the_store(tmp_path: Path) -> None:
    """INVARIANT one-writer."""
    with file_store(tmp_path):
        error = refused(tmp_path / "store.db")
    assert (error.reason, error.fields["pid"]) == ("held", os.getpid())
    file_store(tmp_path).close()


def test_a_second_name_of_the_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "store.db")
    with file_store(tmp_path):
        assert refused(tmp_path / "link.db").reason == "held"


def test_an_address_of_another_kind_of_database_is_refused() -> None:
    assert refused("mysql://host/db").reason == "backend"


def test_a_writer_in_another_process_holds_the_store_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.room.store.builders import file_store;"
        "store = file_store(Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        error = refused(tmp_path / "store.db")
        child.kill()
        child.wait()
        child.stdout.close()
    assert (error.reason, error.fields["pid"]) == ("held", child.pid)
    with file_store(tmp_path) as store:
        assert store.epoch == 2


def test_a_reader_reads_beside_the_writer_and_never_writes(tmp_path: Path) -> None:
    with file_store(tmp_path) as writer, file_store(tmp_path, writer=False) as reader:
        spawned(writer, 1)
        writer.journal.flush()
        assert [found.pid for found in reader.current(ProcessRecord)] == [1]
        for write in (lambda: reader.journal.append(row()), reader.journal.flush, lambda: reader.objects.put(b"x")):
            with pytest.raises(Invalid) as caught:
                write()
            assert caught.value.reason == "readonly"
        with pytest.raises(sqlite3.OperationalError):
            reader._reader.raw.execute("DELETE FROM journal")


def test_a_reader_does_not_make_a_store(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.db", writer=False).reason == "missing"
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_refuses_and_closes_again(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    store.close()
    store.close()
    for use in (lambda: store.journal.append(row()), lambda: store.current(ProcessRecord), store.verify):
        with pytest.raises(Invalid) as caught:
            use()
        assert caught.value.reason == "closed"


@pytest.mark.parametrize("writer", [True, False])
@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 100, b"x"])
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, writer: bool, content: bytes) -> None:
    where = tmp_path / "store.db"
    where.write_bytes(content)
    assert refused(where, writer=writer).reason == "corrupt"
    assert where.read_bytes() == content


@pytest.mark.parametrize("writer", [True, False])
def test_a_database_of_something_else_is_refused(tmp_path: Path, writer: bool) -> None:
    where = tmp_path / "store.db"
    with closing(sqlite3.connect(where)) as raw:
        raw.execute("CREATE TABLE customers (name)")
    error = refused(where, writer=writer)
    assert (error.reason, "no agentos store" in error.message) == ("corrupt", True)


def read_all(folder: Path) -> None:
    with file_store(folder, writer=False) as reader:
        reader.current(ProcessRecord)
        reader.verify()


@pytest.mark.parametrize("table", ["journal", "process", "head", "meta", "object", ""])
def test_a_damaged_page_is_said_to_be_damage(tmp_path: Path, table: str) -> None:
    with file_store(tmp_path) as store:
        for pid in range(200):
            spawned(store, pid, goal=b"g" * 3_000)
        found = store._reader.fetch("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    page = found[0][0] if found else 1
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek((page - 1) * 4096 + (0 if found else 20))
        file.write(b"\xff" * 4000)
    with pytest.raises(Invalid) as caught:
        read_all(tmp_path)
    assert caught.value.reason == "corrupt"


def test_a_journal_that_lost_its_last_rows_is_not_opened_for_writing(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        spawned(store, 1)
        spawned(store, 2)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as raw:
        raw.execute("DELETE FROM journal WHERE seq = 2")
    error = refused(tmp_path / "store.db")
    assert (error.reason, "does not end at its head" in error.message) == ("corrupt", True)


def test_an_unknown_durability_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is no durability"):
        open_store(tmp_path / "store.db", clock=CLOCK, durability="wishful")


def test_memory_durability_leaves_no_file(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", clock=CLOCK, durability="memory") as store:
        spawned(store)
        assert (store.path, len(store.current(ProcessRecord))) == (None, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("durability", "level"), [("strict", 2), ("fast", 1)])
def test_durability_sets_how_commits_reach_the_disk(tmp_path: Path, durability: str, level: int) -> None:
    with file_store(tmp_path, durability=durability) as store:
        setting = lambda name: store._writer.fetch(f"PRAGMA {name}")[0][0]  # noqa: E731 - a query of this test
        assert (setting("synchronous"), setting("journal_mode"), setting("foreign_keys")) == (level, "wal", 1)
        assert setting("busy_timeout") == 5_000


def test_sqlalchemy_is_imported_only_to_make_a_store(tmp_path: Path) -> None:
    file_store(tmp_path).close()
    code = (
        "import sys; from pathlib import Path; import agentos.store; from tests.room.store.builders import file_store;"
        "file_store(Path(sys.argv[1])).close(); file_store(Path(sys.argv[1]), writer=False).verify();"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


unprivileged = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody without rights")


@unprivileged
def test_without_rights_a_store_can_be_read_but_not_written(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        spawned(store)
    for file in tmp_path.iterdir():
        file.chmod(0o444)
    above = [folder for folder in tmp_path.parents if folder.is_relative_to(tempfile.gettempdir())][:-1]
    for folder in above:
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    report = as_nobody(tmp_path)
    tmp_path.chmod(0o755)
    assert report == "readonly readonly 1"


def as_nobody(folder: Path) -> str:
    """Try an existing store, a new store and a reader in `folder` as a user without rights."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            words = []
            for name in ("store.db", "new.db"):
                try:
                    open_store(folder / name, clock=CLOCK)
                except Invalid as error:
                    words.append(error.reason)
            with file_store(folder, writer=False) as reader:
                words.append(str(len(reader.current(ProcessRecord))))
            os.write(write, " ".join(words).encode())
        except (Invalid, OSError) as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    text = os.read(read, 4096).decode()
    os.close(read)
    os.close(write)
    return text


def test_a_store_whose_maker_was_killed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.with_name("s.db-draft").write_bytes(b"half a store")
    with pytest.raises(Invalid) as caught:
        open_store(path, clock=FixedClock(), writer=False)
    assert caught.value.reason == "missing"
    with open_store(path, clock=FixedClock()) as store:
        assert store.verify().ok
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.db", "s.db-lease"]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "s.db").touch()
    with open_store(tmp_path / "s.db", clock=FixedClock()) as store:
        assert store.epoch == 1
