"""fs while somebody else changes the tree: whatever the timing, nothing from outside and nothing undecided is ever answered."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentos.devices.fs import FileSystem
from agentos.errors import AgentOSError
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

RACE_S = 0.7


@contextmanager
def meddling(step: Callable[[], None]) -> Iterator[None]:
    """Run `step` over and over in a thread."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            step()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Door]]:
    root = tmp_path / "work"
    (root / "in").mkdir(parents=True)
    (root / "private").mkdir()
    (tmp_path / "out").mkdir()
    for folder, text in ((root / "in", "inside"), (root / "private", "private"), (tmp_path / "out", "outside")):
        (folder / "f").write_text(text)
    files = FileSystem({"/": (root, False)})
    yield root, Door(files.syscalls(), denied=["/private"])
    files.close()


def flip(root: Path, name: str, *states: Callable[[Path], None]) -> Callable[[], None]:
    """Replace `name` atomically by the next of `states`, again and again."""
    turn = 0

    def step() -> None:
        nonlocal turn
        spare = root / f"spare{turn % 2}"
        states[turn % len(states)](spare)
        os.rename(spare, root / name)
        turn += 1

    return step


def link(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return make


async def _hammer(door: Door, op: str, path: str, **args: object) -> tuple[set[object], int]:
    """Call for RACE_S; return the distinct values and how many calls were refused."""
    values: set[object] = set()
    refused = 0
    end = time.monotonic() + RACE_S
    while time.monotonic() < end:
        try:
            value = await door(op, path=path, **args)
            values.add(value if isinstance(value, str) else str(value.get("path")))
        except AgentOSError:
            refused += 1
    return values, refused


async def test_a_folder_link_that_is_swapped_during_reads_never_leads_out(place: tuple[Path, Door]) -> None:
    root, door = place
    (root / "sub").symlink_to("in")
    with meddling(flip(root, "sub", link("../out"), link("in"), link("private"))):
        values, refused = await _hammer(door, "fs.read", "/sub/f")
    assert values == {"inside"}
    assert refused


async def test_a_file_that_is_swapped_for_a_link_during_reads_never_leads_out(place: tuple[Path, Door]) -> None:
    root, door = place
    (root / "f").write_text("inside")
    with meddling(flip(root, "f", link("../out/f"), lambda path: _file(path, "inside"), link("private/f"))):
        values, _ = await _hammer(door, "fs.read", "/f", bytes_max=100)
    assert values <= {"inside"}
    assert values


def _file(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


async def test_writes_through_a_swapped_link_stay_inside_and_off_denied_folders(place: tuple[Path, Door]) -> None:
    root, door = place
    (root / "sub").symlink_to("in")
    with meddling(flip(root, "sub", link("../out"), link("in"), link("private"))):
        values, _ = await _hammer(door, "fs.write", "/sub/new", text="mine")
    assert values == {"/in/new"}
    assert os.listdir(root.parent / "out") == ["f"]
    assert os.listdir(root / "private") == ["f"]


async def test_a_folder_that_is_swapped_for_a_link_during_a_recursive_delete_keeps_what_is_outside(tmp_path: Path) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "precious").write_text("outside")
    root = tmp_path / "work"
    root.mkdir()
    files = FileSystem({"/": (root, False)})
    door = Door(files.syscalls())

    def swap() -> None:
        try:
            os.rename(root / "d" / "e", root / "d" / "was")
            os.symlink("../../out", root / "d" / "e")
        except OSError:
            return

    with meddling(swap):
        for _ in range(40):
            (root / "d" / "e").mkdir(parents=True, exist_ok=True)
            try:
                await door("fs.delete", path="/d", recursive=True)
            except AgentOSError:
                continue
    files.close()
    assert (outside / "precious").read_text() == "outside"


async def test_readers_during_writes_see_whole_contents_only(place: tuple[Path, Door]) -> None:
    root, door = place
    size = 300_000
    contents = {letter * size for letter in "abc"}
    seen: set[str] = set()
    _file(root / "f", "a" * size)

    def look() -> None:
        seen.add((root / "f").read_text())

    with meddling(look):
        for n in range(30):
            await door("fs.write", path="/f", text="abc"[n % 3] * size)
    assert seen <= contents
    assert len(seen) > 1
