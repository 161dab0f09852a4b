"""A kernel whose disk fills up: fail-stop, nothing acknowledged is lost, and it goes on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentos
from agentos.abi.image import AgentImage

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_committed_survives_a_full_disk_and_the_store_opens_again(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    store = small_disk / "s.db"
    ballast = small_disk / "ballast"
    acknowledged: list[int] = []

    async def work_until_the_disk_is_full() -> None:
        async with agentos.open(store, workspace=tmp_path / "work", control=False) as kernel:
            process = await kernel.spawn(AgentImage.host())
            assert process.pid == 1
            ballast.write_bytes(b"x" * 300_000)
            for number in range(200):
                await process.call("obj.put", value=str(number) * 3_000, name=f"n{number}")
                acknowledged.append(number)

    with pytest.raises(agentos.Invalid) as caught:
        await work_until_the_disk_is_full()
    assert (caught.value.code, caught.value.reason) == ("invalid.store", "full")
    assert 0 < len(acknowledged) < 200
    ballast.unlink()
    async with agentos.open(store, workspace=tmp_path / "work", control=False) as kernel:
        process = kernel.process(1)
        for number in acknowledged:
            assert await process.call("obj.get", name=f"n{number}") == str(number) * 3_000
        assert (await kernel.verify_audit()).ok
