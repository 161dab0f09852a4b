"""Upkeep that is killed at any of its points: the store verifies, nothing that is referred to is lost, and saying it again finishes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import anyio
import pytest

import agentos
from tests.fault.crash_cases import opened
from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.upkeep_stories import CANARY, KEPT, make

pytestmark = pytest.mark.anyio
STORIES = "tests.fault.upkeep_stories"
POINTS = {
    "archive": ["archive.*", "commit.*"],
    "tidy": ["archive.*", "collect.*", "commit.*"],
    "erase": ["erase.*", "collect.*", "commit.*"],
    "erase_rows": ["erase.*", "collect.*", "commit.*"],
    "backup": ["backup.*"],
}


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(STORIES) as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that every story begins with."""
    folder = tmp_path_factory.mktemp("made")
    anyio.run(make, str(folder))
    return folder


def killed(kernels: Zygote, made: Path, tmp_path: Path, story: str, point: str) -> Iterator[Path]:
    """Yield a folder for each time that `point` is reached: its store was being worked on when the kernel died there."""
    for number in count(1):
        folder = tmp_path / f"{point.partition('.')[0]}-{number}"
        shutil.copytree(made, folder)
        if kernels.run(f"{STORIES}:run_{story}", str(folder), crash_at=f"{point}:{number}") is None:
            yield folder
            continue
        assert number > 1, f"`{point}` is not reached by {story}"
        return


async def living_is_whole(kernel: agentos.Kernel) -> None:
    """What lives, and what nobody wanted gone, is there, and everything that is referred to."""
    living = kernel.process(3)
    assert await living.call("obj.get", name="mine") == [KEPT, 3]
    assert [each.state for each in await kernel.inspect() if each.what in ("chain", "objects", "archive", "records")] == [
        "ok"
    ] * 4
    assert len([entry async for entry in kernel.audit(pid=2)]) == 4


CASES = [(story, point) for story, points in POINTS.items() for point in points]


@pytest.mark.parametrize(("story", "point"), CASES)
async def test_archiving_loses_nothing_and_erased_is_gone_after_a_kill_at_any_point(
    kernels: Zygote, made: Path, tmp_path: Path, story: str, point: str
) -> None:
    """INVARIANTs archiving-loses-nothing, erased-is-gone, collection-keeps-what-is-referred-to."""
    for folder in killed(kernels, made, tmp_path, story, point):
        async with opened(folder) as kernel:
            await living_is_whole(kernel)
            tree = [entry async for entry in kernel.audit(pid=1)]
            assert [entry.op for entry in tree] == ["obj.put"] * 4 + ["fs.write", "msg.send"]
            if story.startswith("erase"):
                await kernel.erase(tree=1)
                await living_is_whole(kernel)
                assert CANARY.encode() not in b"".join(path.read_bytes() for path in folder.glob("store.db*"))
            else:
                await kernel.tidy()
                assert kernel.process(1).info.goal == CANARY
                await living_is_whole(kernel)


async def test_a_backup_that_was_killed_is_whole_or_not_there(kernels: Zygote, made: Path, tmp_path: Path) -> None:
    """INVARIANT a-backup-verifies."""
    for folder in killed(kernels, made, tmp_path, "backup", "backup.*"):
        copy = folder / "copy.db"
        if not copy.exists():
            async with opened(folder) as kernel:
                await kernel.backup(copy)
        (folder / "elsewhere").mkdir()
        shutil.copy(copy, folder / "elsewhere" / "store.db")
        async with opened(folder / "elsewhere") as kernel:
            assert await kernel.process(3).call("obj.get", name="mine") == [KEPT, 3]
            assert (await kernel.verify_audit()).ok


async def test_an_interrupted_erasure_is_found(kernels: Zygote, made: Path, tmp_path: Path) -> None:
    folder = next(killed(kernels, made, tmp_path, "erase", "collect.*"))
    async with opened(folder) as kernel:
        finding = next(each for each in await kernel.inspect() if each.what == "erasure")
        assert (finding.state, finding.remedy) == ("bad", "say the same `agentos erase` again")
        await kernel.erase(tree=1)
        assert next(each for each in await kernel.inspect() if each.what == "erasure").state == "ok"
