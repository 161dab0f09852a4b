"""Approvals that stand, on the real command line: given with a scope, listed, and taken back."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.cli_place import a_place
from tests.acceptance.test_cli_terminal import Terminal


def test_an_approval_with_a_scope_is_listed_and_taken_back(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    shown = place.call("asks", 1).stdout.replace("\n│ ", "")
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
