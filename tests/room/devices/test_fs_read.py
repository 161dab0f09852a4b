"""fs.read, fs.stat and fs.list: what they answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentos.devices.fs import FileSystem
from agentos.errors import Denied, Invalid, Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio


async def test_a_file_is_read_as_text_or_as_bytes(door: Door, root: Path) -> None:
    (root / "a.txt").write_bytes("grüße\r\n".encode())
    assert await door("fs.read", path="a.txt") == "grüße\r\n"
    assert await door("fs.read", path="a.txt", encoding=None) == "grüße\r\n".encode()


async def test_bytes_that_are_no_text_are_refused_with_the_way_out(door: Door, root: Path) -> None:
    (root / "a.bin").write_bytes(b"ok\xff")
    with pytest.raises(Invalid, match="byte 2") as caught:
        await door("fs.read", path="a.bin")
    assert "encoding=None" in caught.value.hint
    assert await door("fs.read", path="a.bin", encoding="latin-1") == "okÿ"


@pytest.mark.parametrize("encoding", ["zlib", "unicode_escape", "no-such"])
async def test_an_encoding_that_is_not_a_plain_text_encoding_is_refused(door: Door, root: Path, encoding: str) -> None:
    (root / "a").write_text("a")
    with pytest.raises(Invalid, match="not a known encoding"):
        await door("fs.read", path="a", encoding=encoding)


@pytest.mark.parametrize("size", [11, 200_000])
async def test_a_file_longer_than_bytes_max_is_refused_never_cut(door: Door, root: Path, size: int) -> None:
    (root / "a").write_bytes(b"x" * size)
    assert len(await door("fs.read", path="a", bytes_max=size)) == size
    with pytest.raises(Invalid, match=f"{size} bytes") as caught:
        await door("fs.read", path="a", bytes_max=size - 1)
    assert caught.value.field == "bytes_max"


async def test_a_file_that_hides_its_size_is_still_bounded(tmp_path: Path) -> None:
    files = FileSystem({"/": (Path("/proc/self"), True)})
    try:
        door = Door(files.syscalls())
        assert "VmRSS" in await door("fs.read", path="/status")
        with pytest.raises(Invalid, match="over 10"):
            await door("fs.read", path="/status", bytes_max=10)
        for magic in ("/root/etc/passwd", "/cwd", "/exe", "/fd/0"):
            with pytest.raises((Denied, Unavailable)):
                await door("fs.read", path=magic)
    finally:
        files.close()


async def test_stat_tells_what_is_there_and_that_nothing_is(door: Door, root: Path) -> None:
    (root / "a").write_text("abc")
    (root / "a").chmod(0o640)
    (root / "d").mkdir()
    described = await door("fs.stat", path="/a")
    assert described == {"path": "/a", "type": "file", "size": 3, "mtime": (root / "a").stat().st_mtime, "mode": "0640"}
    assert (await door("fs.stat", path="/d"))["type"] == "dir"
    assert await door("fs.stat", path="/no/thing") == {"path": "/no/thing", "type": "missing"}
    (root / "link").symlink_to("a")
    assert (await door("fs.stat", path="/link"))["path"] == "/a"


def tree(root: Path) -> None:
    for name in ("a/x", "a/y/z", "a.b", "b/q"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "c").symlink_to("a")


async def test_a_listing_is_sorted_and_shows_links_without_following_them(door: Door, root: Path) -> None:
    tree(root)
    os.mkfifo(root / "fifo")
    listed = await door("fs.list", path="/")
    shown = [(item["path"], item["type"]) for item in listed["items"]]
    assert shown == [("/a", "dir"), ("/a.b", "file"), ("/b", "dir"), ("/c", "link"), ("/fifo", "other"), ("/mnt", "dir")]
    assert listed["cursor"] is None


WALK = ["/a", "/a/x", "/a/y", "/a/y/z", "/a.b", "/b", "/b/q", "/c", "/mnt", "/mnt/ref", "/mnt/ref/r.txt"]


@pytest.mark.parametrize("limit", range(1, len(WALK) + 2))
async def test_the_pages_of_a_tree_join_to_the_whole_for_every_page_size(door: Door, root: Path, limit: int) -> None:
    tree(root)
    paths: list[str] = []
    cursor = None
    for _ in range(len(WALK) + 1):
        page = await door("fs.list", path="/", recursive=True, limit=limit, cursor=cursor)
        paths += [item["path"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert paths == WALK


async def test_pages_go_on_after_the_last_path_even_when_it_was_deleted(door: Door, root: Path) -> None:
    tree(root)
    page = await door("fs.list", path="/a", recursive=True, limit=2)
    (root / "a" / "y" / "z").unlink()
    (root / "a" / "y").rmdir()
    (root / "a" / "zz").write_text("new")
    assert [item["path"] for item in (await door("fs.list", path="/a", cursor=page["cursor"]))["items"]] == ["/a/zz"]


async def test_a_cursor_of_another_listing_is_refused(door: Door, root: Path) -> None:
    tree(root)
    for cursor in ("/b/q", "/a", "/a/", "x"):
        with pytest.raises(Invalid, match="is not a cursor"):
            await door("fs.list", path="/a", cursor=cursor)


async def test_a_denied_folder_of_a_tree_is_shown_and_not_entered(files: FileSystem, root: Path) -> None:
    tree(root)
    door = Door(files.syscalls(), denied=["/a/y", "/mnt"])
    items = (await door("fs.list", path="/", recursive=True))["items"]
    assert [item["path"] for item in items] == [path for path in WALK if not path.startswith(("/a/y/", "/mnt/"))]
    assert [item["path"] for item in items if item.get("closed")] == ["/a/y", "/mnt"]


async def test_leftovers_are_not_listed_and_names_that_are_no_text_are_shown_as_such(door: Door, root: Path) -> None:
    (root / ".agentos-tmp.0").write_text("half")
    (root / os.fsdecode(b"\xff")).write_text("x")
    items = (await door("fs.list", path="/", limit=1))["items"]
    assert [(item["path"], item["unnameable"]) for item in items] == [("/\\xff", True)]
    assert [item["name"] for item in (await door("fs.list", path="/", cursor="/\\xff"))["items"]] == ["mnt"]


async def test_the_mounts_are_seen_where_they_lie(door: Door) -> None:
    assert [item["path"] for item in (await door("fs.list", path="/mnt"))["items"]] == ["/mnt/ref"]
    assert [item["path"] for item in (await door("fs.list", path="/mnt/ref"))["items"]] == ["/mnt/ref/r.txt"]
    assert (await door("fs.stat", path="/mnt"))["type"] == "dir"


async def test_a_file_is_not_listed_and_a_missing_folder_is_missing(door: Door, root: Path) -> None:
    (root / "a").write_text("a")
    with pytest.raises(Invalid, match="not a folder"):
        await door("fs.list", path="/a")
    with pytest.raises(Unavailable, match=r"unavailable\.missing"):
        await door("fs.list", path="/b")


async def test_a_folder_over_the_bound_is_refused(door: Door, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.devices.fs.listing.LIST_ENTRIES_MAX", 3)
    for n in range(4):
        (root / f"f{n}").write_text("")
    with pytest.raises(Unavailable, match="over 3"):
        await door("fs.list", path="/")
