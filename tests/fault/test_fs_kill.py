"""kill -9 during writes: the file is always the whole old or the whole new content."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentos.abi.syscall import NOT_STARTED
from agentos.devices.fs import FileSystem
from agentos.testing.crash import crash_points_seen
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

CHILD = """
import sys
from pathlib import Path
import anyio
from agentos.devices.fs import FileSystem
from agentos.testing.crash import install
from tests.room.devices.door import Door

async def main(root, rounds):
    install()
    door = Door(FileSystem({"/": (Path(root), False)}).syscalls())
    for n in range(rounds):
        letter = chr(97 + n % 26).encode()
        await door("fs.write", path="/f", data=letter * 200_000, call_key=f"k{n}")
        if n == 0:
            print("ready", flush=True)

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""


def spawn(root: Path, rounds: int, **environ: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(root), str(rounds)]
    return subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE)


def whole(data: bytes) -> bool:
    return len(data) == 200_000 and len(set(data)) == 1


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(8):
        with spawn(tmp_path, 100_000) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.03))
            child.kill()
        assert whole((tmp_path / "f").read_bytes())


async def test_a_kill_at_every_point_is_told_apart_by_reconcile(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    root = tmp_path / "work"
    root.mkdir()
    with spawn(root, 2, AGENTOS_CRASH_TRACE=str(trace)) as child:
        assert child.wait() == 0
    points = crash_points_seen(trace)
    assert set(points) == {"fs.write.kept", "fs.write.made", "fs.write.filled", "fs.write.renamed"}
    files = FileSystem({"/": (root, False)})
    door = Door(files.syscalls())
    for point in points:
        (root / "f").unlink()
        with spawn(root, 2, AGENTOS_CRASH_AT=f"{point}:2") as child:
            assert child.wait() == -signal.SIGKILL
        content = (root / "f").read_bytes()
        assert whole(content)
        verdict = await door.reconcile("fs.write", path="/f", data=b"b" * 200_000, call_key="k1")
        assert (verdict is NOT_STARTED) == (content[:1] == b"a")
        assert (content[:1] == b"b") == (point == "fs.write.renamed")
        assert os.listdir(root) == ["f"]
    files.close()
