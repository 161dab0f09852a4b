"""Features that meet: restore with undo, overlays, archive, erase, collect, schedules, committed images and large trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import advance, host, opened, refused, settled, started

pytestmark = pytest.mark.anyio
FILES = "fs.* /**"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "s.db") if request.param == "file" else request.getfixturevalue("postgres")()


async def writer(sys: Any) -> Any:
    """Write what comes, into one file, and keep all of it."""
    said = []
    while True:
        word = (await sys.msg.recv()).value
        if word == "end":
            return said
        said.append(word)
        await sys.fs.write("/f", text=word)
        await sys.obj.put(said, name="said")


async def told(kernel: Kernel, process: agentos.Process, *words: str) -> None:
    for word in words:
        await process.send(word)
        await settled(kernel)


async def in_order(kernel: Kernel) -> None:
    assert (await kernel.verify_audit()).ok
    assert all(found.state == "ok" for found in await kernel.inspect())


async def test_an_undo_of_an_undo_of_an_undo_is_an_undo(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "two")
        pid: int | None = process.pid
        seen = []
        for _ in range(5):
            assert pid is not None
            pid = (await kernel.undo(pid=pid)).pid
            seen.append((work / "f").read_text() if (work / "f").exists() else None)
        assert seen == [None, "two", None, "two", None]
        await in_order(kernel)


async def test_an_undo_after_a_restore_takes_back_what_both_lives_did(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        (work / "f").write_text("zero")
        process = await started(kernel, writer, FILES)
        checkpoint = await process.checkpoint()
        await told(kernel, process, "one", "two")
        await kernel.restore(checkpoint)
        await settled(kernel)
        await told(kernel, process, "three")
        assert (work / "f").read_text() == "three"
        assert (await kernel.undo(checkpoint=checkpoint)).restored == ("/f",)
        assert (work / "f").read_text() == "zero"
        await process.signal("kill")
        assert (await kernel.undo(pid=process.pid)).pid is None, "it is done already"


async def test_an_undo_of_what_was_erased_says_that_it_cannot(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        (work / "f").write_text("zero")
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "end")
        seq = next(row.seq for row in kernel.core.store.rows(0, 1000) if row.op == "fs.write" and row.kind == "intent")
        await kernel.erase(tree=process.pid)
        for said in ({"pid": process.pid}, {"seq": seq}):
            report = await kernel.undo(**said)
            assert report.pid is None
            assert report.conflicts or report.not_covered
        assert (work / "f").read_text() == "one"
        await in_order(kernel)


async def test_an_undo_is_undone_after_what_it_undid_was_erased(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "end")
        undone = await kernel.undo(pid=process.pid)
        await kernel.erase(tree=process.pid)
        assert undone.pid is not None
        await kernel.undo(pid=undone.pid)
        assert (work / "f").read_text() == "one", "the undo kept what it deleted itself"


async def test_an_archived_process_is_undone_forked_and_replayed(work: Path, place: str) -> None:
    async with opened(place, workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "two")
        seq = kernel.core.journal.head
        await told(kernel, process, "three", "end")
        assert (await kernel.archive()).rows > 0
        fork = await kernel.fork(pid=process.pid, seq=seq)
        await told(kernel, fork, "end")
        assert (await fork.wait(5)).value == ["one", "two"]
        assert (await kernel.replay(process.pid)).ok
        assert (await kernel.replay(fork.pid)).ok
        await kernel.undo(pid=process.pid)
        assert not (work / "f").exists()
        await in_order(kernel)


async def test_a_fork_of_what_was_erased_is_refused_or_starts_empty(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "end")
        await kernel.erase(tree=process.pid)
        assert await refused(kernel.fork(pid=process.pid)) == "invalid.state"
        await in_order(kernel)


async def test_a_replay_of_a_fork_whose_origin_was_erased_says_so(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one")
        fork = await kernel.fork(pid=process.pid)
        await told(kernel, process, "end")
        assert await refused(kernel.erase(tree=process.pid)) == "invalid.state", "its fork lives"
        await told(kernel, fork, "end")
        await kernel.erase(tree=process.pid)
        with pytest.raises(agentos.Invalid, match="which was erased"):
            await kernel.replay(fork.pid)


async def test_an_erased_origin_leaves_its_living_branches_what_they_hold(work: Path, place: str) -> None:
    """INVARIANT only-the-past-goes: a branch that has saved since needs its origin no more, and its copies are its own."""

    async def saver(sys: Any) -> Any:
        while (word := (await sys.msg.recv()).value) != "end":
            if word == "save":
                await sys.save()
            else:
                await sys.obj.append("log", word)
        return await sys.obj.get("log")

    async with opened(place, workspace=work) as kernel:
        process = await started(kernel, saver)
        await told(kernel, process, "one")
        checkpoint = await process.checkpoint()
        copy = kernel.process((await kernel.restore(checkpoint, mode="new")).pids[process.pid])
        fork = await kernel.fork(pid=process.pid)
        await kernel.drop_checkpoint(checkpoint)
        for each in (fork, copy):
            await told(kernel, each, "save")
        await told(kernel, process, "end")
        assert (await kernel.erase(tree=process.pid)).rows > 0
        for each in (fork, copy):
            await told(kernel, each, "end")
            assert (await each.wait(5)).value == ["one"]
        await in_order(kernel)


async def test_a_replay_of_an_end_that_was_erased_says_so(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one", "end")
        fork = await kernel.fork(pid=process.pid)
        assert (await fork.wait(5)).value == ["one"], "all that it had left to do was to end"
        await kernel.erase(tree=fork.pid)
        with pytest.raises(agentos.Invalid, match="was erased"):
            await kernel.replay(fork.pid)
        assert (await kernel.replay(process.pid)).ok


async def test_a_checkpoint_keeps_what_it_names_through_a_collection(work: Path, place: str) -> None:
    async with opened(place, workspace=work) as kernel:
        process = await host(kernel, "obj.*")
        for number in range(3):
            await process.call("obj.put", value=[number] * 5000, name="big")
        checkpoint = await process.checkpoint()
        await process.call("obj.put", value=[9] * 5000, name="big")
        await process.exit()
        await kernel.tidy()
        assert await refused(kernel.erase(tree=process.pid)) == "invalid.state"
        await kernel.restore(checkpoint)
        assert await process.call("obj.get", name="big") == [2] * 5000
        await in_order(kernel)


async def test_a_view_that_was_merged_or_dropped_since_is_restored_and_merges_only_where_nothing_changed(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        (work / "f").write_text("zero")
        process = await started(kernel, writer, FILES)
        tried = await kernel.fork(pid=process.pid, speculative=True)
        await told(kernel, tried, "one")
        checkpoint = await tried.checkpoint()
        await told(kernel, tried, "two", "end")
        await kernel.merge(tried.pid)
        assert (work / "f").read_text() == "two"
        await kernel.restore(checkpoint)
        await tried.wait(5)
        assert (await kernel.merge(tried.pid)).pid is None, "what came since was told again, and is there already"
        (work / "f").write_text("foreign")
        await kernel.restore(checkpoint)
        await tried.wait(5)
        assert [each["path"] for each in (await kernel.merge(tried.pid)).conflicts] == ["/f"]
        await kernel.drop(tried.pid)
        await kernel.restore(checkpoint)
        assert [each.path for each in kernel.core.overlays.of(tried.pid)] == ["/f"]
        await in_order(kernel)


async def test_a_tree_is_needed_until_what_it_tried_is_merged_or_dropped(work: Path, tmp_path: Path) -> None:
    """INVARIANT only-the-past-goes: what waits for a merge is no past."""
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        tried = await kernel.fork(pid=process.pid, speculative=True)
        await told(kernel, tried, "one", "end")
        assert await refused(kernel.erase(tree=tried.pid)) == "invalid.state"
        await kernel.merge(tried.pid)
        await kernel.erase(tree=tried.pid)
        assert (work / "f").read_text() == "one"
        await in_order(kernel)


async def test_a_tree_is_needed_by_a_checkpoint_of_what_went_on_from_it(work: Path, tmp_path: Path) -> None:
    """INVARIANT only-the-past-goes: what can be restored is no past."""
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one")
        fork = await kernel.fork(pid=process.pid)
        checkpoint = await fork.checkpoint()
        await told(kernel, process, "end")
        await told(kernel, fork, "two", "end")
        assert await refused(kernel.erase(tree=process.pid)) == "invalid.state"
        await kernel.restore(checkpoint)
        assert (await fork.wait(5)).value == ["one", "two"]
        await kernel.drop_checkpoint(checkpoint)
        assert (await kernel.erase(tree=process.pid)).rows > 0


async def test_a_tree_is_needed_by_a_fork_of_it_that_was_restored(work: Path, place: str) -> None:
    """INVARIANT only-the-past-goes: whoever went back goes on from what it went on from then."""
    async with opened(place, workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one")
        fork = await kernel.fork(pid=process.pid)
        checkpoint = await fork.checkpoint()
        await kernel.restore(checkpoint)
        await kernel.drop_checkpoint(checkpoint)
        await told(kernel, process, "end")
        assert await refused(kernel.erase(tree=process.pid)) == "invalid.state"
    async with opened(place, workspace=work, programs=[agentos.program("writer")(writer)]) as kernel:
        await told(kernel, kernel.process(fork.pid), "two", "end")
        assert (await kernel.process(fork.pid).wait(5)).value == ["one", "two"]


async def test_a_fork_that_goes_on_from_what_was_erased_is_not_forked_again(work: Path, tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "one")
        fork = await kernel.fork(pid=process.pid)
        await told(kernel, process, "end")
        await told(kernel, fork, "end")
        await kernel.erase(tree=process.pid)
        assert await refused(kernel.fork(pid=fork.pid)) == "invalid.state"
        assert [info.pid for info in await kernel.ps()] == []


async def test_a_speculative_process_is_replayed_and_undoing_it_touches_no_file(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        (work / "f").write_text("zero")
        process = await started(kernel, writer, FILES)
        tried = await kernel.fork(pid=process.pid, speculative=True)
        await told(kernel, tried, "one", "end")
        report = await kernel.undo(pid=tried.pid)
        assert (report.pid, report.conflicts) == (None, ())
        assert (work / "f").read_text() == "zero"
        assert (await kernel.replay(tried.pid)).ok


async def test_an_image_of_a_checkpoint_outlives_the_erasure_of_what_it_was_made_of(work: Path, place: str) -> None:
    clock = FakeClock()
    async with opened(place, workspace=work, clock=clock) as kernel:
        process = await started(kernel, writer, FILES)
        await told(kernel, process, "x" * 5000)
        checkpoint = await process.checkpoint()
        await kernel.commit_image(checkpoint, "made")
        await kernel.schedule("made:1", every=60, grant=[FILES])
        await kernel.drop_checkpoint(checkpoint)
        await told(kernel, process, "end")
        await kernel.archive()
        await kernel.erase(tree=process.pid)
        await kernel.tidy()
        advance(kernel, 60)
        await settled(kernel)
        run = (await kernel.schedules())[0].last_pid
        assert run, "the image is its own"
        assert await kernel.process(run).call("obj.get", name="said") == ["x" * 5000]
        await told(kernel, kernel.process(run), "end")
        assert (await kernel.replay(run)).ok
        await in_order(kernel)


async def test_a_scheduled_run_is_restored_and_replayed_after_its_schedule_ended(work: Path) -> None:
    clock = FakeClock()
    async with opened(workspace=work, clock=clock) as kernel:
        first = await started(kernel, writer, FILES)
        schedule = await kernel.schedule(agentos.Image.program("writer"), every=60, grant=[FILES], overlap="replace")
        advance(kernel, 60)
        await settled(kernel)
        run = kernel.process((await kernel.schedules())[0].last_pid)
        await told(kernel, run, "one")
        checkpoint = await run.checkpoint()
        advance(kernel, 60)
        await settled(kernel)
        assert run.info.state == "killed"
        await kernel.restore(checkpoint)
        await kernel.unschedule(schedule)
        await settled(kernel)
        await told(kernel, run, "two", "end")
        assert (await run.wait(5)).value == ["one", "two"]
        assert (await kernel.replay(run.pid)).ok
        assert first.info.state == "waiting"


async def test_processes_are_listed_in_order_of_birth_whoever_was_restored() -> None:
    async with opened() as kernel:
        old, young = await host(kernel), await host(kernel)
        checkpoint = await old.checkpoint()
        await old.exit()
        await kernel.restore(checkpoint)
        assert [info.pid for info in await kernel.ps()] == [old.pid, young.pid]


async def test_killing_a_thousand_processes_leaves_nothing_and_a_restore_brings_all_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        root = await host(kernel, "obj.put **")
        middle = [await kernel.spawn(agentos.Image.host(), parent=root.pid, grant=["obj.put **"]) for _ in range(20)]

        async def with_children(parent: agentos.Process) -> None:
            for _ in range(49):
                await kernel.spawn(agentos.Image.host(), parent=parent.pid, grant=["obj.put **"])

        async with anyio.create_task_group() as group:
            for each in middle:
                group.start_soon(with_children, each)
        checkpoint = await root.checkpoint()
        await root.signal("kill")
        assert await kernel.ps() == []
        assert await kernel.caps() == []
        report = await kernel.restore(checkpoint)
        assert len(report.revived) == 1001
        assert {info.ppid for info in await kernel.ps()} == {0, root.pid, *(each.pid for each in middle)}
        assert len(await kernel.caps()) == 1001
        await root.signal("kill")
        await in_order(kernel)


async def test_a_backup_taken_while_the_store_is_archived_is_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        for number in range(30):
            process = await host(kernel, "obj.*")
            for _ in range(20):
                await process.call("obj.put", value=[number] * 2000, name="big")
            await process.exit()
        head = kernel.core.journal.head
        async with anyio.create_task_group() as group:
            group.start_soon(kernel.archive)
            for number in range(3):
                group.start_soon(kernel.backup, tmp_path / f"b{number}.db")
            group.start_soon(kernel.tidy)
        await in_order(kernel)
    for number in range(3):
        async with opened(tmp_path / f"b{number}.db") as kernel:
            assert kernel.core.journal.head >= head
            await in_order(kernel)


async def test_a_process_is_restored_to_before_and_after_it_became_another_and_replays(work: Path) -> None:
    async def first(sys: Any) -> Any:
        word = (await sys.msg.recv()).value
        await sys.fs.write("/f", text=word)
        await sys.proc.exec("writer:1")

    async with opened(work.parent / "s.db", workspace=work) as kernel:
        kernel.programs._given["writer"] = agentos.program("writer")(writer)
        await kernel.register(agentos.Image.program("writer", capabilities=[FILES, "proc.exec"]))
        process = await started(kernel, first, FILES, "proc.exec")
        before = await process.checkpoint()
        await told(kernel, process, "zero", "one")
        after = await process.checkpoint()
        await told(kernel, process, "two")
        await kernel.restore(before)
        await settled(kernel)
        assert (process.info.image, (work / "f").read_text()) == ("writer:1", "two"), "it was told all of it again"
        await kernel.restore(after)
        await settled(kernel)
        await told(kernel, process, "end")
        assert (await process.wait(5)).value == ["one", "two"]
        assert (await kernel.replay(process.pid)).ok
        copy = kernel.process((await kernel.restore(after, mode="new")).pids[process.pid])
        await told(kernel, copy, "three", "end")
        assert (await copy.wait(5)).value == ["one", "three"]
        assert (await kernel.replay(copy.pid)).ok
        await in_order(kernel)
