"""fs.write, fs.mkdir, fs.move, fs.delete: what they do, and what they keep."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agentos.abi import codec
from agentos.devices.fs import FileSystem
from agentos.devices.fs.write import digest
from agentos.errors import Denied, Invalid, Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio


async def test_a_write_tells_what_it_wrote_and_keeps_what_it_replaced(door: Door, root: Path) -> None:
    assert (await door("fs.write", path="/a", text="old"))["before"] is None
    result = await door("fs.write", path="/a", text="grüße")
    assert result == {"path": "/a", "bytes": 7, "digest": sha256("grüße".encode()).hexdigest(), "before": digest(b"old")}
    assert (root / "a").read_text() == "grüße"
    assert door.kept == {digest(b"old"): b"old"}


async def test_an_empty_file_is_kept_too(door: Door) -> None:
    await door("fs.write", path="/a", text="")
    assert (await door("fs.write", path="/a", text="x"))["before"] == digest(b"")


@pytest.mark.parametrize("args", [{}, {"text": "a", "data": b"b"}])
async def test_exactly_one_of_text_and_data_is_needed(door: Door, args: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="exactly one"):
        await door("fs.write", path="/a", **args)


async def test_create_refuses_an_existing_file_and_keeps_nothing(door: Door, root: Path) -> None:
    await door("fs.write", path="/a", data=b"1", mode="create")
    with pytest.raises(Invalid, match="exists already"):
        await door("fs.write", path="/a", data=b"2", mode="create")
    assert (root / "a").read_bytes() == b"1"
    assert door.kept == {}


async def test_append_adds_to_the_end_and_makes_a_missing_file(door: Door, root: Path) -> None:
    await door("fs.write", path="/log", text="one\n", mode="append")
    result = await door("fs.write", path="/log", text="two\n", mode="append")
    assert (root / "log").read_text() == "one\ntwo\n"
    assert (result["bytes"], result["before"]) == (8, digest(b"one\n"))


async def test_permission_bits_of_the_replaced_file_stay_but_not_setuid(door: Door, root: Path) -> None:
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(0o4751)
    await door("fs.write", path="/run.sh", text="new")
    assert (root / "run.sh").stat().st_mode & 0o7777 == 0o751


async def test_a_missing_folder_is_missing_and_the_hint_says_mkdir(door: Door) -> None:
    with pytest.raises(Unavailable, match="folder of") as caught:
        await door("fs.write", path="/no/a", text="x")
    assert "fs.mkdir" in caught.value.hint


async def test_content_over_the_bounds_is_refused(door: Door, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.devices.fs.write.WRITE_BYTES_MAX", 10)
    monkeypatch.setattr("agentos.devices.fs.write.BEFORE_IMAGE_BYTES_MAX", 15)
    (root / "a").write_bytes(b"x" * 14)
    with pytest.raises(Invalid, match="over 10"):
        await door("fs.write", path="/a", text="x" * 11)
    with pytest.raises(Invalid, match="over 15"):
        await door("fs.write", path="/a", text="yy", mode="append")
    (root / "a").write_bytes(b"x" * 16)
    with pytest.raises(Invalid, match="more than is kept"):
        await door("fs.write", path="/a", text="y")
    assert (root / "a").read_bytes() == b"x" * 16


async def test_a_foreign_change_between_before_image_and_rename_is_not_lost(files: FileSystem, root: Path) -> None:
    (root / "a").write_text("first")
    door = Door(files.syscalls())
    keep = door._keep

    async def keep_and_meddle(data: bytes) -> str:
        if data == b"first":
            (root / "a").write_text("foreign")
        return await keep(data)

    door._keep = keep_and_meddle  # type: ignore[method-assign]
    result = await door("fs.write", path="/a", text="+mine", mode="append")
    assert (root / "a").read_text() == "foreign+mine"
    assert result["before"] == digest(b"foreign")


async def test_a_file_that_never_rests_is_given_up(files: FileSystem, root: Path) -> None:
    door = Door(files.syscalls())

    async def meddle(data: bytes) -> str:
        (root / "a").write_bytes(data + b".")
        return "x"

    (root / "a").write_text("a")
    door._keep = meddle  # type: ignore[method-assign]
    with pytest.raises(Denied, match="changed every time"):
        await door("fs.write", path="/a", text="mine")
    assert not [path.name for path in root.iterdir() if path.name != "a"]


async def test_a_cancel_before_the_rename_leaves_the_old_content_and_no_leftover(files: FileSystem, root: Path) -> None:
    (root / "a").write_text("old")
    door = Door(files.syscalls())
    with anyio.CancelScope() as scope:

        async def cancel(data: bytes) -> str:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return ""

        door._keep = cancel  # type: ignore[method-assign]
        await door("fs.write", path="/a", text="new")
    assert scope.cancelled_caught
    assert {path.name: path.read_text() for path in root.iterdir()} == {"a": "old"}


async def test_a_cancel_after_the_rename_has_begun_still_reports_the_write(door: Door, root: Path) -> None:
    results = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def write() -> None:
                results.append(await door("fs.write", path="/a", data=b"x" * 8_000_000))

            group.start_soon(write)
            while not list(root.iterdir()):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    assert results[0]["bytes"] == (root / "a").stat().st_size == 8_000_000


async def test_parallel_appends_are_all_there(door: Door, root: Path) -> None:
    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(lambda n=n: door("fs.write", path="/log", text=f"{n}\n", mode="append"))
    assert sorted((root / "log").read_text().split()) == [str(n) for n in range(8)]


async def test_mkdir_makes_missing_parents_and_is_content_with_a_folder(door: Door, root: Path) -> None:
    assert await door("fs.mkdir", path="/a/b/c") is None
    await door("fs.mkdir", path="/a/b/c")
    await door("fs.mkdir", path="/")
    assert (root / "a" / "b" / "c").is_dir()
    assert ("resolved", "/a/b", 0) in door.rechecked


async def test_mkdir_makes_no_parent_that_is_denied(files: FileSystem, root: Path) -> None:
    with pytest.raises(Denied):
        await Door(files.syscalls(), denied=["/a/b"])("fs.mkdir", path="/a/b/c")
    assert os.listdir(root) == []


@pytest.mark.parametrize("path", ["/a", "/a/b"])
async def test_mkdir_over_a_file_is_refused(door: Door, root: Path, path: str) -> None:
    (root / "a").write_text("a")
    with pytest.raises(Invalid, match="not a folder"):
        await door("fs.mkdir", path=path)


async def test_a_move_renames_and_refuses_an_existing_target(door: Door, root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    with pytest.raises(Invalid, match="exists already"):
        await door("fs.move", path="/a", to="/b")
    await door("fs.move", path="/a", to="/c")
    assert {path.name: path.read_text() for path in root.iterdir()} == {"b": "b", "c": "a"}


async def test_a_move_moves_the_link_itself(door: Door, root: Path) -> None:
    (root / "link").symlink_to("/etc/passwd")
    await door("fs.move", path="/link", to="/other")
    assert os.readlink(root / "other") == "/etc/passwd"


async def test_a_move_of_a_folder_has_every_entry_decided_at_both_ends(files: FileSystem, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "secret").write_text("s")
    for denied in ("/a/secret", "/b/secret"):
        with pytest.raises(Denied):
            await Door(files.syscalls(), denied=[denied])("fs.move", path="/a", to="/b")
    assert (root / "a" / "secret").exists()


async def test_a_move_into_itself_or_another_mount_or_of_nothing_is_refused(door: Door, root: Path, tmp_path: Path) -> None:
    (root / "a").mkdir()
    with pytest.raises(Invalid, match="lies inside"):
        await door("fs.move", path="/a", to="/a/b")
    with pytest.raises(Unavailable, match=r"unavailable\.missing"):
        await door("fs.move", path="/none", to="/b")
    files = FileSystem({"/": (root, False), "/mnt/two": (tmp_path, False)})
    with pytest.raises(Invalid, match="another mount"):
        await Door(files.syscalls())("fs.move", path="/a", to="/mnt/two/a")
    files.close()


async def test_a_deleted_file_can_be_restored_from_what_was_kept(door: Door, root: Path) -> None:
    (root / "a").write_bytes(b"content")
    result = await door("fs.delete", path="/a")
    assert (result["type"], result["entries"], os.listdir(root)) == ("file", 1, [])
    [[inner, kind, mode, kept]] = codec.decode(door.kept[result["before"]])
    assert (inner, kind, mode, door.kept[kept]) == ("", "file", 0o644, b"content")


async def test_delete_removes_the_link_and_not_what_it_leads_to(door: Door, root: Path, outside: Path) -> None:
    (root / "link").symlink_to("../secret.txt")
    result = await door("fs.delete", path="/link")
    assert codec.decode(door.kept[result["before"]]) == [["", "link", 0o777, "../secret.txt"]]
    assert (os.listdir(root), outside.read_text()) == ([], "outside")


async def test_a_full_folder_needs_recursive_and_links_in_it_are_not_followed(door: Door, root: Path, outside: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_text("f")
    (root / "d" / "link").symlink_to("../../secret.txt")
    with pytest.raises(Invalid, match="not empty"):
        await door("fs.delete", path="/d")
    result = await door("fs.delete", path="/d", recursive=True)
    assert [row[0] for row in codec.decode(door.kept[result["before"]])] == ["", "e", "e/f", "link"]
    assert (os.listdir(root), outside.read_text()) == ([], "outside")


async def test_one_denied_file_in_a_folder_keeps_the_whole_folder(files: FileSystem, root: Path) -> None:
    (root / "d").mkdir()
    for name in ("a", "z"):
        (root / "d" / name).write_text(name)
    with pytest.raises(Denied):
        await Door(files.syscalls(), denied=["/d/z"])("fs.delete", path="/d", recursive=True)
    assert sorted(os.listdir(root / "d")) == ["a", "z"]


async def test_what_cannot_be_kept_is_not_deleted(door: Door, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.devices.fs.delete.BEFORE_IMAGE_BYTES_MAX", 10)
    (root / "d").mkdir()
    (root / "d" / "big").write_bytes(b"x" * 11)
    os.mkfifo(root / "fifo")
    with pytest.raises(Invalid, match="more than the 10"):
        await door("fs.delete", path="/d", recursive=True)
    with pytest.raises(Invalid, match="FIFO"):
        await door("fs.delete", path="/fifo")
    assert sorted(os.listdir(root)) == ["d", "fifo"]


async def test_a_file_made_while_its_folder_is_deleted_is_kept_too(files: FileSystem, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "a").write_text("a")
    door = Door(files.syscalls())
    keep = door._keep

    async def keep_and_meddle(data: bytes) -> str:
        if data == b"a" and not (root / "d" / "late").exists():
            (root / "d" / "late").write_text("late")
        return await keep(data)

    door._keep = keep_and_meddle  # type: ignore[method-assign]
    result = await door("fs.delete", path="/d", recursive=True)
    assert result["entries"] == 3
    assert b"late" in door.kept.values()
    assert os.listdir(root) == []


async def test_deleting_nothing_is_missing(door: Door) -> None:
    with pytest.raises(Unavailable, match=r"unavailable\.missing"):
        await door("fs.delete", path="/none")
