"""A file has one name for its label, by whichever mount it is reached."""

from __future__ import annotations

from pathlib import Path

from agentos.runtime.places import label_places


def places(**folders: str):
    mounts = {"/" if name == "root" else f"/mnt/{name}": (Path(folder), False) for name, folder in folders.items()}
    return label_places(mounts)


def test_separate_mounts_name_their_files_as_they_are() -> None:
    place = places(root="/w", data="/d")
    assert [place(path) for path in ("/", "/a", "/mnt/data", "/mnt/data/x")] == ["/", "/a", "/mnt/data", "/mnt/data/x"]


def test_a_mount_inside_the_workspace_uses_the_workspaces_names() -> None:
    place = places(root="/w", sub="/w/a/b")
    assert place("/mnt/sub/x") == place("/a/b/x") == "/a/b/x"
    assert place("/mnt/sub") == "/a/b"


def test_a_workspace_inside_a_mount_uses_the_mounts_names() -> None:
    place = places(root="/w/inner", all="/w")
    assert place("/x") == place("/mnt/all/inner/x") == "/mnt/all/inner/x"
    assert place("/mnt/all/y") == "/mnt/all/y"


def test_two_mounts_of_one_folder_share_the_names_of_the_first() -> None:
    place = places(root="/w", a="/d", b="/d")
    assert place("/mnt/b/x") == place("/mnt/a/x") == "/mnt/a/x"


def test_a_mount_whose_name_starts_like_another_is_another() -> None:
    place = places(root="/w", a="/w/s", ab="/other")
    assert place("/mnt/ab/x") == "/mnt/ab/x"
