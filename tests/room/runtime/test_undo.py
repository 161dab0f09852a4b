"""kernel.undo: what a process did to files is taken back, or shown why not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.labels import UNTRUSTED
from agentos.abi.probe import set_probe
from agentos.runtime.kernel import Kernel
from tests.builders import alive, host, opened, refused, rows, settled

pytestmark = pytest.mark.anyio


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def tree(folder: Path) -> dict[str, Any]:
    """Every path beneath a folder with its content and permissions."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777) if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


async def everything(kernel: Kernel) -> int:
    """A process that writes, makes, moves and deletes; returns its pid."""
    process = await host(kernel, "fs.* /**")
    await process.call("fs.write", path="/a", text="one")
    await process.call("fs.write", path="/a", text="two")
    await process.call("fs.write", path="/a", text=" three", mode="append")
    await process.call("fs.mkdir", path="/new/deep")
    await process.call("fs.write", path="/new/deep/f", text="f")
    await process.call("fs.move", path="/src", to="/lib")
    await process.call("fs.write", path="/lib/x.py", text="changed")
    await process.call("fs.delete", path="/old", recursive=True)
    await process.call("fs.write", path="/old", text="a file now")
    return process.pid


def prepared(work: Path) -> dict[str, Any]:
    """A folder with something to lose."""
    (work / "a").write_text("zero")
    (work / "src").mkdir()
    (work / "src" / "x.py").write_text("x")
    (work / "src" / "y.py").write_text("y")
    (work / "old" / "in").mkdir(parents=True)
    (work / "old" / "in" / "run.sh").write_text("#!/bin/sh")
    (work / "old" / "in" / "run.sh").chmod(0o755)
    return tree(work)


async def test_undo_of_a_process_brings_every_file_back(work: Path) -> None:
    before = prepared(work)
    async with opened(workspace=work) as kernel:
        report = await kernel.undo(pid=await everything(kernel))
        assert (report.conflicts, report.refused) == ((), ())
        assert tree(work) == before
        assert set(report.restored) == {"/a", "/lib/x.py"}
        assert report.moved == (("/lib", "/src"),)


async def test_undo_of_an_undo_brings_everything_back_again(work: Path) -> None:
    prepared(work)
    async with opened(workspace=work) as kernel:
        pid = await everything(kernel)
        done = tree(work)
        undone = await kernel.undo(pid=pid)
        assert tree(work) != done
        again = await kernel.undo(pid=undone.pid)
        assert (again.conflicts, again.refused) == ((), ())
        assert tree(work) == done


async def test_a_second_undo_finds_nothing_to_do(work: Path) -> None:
    before = prepared(work)
    async with opened(workspace=work) as kernel:
        pid = await everything(kernel)
        await kernel.undo(pid=pid)
        report = await kernel.undo(pid=pid)
        assert (report.pid, report.conflicts, report.restored, report.created, report.deleted) == (None, (), (), (), ())
        assert tree(work) == before


async def test_a_dry_run_shows_the_difference_and_leaves_no_trace(work: Path) -> None:
    (work / "a").write_text("zero\n")
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one\n")
        head = len(rows(kernel, notes=True))
        report = await kernel.undo(pid=process.pid, dry_run=True)
        assert (report.pid, report.dry_run, report.restored) == (None, True, ("/a",))
        assert "-one\n+zero\n" in report.diffs["/a"]
        assert (work / "a").read_text() == "one\n"
        assert len(rows(kernel, notes=True)) == head


async def test_a_foreign_change_keeps_everything_as_it_is_and_is_shown(work: Path) -> None:
    """INVARIANT foreign-changes-are-shown."""
    (work / "a").write_text("zero\n")
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one\n")
        await process.call("fs.write", path="/b", text="b")
        (work / "a").write_text("somebody\n")
        report = await kernel.undo(pid=process.pid)
        [conflict] = report.conflicts
        assert (conflict["path"], report.pid) == ("/a", None)
        assert "-one\n+somebody\n" in conflict["diff"]
        assert tree(work)["b"] == (b"b", 0o644)


async def test_what_others_put_into_a_folder_keeps_the_folder(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.mkdir /**", "fs.write /**")
        await process.call("fs.mkdir", path="/d/e")
        await process.call("fs.write", path="/d/mine", text="m")
        (work / "d" / "theirs").write_text("t")
        report = await kernel.undo(pid=process.pid)
        assert report.conflicts == ()
        assert tree(work) == {"d": "folder", "d/theirs": (b"t", 0o644)}


async def test_a_change_in_a_moved_folder_is_a_conflict(work: Path) -> None:
    prepared(work)
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.move /**")
        await process.call("fs.move", path="/src", to="/lib")
        (work / "lib" / "z.py").write_text("theirs")
        report = await kernel.undo(pid=process.pid)
        assert [conflict["path"] for conflict in report.conflicts] == ["/lib"]
        assert (work / "lib" / "z.py").exists()


async def test_a_change_of_another_process_in_between_is_a_conflict(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        mine, other = await host(kernel, "fs.write /**"), await host(kernel, "fs.write /**")
        await mine.call("fs.write", path="/a", text="1")
        await other.call("fs.write", path="/a", text="2")
        await mine.call("fs.write", path="/a", text="3")
        report = await kernel.undo(pid=mine.pid)
        assert "somebody else" in report.conflicts[0]["why"]
        assert (work / "a").read_text() == "3"


async def test_one_call_is_undone_by_its_number(work: Path) -> None:
    (work / "a").write_text("zero")
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/b", text="b")
        await process.call("fs.write", path="/a", text="a")
        [seq] = [row.seq for row in rows(kernel, process.pid) if row.kind == "intent" and row.resource == "/a"]
        report = await kernel.undo(seq=seq)
        assert report.restored == ("/a",)
        assert tree(work) == {"a": (b"zero", 0o644), "b": (b"b", 0o644)}


async def test_everything_since_a_checkpoint_is_undone_with_that_of_children(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/kept", text="k")
        checkpoint = await process.checkpoint()
        child = await host(kernel, "fs.write /**", parent=process)
        await child.call("fs.write", path="/c", text="c")
        await child.exit()
        await process.call("fs.write", path="/p", text="p")
        report = await kernel.undo(checkpoint=checkpoint)
        assert set(report.deleted) == {"/c", "/p"}
        assert tree(work) == {"kept": (b"k", 0o644)}


async def test_a_deny_of_the_kernels_policy_stops_an_undo_and_is_told(work: Path) -> None:
    (work / "a").write_text("zero")
    policy = 'policy "p"\nallow fs.*\ndeny fs.write when path == "/a" and proc.name == "undo" because "hands off"'
    async with opened(workspace=work, policy=policy) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one")
        report = await kernel.undo(pid=process.pid)
        [refusal] = report.refused
        assert (refusal["code"], refusal["path"]) == ("denied.policy", "/a")
        assert (work / "a").read_text() == "one"


async def test_what_the_kernels_policy_asks_is_answered_by_who_wanted_the_undo(work: Path) -> None:
    policy = 'policy "p"\nallow fs.*\nask fs.delete'
    async with opened(workspace=work, policy=policy) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one")
        report = await kernel.undo(pid=process.pid)
        assert (report.deleted, report.refused) == (("/a",), ())
        [ask] = await kernel.asks(None)
        assert (ask.state, ask.pid) == ("consumed", report.pid)


async def test_an_undo_holds_no_capability_beyond_its_paths_and_none_afterwards(work: Path) -> None:
    (work / "a*").write_text("zero")
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a*", text="one")
        report = await kernel.undo(pid=process.pid)
        assert report.restored == ("/a*",)
        granted = [row for row in rows(kernel, report.pid, notes=True) if row.op == "note.granted"]
        assert b'when path == \\"/a*\\" uses 1' in granted[0].args or b'path == "/a*"' in granted[0].args
        assert await kernel.caps(report.pid) == []


async def test_a_restored_file_has_the_label_that_it_had(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/plain", text="p")
        alive(kernel, process).label = UNTRUSTED
        await process.call("fs.write", path="/dirty", text="d")
        writer = await host(kernel, "fs.write /**", "fs.delete /**")
        await writer.call("fs.write", path="/dirty", text="clean")
        await writer.call("fs.delete", path="/plain")
        assert kernel.core.files.at("/dirty") == 0
        await kernel.undo(pid=writer.pid)
        assert (kernel.core.files.at("/dirty"), kernel.core.files.at("/plain")) == (UNTRUSTED, 0)


async def test_effects_that_nothing_undoes_are_listed(work: Path) -> None:
    bank = agentos.Device("bank")

    @bank.op(effect="once")
    def transfer(to: str) -> str:
        return to

    async with opened(workspace=work, devices={"bank": bank}) as kernel:
        process = await host(kernel, "bank.*")
        await process.call("bank.transfer", to="x")
        report = await kernel.undo(pid=process.pid)
        assert (report.not_covered[0]["op"], report.not_covered_count) == ("bank.transfer", 1)


async def test_a_file_that_two_mounts_show_is_undone_once(work: Path) -> None:
    (work / "src").mkdir()
    (work / "src" / "x").write_text("zero")
    async with opened(workspace=work, mounts={"s": work / "src"}) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/src/x", text="one")
        await process.call("fs.write", path="/mnt/s/x", text="two")
        report = await kernel.undo(pid=process.pid)
        assert (report.conflicts, report.restored) == ((), ("/src/x",))
        assert (work / "src" / "x").read_text() == "zero"


async def test_a_link_in_the_way_is_a_conflict_and_is_not_followed(work: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one")
    (work / "d").mkdir()
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one")
        await process.call("fs.write", path="/d/b", text="one")
        (work / "a").unlink()
        (work / "a").symlink_to(tmp_path / "secret")
        (work / "d").rename(work / "e")
        (work / "d").symlink_to("e")
        report = await kernel.undo(pid=process.pid)
        assert [each["path"] for each in report.conflicts] == ["/a", "/d/b"]
        assert (tmp_path / "secret").exists()
        assert (work / "e" / "b").exists()


async def test_a_link_that_was_deleted_does_not_come_back_and_is_told(work: Path) -> None:
    (work / "l").symlink_to("a")
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.delete /**")
        await process.call("fs.delete", path="/l")
        report = await kernel.undo(pid=process.pid)
        assert ([each["resource"] for each in report.not_covered], report.conflicts) == (["/l"], ())


async def test_files_that_were_moved_and_changed_come_back_where_they_were(work: Path) -> None:
    before = prepared(work)
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.* /**")
        await process.call("fs.write", path="/src/x.py", text="1")
        await process.call("fs.move", path="/src", to="/b")
        await process.call("fs.write", path="/b/x.py", text="2")
        await process.call("fs.write", path="/b/z.py", text="new")
        await process.call("fs.move", path="/b", to="/c")
        await process.call("fs.delete", path="/c/y.py")
        await process.call("fs.move", path="/c/x.py", to="/a.py")
        assert (await kernel.undo(pid=process.pid)).conflicts == ()
        assert tree(work) == before
        assert (await kernel.undo(pid=process.pid)).pid is None


async def test_what_to_undo_is_said_once(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        assert await refused(kernel.undo()) == "invalid.argument"
        assert await refused(kernel.undo(pid=1, seq=2)) == "invalid.argument"
        assert await refused(kernel.undo(pid=99)) == "invalid.argument"
        assert await refused(kernel.undo(seq=10**9)) == "invalid.argument"


async def test_an_undo_that_was_cancelled_goes_on_when_it_is_asked_for_again(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        for number in range(20):
            await process.call("fs.write", path=f"/{number}", text="x")
        with anyio.CancelScope() as scope:
            set_probe(lambda point: scope.cancel() if point == "undo.step" and len(tree(work)) <= 10 else None)
            try:
                await kernel.undo(pid=process.pid)
            finally:
                set_probe(None)
        assert 0 < len(tree(work)) <= 10
        report = await kernel.undo(pid=process.pid)
        assert (report.conflicts, report.refused, tree(work)) == ((), (), {})
        assert [each for each in await kernel.ps() if each.name == "undo"] == []


async def test_people_answer_what_an_undo_asks_where_there_are_some(work: Path) -> None:
    policy = 'policy "p"\nallow fs.*\nask fs.delete'
    async with opened(workspace=work, policy=policy, people={"ann": ["*"]}) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.call("fs.write", path="/a", text="one")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(kernel.undo, pid=process.pid))
            await settled(kernel, lambda: any(record.state == "pending" for record in kernel.core.asks))
            await anyio.wait_all_tasks_blocked()
            [ask] = await kernel.asks()
            assert (work / "a").exists()
            await kernel.answer(ask.id, "approve", by="ann")
        assert tree(work) == {}


async def test_an_undo_of_many_paths_takes_its_capabilities_in_portions(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**")
        await process.calls([("fs.write", {"path": f"/{number}", "text": "x"}) for number in range(1_100)])
        report = await kernel.undo(pid=process.pid)
        assert (len(report.deleted), report.refused, tree(work)) == (1_100, (), {})


async def test_nobody_else_is_taken_for_an_unfinished_undo(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.write /**", "proc.spawn **")
        await process.call("fs.write", path="/a", text="x")
        args = {"about": {"pid": process.pid}, "plan": "00" * 32}
        child = await kernel.spawn(agentos.Image.host(), parent=process, grant=[], name="undo", args=args)
        report = await kernel.undo(pid=process.pid)
        assert report.pid not in (None, child.pid)
        assert tree(work) == {}


async def test_a_client_undoes_merges_and_drops_as_the_kernel_does(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    async with (
        opened(tmp_path / "s.db", workspace=work, control=True) as kernel,
        agentos.connect(tmp_path / "s.db") as client,
    ):
        process = await host(kernel, "fs.* /**")
        await process.call("fs.write", path="/a", text="one")
        assert await client.undo(pid=process.pid, dry_run=True) == await kernel.undo(pid=process.pid, dry_run=True)
        assert (await client.undo(pid=process.pid)).deleted == ("/a",)
        child = await client.process(process.pid).fork(grant=["fs.* /**"], speculative=True)
        await child.call("fs.write", path="/a", text="two")
        assert (await client.merge(child.pid)).is_over
        assert (work / "a").read_text() == "two"
        await client.drop(child.pid)
        assert child.pid not in [each.pid for each in await client.ps()]


async def test_no_process_makes_an_executable_file_but_an_undo_brings_one_back(work: Path) -> None:
    prepared(work)
    async with opened(workspace=work) as kernel:
        process = await host(kernel, "fs.* /**")
        script = {"path": "/hook", "text": "#!/bin/sh"}
        assert await refused(process.call("fs.write", permissions="755", **script)) == "denied.capability"
        assert kernel.check(process.pid, "fs.write", permissions="711", **script).outcome == "deny"
        await process.call("fs.write", permissions="640", **script)
        await process.call("fs.delete", path="/old", recursive=True)
        await kernel.undo(pid=process.pid)
        assert (work / "old" / "in" / "run.sh").stat().st_mode & 0o777 == 0o755
