"""The backends that the conformance suite runs on. Another database adds an entry here and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentos.store import Store, open_store
from tests.room.store.builders import FixedClock

BACKENDS: dict[str, Callable[[pytest.FixtureRequest], str | Path]] = {
    "sqlite-file": lambda request: request.getfixturevalue("tmp_path") / "store.db",
    "sqlite-memory": lambda _request: ":memory:",
    "postgres": lambda request: request.getfixturevalue("postgres")(),
}


@pytest.fixture(params=list(BACKENDS))
def where(request: pytest.FixtureRequest) -> str | Path:
    """Where an empty store may be made, on each backend."""
    return BACKENDS[request.param](request)


@pytest.fixture(params=[name for name in BACKENDS if name != "sqlite-memory"])
def kept(request: pytest.FixtureRequest) -> str | Path:
    """Where a store may be made that can be opened again."""
    return BACKENDS[request.param](request)


@pytest.fixture
def store(where: str | Path) -> Iterator[Store]:
    """An empty store on each backend."""
    with open_store(where, clock=FixedClock(), durability="fast") as opened:
        yield opened
