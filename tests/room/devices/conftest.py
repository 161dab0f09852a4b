"""A workspace, a second mount that is read-only, something secret outside, and a door to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentos.devices.fs import FileSystem
from tests.room.devices.door import Door


@pytest.fixture
def root(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    secret = tmp_path / "secret.txt"
    secret.write_text("outside")
    return secret


@pytest.fixture
def files(tmp_path: Path, root: Path, outside: Path) -> Iterator[FileSystem]:
    reference = tmp_path / "reference"
    reference.mkdir()
    (reference / "r.txt").write_text("reference")
    system = FileSystem({"/": (root, False), "/mnt/ref": (reference, True)})
    yield system
    system.close()


@pytest.fixture
def door(files: FileSystem) -> Door:
    return Door(files.syscalls())
