"""A host that is cancelled leaves its kernel as one that returns does: what waits stays, nothing is withdrawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from tests.builders import opened, settled, started

pytestmark = pytest.mark.anyio


@agentos.program("careful_caller")
async def careful_caller(sys: Any) -> Any:
    return [await sys.human.ask("first?"), await sys.human.ask("second?")]


async def test_a_bounded_run_never_changes_fate_when_the_host_is_cancelled(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    with anyio.CancelScope() as around:
        async with opened(store, programs=[careful_caller]) as kernel:
            process = await started(kernel, careful_caller)
            await settled(kernel)
            (ask,) = await kernel.asks()
            await kernel.answer(ask.id, "approve", by="Ada", value="yes")
            await settled(kernel, lambda: kernel.core.asks.is_pending(2))
            around.cancel()  # just as the next call has begun to wait
            await anyio.sleep_forever()
    async with opened(store, programs=[careful_caller]) as kernel:
        await settled(kernel)
        (ask,) = await kernel.asks()
        assert ask.id == 2
        await kernel.answer(ask.id, "approve", by="Ada", value="yes")
        assert (await kernel.process(process.pid).wait(5)).value == ["yes", "yes"]


async def test_a_failure_inside_the_block_is_raised_as_itself(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(tmp_path / "s.db"):
            raise ZeroDivisionError
    with anyio.move_on_after(0.05) as scope:
        async with opened(tmp_path / "s.db"):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
