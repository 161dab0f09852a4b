"""What the command line remembers between commands, in the user's state folder and outside every mount.

    confirmed.json     digests of images whose request a person has confirmed
    runs.json          store -> pid -> workspace that the run was started for
    schedules.json     store -> schedule -> workspace that it was made for
    last.json          the workspace of the last run, for hints

INVARIANT remembered-grants-nothing: all of it only saves a question or picks which process a command means; authority is in the store.
A file that is missing or damaged counts as empty.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from agentos.abi.place import Place
from agentos.runtime.places import state_folder

__all__ = [
    "confirm",
    "is_confirmed",
    "is_remembered_schedule",
    "last_workspace",
    "remember_run",
    "remember_schedule",
    "workspace_of",
]

_ENTRIES_MAX = 2_000


def is_confirmed(digest: str) -> bool:
    """Say whether a person has confirmed what the image of that digest requests."""
    return digest in _read("confirmed.json")


def confirm(digest: str, name: str) -> None:
    """Remember that a person has confirmed what an image requests."""
    _add("confirmed.json", digest, name)


def remember_run(store: Place, pid: int, workspace: Path) -> None:
    """Remember which workspace a run was started for."""
    _add("runs.json", _key(store, pid), str(workspace.resolve()))
    _add("last.json", "workspace", str(workspace.resolve()))


def remember_schedule(store: Place, schedule: int, workspace: Path) -> None:
    """Remember which workspace a schedule was made for."""
    _add("schedules.json", _key(store, schedule), str(workspace.resolve()))


def is_remembered_schedule(store: Place, schedule: int) -> bool:
    """Say whether the command line made a schedule."""
    return _key(store, schedule) in _read("schedules.json")


def workspace_of(store: Place, pid: int) -> Path | None:
    """Return the workspace that a run was started for; None when that is not known."""
    found = _read("runs.json").get(_key(store, pid))
    return Path(found) if isinstance(found, str) else None


def last_workspace() -> str | None:
    """Return the workspace of the last run, or None."""
    found = _read("last.json").get("workspace")
    return found if isinstance(found, str) else None


def _key(store: Place, number: int) -> str:
    """Return what an entry about a store is kept under: the same by whatever path the store was named."""
    return f"{store.resolve() if isinstance(store, Path) else store}#{number}"


def _read(name: str) -> dict[str, Any]:
    try:
        data = json.loads((state_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _add(name: str, key: str, value: str) -> None:
    """Add an entry to a file; commands that do so at the same time wait for each other, and none is lost."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".remembered.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(folder, name, {**_read(name), key: value})


def _write(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Replace a file as a whole, so that a reader never sees half of one; the oldest entries go first."""
    kept = dict(list(data.items())[-_ENTRIES_MAX:])
    draft = folder / f".{name}.{os.getpid()}"
    draft.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
    draft.replace(folder / name)
