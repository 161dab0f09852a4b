"""Restore in place: programs, objects, messages, children and asks are again what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, alive, crashing, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def keeper(sys: Any) -> Any:
    """Keep a list of what was received, with a checkpoint after each."""
    kept: list[Any] = []
    while True:
        value = (await sys.msg.recv()).value
        if value == "end":
            return kept
        kept.append(value)
        await sys.obj.put(kept, name="kept")
        await sys.ckpt.save(str(value))


async def send_all(kernel: Any, process: agentos.Process, *values: Any) -> None:
    for value in values:
        await process.send(value)
        await settled(kernel)


async def of_note(kernel: Any, note: str) -> str:
    return str([found.id for found in await kernel.checkpoints() if found.note == note][-1])


async def test_a_program_goes_on_from_its_state_of_then_under_its_pid() -> None:
    """INVARIANT resume-never-reruns: what it did before the checkpoint is answered from the journal."""
    async with opened() as kernel:
        process = await started(kernel, keeper)
        await send_all(kernel, process, 1, 2, 3)
        count = len(rows(kernel, process.pid))
        report = await kernel.restore(await of_note(kernel, "1"))
        await settled(kernel)
        assert report.pids == {process.pid: process.pid}
        assert [row.op for row in rows(kernel, process.pid)[count:]][:2] == ["msg.recv", "obj.put"]
        await send_all(kernel, process, "end")
        assert (await process.wait(5)).value == [1, 2, 3], "messages of the host arrive once more"


async def test_a_restored_program_goes_on_after_a_crash(tmp_path: Path) -> None:
    """INVARIANT committed-survives: the restore is there, and what was done after it."""
    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        process = await started(kernel, keeper)
        await send_all(kernel, process, 1, 2)
        await kernel.restore(await of_note(kernel, "1"))
        await send_all(kernel, process, 3)
    async with opened(tmp_path / "b.db", programs=[agentos.program("keeper")(keeper)]) as kernel:
        await settled(kernel)
        assert [row.op for row in rows(kernel, process.pid)].count("ckpt.save") == 4, "1 2, and after the restore 2 3"
        again = kernel.process(process.pid)
        await again.send("end")
        assert (await again.wait(5)).value == [1, 2, 3]


async def test_restores_of_restores_read_each_past_up_to_its_own_point(tmp_path: Path) -> None:
    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        process = await started(kernel, keeper)
        await send_all(kernel, process, 1, 2)
        await kernel.restore(await of_note(kernel, "1"))
        await settled(kernel)
        await send_all(kernel, process, 3)
        late = await of_note(kernel, "3")
        await kernel.restore(await of_note(kernel, "1"))
        await settled(kernel)
        await kernel.restore(late)
        await send_all(kernel, process, 4)
    async with opened(tmp_path / "b.db", programs=[agentos.program("keeper")(keeper)]) as kernel:
        await kernel.process(process.pid).send("end")
        assert (await kernel.process(process.pid).wait(5)).value == [1, 2, 3, 4]


async def test_save_points_before_and_after_the_checkpoint_are_told_apart() -> None:
    async def saver(sys: Any) -> Any:
        done = sys.state or []
        while len(done) < 4:
            await sys.ckpt.save(str(len(done)))
            done = [*done, (await sys.msg.recv()).value]
            await sys.save(done)
        return done

    async with opened() as kernel:
        process = await started(kernel, saver)
        await send_all(kernel, process, "a", "b", "c")
        await kernel.restore(await of_note(kernel, "2"))
        await settled(kernel)
        await send_all(kernel, process, "d")
        assert (await process.wait(5)).value == ["a", "b", "c", "d"]


async def test_a_process_that_has_ended_lives_again() -> None:
    async with opened() as kernel:
        process = await started(kernel, keeper)
        await send_all(kernel, process, 1)
        await process.send("end")
        await process.wait(5)
        used = process.usage["calls"]
        report = await kernel.restore(await of_note(kernel, "1"))
        assert report.revived == (process.pid,)
        assert process.usage["calls"] >= used, "a budget is not rewound"
        assert (await process.wait(5)).value == [1], "the message that ended it is unread again"


async def test_the_private_namespace_is_what_it_was_and_others_are_left() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.* shared/**")
        await process.call("obj.put", value="old", name="a")
        await process.call("obj.put", value="gone", name="b")
        checkpoint = await process.checkpoint()
        for name in ("a", "c"):
            await process.call("obj.put", value="new", name=name)
        await process.call("obj.drop", name="b")
        await process.call("obj.put", value="new", name="s", namespace="shared")
        report = await kernel.restore(checkpoint)
        assert [await process.call("obj.get", name=name) for name in ("a", "b")] == ["old", "gone"]
        assert await refused(process.call("obj.get", name="c")) == "unavailable.missing"
        assert report.shared == ("shared/s",)
        assert (await process.call("obj.put", value="next", name="a", if_version=1)).version == 2


async def test_children_of_then_are_restored_and_later_ones_are_killed() -> None:
    async def parent(sys: Any) -> Any:
        first = await sys.proc.spawn("keeper:1")
        await sys.ckpt.save("one child")
        await sys.msg.recv()
        second = await sys.proc.spawn("keeper:1")
        await sys.msg.recv()
        return [first, second]

    async with opened(programs=[agentos.program("keeper")(keeper)]) as kernel:
        await kernel.register(agentos.Image.program("keeper"))
        process = await started(kernel, parent, "proc.*")
        await settled(kernel)
        first = next(info.pid for info in await kernel.ps() if info.ppid == process.pid)
        await send_all(kernel, process, "spawn")
        second = max(info.pid for info in await kernel.ps())
        await send_all(kernel, kernel.process(first), "x")
        await kernel.process(first).signal("kill")
        report = await kernel.restore(await of_note(kernel, "one child"))
        await settled(kernel)
        assert (report.killed, report.revived) == ((second,), (first,))
        assert (await kernel.process(second).wait(5)).state == "killed"
        tree = [(info.pid, info.ppid) for info in await kernel.tree(process.pid)]
        assert tree[:2] == [(process.pid, 0), (first, process.pid)]
        assert len(tree) == 3, "the message that made it spawn is read again"


async def test_messages_from_within_are_sent_again_and_those_from_outside_stay_unread() -> None:
    async with opened() as kernel:
        root = await host(kernel, "proc.*", "msg.*")
        inner = await kernel.spawn(agentos.Image.host(), parent=root, grant=["msg.*"])
        outer = await host(kernel, "msg.*")
        await inner.send("unread then")
        checkpoint = await root.checkpoint()
        await root.call("msg.send", to=inner.pid, value="from within")
        await outer.call("msg.send", to=inner.pid, value="from outside")
        first = await inner.call("msg.recv")
        await kernel.restore(checkpoint)
        found = [(await inner.call("msg.recv")).value for _ in range(2)]
        assert first.value == "unread then"
        assert found == ["unread then", "from outside"]
        assert await refused(inner.call("msg.recv", timeout_s=0.05)) == "unavailable.timeout"


async def test_what_was_done_outside_is_listed_and_not_taken_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    workspace = tmp_path / "w"
    workspace.mkdir()
    async with opened(workspace=workspace, devices={"ledger": ledger.device}) as kernel:
        process, other = await host(kernel, "ledger.*", "fs.*", "msg.*"), await host(kernel)
        await process.call("ledger.once", value="before")
        checkpoint = await process.checkpoint()
        await process.call("ledger.once", value="after")
        await process.call("fs.write", path="/a.txt", text="a")
        await process.call("msg.send", to=other.pid, value="hello")
        report = await kernel.restore(checkpoint)
        shown = [(effect["op"], effect["outcome"], effect["undoable"]) for effect in report.effects]
        assert shown == [("ledger.once", "done", False), ("fs.write", "done", True), ("msg.send", "done", False)]
        assert report.effects_count == 3
        assert (workspace / "a.txt").exists()


async def test_a_restore_stops_a_running_effect_and_says_what_is_known_of_it(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        await sys.ckpt.save("before")
        await sys.clock.sleep(0)
        return await sys.slow.act()

    slow = agentos.Device("slow")
    begun: list[int] = []

    @slow.op(effect="once")
    async def act(ctx: agentos.Call) -> str:
        begun.append(ctx.attempt)
        await anyio.sleep(0.2 if len(begun) > 1 else 30)
        return "done"

    async with opened(devices={"slow": slow}) as kernel:
        process = await started(kernel, work, "slow.*")
        await settled(kernel, lambda: bool(begun))
        report = await kernel.restore(await of_note(kernel, "before"))
        [effect] = report.effects
        assert (effect["op"], effect["outcome"]) == ("slow.act", "unknown")
        assert (await process.wait(5)).value == "done"
        assert begun == [1, 1], "it is another call, not the interrupted one"


async def test_a_sleep_ends_when_it_would_have_ended() -> None:
    async def work(sys: Any) -> Any:
        await sys.clock.sleep(100)
        return "slept"

    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        checkpoint = await process.checkpoint()
        advance(kernel, 60)
        await kernel.restore(checkpoint)
        await settled(kernel)
        advance(kernel, 39)
        await settled(kernel)
        assert process.info.state == "waiting"
        advance(kernel, 2)
        assert (await process.wait(5)).value == "slept"


async def test_a_process_takes_itself_back() -> None:
    async def work(sys: Any) -> Any:
        checkpoint = await sys.ckpt.save()
        tries = (await sys.obj.get("tries", namespace="shared")) + 1
        await sys.obj.put(tries, name="tries", namespace="shared")
        await sys.obj.append("mine", tries)
        if tries < 3:
            await sys.ckpt.restore(checkpoint)
        return [tries, await sys.obj.get("mine")]

    async with opened() as kernel:
        await (await host(kernel, "obj.put shared/**")).call("obj.put", value=0, name="tries", namespace="shared")
        process = await started(kernel, work, "obj.* shared/**")
        assert (await process.wait(5)).value == [3, [3]], "what it keeps for itself is forgotten each time"
        assert [row.op for row in rows(kernel, process.pid)].count("ckpt.restore") == 2


async def test_a_child_does_not_outlive_the_point_its_parent_goes_back_to() -> None:
    async def child(sys: Any) -> Any:
        await sys.msg.recv()

    async def parent(sys: Any) -> Any:
        checkpoint = await sys.ckpt.save()
        if not (await sys.obj.list(namespace="shared"))["items"]:
            born = await sys.proc.spawn("child:1")
            await sys.obj.put(born, name="born", namespace="shared")
            await sys.ckpt.restore(checkpoint)
        return await sys.obj.get("born", namespace="shared")

    async with opened(programs=[agentos.program("child")(child)]) as kernel:
        await kernel.register(agentos.Image.program("child"))
        process = await started(kernel, parent, "proc.*", "obj.* shared/**", "obj.list shared")
        born = (await process.wait(5)).value
        assert (await kernel.process(born).wait(5)).state == "killed"


async def test_a_timer_is_set_again_by_a_call_of_the_same_number() -> None:
    async def work(sys: Any) -> Any:
        await sys.ckpt.save("before")
        await sys.clock.sleep(10)
        return (await sys.msg.recv()).value

    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, work)
        for _ in range(2):
            await settled(kernel)
            advance(kernel, 11)
            await settled(kernel)
            await kernel.restore(await of_note(kernel, "before"))
        await settled(kernel)
        advance(kernel, 11)
        await process.send("slept")
        assert (await process.wait(5)).value == "slept"


async def test_those_who_lived_on_hang_below_their_parent_again() -> None:
    async with opened() as kernel:
        parent = await host(kernel)
        middle = await kernel.spawn(agentos.Image.host(), parent=parent)
        child = await kernel.spawn(agentos.Image.host(), parent=middle)
        checkpoint = await parent.checkpoint()
        await middle.exit()
        await parent.exit()
        assert alive(kernel, child).parent is None
        await kernel.restore(checkpoint)
        family = [alive(kernel, process) for process in (parent, middle, child)]
        assert [process.parent for process in family] == [None, *family[:2]]
        assert len({id(process.tree) for process in family}) == 1
        await middle.signal("kill")
        assert (await child.wait(5)).state == "killed"


async def test_a_call_that_was_under_way_at_the_checkpoint_is_made_again_as_a_new_one() -> None:
    slow, begun = agentos.Device("slow"), []

    @slow.op(effect="once")
    async def act(ctx: agentos.Call) -> str:
        begun.append(ctx.attempt)
        await anyio.sleep(30 if len(begun) == 1 else 0)
        return "done"

    async def work(sys: Any) -> Any:
        return await sys.slow.act()

    async with opened(devices={"slow": slow}) as kernel:
        process = await started(kernel, work, "slow.*")
        await settled(kernel, lambda: bool(begun))
        report = await kernel.restore(await process.checkpoint())
        assert (await process.wait(5)).value == "done"
        assert begun == [1, 1]
        assert [(effect["op"], effect["outcome"]) for effect in report.effects] == [("slow.act", "unknown")]


async def test_an_effect_that_nobody_knew_of_then_is_asked_about_and_not_repeated(tmp_path: Path) -> None:
    """INVARIANT intent-before-effect: going back to an unknown `once` effect does not make it known."""
    begun: list[int] = []

    def device() -> agentos.Device:
        slow = agentos.Device("slow")

        @slow.op(effect="once")
        async def act(ctx: agentos.Call) -> str:
            begun.append(ctx.attempt)
            await anyio.sleep(30)
            return "done"

        return slow

    async def work(sys: Any) -> Any:
        return await sys.slow.act()

    programs = [agentos.program("work")(work)]
    async with opened(tmp_path / "a.db", devices={"slow": device()}, grace_s=0) as kernel:
        process = await started(kernel, work, "slow.*")
        await settled(kernel, lambda: bool(begun))
    async with opened(tmp_path / "a.db", devices={"slow": device()}, programs=programs) as kernel:
        await settled(kernel)
        checkpoint = await kernel.process(process.pid).checkpoint()
        for _ in range(2):
            [asked] = await kernel.asks()
            await kernel.answer(asked.id, "approve", by="me", value="it happened")
            assert (await kernel.process(process.pid).wait(5)).value == "it happened"
            await kernel.restore(checkpoint)
            await settled(kernel)
        assert begun == [1]
