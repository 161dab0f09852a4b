"""SIGKILL at every point of what a host does with a whole store: it has happened, or not, or doing it again ends it; nothing else changed.

AGENTOS_SOAK=1 kills at every point, and once more in the attempt after it; otherwise it is one point in STEP.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.operation_cases import ONE_APPEND, OPERATIONS, copied, crash_at
from tests.postgres import database_like, databases_dropped

CASES = "tests.fault.operation_cases"
SOAK = bool(os.environ.get("AGENTOS_SOAK"))
STEP = 1 if SOAK else 5
STEPS = {} if SOAK else {"undo": 25}  # for those with many points
ON_A_SERVER = ("archive", "erase", "restore")


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started:
        yield started


@pytest.fixture(scope="module")
def world(kernels: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    kernels.run(f"{CASES}:build", str(folder))
    return folder


@pytest.fixture(scope="module")
def world_on_a_server(kernels: Zygote, tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world") / "world"
    folder.mkdir()
    (folder / "address").write_text(database_like(f"{postgres_server.rpartition('/')[0]}/template1"))
    kernels.run(f"{CASES}:build", str(folder))
    yield folder
    databases_dropped(postgres_server, os.getpid())


def described(kernels: Zygote, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = kernels.run(f"{CASES}:described", str(folder))
    assert (found["chain"], found["bad"]) == ("", [])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_point_of_an_operation_leaves_nothing_half_done(
    kernels: Zygote, world: Path, tmp_path: Path, name: str
) -> None:
    """INVARIANT committed-survives, upkeep-runs-alone, undo-is-ordinary."""
    check_killed_at_every_point(kernels, world, tmp_path, name, STEPS.get(name, STEP))


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("name", OPERATIONS if SOAK else ON_A_SERVER)
def test_nor_does_one_on_a_server(kernels: Zygote, world_on_a_server: Path, tmp_path: Path, name: str) -> None:
    """INVARIANT committed-survives, upkeep-runs-alone, undo-is-ordinary."""
    check_killed_at_every_point(kernels, world_on_a_server, tmp_path, name, 1 if SOAK else 4 * STEP)


def check_killed_at_every_point(kernels: Zygote, world: Path, tmp_path: Path, name: str, step: int) -> None:
    """Kill an operation at one point after another, and compare what is left with how it was before and after."""
    before = described(kernels, copied(world, tmp_path / "before"))
    assert crash_at(kernels, copied(world, tmp_path / "after"), name, "") is not None
    after = described(kernels, tmp_path / "after")
    chance = random.Random(name)
    for number in itertools.count(chance.randint(1, step), step):
        folder = copied(world, tmp_path / str(number))
        if crash_at(kernels, folder, name, f"*:{number}") is not None:
            break
        if SOAK and name not in ONE_APPEND:
            crash_at(kernels, folder, name, f"*:{chance.randint(1, 40)}")
        if name in ONE_APPEND:
            found = described(kernels, folder)
            assert found in (before, after)
            if found == before:
                crash_at(kernels, folder, name, "")
        else:
            crash_at(kernels, folder, name, "")
        assert described(kernels, folder) == after
    assert number > (3 if step <= STEP else 1)
    assert kernels.run(f"{CASES}:finish", str(folder)) == "a word"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_backup_killed_at_any_point_is_whole_under_its_name_or_not_there(
    kernels: Zygote, world: Path, tmp_path: Path
) -> None:
    """INVARIANT a-backup-verifies."""
    seen = set()
    for number in itertools.count(1, 1 if SOAK else 2):
        folder = copied(world, tmp_path / str(number))
        ended = crash_at(kernels, folder, "backup", f"*:{number}") is not None
        found = kernels.run(f"{CASES}:copy_verifies", str(folder))
        seen.add(found["ok"])
        assert found["ok"] is not False
        assert ended or crash_at(kernels, folder, "backup", "")
        found = kernels.run(f"{CASES}:copy_verifies", str(folder))
        assert (found["ok"], found["processes"], found["left"]) == (True, 3, ["copy.db"])
        if ended:
            break
    assert seen == {None, True}


def test_what_was_erased_is_nowhere_in_the_files_however_often_it_was_interrupted(
    kernels: Zygote, world: Path, tmp_path: Path
) -> None:
    """INVARIANT erased-is-gone."""
    assert described(kernels, copied(world, tmp_path / "before"))["canary"] > 0
    for number in range(2, 60, 1 if SOAK else 19):
        folder = copied(world, tmp_path / str(number))
        crash_at(kernels, folder, "erase", f"*:{number}")
        crash_at(kernels, folder, "erase", "")
        assert described(kernels, folder)["canary"] == 0
