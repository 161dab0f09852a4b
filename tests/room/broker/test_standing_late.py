"""Standing grants and what is found out after the decision: a link that leads elsewhere, a wait in which a grant is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import StandingRecord
from agentos.kernel.slots import Slots
from tests.builders import code_of, host, live, opened, refused, rows, settled
from tests.room.broker.test_approvals import Later, pending

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def granted(kernel: Any, tasks: Any, process: Any, op: str, **args: Any) -> None:
    later = Later(process.call(op, **args))
    tasks.start_soon(later.run)
    [ask] = await pending(kernel)
    await kernel.answer(ask.id, "approve", by="ann", scope="tree")
    await settled(kernel, lambda: later.value)
    assert live(kernel, StandingRecord)


async def test_a_grant_for_a_path_does_not_follow_a_link_to_what_is_asked(tmp_path: Path, tasks: Any) -> None:
    (tmp_path / "secret").write_text("kept")
    async with opened(workspace=tmp_path, policy='policy "p"\nask fs.write any *') as kernel:
        process = await host(kernel, "fs.write /**")
        await granted(kernel, tasks, process, "fs.write", path="/a", text="first")
        await process.call("fs.write", path="/a", text="again")
        (tmp_path / "a").unlink()
        (tmp_path / "a").symlink_to("secret")
        assert await refused(process.call("fs.write", path="/a", text="second")) == "denied.policy"
        assert (tmp_path / "secret").read_text() == "kept"


async def test_an_ask_that_a_grant_settles_does_not_follow_a_link_either(tmp_path: Path, tasks: Any) -> None:
    (tmp_path / "secret").write_text("kept")
    async with opened(workspace=tmp_path, policy='policy "p"\nask fs.write any *') as kernel:
        process = await host(kernel, "fs.write /**")
        plain, linked = (Later(process.call("fs.write", path="/a", text=text)) for text in ("first", "second"))
        tasks.start_soon(plain.run)
        [ask] = await pending(kernel)
        (tmp_path / "a").symlink_to("secret")
        tasks.start_soon(linked.run)
        await pending(kernel, 2)
        await kernel.answer(ask.id, "approve", by="ann", scope="tree")
        await settled(kernel, lambda: linked.value or linked.error)
        assert code_of(linked.error or ValueError()) == "denied.policy"
        assert (tmp_path / "secret").read_text() == "kept"


def a_device() -> agentos.Device:
    device = agentos.Device("work")

    @device.op(trusted=("*",))
    async def once(value: str) -> str:
        return value

    @device.op(effect="repeatable", trusted=("*",))
    async def slow(delay_s: float) -> float:
        await anyio.sleep(delay_s)
        return delay_s

    return device


async def test_revoke_wins_over_a_covered_call_that_waits_for_a_slot(tasks: Any) -> None:
    policy = 'policy "p"\nask work.once any *\nallow work.slow any *'
    async with opened(devices={"work": a_device()}, policy=policy) as kernel:
        kernel.core.slots["one"] = Slots("one", 1)
        for op in ("work.once", "work.slow"):
            kernel.core.ops.find(op).slot = "one"
        process = await host(kernel, "work.*")
        await granted(kernel, tasks, process, "work.once", value="x")
        tasks.start_soon(Later(process.call("work.slow", delay_s=0.05)).run)
        await settled(kernel, lambda: kernel.core.effects)
        call = Later(process.call("work.once", value="x"))
        tasks.start_soon(call.run)
        await anyio.sleep(0.01)
        await kernel.revoke_standing(1)
        await settled(kernel, lambda: call.error or call.value)
        assert call.error is not None
        assert code_of(call.error) == "denied.human"
        assert [row.op for row in rows(kernel, process.pid) if row.kind == "intent"].count("work.once") == 1
