"""Approvals that stand, on the real command line: given with a scope, listed, and taken back."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.cli_place import a_place
from tests.acceptance.test_cli_terminal import Terminal


def test_an_approval_with_a_scope_is_listed_and_taken_back(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    shown = place.call("asks", 1).stdout
    assert 'allow fs.write "/out.txt" when path == "/out.txt" and mode == "replace"' in shown
    assert "scopes   once, process, tree, image, project or a duration such as 8h" in shown
    place.call("approve", 1, "--scope", "forever", status=2)
    assert place.json("asks")[0]["state"] == "pending"
    place.run("approve", 1, "--scope", "project", "--by", "ann", "--reason", "every night")
    for _ in range(2):  # the run that asked goes on, and another one
        place.call("run", "careful.yaml", "--yes")
    assert (place.work / "out.txt").read_text() == "done"
    [grant] = place.json("asks", "--standing")
    assert (grant["scope"], grant["by"], grant["reason"], grant["uses"]) == ("project", "ann", "every night", 1)
    assert "every night" in place.call("asks", "--standing").stdout
    place.call("revoke", "--standing", grant["id"])
    assert place.data("asks", "--standing") == []
    place.call("revoke", "--standing", grant["id"], status=2)
    place.call("run", "careful.yaml", "--yes", status=4)


def test_remembering_at_the_terminal_shows_the_rule_first(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml", "--yes") as first:
        first.until("how all?")
        first.type("r\r")
        first.until("or how far")
        assert "a wider scope stores this rule" in first.shown
        assert 'allow fs.write "/out.txt"' in first.shown
        first.type("project\r")
        assert first.end() == 0
    place.run("run", "careful.yaml", "--yes")


def test_a_kernel_killed_at_the_question_leaves_it_to_be_answered_once(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml", "--yes") as first:
        first.until("how all?")
        first.kill()
    place.call("approve", 1)
    place.call("approve", 1, status=1)
    place.call("run", "careful.yaml", "--yes")
    written = [entry for entry in place.data("audit") if entry["op"] == "fs.write"]
    assert [(entry["outcome"], entry["ask"]) for entry in written] == [("done", 1)]


def test_an_edit_of_an_argument_that_the_call_does_not_have_is_refused(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    refused = place.data("approve", 1, "--edit", '{"pth": "/b.txt"}', status=2)
    assert (refused["message"], refused["hint"]) == ("`fs.write` has no argument `pth`", "did you mean `path`?")
    assert place.data("asks")[0]["state"] == "pending"
    place.call("approve", 1, "--edit", '{"text": "edited"}')
    place.call("run", "careful.yaml", "--yes")
    assert (place.work / "out.txt").read_text() == "edited"


def test_one_ask_is_shown_in_full_however_long_it_is(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (place.folder / "long.yaml").write_text(
        (place.folder / "careful.yaml").read_text().replace("text: done", f"text: {'x' * 3000}")
    )
    assert "more lines; see `agentos asks 1`" not in place.call("run", "long.yaml", "--yes", status=4).stdout
    shown = place.call("asks", 1).stdout
    assert "more lines" not in shown
    assert shown.count("x") >= 3000
