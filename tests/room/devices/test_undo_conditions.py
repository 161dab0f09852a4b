"""if_digest and permissions of fs.write and fs.delete, and what is kept so that everything can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos.abi import codec
from agentos.abi.probe import set_probe
from agentos.abi.syscall import NOT_STARTED
from agentos.devices.fs import FileSystem
from agentos.devices.fs.write import digest
from agentos.errors import Invalid
from tests.builders import refused
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

ZERO = digest(b"zero")


async def test_a_write_on_condition_happens_only_over_that_content(door: Door, root: Path) -> None:
    (root / "a").write_text("zero")
    await door("fs.write", path="/a", text="one", if_digest=ZERO)
    with pytest.raises(Invalid) as caught:
        await door("fs.write", path="/a", text="two", if_digest=ZERO)
    assert (caught.value.code, caught.value.fields["found"]) == ("invalid.state", digest(b"one"))
    assert ZERO in caught.value.message
    assert (root / "a").read_text() == "one"


async def test_a_write_on_condition_of_nothing_replaces_nothing(door: Door, root: Path) -> None:
    await door("fs.write", path="/a", text="one", if_digest="")
    for mode in ("replace", "append", "create"):
        assert await refused(door("fs.write", path="/a", text="two", if_digest="", mode=mode)) == "invalid.state"
    assert await refused(door("fs.write", path="/none", text="x", if_digest=ZERO)) == "invalid.state"
    assert [path.name for path in root.iterdir()] == ["a"]


async def test_a_delete_on_condition_takes_only_that_content(door: Door, root: Path) -> None:
    (root / "a").write_text("one")
    (root / "d").mkdir()
    (root / "l").symlink_to("a")
    for path in ("/a", "/d", "/l"):
        assert await refused(door("fs.delete", path=path, if_digest=ZERO)) == "invalid.state"
    await door("fs.delete", path="/a", if_digest=digest(b"one"))
    assert sorted(path.name for path in root.iterdir()) == ["d", "l"]


@pytest.mark.parametrize("point", ["fs.write.kept", "fs.write.filled"])
async def test_a_change_during_a_write_on_condition_is_seen(door: Door, root: Path, point: str) -> None:
    (root / "a").write_text("zero")
    set_probe(lambda reached: (root / "a").write_text("them") and None if reached == point else None)
    try:
        assert await refused(door("fs.write", path="/a", text="one", if_digest=ZERO)) == "invalid.state"
    finally:
        set_probe(None)
    assert (root / "a").read_text() == "them"


async def test_a_change_during_a_delete_on_condition_is_seen(door: Door, root: Path) -> None:
    (root / "a").write_text("zero")

    def meanwhile(reached: str) -> None:
        if reached == "fs.delete.hidden":
            next(root.glob(".agentos-tmp.*")).write_text("them")

    set_probe(meanwhile)
    try:
        assert await refused(door("fs.delete", path="/a", if_digest=ZERO)) == "invalid.state"
    finally:
        set_probe(None)
    assert (root / "a").read_text() == "them"


async def test_after_a_crash_a_condition_is_asked_again(door: Door, root: Path) -> None:
    (root / "a").write_text("somebody else's")
    assert await door.reconcile("fs.write", call_key="k", path="/a", text="one", if_digest=ZERO) is NOT_STARTED
    assert await refused(door("fs.write", call_key="k", path="/a", text="one", if_digest=ZERO)) == "invalid.state"
    (root / "a").write_text("zero one")
    args = {"path": "/a", "text": "one", "mode": "append", "if_digest": digest(b"zero one")}
    assert await door.reconcile("fs.write", call_key="k", **args) is NOT_STARTED


@pytest.mark.parametrize(
    ("name", "value"), [("if_digest", "abc"), ("if_digest", "Z" * 64), ("permissions", "4755"), ("permissions", "x")]
)
async def test_a_malformed_condition_is_refused(door: Door, name: str, value: str) -> None:
    assert await refused(door("fs.write", **{"path": "/a", "text": "x", name: value})) == "invalid.argument"


async def test_permissions_are_those_of_a_new_file_only(door: Door, root: Path) -> None:
    await door("fs.write", path="/a", text="x", permissions="750")
    await door("fs.write", path="/a", text="y", permissions="600")
    assert (root / "a").stat().st_mode & 0o7777 == 0o750


def test_a_call_without_a_condition_is_the_call_it_was_before_there_were_any(files: FileSystem) -> None:
    op = {s.op.name: s.op for s in files.syscalls()}["fs.write"]
    args = op.validate({"path": "/a", "text": "x"})
    op.render(args, "/", 1)
    assert sorted(args) == ["data", "mode", "path", "text"]


async def test_a_mkdir_and_a_move_keep_what_taking_them_back_needs(door: Door, root: Path) -> None:
    (root / "d").mkdir()
    await door("fs.mkdir", path="/d/e/f")
    await door("fs.move", path="/d", to="/m")
    made, moved = (codec.decode(data) for data in door.kept.values())
    assert made == {"made": ["/d/e", "/d/e/f"]}
    assert (moved["from"], moved["to"]) == ("/d", "/m")
    assert [entry[0] for entry in moved["entries"]] == ["", "e", "e/f"]
