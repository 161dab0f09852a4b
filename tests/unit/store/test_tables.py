"""Table descriptions and statement texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.records import Row, StateRecord, TimerRecord
from agentos.store import schema, sql, tables


def test_a_table_has_the_fields_of_its_record_and_until() -> None:
    for record, table in tables.state_tables():
        assert table.columns == (*record.__struct_fields__, "until")
        assert "live" in table.columns


def test_the_journal_has_the_fields_of_a_row_and_the_chain() -> None:
    assert tables.JOURNAL.columns == (*Row.__struct_fields__, "epoch", "salt", "content_hash", "hash")


def test_a_key_is_read_from_columns_in_key_order() -> None:
    table = tables.table_of(TimerRecord)
    columns = tuple(getattr(TimerRecord(pid=3, number="1.2"), name) for name in TimerRecord.__struct_fields__)
    assert table.key_of(columns) == (3, "1.2")


def test_a_record_without_a_table_is_refused() -> None:
    class Nowhere(StateRecord, kw_only=True):
        pass

    with pytest.raises(AssertionError):
        tables.table_of(Nowhere)


def test_the_schema_creates_every_table_once() -> None:
    created = [
        text.split()[2] for text in schema.create_all(schema.sqlite_dialect()) if text.strip().startswith("CREATE TABLE")
    ]
    fixed = ["head", "journal", "meta", "object", "segment", "segment_pid"]
    assert sorted(created) == sorted([*fixed, *(table.name for _, table in tables.state_tables())])


@given(st.integers(1, sql.ROWS_PER_STATEMENT_MAX))
def test_a_statement_fits_its_rows_and_wastes_at_most_half(rows: int) -> None:
    size = sql.size_for(rows)
    assert rows <= size <= rows * 1.5 + 1
    assert len(sql.fill([(1, 2, 3)] * rows, 3)) == size * 3


def test_few_statements_serve_every_batch_and_fit_the_limit_of_parameters() -> None:
    sizes = {sql.size_for(rows) for rows in range(1, sql.ROWS_PER_STATEMENT_MAX + 1)}
    widest = max(len(table.columns) for _, table in tables.state_tables())
    assert len(sizes) <= 64
    assert max(sizes) * max(widest, len(tables.JOURNAL.columns)) <= 32_766
