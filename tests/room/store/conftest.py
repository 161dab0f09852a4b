"""The backends that the conformance suite runs on. Another database adds an entry here and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentos.store import Store, open_store
from tests.room.store.builders import FixedClock

BACKENDS: dict[str, Callable[[Path], str | Path]] = {
    "sqlite-file": lambda folder: folder / "store.db",
    "sqlite-memory": lambda _folder: ":memory:",
}


@pytest.fixture(params=list(BACKENDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store on each backend."""
    where = BACKENDS[request.param](tmp_path)
    with open_store(where, clock=FixedClock(), durability="fast") as opened:
        yield opened
