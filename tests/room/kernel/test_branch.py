"""Forks at any row, and families that are started once more from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.records import NameRecord
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, alive, crashing, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def collector(sys: Any) -> Any:
    """Put every message into a list of its own, until one says end."""
    while (value := (await sys.msg.recv()).value) != "end":
        await sys.obj.append("log", value)
    return await sys.obj.get("log")


async def fed(kernel: Any, process: agentos.Process, *values: Any) -> int:
    """Send values one by one, and return the last row."""
    for value in values:
        await process.send(value)
        await settled(kernel)
    return int(kernel.core.journal.head)


async def ended(process: agentos.Process) -> Any:
    await process.send("end")
    return (await process.wait(5)).value


async def test_a_fork_goes_on_from_any_row_and_disturbs_nobody() -> None:
    """INVARIANT resume-never-reruns: the fork reads the past of the other up to that row."""
    async with opened() as kernel:
        process = await started(kernel, collector)
        rows_after = [await fed(kernel, process, value) for value in (1, 2, 3)]
        forks = [await kernel.fork(pid=process.pid, seq=seq) for seq in rows_after]
        for fork in forks:
            await fed(kernel, fork, "own")
        assert [await ended(fork) for fork in forks] == [[1, "own"], [1, 2, "own"], [1, 2, 3, "own"]]
        assert await ended(process) == [1, 2, 3]
        assert forks[0].info.ppid == 0


async def test_a_process_that_has_ended_is_forked_at_the_end_of_its_life_or_before() -> None:
    async with opened() as kernel:
        process = await started(kernel, collector)
        seq = await fed(kernel, process, 1)
        await ended(process)
        last, before = await kernel.fork(pid=process.pid), await kernel.fork(pid=process.pid, seq=seq)
        assert (await last.wait(5)).value == [1], "it goes on from right before its end"
        await fed(kernel, before, 2)
        assert await ended(before) == [1, 2]


async def test_a_fork_of_a_fork_and_of_a_restored_process_reads_all_of_its_past(tmp_path: Path) -> None:
    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        process = await started(kernel, collector)
        await fed(kernel, process, 1)
        checkpoint = await process.checkpoint()
        await fed(kernel, process, 2)
        first = await kernel.fork(checkpoint=checkpoint)
        at = await fed(kernel, first, "f")
        second = await kernel.fork(pid=first.pid, seq=at)
        await fed(kernel, second, "s")
        await kernel.restore(checkpoint)
        await settled(kernel)
        third = await kernel.fork(pid=process.pid)
        await fed(kernel, third, "t")
    async with opened(tmp_path / "b.db", programs=[agentos.program("collector")(collector)]) as kernel:
        assert await ended(kernel.process(second.pid)) == [1, "f", "s"]
        assert await ended(kernel.process(third.pid)) == [1, 2, "t"]
        assert await ended(kernel.process(process.pid)) == [1, 2]


async def test_a_call_in_flight_is_made_again_by_the_fork(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        await sys.ledger.once("first")
        return await sys.human.ask("well?")

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await started(kernel, work, "ledger.*")
        await settled(kernel)
        fork = await kernel.fork(pid=process.pid)
        await settled(kernel)
        assert [ask.pid for ask in await kernel.asks()] == [process.pid, fork.pid]
        assert [entry["value"] for entry in ledger.entries] == ["first"]


async def test_a_fork_holds_what_was_held_then_but_for_revoked_counted_and_expired_rights() -> None:
    """INVARIANT children-are-never-wider, revoke-wins."""
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel, "obj.put a/**", "obj.put b/**", "obj.put c/** uses 2")
        at = kernel.core.journal.head
        await kernel.grant(process.pid, "obj.put **")
        await kernel.revoke((await process.caps())[1].id)
        fork, bare = (
            await kernel.fork(pid=process.pid, seq=at),
            await kernel.fork(pid=process.pid, seq=at, grant=["obj.get a/**"]),
        )
        assert [cap.text for cap in await fork.caps()] == ["obj.put a/**"]
        assert [cap.text for cap in await bare.caps()] == ["obj.get a/**"]


async def test_a_copied_capability_ends_when_the_first_one_does() -> None:
    clock = FakeClock()
    async with opened(clock=clock) as kernel:
        process = await host(kernel, "obj.put a/** for 1h")
        advance(kernel, 1800)
        fork = await kernel.fork(pid=process.pid)
        assert [cap.expires for cap in await fork.caps()] == [cap.expires for cap in await process.caps()]


async def test_a_fork_keeps_the_label_and_the_layers_of_both_times() -> None:
    """INVARIANT labels-join: labels are not lowered by going back in time."""
    async with opened() as kernel:
        writer = await host(kernel, "obj.* **")
        await writer.call("obj.put", value=1, name="s", namespace="a", labels=["secret"])
        process = await host(kernel, "obj.* **", "policy.update")
        at = kernel.core.journal.head
        await process.call("obj.get", name="s", namespace="a")
        await process.call("policy.update", text='policy "tight"\nallow * any *\ndeny obj.drop')
        fork = await kernel.fork(pid=process.pid, seq=at)
        assert fork.info.labels == ("secret",)
        assert await refused(fork.call("obj.drop", name="s", namespace="a")) == "denied.policy"


async def test_an_agent_starts_a_child_from_its_checkpoint_with_what_it_grants() -> None:
    async def work(sys: Any) -> Any:
        checkpoint = await sys.ckpt.save()
        if (await sys.obj.list(namespace="s"))["items"]:
            return "child"
        await sys.obj.put(1, name="seen", namespace="s")
        child = await sys.ckpt.fork(checkpoint, grant=["obj.list s"])
        return [(await sys.proc.wait(child)).value, (await sys.proc.list())[0]["pid"]]

    async with opened() as kernel:
        process = await started(kernel, work, "obj.list s", "obj.put s/**", "ckpt.fork", "proc.*")
        assert (await process.wait(5)).value == ["child", process.pid]
        child = next(info for info in await kernel.ps(all=True) if info.ppid == process.pid)
        assert child.tree == process.pid


async def test_a_child_from_a_checkpoint_gets_nothing_its_parent_does_not_hold() -> None:
    """INVARIANT children-are-never-wider: at a fork in time as at a fork."""
    async with opened() as kernel:
        process = await host(kernel, "obj.put a/**", "ckpt.fork")
        checkpoint = await process.checkpoint()
        await kernel.revoke((await process.caps())[0].id)
        assert await refused(process.call("ckpt.fork", checkpoint=checkpoint, grant=["obj.put a/x"])) == "denied.capability"
        child = kernel.process(await process.call("ckpt.fork", checkpoint=checkpoint))
        assert await child.caps() == []


@pytest.mark.parametrize("wrong", [{}, {"pid": 1, "checkpoint": "c1"}, {"checkpoint": "c1", "seq": 1}, {"pid": 1, "seq": 0}])
async def test_a_fork_is_of_one_process_at_one_point_of_its_life(wrong: dict[str, Any]) -> None:
    async with opened() as kernel:
        await host(kernel)
        assert await refused(kernel.fork(**wrong)) == "invalid.argument"
        assert await refused(kernel.fork(pid=1, seq=1)) == "invalid.state"


# --- once more, as a tree of its own ------------------------------------------------------------------------------------------


async def test_a_family_goes_on_under_new_pids_and_knows_itself_by_the_old_ones(tmp_path: Path) -> None:
    async def boss(sys: Any) -> Any:
        helper = await sys.proc.spawn("aide:1")
        await sys.msg.recv(channel="go")
        await sys.msg.send(helper, "task")
        return (await sys.proc.wait(helper)).value

    async def aide(sys: Any) -> Any:
        await sys.obj.put("kept", name="mine")
        return [(await sys.msg.recv()).value, await sys.obj.get("mine")]

    programs = [agentos.program("boss")(boss), agentos.program("aide")(aide)]
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", programs=programs) as kernel:
        await kernel.register(agentos.Image.program("aide"))
        process = await kernel.spawn(agentos.Image.program("boss"), grant=["proc.*", "msg.*"])
        await settled(kernel)
        report = await kernel.restore(await process.checkpoint(), mode="new")
        await settled(kernel)
        copy = kernel.process(report.pids[process.pid])
        assert len(report.pids) == 2
        assert [info.tree for info in await kernel.tree(copy.pid)] == [copy.pid, copy.pid]
        await copy.send("x", channel="go")
        assert (await copy.wait(5)).value == ["task", "kept"]
        assert process.info.state == "waiting", "the first family has heard nothing"
        late = await kernel.restore((await kernel.checkpoints())[0].id, mode="new")
        await settled(kernel)
    async with opened(tmp_path / "b.db", programs=programs) as kernel:
        for pid in (process.pid, late.pids[process.pid]):
            await kernel.process(pid).send("x", channel="go")
            assert (await kernel.process(pid).wait(5)).value == ["task", "kept"]


async def test_a_copied_family_has_its_rights_among_itself_messages_and_objects() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put a/**", "obj.put b/** uses 2")
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/x"])
        await kernel.grant(parent.pid, f"msg.send {child.pid}")
        await parent.call("obj.put", value=1, name="mine")
        await child.send("unread")
        report = await kernel.restore(await parent.checkpoint(), mode="new")
        first, second = (kernel.process(report.pids[p.pid]) for p in (parent, child))
        assert [cap.text for cap in await first.caps()] == ["obj.put a/**", f"msg.send {second.pid}"]
        assert (await second.caps())[0].parent == (await first.caps())[0].id
        assert [entry["reason"] for entry in report.not_restored] == ["its uses are counted"]
        assert (await second.call("msg.recv")).value == "unread"
        assert await first.call("obj.get", name="mine") == 1
        await first.call("msg.send", to=second.pid, value="hello")


async def test_a_copy_is_copied_again_under_the_ids_it_knows() -> None:
    async def boss(sys: Any) -> Any:
        helper = await sys.proc.spawn("aide:1")
        await sys.msg.recv(channel="go")
        return (await sys.proc.wait(helper)).value

    async def aide(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async with opened(programs=[agentos.program("boss")(boss), agentos.program("aide")(aide)]) as kernel:
        await kernel.register(agentos.Image.program("aide"))
        process = await kernel.spawn(agentos.Image.program("boss"), grant=["proc.*"])
        await settled(kernel)
        for _ in range(3):
            report = await kernel.restore(await process.checkpoint(), mode="new")
            process = kernel.process(report.pids[process.pid])
            await settled(kernel)
        await process.send("x", channel="go")
        [aide_pid] = [pid for pid in report.pids.values() if pid != process.pid]
        await kernel.process(aide_pid).send("by the last")
        assert (await process.wait(5)).value == "by the last"


async def test_nothing_of_the_first_family_is_touched_by_its_copy() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put a/**")
        checkpoint = await process.checkpoint()
        before = [row.seq for row in rows(kernel, process.pid, notes=True)]
        names = live(kernel, NameRecord)
        await kernel.restore(checkpoint, mode="new")
        assert [row.seq for row in rows(kernel, process.pid, notes=True)] == before
        assert live(kernel, NameRecord) == names
        assert alive(kernel, process).record.restored == ""


async def test_what_a_copy_starts_knows_the_others_by_the_same_ids() -> None:
    async def boss(sys: Any) -> Any:
        aide_pid = await sys.proc.spawn("aide:1")
        await sys.msg.recv(channel="go")
        guard = await sys.proc.spawn("guard:1", args={"of": aide_pid}, grant=["proc.wait"])
        return (await sys.proc.wait(guard)).value

    async def aide(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async def guard(sys: Any, of: int) -> Any:
        return (await sys.proc.wait(of)).value

    programs = [agentos.program(function.__name__)(function) for function in (boss, aide, guard)]
    async with opened(programs=programs) as kernel:
        for name in ("aide", "guard"):
            await kernel.register(agentos.Image.program(name))
        process = await kernel.spawn(agentos.Image.program("boss"), grant=["proc.*"])
        await settled(kernel)
        report = await kernel.restore(await process.checkpoint(), mode="new")
        copy, aide_copy = list(report.pids.values())
        await kernel.process(copy).send("x", channel="go")
        await kernel.process(aide_copy).send("the copy's aide")
        assert (await kernel.process(copy).wait(5)).value == "the copy's aide"
