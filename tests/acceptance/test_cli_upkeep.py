"""What a store needs over the years, from the command line: copies, rules, erasure, and whether all is in order."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.acceptance.cli_place import Place, a_place


def store_of(folder: Path) -> Path:
    return next((folder / "state").glob("*/store.db"))


def with_a_past(folder: Path) -> Place:
    """A place in which one process has written a file and ended."""
    place = a_place(folder)
    place.call("run", "job.yaml", "--yes")
    return place


def test_a_store_is_copied_and_its_copy_looked_at(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    report = place.data("backup", tmp_path / "copy.db")
    assert place.data("backup", tmp_path / "copy.db", status=2)["code"] == "invalid.argument"
    assert place.call("backup", tmp_path / "other.db", "-o", "name").stdout.strip() == report["head"]
    assert [info["pid"] for info in place.data("ps", "--all", "--store", tmp_path / "copy.db")] == [1]
    assert place.data("audit", "--verify", "--head", report["head"], "--store", tmp_path / "copy.db")["ok"]


def test_an_export_is_verified_without_its_store(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    file = tmp_path / "export.jsonl"
    head = place.call("audit", "--verify", "-o", "name").stdout.strip()
    rows = place.data("audit", "--export", file)["rows"]
    assert place.data("audit", "--verify-export", file, "--head", head)["rows"] == rows
    assert [json.loads(line)["op"] for line in file.read_text().splitlines()[1:-1] if '"kind":"intent"' in line] == [
        "fs.read",
        "fs.write",
    ]
    assert place.data("audit", "--export", file, status=2)["code"] == "invalid.argument"
    file.write_text(file.read_text().replace('"op":"fs.write"', '"op":"fs.read"', 1))
    assert "broken at row" in place.call("audit", "--verify-export", file, status=1).stdout
    assert place.data("audit", "--verify-export", tmp_path / "none", status=2)["code"] == "invalid.argument"


def test_rules_are_made_listed_applied_and_ended(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    assert "everything is kept" in place.call("retention", "ls").stderr
    assert place.call("retention", "add", "archive", "--keep", "0s", "-o", "name").stdout == "1\n"
    assert place.data("retention", "add", "erase", "--keep", "30d", "--tree", 1)["keep_s"] == 30 * 86_400
    assert place.data("retention", "add", "archive", "--keep", "soon", status=2)["code"] == "invalid.argument"
    assert (
        place.data("retention", "add", "erase", "--keep", "1d", "--tree", 1, "--label", "secret", status=2)["code"]
        == "invalid.argument"
    )
    would = place.data("tidy", "--dry-run")["archived"]
    assert place.data("tidy")["archived"] == would > 0
    assert [entry["op"] for entry in place.data("audit", "--pid", 1)] == ["fs.read", "fs.write"]
    assert place.data("retention", "rm", 1)["live"] is False
    assert [rule["id"] for rule in place.data("retention", "ls")] == [2]
    assert place.data("archive")["rows"] == 0


def test_nothing_is_erased_without_a_yes(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    refused = place.data("erase", "--tree", 1, status=2)
    assert "for good?" in refused["message"]
    assert place.data("erase", "--yes", status=2)["code"] == "invalid.argument"
    counted = place.data("erase", "--tree", 1, "--dry-run")
    assert place.data("audit", "--pid", 1)[1]["args"]["text"] == "done"
    assert place.data("erase", "--tree", 1, "--older", "1h", "--dry-run")["rows"] == 0
    assert place.data("erase", "--tree", 1, "--yes")["rows"] == counted["rows"]
    assert [entry["args"] for entry in place.data("audit", "--pid", 1)] == [{}, {}]
    assert place.data("audit", "--verify")["ok"]


def test_what_is_not_in_order_is_told_and_mended_where_that_is_safe(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    assert {finding["state"] for finding in place.data("doctor")} <= {"ok", "missing"}
    with closing(sqlite3.connect(store_of(tmp_path), isolation_level=None)) as raw:
        raw.execute("DROP INDEX cap_of_pid")
    bad = [finding for finding in place.data("doctor", status=1) if finding["state"] == "bad"]
    assert [(finding["what"], finding["remedy"]) for finding in bad] == [("schema", "`agentos doctor --repair` mends it")]
    assert any(finding["what"] == "mended" for finding in place.data("doctor", "--repair"))
    assert not any(finding["state"] == "bad" for finding in place.data("doctor"))


def test_no_copy_of_the_store_is_put_where_agents_read_it(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    for words in (("backup", "work/copy.db"), ("audit", "--export", "work/journal.jsonl")):
        assert "agents could read all of it" in place.data(*words, status=2)["message"]
    assert not {"copy.db", "journal.jsonl"} & {path.name for path in place.work.iterdir()}


def test_a_copy_that_cannot_be_made_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    for words in (("backup", "none/copy.db"), ("audit", "--export", "none/journal.jsonl")):
        error = place.data(*words, status=2)
        assert "cannot be made: no such file or directory" in error["message"]
        assert "folder that exists" in error["hint"]


def test_a_rule_for_a_tree_that_never_was_is_refused(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    assert place.data("retention", "add", "erase", "--keep", "1d", "--tree", 9, status=2)["message"] == "there is no process 9"
    assert place.data("retention", "ls") == []


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    assert "exclude each other" in place.data("audit", "--verify", "--export", "journal.jsonl", status=2)["message"]
    assert place.data("audit", "--export", "journal.jsonl", "--pid", 9, status=2)["message"] == "there is no process 9"
    assert not (tmp_path / "journal.jsonl").exists()


def test_what_was_erased_is_neither_undone_nor_forked(tmp_path: Path) -> None:
    place = with_a_past(tmp_path)
    place.call("erase", "--tree", 1, "--yes")
    assert [each["op"] for each in place.data("undo", 1, "--yes")["not_covered"]] == ["fs.write"]
    assert "not covered  fs.write of what was erased" in place.call("undo", 1, "--dry-run").stdout
    assert place.data("fork", 1, status=1)["message"] == "what process 1 did was erased"


def test_a_store_of_an_older_agentos_is_brought_forward_by_who_changes_it(tmp_path: Path) -> None:
    place, store = a_place(tmp_path), tmp_path / "old.db"
    store.write_bytes(gzip.decompress((Path(__file__).parents[1] / "fault" / "stores" / "v1.db.gz").read_bytes()))
    refused = place.data("ps", "--store", store, status=1)
    assert "as `agentos tidy` does" in refused["message"]
    assert "was brought to the schema of this agentos" in place.call("tidy", "--store", store).stderr
    assert place.data("ps", "--all", "--store", store)
    assert "was brought" not in place.call("tidy", "--store", store).stderr
