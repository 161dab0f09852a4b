"""What fs answers after a crash, and what it shows before an approval."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentos.abi.probe import set_probe
from agentos.abi.syscall import NOT_STARTED, UNKNOWN
from agentos.devices.fs.write import digest
from agentos.errors import Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

WRITE = {"path": "/a", "text": "new"}


class Crash(BaseException):
    """Stands for the end of the process: nothing on the way handles it."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch):
    def arm(name: str) -> None:
        def probe(reached: str) -> None:
            if reached == name:
                monkeypatch.setattr(os, "unlink", _dead)
                raise Crash(name)

        set_probe(probe)

    def revive() -> None:
        monkeypatch.undo()
        set_probe(None)

    yield arm, revive
    set_probe(None)


def _dead(*_: Any, **__: Any) -> None:
    raise OSError("a dead process cleans nothing up")


@pytest.mark.parametrize("point", ["kept", "made", "filled", "renamed"])
@pytest.mark.parametrize("mode", ["replace", "create", "append"])
async def test_a_write_cut_anywhere_happens_once_after_reconcile(
    door: Door, root: Path, crash_at, point: str, mode: str
) -> None:
    before = "" if mode == "create" else "old"
    if before:
        (root / "a").write_text(before)
    arm, revive = crash_at
    arm(f"fs.write.{point}")
    with pytest.raises(Crash):
        await door("fs.write", call_key="k", mode=mode, **WRITE)
    revive()
    verdict = await door.reconcile("fs.write", call_key="k", mode=mode, **WRITE)
    assert (verdict is NOT_STARTED) == (point != "renamed")
    if verdict is NOT_STARTED:
        verdict = await door("fs.write", call_key="k", mode=mode, **WRITE)
    whole = "oldnew" if mode == "append" else "new"
    assert (verdict["bytes"], verdict["digest"]) == (len(whole), digest(whole.encode()))
    assert {path.name: path.read_text() for path in root.iterdir()} == {"a": whole}


async def test_a_write_run_again_without_reconcile_replaces_its_own_leftover(door: Door, root: Path, crash_at) -> None:
    arm, revive = crash_at
    arm("fs.write.made")
    with pytest.raises(Crash):
        await door("fs.write", call_key="k", **WRITE)
    revive()
    assert [path.name.startswith(".agentos-tmp.") for path in root.iterdir()] == [True]
    await door("fs.write", call_key="k", **WRITE)
    assert {path.name: path.read_text() for path in root.iterdir()} == {"a": "new"}


async def test_an_append_of_bytes_that_were_there_before_is_not_taken_for_done(door: Door, root: Path) -> None:
    (root / "a").write_text("new")
    assert await door.reconcile("fs.write", call_key="k", mode="append", **WRITE) is UNKNOWN
    await door("fs.write", call_key="k", mode="append", **WRITE)
    assert (await door.reconcile("fs.write", call_key="k", mode="append", **WRITE))["bytes"] == 6
    assert await door.reconcile("fs.write", call_key="other", mode="append", **WRITE) is UNKNOWN


async def test_a_created_file_with_other_content_is_unknown(door: Door, root: Path) -> None:
    (root / "a").write_text("someone's")
    assert await door.reconcile("fs.write", mode="create", **WRITE) is UNKNOWN
    assert await door.reconcile("fs.write", mode="replace", **WRITE) is NOT_STARTED


async def test_a_write_whose_place_is_gone_or_taken_is_judged_without_harm(door: Door, root: Path) -> None:
    assert await door.reconcile("fs.write", path="/no/a", text="x") is NOT_STARTED
    (root / "a").mkdir()
    assert await door.reconcile("fs.write", **WRITE) is UNKNOWN


async def test_mkdir_is_done_when_the_folder_is_there(door: Door, root: Path) -> None:
    assert await door.reconcile("fs.mkdir", path="/d") is NOT_STARTED
    (root / "d").mkdir()
    assert await door.reconcile("fs.mkdir", path="/d") is None


@pytest.mark.parametrize(("there", "verdict"), [(["b"], None), (["a"], NOT_STARTED), (["a", "b"], UNKNOWN), ([], UNKNOWN)])
async def test_a_move_is_judged_by_which_name_is_there(door: Door, root: Path, there: list[str], verdict: object) -> None:
    for name in there:
        (root / name).write_text(name)
    assert await door.reconcile("fs.move", path="/a", to="/b") is verdict


@pytest.mark.parametrize("point", ["kept", "hidden", "sealed"])
async def test_a_delete_cut_anywhere_is_finished_or_taken_back(door: Door, root: Path, crash_at, point: str) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_text("f")
    args = {"path": "/d", "recursive": True}
    arm, revive = crash_at
    arm(f"fs.delete.{point}")
    with pytest.raises(Crash):
        await door("fs.delete", call_key="k", **args)
    revive()
    verdict = await door.reconcile("fs.delete", call_key="k", **args)
    assert (verdict is NOT_STARTED) == (point != "sealed")
    assert [str(path.relative_to(root)) for path in sorted(root.rglob("*"))] == ([] if point == "sealed" else ["d", "d/f"])
    if verdict is NOT_STARTED:
        await door("fs.delete", call_key="k", **args)
    assert list(root.iterdir()) == []


async def test_a_deleted_name_that_was_taken_meanwhile_is_not_deleted_again(door: Door, root: Path, crash_at) -> None:
    (root / "d").write_text("old")
    arm, revive = crash_at
    arm("fs.delete.sealed")
    with pytest.raises(Crash):
        await door("fs.delete", call_key="k", path="/d")
    revive()
    (root / "d").write_text("someone's")
    assert (await door.reconcile("fs.delete", call_key="k", path="/d"))["type"] == "missing"
    assert {path.name: path.read_text() for path in root.iterdir()} == {"d": "someone's"}


async def test_a_device_that_fails_in_reconcile_is_an_error_not_a_verdict(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("agentos.devices.fs.write.before_image", broken)
    with pytest.raises(Unavailable, match="input/output error"):
        await door.reconcile("fs.write", **WRITE)


async def test_the_preview_of_a_write_is_a_diff_bound_to_the_content_it_replaces(door: Door, root: Path) -> None:
    (root / "a").write_text("one\ntwo\n")
    shown = await door.preview("fs.write", path="/a", text="one\nthree\n")
    assert shown["diff"].splitlines()[2:] == ["@@ -1,2 +1,2 @@", " one", "-two", "+three"]
    assert (shown["before"], shown["after"]) == (digest(b"one\ntwo\n"), digest(b"one\nthree\n"))
    (root / "a").write_text("changed")
    assert (await door.preview("fs.write", path="/a", text="one\nthree\n"))["before"] != shown["before"]
    assert (root / "a").read_text() == "changed"


@pytest.mark.parametrize("content", ["x\n" * 5_000, "y" * 300_000])
async def test_a_preview_is_bounded(door: Door, root: Path, content: str) -> None:
    (root / "a").write_text(content)
    assert len((await door.preview("fs.write", path="/a", text=content * 2))["diff"].encode()) <= 64 * 1024


async def test_a_preview_through_a_link_names_the_place_and_shows_nothing_of_it(door: Door, root: Path) -> None:
    (root / "private").write_text("private")
    (root / "a").symlink_to("private")
    shown = await door.preview("fs.write", **WRITE)
    assert shown["resolved"] == "/private"
    assert shown["before"] is None
    assert "-private" not in shown["diff"]


async def test_what_cannot_be_previewed_says_so(door: Door, root: Path) -> None:
    os.mkfifo(root / "a")
    assert (await door.preview("fs.write", **WRITE))["problem"] == "invalid.argument"
    (root / "out").symlink_to("/etc")
    assert (await door.preview("fs.delete", path="/out/x"))["problem"] == "denied.capability"


async def test_previews_of_the_other_ops_are_one_line(door: Door, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_text("four")
    assert (await door.preview("fs.delete", path="/d"))["summary"] == "delete `/d` (dir, 2 entries, 4 bytes)"
    assert (await door.preview("fs.move", path="/d", to="/e"))["summary"] == "move `/d` to `/e`"
    assert (await door.preview("fs.mkdir", path="/g"))["summary"] == "make the folder `/g`"
