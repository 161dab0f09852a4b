"""undo, merge and drop on the command line."""

from __future__ import annotations

from pathlib import Path

import anyio

import agentos
from tests.acceptance.cli_place import Place, a_place


def worked(tmp_path: Path) -> Place:
    """A place in which a script has written a file over another."""
    place = a_place(tmp_path)
    (tmp_path / "work" / "out.txt").write_text("mine\n")
    place.call("run", "job.yaml", "--yes")
    return place


def test_a_run_is_undone_after_a_look_at_the_difference(tmp_path: Path) -> None:
    place, out = worked(tmp_path), tmp_path / "work" / "out.txt"
    shown = place.call("undo", 1, "--dry-run").stdout
    assert "would be restored  /out.txt" in shown
    assert "+mine" in shown
    assert out.read_text() == "done"
    assert place.data("undo", 1, status=2)["fields"]["field"] == "--yes"
    done = place.data("undo", 1, "--yes")
    assert (done["restored"], out.read_text()) == (["/out.txt"], "mine\n")
    place.call("undo", done["pid"], "--yes")
    assert out.read_text() == "done"
    assert place.call("undo", 99, "--yes", status=2).stdout == ""


def test_a_conflict_is_shown_and_nothing_is_changed(tmp_path: Path) -> None:
    place, out = worked(tmp_path), tmp_path / "work" / "out.txt"
    out.write_text("\x1b[31mtheirs")
    shown = place.call("undo", 1, "--yes", status=1).stdout
    assert "conflict  /out.txt" in shown
    assert "nothing was changed" in shown
    assert "\x1b" not in shown
    assert place.data("undo", 1, "--yes", status=1)["conflicts"][0]["path"] == "/out.txt"


def test_what_was_tried_is_merged_or_dropped(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("spawn", "slow.yaml", "--yes")
    store = next((tmp_path / "state").rglob("store.db"))

    async def tried(text: str) -> int:
        async with agentos.open(store, workspace=tmp_path / "work", control=False, resume=False) as kernel:
            child = await kernel.process(1).fork(grant=["fs.write /**"], speculative=True)
            await child.call("fs.write", path=f"/{text}.txt", text=text)
            return child.pid

    first, second = anyio.run(tried, "first"), anyio.run(tried, "second")
    assert place.data("merge", 1, status=2)["code"] == "invalid.argument"
    assert "would be created  /first.txt" in place.call("merge", first, "--dry-run").stdout
    assert not (tmp_path / "work" / "first.txt").exists()
    assert place.data("merge", first)["created"] == ["/first.txt"]
    place.call("drop", second)
    assert place.data("merge", second)["created"] == []
    assert sorted(path.name for path in (tmp_path / "work").glob("*.txt")) == ["first.txt", "in.txt", "secret.txt"]


def test_a_speculative_fork_is_made_tried_and_merged_from_the_command_line(tmp_path: Path) -> None:
    place, out = worked(tmp_path), tmp_path / "work" / "out.txt"
    out.write_text("mine\n")
    first = place.data("audit", "--pid", 1)[0]["seq"]
    tried = place.data("fork", 1, "--seq", first, "--speculative")["pid"]
    place.call("wait", tried)
    assert out.read_text() == "mine\n"
    assert place.data("merge", tried)["restored"] == ["/out.txt"]
    assert out.read_text() == "done"


def test_an_undo_says_what_it_needs(tmp_path: Path) -> None:
    place = worked(tmp_path)
    assert "undo PID" in place.data("undo", status=2)["hint"]
    assert place.data("undo", 1, status=2)["message"] == "nobody is here to say whether to change 1 path"
    for verb in ("merge", "drop"):
        assert place.data(verb, 9, status=2)["message"] == "there is no process 9"
