"""Whatever a process does to files: undo takes it back, undo of that brings it again, and tried in an overlay and merged it is the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from agentos.runtime.process import Process
from tests.builders import host, opened

pytestmark = pytest.mark.anyio

ALL = "fs.* /**"
NAMES = ("a", "b", "c")


def tree(folder: Path) -> dict[str, Any]:
    """Every path with its content."""
    return {path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "folder" for path in folder.rglob("*")}


def planted(folder: Path) -> Path:
    """A small tree."""
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("a/a", "a/b/a", "a/b/c", "b"):
        (folder / name).write_text(f"first {name}")
    return folder


def script(seed: int, length: int = 14) -> list[tuple[str, dict[str, Any]]]:
    """Random calls on few names, so that they meet."""
    chance = random.Random(seed)

    def path() -> str:
        return "/" + "/".join(chance.choice(NAMES) for _ in range(chance.randint(1, 3)))

    def call(number: int) -> tuple[str, dict[str, Any]]:
        op = chance.choice(["write", "write", "append", "mkdir", "move", "move", "delete"])
        if op in ("write", "append"):
            return "fs.write", {"path": path(), "text": f"{seed}.{number} ", "mode": "replace" if op == "write" else "append"}
        if op == "move":
            return "fs.move", {"path": path(), "to": path()}
        return f"fs.{op}", {"path": path()} | ({"recursive": chance.random() < 0.7} if op == "delete" else {})

    return [call(number) for number in range(length)]


async def played(process: Process, calls: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Make the calls; returns what each came to: a code, or nothing."""
    return ["" if outcome.ok else outcome.error.code for call in calls for outcome in await process.calls([call])]


async def view(process: Process) -> dict[str, Any]:
    """What a process sees, as `tree` has it."""
    listed = (await process.call("fs.list", path="/", recursive=True))["items"]
    return {
        item["path"][1:]: "folder" if item["type"] == "dir" else await process.call("fs.read", path=item["path"])
        for item in listed
    }


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_was_done_is_taken_back_and_done_again(tmp_path: Path, seed: int) -> None:
    work = planted(tmp_path / "w")
    before = tree(work)
    async with opened(workspace=work) as kernel:
        process = await host(kernel, ALL)
        await played(process, script(seed))
        after = tree(work)
        undone = await kernel.undo(pid=process.pid)
        assert (undone.conflicts, undone.refused, tree(work)) == ((), (), before)
        if undone.pid is not None:
            redone = await kernel.undo(pid=undone.pid)
            assert (redone.conflicts, redone.refused, tree(work)) == ((), (), after)


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_tried_and_merged_is_what_would_have_been_done(tmp_path: Path, seed: int) -> None:
    work, other = planted(tmp_path / "w"), planted(tmp_path / "other")
    before = tree(work)
    async with opened(workspace=other) as kernel:
        expected = await played(await host(kernel, ALL), script(seed))
    async with opened(workspace=work) as kernel:
        child = await (await host(kernel, ALL)).fork(grant=[ALL], speculative=True)
        assert await played(child, script(seed)) == expected
        assert (await view(child), tree(work)) == (tree(other), before)
        await child.exit()
        report = await kernel.merge(child.pid)
        assert (report.conflicts, report.refused, tree(work)) == ((), (), tree(other))
