"""A kernel that waits for a store which another has: the same with a file and with a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import agentos
from tests.builders import host, opened

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["file", "database"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    make: Callable[[], str] = (
        (lambda: str(tmp_path / "s.db")) if request.param == "file" else request.getfixturevalue("postgres")
    )
    return make()


async def test_a_standby_kernel_begins_when_the_other_has_left(store: str | Path) -> None:
    begun = anyio.Event()

    async def stand_by() -> None:
        async with opened(store, standby=True) as kernel:
            assert [info.pid for info in await kernel.ps()] == [1]
            begun.set()

    async with anyio.create_task_group() as tasks:
        async with opened(store) as kernel:
            await host(kernel)
            tasks.start_soon(stand_by)
            await anyio.sleep(0.7)
            assert not begun.is_set()
        with anyio.fail_after(5):
            await begun.wait()


async def test_who_no_longer_wants_to_wait_leaves_no_trace(store: str | Path) -> None:
    async with opened(store) as kernel:
        with anyio.move_on_after(0.3) as gone:
            await opened(store, standby=True).__aenter__()
        assert gone.cancelled_caught
        assert await kernel.ps() == []


@pytest.mark.parametrize("seconds", [0, -1, 0.1, 1e9, float("nan")])
def test_a_lease_lasts_neither_too_short_nor_for_ever(store: str | Path, seconds: float) -> None:
    with pytest.raises(agentos.Invalid, match="a lease cannot last"):
        opened(store, lease_ttl_s=seconds)
