"""File labels are never lower than what was written, whatever happens at the same time."""

from __future__ import annotations

import pytest

from agentos.abi.labels import SECRET, UNTRUSTED
from agentos.abi.records import Change, FileLabelRecord
from agentos.errors import Denied
from agentos.kernel import filelabel
from agentos.kernel.filelabel import FileLabels


def written(*pairs: tuple[str, int]) -> tuple[FileLabels, list[Change]]:
    files, changes = FileLabels(), []
    for path, label in pairs:
        files.raise_to(path, label, changes)
    return files, changes


def test_a_file_that_nothing_labelled_has_no_label_and_no_record() -> None:
    files, changes = written(("/a", 0))
    assert (files.at("/a"), len(files), changes) == (0, 0, [])


def test_a_label_is_joined_and_never_lowered_by_raising() -> None:
    files, _ = written(("/a", SECRET), ("/a", UNTRUSTED), ("/a", 0))
    assert files.at("/a") == SECRET | UNTRUSTED


def test_replacing_a_file_replaces_its_label() -> None:
    files, changes = written(("/a", SECRET))
    files.replace("/a", UNTRUSTED, changes)
    assert files.at("/a") == UNTRUSTED
    files.replace("/a", 0, changes)
    assert len(files) == 0
    assert changes[-1].record.live == 0


def test_a_listing_carries_the_labels_of_everything_below_and_of_nothing_beside() -> None:
    files, _ = written(("/a/b/c", SECRET), ("/ab", UNTRUSTED))
    assert files.under("/a") == SECRET
    assert files.under("/") == SECRET | UNTRUSTED


def test_a_moved_folder_takes_the_labels_of_its_files_along() -> None:
    files, changes = written(("/a/x", SECRET), ("/a/y/z", UNTRUSTED))
    files.move("/a", "/b", changes)
    assert (files.at("/b/x"), files.at("/b/y/z"), files.under("/a")) == (SECRET, UNTRUSTED, 0)


def test_a_file_moved_onto_a_labelled_path_keeps_both_labels() -> None:
    files, changes = written(("/a", SECRET), ("/b", UNTRUSTED))
    files.move("/a", "/b", changes)
    assert files.at("/b") == SECRET | UNTRUSTED


def test_a_deleted_folder_takes_its_labels_away() -> None:
    files, changes = written(("/a/x", SECRET))
    files.remove("/a", changes)
    assert len(files) == 0


def test_a_label_is_not_taken_away_while_somebody_writes_the_file() -> None:
    files, changes = written(("/a/x", SECRET))
    files.begin("/a/x")
    files.remove("/a", changes)
    files.move("/a", "/b", changes)
    assert files.at("/a/x") == SECRET


def test_writers_at_the_same_time_know_of_each_other() -> None:
    files = FileLabels()
    files.begin("/a")
    files.begin("/a")
    assert not files.end("/a")
    assert not files.end("/a")
    files.begin("/a")
    assert files.end("/a")


def test_more_labels_than_are_kept_refuse_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelabel, "FILE_LABELS_MAX", 1)
    files, changes = written(("/a", SECRET))
    with pytest.raises(Denied, match="1 files carry labels"):
        files.raise_to("/b", SECRET, changes)
    files.raise_to("/b", 0, changes)


def test_a_loaded_label_counts_like_a_new_one() -> None:
    files = FileLabels()
    files.load(FileLabelRecord(path="/a", labels=SECRET, seq=7))
    changes: list[Change] = []
    files.remove("/a", changes)
    assert changes[0].replaces == 7
