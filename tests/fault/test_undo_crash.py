"""SIGKILL at every point of an undo and of a merge: asked for again, it ends as if nothing had happened.

AGENTOS_SOAK=1 kills at every point there is; otherwise it is one in STEP of those around a change of the disk.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_zygote import Zygote, zygote

STORIES = "tests.fault.undo_stories"
SOAK = bool(os.environ.get("AGENTOS_SOAK"))
POINTS = ("*",) if SOAK else ("commit.after", "fs.*", "undo.*", "merge.*")
STEP = 1 if SOAK else 5


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(STORIES) as started:
        yield started


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["tree"] == expected
    assert found["against"] == [[], []]
    assert found["again"] == [[], [], [], [], []], "what is done is not done twice"
    assert (found["chain"], found["live"]) == (True, [])


def killed_everywhere(kernels: Zygote, world: Path, story: str, pid: int, point: str) -> Iterator[dict[str, Any]]:
    """Yield what came of each run that was killed at the n-th point and asked for again, for every n."""
    for number in itertools.count(1, STEP):
        where = world.with_name(f"{number}")
        shutil.copytree(world, where)
        if kernels.run(f"{STORIES}:{story}", str(where), pid, crash_at=f"{point}:{number}") is not None:
            return
        yield kernels.run(f"{STORIES}:{story}", str(where), pid)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
def test_an_undo_that_is_killed_anywhere_is_finished_by_the_next(kernels: Zygote, tmp_path: Path, point: str) -> None:
    """INVARIANT undo-is-ordinary."""
    made = kernels.run(f"{STORIES}:work", str(tmp_path / "world"), False)
    killed = 0
    for found in killed_everywhere(kernels, tmp_path / "world", "take_back", made["pid"], point):
        check(found, made["before"])
        killed += 1
    assert killed or point == "merge.*"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
def test_a_merge_that_is_killed_anywhere_is_finished_by_the_next(kernels: Zygote, tmp_path: Path, point: str) -> None:
    """INVARIANT undo-is-ordinary."""
    made = kernels.run(f"{STORIES}:work", str(tmp_path / "world"), True)
    assert made["after"] == made["before"], "a speculative process touches no file"
    shutil.copytree(tmp_path / "world", tmp_path / "whole")
    expected = kernels.run(f"{STORIES}:make_true", str(tmp_path / "whole"), made["pid"])["tree"]
    killed = 0
    for found in killed_everywhere(kernels, tmp_path / "world", "make_true", made["pid"], point):
        check(found, expected)
        killed += 1
    assert killed or point == "undo.*"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_tried_is_tried_once_whenever_the_kernel_dies(kernels: Zygote, tmp_path: Path) -> None:
    """INVARIANT overlay-is-local: each append is in the view exactly once, and none touches a file."""
    made = kernels.run(f"{STORIES}:begin", str(tmp_path / "world"))
    for number in itertools.count(1, STEP):
        where = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "world", where)
        point = f"*:{number}"
        ended = kernels.run(f"{STORIES}:append_lines", str(where), made, crash_at=point)
        found = ended or kernels.run(f"{STORIES}:append_lines", str(where), made)
        assert found == {"seen": "zero1234", "below": "zero", "chain": True}
        if ended is not None:
            break
    assert number > 10
