"""The files that a manifest names, read from its package and from nowhere else.

The package is the manifest's folder; a manifest in a folder called ``images`` belongs to the folder above, where ``policies`` and
``schemas`` usually stand beside ``images``. Names are relative to the manifest. A name that leaves the package, by `..`, by a link or from
the root, is refused: starting somebody's image must not read the reader's other files into a prompt.

INVARIANT package-is-closed: no file outside the package is ever read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agentos.abi.limits import IMAGE_FILE_BYTES_MAX, IMAGE_FILES_MAX
from agentos.abi.yamlstrict import Node

__all__ = ["Folder", "Package"]


class Package(Protocol):
    """Where the files of a manifest come from: the disk, or a process's own `fs.read`."""

    def read(self, name: str, at: Node) -> bytes:
        """Return a file's bytes; `at` is the value that names it, for errors."""
        ...

    def tree(self, name: str, at: Node) -> dict[str, bytes]:
        """Return all files below a folder by their path inside it, sorted."""
        ...


class Folder:
    """A package on disk.

    Args:
        folder: What names are relative to.
        root: The package, when it is not found by the rule above. ``/`` is for manifests that the host wrote itself.
    """

    def __init__(self, folder: Path, *, root: Path | None = None) -> None:
        self._folder = folder.absolute()
        above = self._folder.resolve()
        self._root = root or (above.parent if above.name == "images" else above)

    def read(self, name: str, at: Node) -> bytes:
        """Return a file's bytes.

        Raises:
            Invalid: `invalid.manifest`, missing, unreadable, outside the package, or over IMAGE_FILE_BYTES_MAX.
        """
        return self._bytes(self._inside(name, at), name, at)

    def tree(self, name: str, at: Node) -> dict[str, bytes]:
        """Return all files below a folder by their path inside it, sorted. Links are refused.

        Raises:
            Invalid: `invalid.manifest`, as for `read`, no folder, or over IMAGE_FILES_MAX files.
        """
        top = self._inside(name, at)
        if not top.is_dir():
            raise at.wrong(f"`{name}` is not a folder", "name the folder that holds SKILL.md")
        files: dict[str, bytes] = {}
        for path in sorted(top.rglob("*")):
            inner = path.relative_to(top).as_posix()
            if path.is_symlink():
                raise at.wrong(f"`{name}/{inner}` is a link", "put the file itself there")
            if path.is_file():
                files[inner] = self._bytes(path, f"{name}/{inner}", at)
            if len(files) > IMAGE_FILES_MAX:
                raise at.wrong(f"`{name}` holds over {IMAGE_FILES_MAX} files", "ship only what the model reads")
        return files

    def _inside(self, name: str, at: Node) -> Path:
        if not name or "\0" in name:
            raise at.wrong("file name is empty or holds a NUL", "name a file beside the manifest")
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._root):
            raise at.wrong(f"`{name}` lies outside the image's package", "put the file beside the manifest")
        return path

    @staticmethod
    def _bytes(path: Path, name: str, at: Node) -> bytes:
        try:
            if path.exists() and not path.is_file():
                raise at.wrong(f"`{name}` is not a regular file", "name a file beside the manifest")
            with path.open("rb") as file:
                data = file.read(IMAGE_FILE_BYTES_MAX + 1)
        except FileNotFoundError as error:
            raise at.wrong(f"file `{name}` is missing", "paths are relative to the manifest") from error
        except OSError as error:
            raise at.wrong(f"file `{name}` cannot be read: {error.strerror}", "check its permissions") from error
        if len(data) > IMAGE_FILE_BYTES_MAX:
            raise at.wrong(f"file `{name}` has over {IMAGE_FILE_BYTES_MAX} bytes", "make it smaller")
        return data
