"""What a fork shares with its parent: its private objects as they were, and nothing after."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import opened, started

pytestmark = pytest.mark.anyio


async def test_a_fork_has_a_copy_of_the_private_namespace() -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put(["before"], name="mine")
        pid = await sys.proc.fork()
        if pid == 0:
            await sys.obj.append("mine", "child")
            return await sys.obj.get("mine")
        await sys.obj.append("mine", "parent")
        return [await sys.obj.get("mine"), (await sys.proc.wait(pid)).value]

    async with opened() as kernel:
        process = await started(kernel, work, "proc.*")
        assert (await process.wait(5)).value == [["before", "parent"], ["before", "child"]]
