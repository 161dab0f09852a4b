"""Where things live on the host: the default store, the control socket, and which folders are mounted where.

INVARIANT state-is-outside-mounts: the store and everything beside it lies in no mount, so no process can reach it through fs; nor does a
copy of it that a kernel makes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agentos.abi.place import Dsn, Place
from agentos.errors import Invalid

__all__ = [
    "beside", "control_path", "default_store", "label_places", "refuse_config", "refuse_copy", "refuse_inside", "state_folder",
    "virtual_mounts",
]  # fmt: skip

_SOCKET_PATH_MAX = 100  # bytes; sun_path has 108


def state_folder() -> Path:
    """Return the user's folder for agentos: ``$AGENTOS_STATE``, else ``$XDG_STATE_HOME/agentos``, else ``~/.local/state/agentos``."""
    given = os.environ.get("AGENTOS_STATE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "agentos"


def default_store(workspace: Path) -> Path:
    """Return the store of a workspace: one file per real path, in the user's state folder."""
    real = workspace.resolve()
    return state_folder() / f"{real.name or 'root'}-{_short_hash(str(real))}" / "store.db"


def beside(store: Place) -> Path:
    """Return the path that the names of a store's own files begin with: its own, or for a database one in the state folder."""
    return state_folder() / f"postgresql-{store.key}" / "store" if isinstance(store, Dsn) else store.resolve()


def control_path(store: Place) -> Path:
    """Return the control socket of a store: in a 0700 folder of the state folder, short enough for a socket address."""
    name = f"{store.key if isinstance(store, Dsn) else _short_hash(str(store.resolve()))}.sock"
    path = state_folder() / "run" / name
    if len(str(path).encode()) <= _SOCKET_PATH_MAX:
        return path
    return Path(f"/tmp/agentos-{os.getuid()}") / name  # noqa: S108 - made 0700 and checked to be ours before use


def virtual_mounts(workspace: str | Path, mounts: Mapping[str, Any]) -> dict[str, tuple[Path, bool]]:
    """Return virtual prefix -> (host folder, read-only).

    Raises:
        Invalid: a mount that is not a folder, or a name with a slash.
    """
    found = {"/": (_folder("workspace", workspace), False)}
    for name, place in mounts.items():
        if not name or "/" in name or name in (".", ".."):
            raise Invalid("argument", f"`{name}` is not a mount name", hint="it appears under /mnt/NAME", field="mounts")
        path, mode = place if isinstance(place, tuple) else (place, "rw")
        if mode not in ("ro", "rw"):
            raise Invalid("argument", f"mount `{name}` has mode `{mode}`", hint="ro or rw", field="mounts")
        found[f"/mnt/{name}"] = (_folder(name, path), mode == "ro")
    return found


def label_places(mounts: Mapping[str, tuple[Path, bool]]) -> Callable[[str], str]:
    """Return the function that gives a virtual path the one name under which its file's label is kept.

    Where a mount shows a folder that lies inside another mount, a file has two paths: the name is the one in the outermost mount.
    """
    names: list[tuple[str, str]] = []
    for prefix, (folder, _) in mounts.items():
        outer = min(
            (other for other, (place, _) in mounts.items() if folder.is_relative_to(place)),
            key=lambda other: (len(mounts[other][0].parts), other),
        )
        inner = folder.relative_to(mounts[outer][0]).as_posix()
        names.append((prefix, _join(outer, "" if inner == "." else inner)))
    names.sort(key=lambda pair: -len(pair[0]))

    def place(path: str) -> str:
        for prefix, name in names:
            if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                return path if prefix == name else _join(name, path[len(prefix) :].lstrip("/"))
        return path

    return place


def _join(folder: str, rest: str) -> str:
    return f"{folder.rstrip('/')}/{rest}" if rest else folder


def refuse_inside(store: Place, mounts: Mapping[str, tuple[Path, bool]]) -> None:
    """Refuse a store that a process could reach, or whose keys it could: those of a database are in the state folder.

    Raises:
        Invalid: `invalid.store`, reason in_mount.
    """
    real = beside(store)
    for prefix, (folder, _) in mounts.items():
        if _leads_into(real if isinstance(store, Dsn) else store, folder):
            raise Invalid(
                "store",
                f"store `{real if isinstance(store, Dsn) else store}` lies inside the mount `{prefix}` ({folder})",
                hint="keep the store outside every mount: agents could change it there; with --workspace another folder is mounted",
                reason="in_mount",
            )


def refuse_config(path: Path, mounts: Mapping[str, tuple[Path, bool]]) -> None:
    """Refuse a configuration file that a process could reach, or could make: it says where conversations and keys go.

    Raises:
        Invalid: `invalid.store`, reason in_mount.
    """
    for prefix, (folder, _) in mounts.items():
        if _leads_into(path, folder):
            said = f"the configuration file `{path}` lies inside the mount `{prefix}` ({folder})"
            hint = "agents could write it there: set AGENTOS_CONFIG to a place outside of every mount"
            raise Invalid("store", said, hint=hint, reason="in_mount")


def _leads_into(path: Path, folder: Path) -> bool:
    """Say whether a file, or a link on the way to it, lies inside a folder: who can write there can put another in its place."""
    whole = path.absolute()
    steps = (step.parent.resolve() / step.name for step in (whole, *whole.parents[:-1]) if step.name != "..")
    return path.resolve().is_relative_to(folder) or any(folder in step.parents for step in steps)


def refuse_copy(path: Path, store: Place | None, mounts: Mapping[str, tuple[Path, bool]]) -> None:
    """Refuse a place for a copy of the store: where a process could read it, or where a file of the store itself belongs.

    Raises:
        Invalid: `invalid.argument`.
    """
    try:
        real, own = path.expanduser().resolve(), beside(store) if store is not None else None
    except (OSError, ValueError, RuntimeError) as error:
        said = f"`{str(path)[:200]!r}` is no path: {error}"[:500]
        raise Invalid("argument", said, hint="give the path of a new file", field="path") from error
    said = f"`{path}` has the name of a file of the store" if own is not None and str(real).startswith(f"{own}-") else ""
    for prefix, (folder, _) in mounts.items():
        if real.is_relative_to(folder):
            said = f"`{path}` lies inside the mount `{prefix}` ({folder}), where agents could read all of it"
    if said:
        raise Invalid("argument", said, hint="put it outside of every workspace and mount", field="path")


def _folder(name: str, path: str | Path) -> Path:
    real = Path(path).resolve()
    if not real.is_dir():
        raise Invalid("argument", f"`{path}` is not a folder", hint=f"`{name}` has to be an existing folder", field="mounts")
    return real


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
