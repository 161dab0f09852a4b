"""An undo and a merge that are killed: stories that run in a child, and once more until they are through."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.runtime.boot import Open
from agentos.testing.crash import install

ALL = "fs.* /**"


def opened(folder: Path) -> Open:
    """Open the story's store on its files."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    return agentos.open(folder / "store.db", workspace=folder / "w", control=False, durability="fast", grace_s=0)


def tree(folder: Path) -> dict[str, Any]:
    """Every path with its content and permissions; nothing of unfinished work may be left."""
    return {
        path.relative_to(folder).as_posix(): [path.read_text(), path.stat().st_mode & 0o777] if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def warm() -> None:
    """Run both stories once in this interpreter, so that its forks start at once."""
    for story, speculative in ((take_back, False), (make_true, True)):
        with tempfile.TemporaryDirectory() as folder:
            pid = anyio.run(work, folder, speculative)["pid"]
            anyio.run(story, folder, pid)


async def work(folder: str, speculative: bool) -> dict[str, Any]:
    """Make files, and a process that changes about everything; returns its pid, and the files before and after."""
    where = Path(folder) / "w"
    async with opened(Path(folder)) as kernel:
        for name, text in (("a", "zero"), ("src/x.py", "x"), ("src/y.py", "y"), ("old/run.sh", "#!/bin/sh")):
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_text(text)
        (where / "old/run.sh").chmod(0o755)
        before = tree(where)
        process = await kernel.spawn(agentos.Image.host(), grant=[ALL])
        if speculative:
            process = await process.fork(grant=[ALL], speculative=True)
        await process.call("fs.write", path="/a", text="one")
        await process.call("fs.write", path="/a", text=" two", mode="append")
        await process.call("fs.mkdir", path="/new/deep")
        await process.call("fs.write", path="/new/deep/f", text="f")
        await process.call("fs.move", path="/src", to="/lib")
        await process.call("fs.write", path="/lib/x.py", text="changed")
        await process.call("fs.delete", path="/old", recursive=True)
        await process.call("fs.write", path="/old", text="a file now")
        await process.exit()
        return {"pid": process.pid, "before": before, "after": tree(where)}


async def take_back(folder: str, pid: int) -> dict[str, Any]:
    """Undo a process; killed on the way, or to its end."""
    install()
    return await _finished(folder, "undo", pid)


async def make_true(folder: str, pid: int) -> dict[str, Any]:
    """Merge a process; killed on the way, or to its end."""
    install()
    return await _finished(folder, "merge", pid)


async def _finished(folder: str, what: str, pid: int) -> dict[str, Any]:
    async with opened(Path(folder)) as kernel:
        report = await (kernel.undo(pid=pid) if what == "undo" else kernel.merge(pid))
        again = await (kernel.undo(pid=pid) if what == "undo" else kernel.merge(pid))
        kernel.core.journal.flush()
        audit = await kernel.verify_audit()
        return {
            "tree": tree(Path(folder) / "w"), "against": [list(report.conflicts), list(report.refused)], "chain": audit.ok,
            "again": [list(again.restored), list(again.created), list(again.deleted), list(again.moved), list(again.conflicts)],
            "live": [each.pid for each in await kernel.ps() if each.name == what],
        }  # fmt: skip


async def begin(folder: str) -> int:
    """Make a speculative process; returns its pid."""
    async with opened(Path(folder)) as kernel:
        (Path(folder) / "w" / "a").write_text("zero")
        process = await kernel.spawn(agentos.Image.host(), grant=[ALL])
        return (await process.fork(grant=[ALL], speculative=True)).pid


async def append_lines(folder: str, pid: int) -> dict[str, Any]:
    """Append to a file of the view, each line under its own key; killed on the way, or to its end."""
    install()
    async with opened(Path(folder)) as kernel:
        process = kernel.process(pid)
        for number in range(1, 5):
            await process.call("fs.write", key=str(number), path="/a", text=str(number), mode="append")
        seen = await process.call("fs.read", path="/a")
        kernel.core.journal.flush()
        audit = await kernel.verify_audit()
        return {"seen": seen, "below": (Path(folder) / "w" / "a").read_text(), "chain": audit.ok}
