"""fs as a hostile caller sees it: no path, link or special file leads out of a mount or around a decision."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agentos.abi.permit import Permit
from agentos.devices.fs import FileSystem
from agentos.errors import AgentOSError, Denied, Invalid, KernelPanic, Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

PATH_OPS = [
    ("fs.read", {}), ("fs.list", {}), ("fs.stat", {}), ("fs.write", {"text": "x"}), ("fs.mkdir", {}), ("fs.delete", {}),
    ("fs.move", {"to": "/elsewhere"}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args"), PATH_OPS)
@pytest.mark.parametrize("target", ["/etc", "../secret.txt", "../../../../etc", "/proc/self/root/etc"])
async def test_a_link_that_leads_out_of_the_mount_is_refused_by_every_op(
    door: Door, root: Path, outside: Path, op: str, args: dict[str, str], target: str
) -> None:
    (root / "link").symlink_to(target)
    with pytest.raises(Denied, match="leads out of the mount"):
        await door(op, path="/link/inside", **args)
    assert outside.read_text() == "outside"


async def test_a_final_link_that_leads_out_is_not_read_or_written(door: Door, root: Path, outside: Path) -> None:
    (root / "link").symlink_to("../secret.txt")
    for call in (door("fs.read", path="/link"), door("fs.write", path="/link", text="mine"), door("fs.stat", path="/link")):
        with pytest.raises(Denied, match=r"denied\.capability"):
            await call
    assert outside.read_text() == "outside"


async def test_a_link_that_leads_out_of_a_second_mount_is_refused_even_into_the_workspace(door: Door, tmp_path: Path) -> None:
    (tmp_path / "reference" / "link").symlink_to("../work/a.txt")
    (tmp_path / "work" / "a.txt").write_text("a")
    with pytest.raises(Denied, match="leads out"):
        await door("fs.read", path="/mnt/ref/link")


async def test_a_link_to_a_place_that_a_mount_hides_is_refused(door: Door, root: Path) -> None:
    (root / "mnt" / "ref").mkdir(parents=True)
    (root / "mnt" / "ref" / "r.txt").write_text("hidden")
    (root / "link").symlink_to("mnt/ref/r.txt")
    with pytest.raises(Denied, match="leads out"):
        await door("fs.read", path="/link")
    assert await door("fs.read", path="/mnt/ref/r.txt") == "reference"


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/../secret.txt", "a/../../secret.txt", "/a\0b", "", "\ud800", "/" + "x" * 256]
)
async def test_a_path_that_is_no_place_in_the_virtual_root_is_refused_before_the_device(
    door: Door, outside: Path, path: str
) -> None:
    with pytest.raises(Invalid, match=r"invalid\.argument"):
        await door("fs.read", path=path)
    assert door.rechecked == []


async def test_an_absolute_path_means_the_virtual_root(door: Door, root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("ours")
    assert await door("fs.read", path="/etc/passwd") == "ours"


async def test_a_very_long_path_is_an_error_and_no_crash(door: Door) -> None:
    with pytest.raises(Unavailable, match="does not exist"):
        await door("fs.read", path="/" + "/".join(["d" * 200] * 19))


async def test_a_link_inside_is_decided_again_on_the_place_it_leads_to(door: Door, root: Path) -> None:
    (root / "real").mkdir()
    (root / "real" / "a.txt").write_text("a")
    (root / "l1").symlink_to("./l2/../l2")
    (root / "l2").symlink_to("real")
    assert await door("fs.read", path="/l1/a.txt") == "a"
    assert door.rechecked == [("resolved", "/real/a.txt", 0)]


@pytest.mark.parametrize(("op", "args"), [(op, args) for op, args in PATH_OPS if op != "fs.move"])
async def test_a_link_to_a_denied_place_is_denied_before_anything_is_told_about_it(
    files: FileSystem, root: Path, op: str, args: dict[str, str]
) -> None:
    (root / "open").symlink_to("private")
    (root / "private").mkdir()
    door = Door(files.syscalls(), denied=["/private"])
    for path in ("/open/here", "/open/missing"):
        (root / "private" / "here").write_text("private")
        with pytest.raises(Denied):
            await door(op, path=path, **args)
    assert os.listdir(root / "private") == ["here"]
    assert door.kept == {}


async def test_a_path_without_links_is_decided_again_too_so_that_rules_on_the_resolved_path_apply(
    files: FileSystem, root: Path
) -> None:
    (root / "a.txt").write_text("a")
    with pytest.raises(Denied):
        await Door(files.syscalls(), denied=["/a.txt"])("fs.read", path="/a.txt")


async def test_a_loop_of_links_is_refused(door: Door, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(Invalid, match="more than 40 links"):
        await door("fs.read", path="/a")


async def test_links_that_multiply_are_refused_quickly(door: Door, root: Path) -> None:
    (root / "l0").mkdir()
    for n in range(1, 30):
        (root / f"l{n}").symlink_to("/".join([f"l{n - 1}/.."] * 10) + f"/l{n - 1}")
    with pytest.raises(Invalid, match="more than 40 links"):
        await door("fs.stat", path="/l29")


async def test_a_link_to_nothing_is_missing_and_can_be_written_through(door: Door, root: Path) -> None:
    (root / "link").symlink_to("new.txt")
    with pytest.raises(Unavailable, match=r"unavailable\.missing"):
        await door("fs.read", path="/link")
    assert (await door("fs.write", path="/link", text="x"))["path"] == "/new.txt"
    assert (root / "link").is_symlink()


async def test_a_link_to_a_name_that_is_no_text_is_refused(door: Door, root: Path) -> None:
    os.symlink(b"\xff", os.fsencode(root / "link"))
    with pytest.raises(Invalid, match="not text"):
        await door("fs.read", path="/link")


@pytest.mark.parametrize("op", ["fs.read", "fs.write", "fs.delete"])
async def test_a_hard_link_is_refused(door: Door, root: Path, outside: Path, op: str) -> None:
    os.link(outside, root / "alias")
    with pytest.raises(Denied, match="hard link"):
        await door(op, path="/alias", **({"text": "mine"} if op == "fs.write" else {}))
    assert outside.read_text() == "outside"
    assert door.kept == {}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device node needs root")


@pytest.mark.parametrize("make", [_fifo, _socket, _device, Path.mkdir])
@pytest.mark.parametrize(
    ("op", "args"), [("fs.read", {}), ("fs.write", {"text": "x"}), ("fs.write", {"text": "x", "mode": "append"})]
)
async def test_only_regular_files_have_content(door: Door, root: Path, make, op: str, args: dict[str, str]) -> None:
    make(root / "special")
    with pytest.raises(Invalid, match="not a file"):
        await door(op, path="/special", **args)


async def test_a_file_used_as_a_folder_is_missing(door: Door, root: Path) -> None:
    (root / "a.txt").write_text("a")
    with pytest.raises(Unavailable, match=r"unavailable\.missing"):
        await door("fs.read", path="/a.txt/b")


@pytest.mark.parametrize(("op", "args"), PATH_OPS)
async def test_names_of_unfinished_work_belong_to_nobody(door: Door, root: Path, op: str, args: dict[str, str]) -> None:
    (root / ".agentos-tmp.1").write_text("someone else's")
    for path in ("/.agentos-tmp.1", "/.AgentOS-tmp.1", "/a/.agentos-gone.2/b"):
        with pytest.raises(Denied, match="keeps for itself"):
            await door(op, path=path, **args)


async def test_unicode_and_case_are_names_of_their_own(door: Door, root: Path) -> None:
    for name in ("é", "e\N{COMBINING ACUTE ACCENT}", "E", "e", "日本", "a b", "tab\there"):
        await door("fs.write", path=f"/{name}", text=name)
    assert {path.name: path.read_text() for path in root.iterdir()} == {path.name: path.name for path in root.iterdir()}
    assert len(list(root.iterdir())) == 7


@pytest.mark.parametrize(
    ("op", "args"), [call for call in PATH_OPS if call[0] in ("fs.write", "fs.mkdir", "fs.delete", "fs.move")]
)
async def test_a_read_only_mount_is_never_changed(door: Door, tmp_path: Path, op: str, args: dict[str, str]) -> None:
    with pytest.raises(Denied, match="read-only"):
        await door(op, path="/mnt/ref/r.txt", **args)
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["r.txt"]


@pytest.mark.parametrize("path", ["/", "/mnt/ref", "/mnt"])
async def test_a_mount_itself_cannot_be_replaced_deleted_or_moved(tmp_path: Path, root: Path, path: str) -> None:
    files = FileSystem({"/": (root, False), "/mnt/ref": (tmp_path, False)})
    door = Door(files.syscalls())
    for op, args in (("fs.write", {"text": "x"}), ("fs.delete", {"recursive": True}), ("fs.move", {"to": "/x"})):
        with pytest.raises(Invalid, match="is a mount"):
            await door(op, path=path, **args)
    files.close()


async def test_a_mount_stays_with_its_folder_when_the_host_renames_it(door: Door, root: Path, tmp_path: Path) -> None:
    (root / "a.txt").write_text("a")
    root.rename(tmp_path / "moved")
    (tmp_path / "work").symlink_to("/etc")
    assert await door("fs.read", path="/a.txt") == "a"


async def test_a_permit_is_spent_before_anything_and_once(files: FileSystem, door: Door) -> None:
    for syscall in files.syscalls():
        permit, args = door.admit(
            syscall.op.name, {"path": "/x", "to": "/y"} if syscall.op.name == "fs.move" else {"path": "/x"}
        )
        permit.spend(syscall.op.name)
        with pytest.raises(KernelPanic, match="used twice"):
            await syscall.handler(permit, args)
    assert door.rechecked == []


async def test_a_forged_permit_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match="forged"):
        Permit(object(), 1, "fs.read", (), "1", None)


async def test_after_close_every_call_is_refused(files: FileSystem, door: Door) -> None:
    files.close()
    files.close()
    with pytest.raises(Invalid, match="closed"):
        await door("fs.read", path="/a")


async def test_no_descriptor_is_left_behind_whatever_a_call_answers(door: Door, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "a").write_text("a")
    (root / "link").symlink_to("d")
    (root / "out").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/d", "/d/a", "/link/a", "/out/a", "/fifo", "/missing/x", "/"):
        for op, args in [*PATH_OPS, ("fs.list", {"recursive": True, "limit": 1}), ("fs.move", {"to": "/mnt/ref/x"})]:
            try:
                await door(op, path=path, **args)
            except AgentOSError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [path.name for path in root.rglob(".agentos-*")]


@pytest.mark.parametrize("prefix", ["relative", "/mnt", "/mnt/", "/mnt/a/b", "/mnt/..", "/other", "/mnt/.agentos-x"])
def test_a_prefix_that_is_no_mount_is_refused(root: Path, prefix: str) -> None:
    with pytest.raises(Invalid, match="is not a mount"):
        FileSystem({"/": (root, False), prefix: (root, False)})


def test_a_workspace_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not a folder"):
        FileSystem({"/": (tmp_path / "nothing", False)})
    with pytest.raises(Invalid, match="no mount `/`"):
        FileSystem({})


async def test_beneath_the_mount_and_decided_is_opened(tmp_path: Path) -> None:
    """INVARIANT beneath-the-mount and decided-is-opened: what is opened is what was decided, and it lies in the mount."""
    (tmp_path / "work/inside").mkdir(parents=True)
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "work/inside/a").write_text("a")
    (tmp_path / "work/way").symlink_to("inside")
    (tmp_path / "work/out").symlink_to("../outside")
    files = FileSystem({"/": (tmp_path / "work", False)})
    door = Door(files.syscalls())
    assert await door("fs.read", path="/way/a") == "a"
    assert door.rechecked[-1][1] == "/inside/a"
    with pytest.raises(Denied):
        await door("fs.read", path="/out")
    files.close()


async def test_kept_before_gone(door: Door, root: Path) -> None:
    (root / "folder").mkdir()
    (root / "folder/a").write_text("precious")
    seen: list[bool] = []
    keep = door._keep

    async def watching(data: bytes) -> str:
        seen.append((root / "folder/a").exists())
        return await keep(data)

    door._keep = watching  # type: ignore[method-assign]
    await door("fs.delete", path="/folder", recursive=True)
    assert seen[0] is True, "the content was kept while the file was still there"
    assert b"precious" in door.kept.values()
    assert not (root / "folder").exists()
