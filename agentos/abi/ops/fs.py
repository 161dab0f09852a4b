"""fs: files in the process's virtual root. `/` is the workspace, other mounts lie under `/mnt/NAME`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from agentos.abi.limits import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, READ_BYTES_DEFAULT, READ_BYTES_MAX
from agentos.abi.ops.declare import Family
from agentos.errors import Invalid

FAMILY = Family("fs")
_LATE: dict[str, type] = {"resolved": str}
_SHA256 = re.compile(r"[0-9a-f]{64}|")
_PERMISSIONS = re.compile(r"0?[0-7]{3}")


def _size(args: dict[str, Any]) -> int:
    text, data = args.get("text"), args.get("data")
    return len(data) if data is not None else len((text or "").encode())


def _conditions(args: dict[str, Any], pid: int) -> None:
    """Check a condition; one that is not given is no argument, so that calls recorded before there were any are known again."""
    for name, pattern, hint in (
        ("if_digest", _SHA256, 'give 64 hexadecimal digits, or "" for: nothing is there'),
        ("permissions", _PERMISSIONS, "give three octal digits, such as 644"),
    ):
        value = args.get(name)
        if value is None:
            args.pop(name, None)
        elif not pattern.fullmatch(value):
            raise Invalid("argument", f"`{name}` is `{value[:100]}`", hint=hint, field=name)


@FAMILY.op("repeatable", on="path:{path}", late=_LATE, slot="thread")
def read(
    path: str,
    bytes_max: Annotated[int, Ge(1), Le(READ_BYTES_MAX)] = READ_BYTES_DEFAULT,
    encoding: str | None = "utf-8",
) -> str | bytes:
    """Read a whole regular file as text, or as bytes with `encoding=None`. Longer than `bytes_max` is refused, never cut."""
    raise NotImplementedError


@FAMILY.op("repeatable", on="path:{path}", late=_LATE, slot="thread", name="list")
def list_(
    path: str = ".",
    recursive: bool = False,
    limit: Annotated[int, Ge(1), Le(LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """List a folder, sorted by path: `{items: [{path, name, type, size, mtime}], cursor}`. `type` is file, dir, link or other."""
    raise NotImplementedError


@FAMILY.op("repeatable", on="path:{path}", late=_LATE, slot="thread")
def stat(path: str) -> dict[str, Any]:
    """Describe one path: `{path, type, size, mtime, mode}`; `type` is missing when there is nothing."""
    raise NotImplementedError


@FAMILY.op(
    "probeable",
    on="path:{path}",
    prepare=_conditions,
    late=_LATE,
    clearance="internal",
    derived={"size": (int, _size)},
    slot="thread",
)
def write(
    path: str,
    text: str | None = None,
    data: bytes | None = None,
    mode: Literal["replace", "create", "append"] = "replace",
    if_digest: str | None = None,
    permissions: str | None = None,
) -> dict[str, Any]:
    """Write a whole file atomically: `{path, bytes, digest, before}`. The earlier content is kept as the object `before` (`undo`).

    `create` refuses an existing file, `append` adds to the end. Exactly one of `text` (UTF-8) and `data` is given. With `if_digest` it
    happens only if the file's content has that sha256, or, with "", if nothing is there. `permissions` are those of a new file, octal.
    """
    raise NotImplementedError


@FAMILY.op("probeable", on="path:{path}", late=_LATE, clearance="internal", slot="thread")
def mkdir(path: str) -> None:
    """Make a folder and its missing parents; an existing folder is fine."""
    raise NotImplementedError


@FAMILY.op("probeable", on=("path:{path}", "path:{to}"), late=_LATE, clearance="internal", slot="thread")
def move(path: str, to: str) -> None:
    """Rename a file or folder within one mount; an existing target is refused."""
    raise NotImplementedError


@FAMILY.op("probeable", on="path:{path}", prepare=_conditions, late=_LATE, clearance="internal", slot="thread")
def delete(path: str, recursive: bool = False, if_digest: str | None = None) -> dict[str, Any]:
    """Delete a file, a link itself, or an empty folder (a full one needs `recursive`): `{path, type, entries, before}`.

    Everything deleted is kept: `before` is the object that lists it. With `if_digest` only a file with that sha256 is deleted.
    """
    raise NotImplementedError
