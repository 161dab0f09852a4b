"""fs on a device that fails: a full disk, and every system call of a write failing in turn."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentos.devices.fs import FileSystem
from agentos.errors import Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs was refused: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_full_disk_is_an_error_and_leaves_the_old_content(small: Path) -> None:
    files = FileSystem({"/": (small, False)})
    door = Door(files.syscalls())
    await door("fs.write", path="/a", data=b"old" * 1000)
    with pytest.raises(Unavailable, match="no space left") as caught:
        await door("fs.write", path="/a", data=b"new" * 200_000)
    assert (caught.value.errno, caught.value.may_have_happened) == ("ENOSPC", False)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == {"a": b"old" * 1000}
    await door("fs.write", path="/a", data=b"new" * 1000)
    files.close()


CALLS = ["os.write", "os.fsync", "os.fchmod", "agentos.devices.fs.atomic.open_beneath", "agentos.devices.fs.atomic.rename"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
async def test_the_nth_failing_call_leaves_old_or_new_for_every_n(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    root = tmp_path / "work"
    root.mkdir()
    files = FileSystem({"/": (root, False)})
    door = Door(files.syscalls())
    for nth in range(1, 10):
        (root / "a").write_bytes(b"old")
        with monkeypatch.context() as patch:
            failed = _fail_nth(patch, call, nth, code)
            changed = await _try_to_write(door)
        assert (root / "a").read_bytes() == (b"new" if changed else b"old")
        assert os.listdir(root) == ["a"]
        if not failed:
            break
    else:
        pytest.fail("the loop must run until nothing fails")
    assert nth > 1
    files.close()


async def _try_to_write(door: Door) -> bool:
    try:
        await door("fs.write", path="/a", data=b"new")
    except Unavailable as error:
        return error.may_have_happened
    return True


def _fail_nth(patch: pytest.MonkeyPatch, call: str, nth: int, code: int) -> list[int]:
    where, _, name = call.rpartition(".")
    owner: object = os
    if where != "os":
        from agentos.devices.fs import atomic as owner  # type: ignore[no-redef]
    real, left, failed = getattr(owner, name), nth, []

    def sometimes(*args: object, **kwargs: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            failed.append(code)
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    patch.setattr(owner, name, sometimes)
    return failed


async def test_a_system_without_openat2_is_refused_at_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("agentos.devices.fs.openat.open_beneath", missing)
    with pytest.raises(Unavailable, match="cannot be confined"):
        FileSystem({"/": (tmp_path, False)})
