"""Undo, first half: from the journal to the parts of a plan. What a selection of calls did to files, newest first.

    read        the intents of a process's `fs.*` calls, their results, and the before-images that were kept for them
    states      what each call found and what it left, per path
    coalesce    a path that was changed several times goes back to what the first call found, in one step; a move parts what was
                done before it from what was done after

A call whose outcome nobody knows counts by what is on the disk: as it left things, as it found them, or else a conflict.
Cost: the journal of the selected processes from the first selected row on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode
from agentos.abi.limits import PAGE_ROWS, RESTORE_LISTED_MAX
from agentos.abi.records import Row
from agentos.devices.fs.look import SHOWN_BYTES_MAX
from agentos.errors import AgentOSError, KernelPanic
from agentos.runtime.fileplan import ABSENT, FOLDER, Change, Move, Part, State

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["Effect", "Effects", "parts_of"]

_FILE_OPS: Final = frozenset({"fs.write", "fs.mkdir", "fs.move", "fs.delete"})
_OUTSIDE: Final = frozenset({"keyed", "probeable", "once"})


@dataclass(slots=True)
class Effect:
    """One call that reached outside: its intent, its result if it has one, and the objects that were kept for it, in order.

    `labels` is what the files that it found carried, None when the journal does not say.
    """

    intent: Row
    result: Row | None = None
    kept: list[str] = field(default_factory=list)
    labels: int | None = None

    @property
    def seq(self) -> int:
        """Where it stands among others: its result tells when it happened, its intent only when it was wanted."""
        return self.result.seq if self.result is not None else self.intent.seq

    @property
    def outcome(self) -> str:
        """Outcome of its result; unknown when there is none."""
        return self.result.outcome if self.result is not None else "unknown"

    @property
    def value(self) -> dict[str, Any]:
        """What it returned, where that is a mapping."""
        found = decode(self.result.result) if self.result is not None and self.result.result else None
        return found if isinstance(found, dict) else {}


class Effects:
    """The effects of processes, read from the journal.

    Attributes:
        files: Those on files, oldest first.
        others: Those that no undo covers, as ``{op, resource, seq, pid}``: RESTORE_LISTED_MAX at most.
        others_count: How many those were.
    """

    def __init__(self) -> None:
        self.files: list[Effect] = []
        self.others: list[dict[str, Any]] = []
        self.others_count = 0

    def read(self, store: Store, pid: int, after: int, only: int = 0) -> Iterator[None]:
        """Read the rows of a process after row `after`; yields after each page. `only` takes just the call of that intent."""
        found: dict[int, Effect] = {}
        while rows := store.tape(pid, after, PAGE_ROWS):
            for row in rows:
                if row.kind == "intent" and row.effect in _OUTSIDE and only in (0, row.seq):
                    found[row.seq] = Effect(row)
                elif row.kind == "result" and row.parent in found:
                    found[row.parent].result = row
                elif row.op == "note.before" and row.parent in found and row.args:
                    noted = decode(row.args)
                    found[row.parent].kept.append(noted["object"])
                    found[row.parent].labels = noted.get("labels")
            after = rows[-1].seq
            if only in found and found[only].result is not None:
                break
            yield
        for effect in found.values():
            self._enter(effect)
        self.files.sort(key=lambda effect: effect.seq)

    def _enter(self, effect: Effect) -> None:
        row = effect.intent
        if row.op in _FILE_OPS and row.args:  # of one that was erased nobody knows what it was
            if effect.outcome in ("done", "unknown") or row.op == "fs.mkdir":
                self.files.append(effect)
        elif effect.outcome in ("done", "unknown"):
            self.others_count += 1
            if len(self.others) < RESTORE_LISTED_MAX:
                self.others.append({"op": row.op, "resource": row.resource, "seq": row.seq, "pid": row.pid})


def parts_of(
    effects: Iterable[Effect], store: Store, place: Callable[[str], str]
) -> tuple[list[Part], dict[str, Effect], list[dict[str, Any]]]:
    """Return the parts that take effects back, newest first. `place` gives a path its one name, where two mounts show the file.

    Returns:
        The parts; for each path the first call on it; the effects of which too little was kept to take them back.
    """
    parts: list[Part] = []
    first: dict[str, Effect] = {}
    missing: list[dict[str, Any]] = []
    for effect in sorted(effects, key=lambda effect: effect.seq, reverse=True):
        row = effect.intent
        if row.op == "fs.move":
            back = _move_back(effect, store)
            back = replace(back, path=place(back.path), to=place(back.to))
            parts.append(back)
            first[back.to] = effect
            continue
        states = _states(effect, store)
        if states is None:
            missing.append({"op": row.op, "resource": row.resource, "seq": row.seq, "pid": row.pid})
            continue
        if not parts or isinstance(parts[-1], Move):
            parts.append({})
        part = parts[-1]
        assert not isinstance(part, Move), "a part of changes was just made"
        for path, found, left in ((place(path), found, left) for path, found, left in states):
            if _coalesce(part, path, (found, left), is_sure=effect.outcome != "unknown"):
                first[path] = effect
    return parts, first, missing


def _coalesce(part: dict[str, Change], path: str, states: tuple[State, State], *, is_sure: bool) -> bool:
    """Add what an earlier call did to a path to what later ones did; False when it did nothing."""
    found, left = states
    later = part.get(path)
    if later is None:
        part[path] = Change(left, found)
        return True
    if later.goal.is_like(left):
        known = found.permissions or (later.goal.permissions if found.kind == "file" else "")
        part[path] = Change(later.left, replace(found, permissions=known))
        return True
    if is_sure:
        why = "somebody else changed it between two of the calls that are to be undone"
        part[path] = Change(State("unknown", why=why), found)
    return is_sure


def _move_back(effect: Effect, store: Store) -> Move:
    args = decode(effect.intent.args)
    noted = _kept_mapping(effect, store, "entries")
    if noted is None:
        return Move(args["to"], args["path"])
    return Move(noted["to"], noted["from"], tuple(tuple(each) for each in noted["entries"]))


def _kept_mapping(effect: Effect, store: Store, name: str) -> dict[str, Any] | None:
    """Return the last thing that was kept for an effect, when it is the mapping that its op keeps."""
    data = _load(store, effect.kept[-1]) if effect.kept else None
    found = decode(data) if data is not None else None
    return found if isinstance(found, dict) and name in found else None


def _states(effect: Effect, store: Store) -> list[tuple[str, State, State]] | None:
    """Return (path, as it was found, as it was left) of a call; None when nobody can tell."""
    if effect.intent.op == "fs.write":
        return _write_states(effect, store)
    if effect.intent.op == "fs.delete":
        return _delete_states(effect, store)
    made = _kept_mapping(effect, store, "made")
    if made is None:
        return [] if effect.outcome != "done" else None
    return [(path, ABSENT, FOLDER) for path in made["made"]]


def _write_states(effect: Effect, store: Store) -> list[tuple[str, State, State]]:
    args, value = decode(effect.intent.args), effect.value if effect.outcome == "done" else {}
    kept = value.get("before") or (effect.kept[-1] if effect.kept else "")
    found = _file(store, kept) if kept else ABSENT
    text = args.get("text")
    data: bytes = bytes(args["data"]) if text is None else str(text).encode()
    whole: bytes | None = data
    if args["mode"] == "append" and found.kind == "file":
        before = _load(store, kept)
        whole = before + data if before is not None else None
    digest = value.get("digest") or (_sha256(whole) if whole is not None else "unknown")
    shown = whole if whole is not None and len(whole) <= SHOWN_BYTES_MAX and _sha256(whole) == digest else None
    left = State("file", digest, size=value.get("bytes", len(data)), data=shown)
    return [(value.get("path", effect.intent.resource), found, left)]


def _delete_states(effect: Effect, store: Store) -> list[tuple[str, State, State]] | None:
    value = effect.value if effect.outcome == "done" else {}
    manifest = _manifest(effect, store, value.get("before"))
    if manifest is None:
        return [] if effect.outcome != "done" or not effect.kept else None
    path = value.get("path", effect.intent.resource)
    states = []
    for inner, kind, mode, kept in manifest:
        at = f"{path}/{inner}".rstrip("/")
        others = {"dir": FOLDER}.get(kind, State("link"))
        states.append((at, _file(store, kept, f"{mode & 0o777:03o}") if kind == "file" else others, ABSENT))
    return states


def _manifest(effect: Effect, store: Store, named: str | None) -> list[Any] | None:
    """Return what a delete listed: the object that its result names, else the last one that it kept before it was cut.

    That one may be a file's content, which an agent wrote: it counts only when it lists just what was kept before it, and no path that
    leads elsewhere.
    """
    data = _load(store, named or (effect.kept[-1] if effect.kept else ""))
    if data is None:
        return None
    try:
        manifest = decode(data)
        if named is not None:
            return list(manifest)
        files = [str(kept) for _, kind, _, kept in manifest if kind == "file"]
        before = effect.kept[-1 - len(files) : -1]
        is_inside = all(not ({"", "..", "."} & set(inner.split("/"))) for inner, *_ in manifest[1:]) and manifest[0][0] == ""
    except (ValueError, TypeError, IndexError, AttributeError, KernelPanic):
        return None  # what was kept last is no list: the delete was cut before it began
    return list(manifest) if files == before and is_inside else None


def _file(store: Store, kept: str, permissions: str = "") -> State:
    data = _load(store, kept)
    if data is None:
        return State("unknown", why="its earlier content was erased")
    shown = data if len(data) <= SHOWN_BYTES_MAX else None
    return State("file", _sha256(data), kept, len(data), permissions, shown)


def _load(store: Store, name: str) -> bytes | None:
    try:
        return store.objects.get(name) if name else None
    except AgentOSError:
        return None  # erased


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
