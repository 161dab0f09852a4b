"""File overlays: a speculative process sees its changes, and nobody's files change until they are merged."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.labels import UNTRUSTED
from agentos.abi.records import OverlayRecord
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from tests.builders import alive, host, live, opened, refused, rows, started

pytestmark = pytest.mark.anyio

ALL = "fs.* /**"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "a").write_text("zero")
    (folder / "src" / "x.py").write_text("x")
    (folder / "src" / "deep" / "y.py").write_text("y")
    (folder / "link").symlink_to("src/x.py")
    (folder / "ways").symlink_to("src")
    return folder


def snapshot(folder: Path) -> dict[str, Any]:
    """Everything that can be seen of a tree: names, contents, types, inodes, times."""
    found: dict[str, Any] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, content)
    return found


@asynccontextmanager
async def trying(work: Path, store: Any = ":memory:", **options: Any) -> AsyncIterator[tuple[Kernel, Process, Process]]:
    """A kernel, a process with all of its files, and a speculative fork of it."""
    async with opened(store, workspace=work, **options) as kernel:
        parent = await host(kernel, ALL)
        yield kernel, parent, await parent.fork(grant=[ALL], speculative=True)


async def work_hard(child: Process) -> None:
    """Change about everything that there is."""
    await child.call("fs.write", path="/a", text="one")
    await child.call("fs.write", path="/link", text="through the link")
    await child.call("fs.mkdir", path="/new/deep")
    await child.call("fs.write", path="/new/deep/f", text="f", mode="create")
    await child.call("fs.write", path="/new/deep/f", text="g", mode="append")
    await child.call("fs.move", path="/src/deep", to="/moved")
    await child.call("fs.delete", path="/src", recursive=True)
    await child.call("fs.write", path="/src", text="a file where a folder was")


async def seen(process: Process) -> list[str]:
    listed = await process.call("fs.list", path="/", recursive=True)
    return [item["path"] for item in listed["items"]]


async def test_a_speculative_process_touches_no_file(work: Path) -> None:
    """INVARIANT overlay-touches-nothing."""
    before = snapshot(work)
    async with trying(work) as (kernel, _, child):
        await work_hard(child)
        assert await child.call("fs.read", path="/src") == "a file where a folder was"
        assert await child.call("fs.read", path="/new/deep/f") == "fg"
        assert await seen(child) == [
            "/a",
            "/link",
            "/moved",
            "/moved/y.py",
            "/new",
            "/new/deep",
            "/new/deep/f",
            "/src",
            "/ways",
        ]
        assert {row.kind for row in rows(kernel, child.pid)} == {"call"}
    assert snapshot(work) == before


async def test_others_do_not_see_what_is_tried(work: Path) -> None:
    async with trying(work) as (_, parent, child):
        await work_hard(child)
        assert await parent.call("fs.read", path="/a") == "zero"
        assert await parent.call("fs.read", path="/src/x.py") == "x"


async def test_merging_makes_it_true_and_ends_the_overlay(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await work_hard(child)
        wanted = await seen(child)
        await child.exit()
        report = await kernel.merge(child.pid)
        assert (report.conflicts, report.refused, report.is_over) == ((), (), True)
        plain = await host(kernel, ALL)
        assert await seen(plain) == wanted
        assert (work / "new/deep/f").read_text() == "fg"
        assert live(kernel, OverlayRecord) == []
        assert (await kernel.merge(child.pid)).pid is None


async def test_a_merge_is_undone_like_any_work(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/a", text="one")
        await child.call("fs.delete", path="/src/x.py")
        await child.exit()
        report = await kernel.merge(child.pid)
        await kernel.undo(pid=report.pid)
        assert ((work / "a").read_text(), (work / "src/x.py").read_text()) == ("zero", "x")


async def test_a_file_that_changed_meanwhile_refuses_the_whole_merge(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/a", text="one\n")
        await child.call("fs.write", path="/b", text="b")
        await child.exit()
        (work / "a").write_text("theirs\n")
        report = await kernel.merge(child.pid)
        assert ([each["path"] for each in report.conflicts], report.is_over) == (["/a"], False)
        assert not (work / "b").exists()
        assert len(live(kernel, OverlayRecord)) == 2


async def test_what_others_put_into_a_deleted_folder_is_not_lost(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.delete", path="/src", recursive=True)
        await child.exit()
        (work / "src" / "theirs").write_text("t")
        await kernel.merge(child.pid)
        assert [path.name for path in (work / "src").iterdir()] == ["theirs"]


async def test_a_dry_run_of_a_merge_shows_it_and_leaves_no_trace(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/a", text="one\n")
        head, before = len(rows(kernel, notes=True)), snapshot(work)
        report = await kernel.merge(child.pid, dry_run=True)
        assert (report.restored, report.is_over) == (("/a",), False)
        assert "+one" in report.diffs["/a"]
        assert (len(rows(kernel, notes=True)), snapshot(work)) == (head, before)


async def test_dropping_ends_the_process_and_its_overlay(work: Path) -> None:
    async with trying(work) as (kernel, parent, child):
        await child.call("fs.write", path="/a", text="one")
        await kernel.drop(child.pid)
        assert child.info.state == "killed"
        assert live(kernel, OverlayRecord) == []
        assert await refused(kernel.drop(parent.pid)) == "invalid.argument"


async def test_a_killed_process_leaves_no_overlay(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/a", text="one")
        await child.signal("kill")
        assert live(kernel, OverlayRecord) == []


async def test_an_overlay_survives_a_reopen(work: Path, tmp_path: Path) -> None:
    async with trying(work, tmp_path / "s.db") as (_, _, child):
        await work_hard(child)
        wanted = await seen(child)
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        again = kernel.process(child.pid)
        assert await seen(again) == wanted
        assert await again.call("fs.read", path="/src") == "a file where a folder was"
        assert await refused(again.call("human.tell", text="x")) in ("denied.policy", "denied.capability")
        assert alive(kernel, again).facts["overlay"] is True


async def test_a_child_of_a_speculative_process_works_on_the_same_overlay(work: Path) -> None:
    before = snapshot(work)
    async with trying(work) as (_, _, child):
        grandchild = await child.fork(grant=[ALL])
        await grandchild.call("fs.write", path="/a", text="grand")
        assert await child.call("fs.read", path="/a") == "grand"
        assert await refused(grandchild.fork(speculative=True)) == "invalid.state"
    assert snapshot(work) == before


async def test_links_lead_where_they_do_outside(work: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (work / "out").symlink_to("../secret")
    os.link(work / "a", work / "hard")
    async with trying(work) as (_, _, child):
        await child.call("fs.write", path="/src/x.py", text="changed")
        assert await child.call("fs.read", path="/link") == "changed"
        assert await child.call("fs.read", path="/ways/x.py") == "changed"
        for path in ("/out", "/hard", "/../secret"):
            assert await refused(child.call("fs.read", path=path)) in (
                "denied.capability",
                "invalid.argument",
                "unavailable.missing",
            )
            assert (await refused(child.call("fs.write", path=path, text="x"))).startswith("denied") or path == "/../secret"


async def test_a_link_that_is_deleted_in_the_view_stays_below(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.delete", path="/ways")
        await child.call("fs.mkdir", path="/ways")
        await child.call("fs.write", path="/ways/x.py", text="own")
        assert (await child.call("fs.read", path="/src/x.py"), (work / "ways").is_symlink()) == ("x", True)
        await child.exit()
        assert (await kernel.merge(child.pid)).is_over
        assert ((work / "src/x.py").read_text(), (work / "ways/x.py").read_text()) == ("x", "own")


async def test_a_read_only_mount_is_read_only_in_the_view(work: Path, tmp_path: Path) -> None:
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref" / "r").write_text("r")
    async with trying(work, mounts={"ref": (tmp_path / "ref", "ro")}) as (_, _, child):
        assert await child.call("fs.read", path="/mnt/ref/r") == "r"
        for op, args in (("fs.write", {"text": "x"}), ("fs.delete", {}), ("fs.mkdir", {})):
            assert (
                await refused(child.call(op, path="/mnt/ref/new" if op == "fs.mkdir" else "/mnt/ref/r", **args))
                == "denied.capability"
            )
        for path in ("/", "/mnt/ref"):
            assert (await refused(child.call("fs.delete", path=path, recursive=True))) in (
                "denied.capability",
                "invalid.argument",
            )


async def test_a_file_has_one_view_also_where_two_mounts_show_it(work: Path) -> None:
    async with trying(work, mounts={"s": work / "src"}) as (_, _, child):
        await child.call("fs.write", path="/mnt/s/x.py", text="changed")
        assert await child.call("fs.read", path="/src/x.py") == "changed"
        assert await child.call("fs.read", path="/mnt/s/x.py") == "changed"
        names = [item["name"] for item in (await child.call("fs.list", path="/mnt/s"))["items"]]
        assert names == ["deep", "x.py"]


async def test_capabilities_and_policy_bound_the_view_as_they_bound_the_files(work: Path) -> None:
    async with opened(
        workspace=work, policy='policy "p"\nallow fs.*, proc.*\ndeny fs.* when path like "/src/deep/**"'
    ) as kernel:
        parent = await host(kernel, "fs.* /src/**")
        child = await parent.fork(grant=["fs.* /src/**"], speculative=True)
        assert await refused(child.call("fs.write", path="/a", text="x")) == "denied.capability"
        assert await refused(child.call("fs.write", path="/src/deep/y.py", text="x")) == "denied.policy"
        assert await refused(child.call("fs.delete", path="/src", recursive=True)) == "denied.policy"
        assert await refused(child.call("fs.move", path="/src", to="/src2")) == "denied.capability"


async def test_labels_of_what_is_tried_come_back_with_it(work: Path) -> None:
    async with trying(work) as (kernel, parent, child):
        alive(kernel, child).label = UNTRUSTED
        await child.call("fs.write", path="/a", text="dirty")
        reader = await child.fork(grant=[ALL])
        alive(kernel, reader).label = 0
        await reader.call("fs.read", path="/a")
        assert alive(kernel, reader).label == UNTRUSTED
        assert kernel.core.files.at("/a") == 0
        await kernel.merge(child.pid)
        assert kernel.core.files.at("/a") == UNTRUSTED
        await parent.call("fs.read", path="/a")
        assert alive(kernel, parent).label == UNTRUSTED


async def test_what_leaves_a_trace_outside_is_denied(work: Path) -> None:
    async with opened(workspace=work) as kernel:
        grants = [ALL, "msg.*", "obj.*", "human.*"]
        parent = await host(kernel, *grants)
        child = await parent.fork(grant=grants, speculative=True)
        assert await refused(child.call("msg.send", to=parent.pid, value="x")) == "denied.policy"
        assert await refused(child.call("obj.put", name="a", value=1, namespace="shared")) == "denied.policy"
        assert await refused(child.call("human.ask", question="may I?")) == "denied.policy"
        assert await refused(child.call("cap.request", text="fs.* /**", why="x")) == "denied.policy"
        await child.call("obj.put", name="a", value=1)


async def test_the_parent_sees_what_its_fork_has_changed_and_takes_its_label(work: Path) -> None:
    async with trying(work) as (kernel, parent, child):
        await child.call("fs.write", path="/a", text="one")
        alive(kernel, child).label = alive(kernel, child).record.label = UNTRUSTED
        await child.call("fs.delete", path="/src/x.py")
        listed = await parent.call("proc.overlay", pid=child.pid)
        assert [(each["path"], each["kind"]) for each in listed] == [("/a", "file"), ("/src/x.py", "gone")]
        assert alive(kernel, parent).label == UNTRUSTED
        stranger = await host(kernel)
        assert await refused(stranger.call("proc.overlay", pid=child.pid)) == "denied.capability"
        assert await refused(child.call("proc.overlay", pid=child.pid)) == "denied.capability"


async def test_what_comes_to_be_as_it_is_below_has_no_record(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/b", text="b")
        await child.call("fs.delete", path="/b")
        assert live(kernel, OverlayRecord) == []
        await child.call("fs.write", path="/b", text="again")
        assert [record.base for record in live(kernel, OverlayRecord)] == [""]


async def test_an_overlay_is_bounded(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.overlay.OVERLAY_FILES_MAX", 2)
    async with trying(work) as (_, _, child):
        await child.call("fs.mkdir", path="/d/e")
        assert await refused(child.call("fs.write", path="/f", text="x")) == "denied.budget"


async def test_pages_of_a_listing_in_the_view_join_to_the_whole(work: Path) -> None:
    async with trying(work) as (_, _, child):
        await work_hard(child)
        found: list[str] = []
        cursor = None
        while True:
            page = await child.call("fs.list", path="/", recursive=True, limit=2, cursor=cursor)
            found += [item["path"] for item in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert found == await seen(child)


async def test_a_merge_waits_for_nobody_and_refuses_while_somebody_runs(work: Path) -> None:
    async with trying(work) as (kernel, parent, child):
        alive(kernel, child).branches += 1
        assert await refused(kernel.merge(child.pid)) == "invalid.state"
        alive(kernel, child).branches -= 1
        assert await refused(kernel.merge(parent.pid)) == "invalid.argument"


async def test_a_program_that_forks_speculatively_goes_on_in_the_view_and_no_exec_leads_out(work: Path) -> None:
    async def trier(sys: Any) -> Any:
        pid = await sys.proc.fork(grant=["fs.* /**", "proc.spawn, proc.wait"], speculative=True)
        if pid:
            ended = await sys.proc.wait(pid)
            return [ended.value, await sys.fs.read("/a"), [each["path"] for each in await sys.proc.overlay(pid)]]
        await sys.fs.write("/a", "tried")
        child = await sys.proc.spawn("leaf:1", grant=["fs.* /**"])
        return [await sys.fs.read("/a"), (await sys.proc.wait(child)).value]

    async def leaf(sys: Any) -> Any:
        await sys.fs.write("/b", "by the leaf")
        return await sys.fs.read("/a")

    before = snapshot(work)
    async with opened(workspace=work) as kernel:
        kernel.programs._given["leaf"] = agentos.program("leaf")(leaf)
        await kernel.register(agentos.Image.program("leaf", capabilities=["fs.* /**"]))
        process = await started(kernel, trier, ALL, "proc.spawn, proc.fork, proc.wait")
        assert (await process.wait(10)).value == [["tried", "tried"], "zero", ["/a", "/b"]]
    assert snapshot(work) == before


async def test_two_appends_at_once_are_both_in_the_view(work: Path) -> None:
    async with trying(work) as (_, _, child):
        calls = [("fs.write", {"path": "/a", "text": str(number), "mode": "append"}) for number in range(8)]
        assert all(outcome.ok for outcome in await child.calls(calls))
        assert sorted(await child.call("fs.read", path="/a")) == sorted("zero01234567")


async def test_a_condition_holds_in_the_view(work: Path) -> None:
    async with trying(work) as (_, _, child):
        await child.call("fs.write", path="/new", text="x", if_digest="")
        assert await refused(child.call("fs.write", path="/new", text="y", if_digest="")) == "invalid.state"
        assert await refused(child.call("fs.delete", path="/a", if_digest="0" * 64)) == "invalid.state"


async def test_errors_in_the_view_are_those_outside(work: Path) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("fs.read", {"path": "/none"}), ("fs.read", {"path": "/src"}), ("fs.read", {"path": "/a", "bytes_max": 1}),
        ("fs.list", {"path": "/a"}), ("fs.list", {"path": "/none"}), ("fs.write", {"path": "/none/x", "text": "x"}),
        ("fs.write", {"path": "/src", "text": "x"}), ("fs.write", {"path": "/a", "text": "x", "mode": "create"}),
        ("fs.mkdir", {"path": "/a/b"}), ("fs.delete", {"path": "/none"}), ("fs.delete", {"path": "/src"}),
        ("fs.move", {"path": "/none", "to": "/x"}), ("fs.move", {"path": "/a", "to": "/src"}),
        ("fs.move", {"path": "/src", "to": "/src/in"}),
        ("fs.move", {"path": "/a", "to": "/none/x"}), ("fs.write", {"path": "/.agentos-x", "text": "x"}),
    ]  # fmt: skip
    async with trying(work) as (_, parent, child):
        for op, args in calls:
            assert (op, args, await refused(child.call(op, **args))) == (op, args, await refused(parent.call(op, **args)))
        await child.call("fs.write", path="/a", text="zero")
        await child.call("fs.delete", path="/src/deep", recursive=True)
        await child.call("fs.mkdir", path="/src/deep")
        await child.call("fs.write", path="/src/deep/y.py", text="y")
        for op, args in calls:
            assert (op, args, await refused(child.call(op, **args))) == (op, args, await refused(parent.call(op, **args)))


async def test_a_fork_of_the_hosts_own_is_speculative_too(work: Path) -> None:
    before = snapshot(work)
    async with opened(workspace=work) as kernel:
        process = await host(kernel, ALL)
        child = await kernel.fork(pid=process.pid, speculative=True)
        await child.call("fs.write", path="/a", text="tried")
        assert snapshot(work) == before
        await child.exit()
        assert (await kernel.merge(child.pid)).restored == ("/a",)


async def test_a_restore_takes_the_view_back_too(work: Path) -> None:
    async with trying(work) as (kernel, _, child):
        await child.call("fs.write", path="/a", text="one")
        checkpoint = await child.checkpoint()
        await child.call("fs.write", path="/a", text="two")
        await child.call("fs.delete", path="/src/x.py")
        await kernel.restore(checkpoint)
        assert await child.call("fs.read", path="/a") == "one"
        assert await child.call("fs.read", path="/src/x.py") == "x"


async def test_a_merge_that_a_policy_refuses_keeps_the_overlay(work: Path) -> None:
    async with opened(workspace=work, policy='policy "p"\nallow fs.*, proc.*\ndeny fs.write unless overlay == true') as kernel:
        child = await (await host(kernel, ALL)).fork(grant=[ALL], speculative=True)
        await child.call("fs.write", path="/a", text="one")
        report = await kernel.merge(child.pid)
        assert ([each["code"] for each in report.refused], report.is_over) == (["denied.policy"], False)
        assert ((work / "a").read_text(), len(live(kernel, OverlayRecord))) == ("zero", 1)
