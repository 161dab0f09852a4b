"""Checkpoints: what they name, who sees them, what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.limits import CHECKPOINTS_PER_TREE_MAX
from agentos.abi.records import CheckpointRecord
from agentos.kernel.past import Past
from tests.builders import host, live, opened, refused, rows, started

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_is_one_row_and_names_the_point_right_after_it() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        head = kernel.core.journal.head
        checkpoint = await process.checkpoint("before the change")
        [found] = await kernel.checkpoints()
        assert kernel.core.journal.head == head + 1
        assert (found.id, found.pid, found.seq, found.note, found.by) == (
            checkpoint,
            process.pid,
            head + 1,
            "before the change",
            0,
        )


async def test_a_process_names_its_own_points_and_lists_those_of_its_tree() -> None:
    async def work(sys: Any) -> Any:
        first = await sys.ckpt.save("one")
        return [first, [item["id"] for item in await sys.ckpt.list()]]

    async with opened() as kernel:
        await (await host(kernel)).checkpoint("of another tree")
        process = await started(kernel, work)
        first, listed = (await process.wait(5)).value
        assert listed == [first]


async def test_checkpoints_are_there_after_a_reopen_until_they_are_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        kept, dropped = [await process.checkpoint(), await process.checkpoint()]
        await kernel.drop_checkpoint(dropped)
    async with opened(tmp_path / "a.db") as kernel:
        assert [checkpoint.id for checkpoint in await kernel.checkpoints(process.pid)] == [kept]
        assert await refused(kernel.restore(dropped)) == "invalid.argument"


async def test_a_tree_has_a_bounded_number_of_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.checkpoint.CHECKPOINTS_PER_TREE_MAX", 2)
    async with opened() as kernel:
        process = await host(kernel)
        checkpoints = [await process.checkpoint(), await process.checkpoint()]
        assert await refused(process.checkpoint()) == "unavailable.overloaded"
        await kernel.drop_checkpoint(checkpoints[0])
        await process.checkpoint()
        assert len(live(kernel, CheckpointRecord)) == 2 < CHECKPOINTS_PER_TREE_MAX


async def test_a_process_that_fills_its_tree_leaves_the_host_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.checkpoint.CHECKPOINTS_PER_TREE_MAX", 1)
    async with opened() as kernel:
        process = await host(kernel)
        await process.call("ckpt.save")
        assert await refused(process.call("ckpt.save")) == "unavailable.overloaded"
        assert await process.checkpoint()


async def test_a_checkpoint_with_ten_thousand_objects_costs_its_row_alone() -> None:
    """INVARIANT cost-is-local: a checkpoint writes one record, whatever there is."""
    async with opened() as kernel:
        process = await host(kernel)
        for _ in range(20):
            await process.calls([("obj.put", {"value": number, "name": f"n{number}"}) for number in range(10)])
        statements = kernel.core.journal.statements
        await process.checkpoint()
        assert kernel.core.journal.statements - statements < 12


async def test_the_past_is_what_was_then_whatever_has_changed_since() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put a/**")
        await process.call("obj.put", value=1, name="kept")
        await process.call("obj.put", value=1, name="changed")
        at = kernel.core.journal.head
        await process.call("obj.put", value=2, name="changed")
        await process.call("obj.put", value=2, name="new")
        await kernel.grant(process.pid, "obj.get a/**")
        await process.exit()
        past = Past(kernel.core, at)
        assert sorted(name.name for name in past.names(f"proc/{process.pid}")) == ["changed", "kept"]
        assert [cap.text for cap in past.caps(process.pid)] == ["obj.put a/**"]
        assert [record.pid for record in past.family(process.pid, process.pid)] == [process.pid]


async def test_a_note_is_short_text() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        assert await refused(process.checkpoint("x" * 1000)) == "invalid.argument"
        assert not [row for row in rows(kernel, notes=True) if row.op == "note.checkpoint"]


async def test_an_agent_reaches_no_checkpoint_of_another_tree() -> None:
    """INVARIANT visibility-is-not-authority: an id of another tree is as one that does not exist."""
    async with opened() as kernel:
        checkpoint = await (await host(kernel)).checkpoint()
        other = await host(kernel, "ckpt.fork", "ckpt.diff", "image.commit")
        for call in (
            other.call("ckpt.restore", checkpoint=checkpoint), other.call("ckpt.fork", checkpoint=checkpoint),
            other.call("ckpt.diff", a=checkpoint), other.call("image.commit", checkpoint=checkpoint, name="mine", version="1"),
        ):  # fmt: skip
            assert await refused(call) == "invalid.argument"


async def test_a_process_restores_no_other_than_itself() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "proc.*")
        child = await kernel.spawn(agentos.Image.host(), parent=parent)
        checkpoint = await child.checkpoint()
        assert await refused(parent.call("ckpt.restore", checkpoint=checkpoint)) == "denied.capability"
