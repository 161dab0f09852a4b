"""A kill at any statement of a migration leaves the old store or the new one, never one between, and the next opening ends the work.

AGENTOS_SOAK=1 kills at every statement; otherwise it is one in STEP.
"""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.records import ProcessRecord
from agentos.store.migrations import MIGRATIONS
from agentos.store.tables import state_tables
from tests.room.store.builders import file_store

STORES = Path(__file__).parent / "stores"
OLD = [1, 2]
STEP = 1 if os.environ.get("AGENTOS_SOAK") else 5


def schema_of(path: Path) -> tuple[str, list[tuple[str, ...]]]:
    """The version that a file says it has, and every table and index that is in it."""
    with closing(sqlite3.connect(path)) as raw:
        (version,) = raw.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        return version, raw.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def content_of(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """The rows of the given columns of each table."""
    with closing(sqlite3.connect(path)) as raw:
        return {
            name: raw.execute(f"SELECT {', '.join(map(_quoted, names))} FROM {name} ORDER BY 1, 2").fetchall()
            for name, names in columns.items()
        }


def _quoted(name: str) -> str:
    return f'"{name}"'


def columns_of(path: Path) -> dict[str, list[str]]:
    """The columns of each table that holds state, rows or objects."""
    names = ["journal", "object", *(table.name for _, table in state_tables())]
    with closing(sqlite3.connect(path)) as raw:
        found = {name: [column[1] for column in raw.execute(f"PRAGMA table_info({name})")] for name in names}
    return {name: columns for name, columns in found.items() if columns}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("version", OLD)
def test_a_migration_killed_at_any_statement_is_done_or_not_begun(tmp_path: Path, version: int) -> None:
    packed = STORES / f"v{version}.db.gz"
    (tmp_path / "old.db").write_bytes(gzip.decompress(packed.read_bytes()))
    columns = columns_of(tmp_path / "old.db")
    old, content = schema_of(tmp_path / "old.db"), content_of(tmp_path / "old.db", columns)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "store.db").write_bytes(gzip.decompress(packed.read_bytes()))
    file_store(tmp_path / "new").close()
    new = schema_of(tmp_path / "new" / "store.db")
    assert (old[0], new[0]) == (str(version), str(len(MIGRATIONS)))
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.fault.migration_crash", str(folder), str(packed), str(STEP)]
    numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    found = [schema_of(folder / number / "store.db") for number in numbers]
    assert all(schema in (old, new) for schema in found)
    assert {schema[0] for schema in found} == {old[0], new[0]}
    assert len(numbers) * STEP > 60
    for number in numbers:
        assert content_of(folder / number / "store.db", columns) == content
        with file_store(folder / number) as store:
            assert store.verify().ok
            assert len(store.current(ProcessRecord)) == (6 if version == 1 else 15)
        assert schema_of(folder / number / "store.db") == new
