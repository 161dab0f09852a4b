"""Doings: what processes did between two rows that their own state does not show, from the journal.

Effects outside, messages to others, and objects outside their private namespaces. What a restore lists because it leaves it as it is, and
what a comparison of two points shows beside the state of the two. Nothing is decided or changed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode
from agentos.abi.limits import DIFF_ROWS_MAX, PAGE_ROWS, RESTORE_LISTED_MAX
from agentos.abi.records import Row

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["Doings", "look_at_once"]

_FILE_OPS: Final = frozenset({"fs.write", "fs.mkdir", "fs.move", "fs.delete"})
_OBJECT_OPS: Final = frozenset({"obj.put", "obj.append", "obj.drop", "obj.link"})
_LEAVES_NOTHING: Final = frozenset({"pure", "local", "repeatable", ""})  # outside, that is: reads are harmless


@dataclass(slots=True)
class Doings:
    """What was done. Attributes are filled by `look`.

    Attributes:
        effects: As `RestoreReport.effects`, oldest first.
        count: How many there were, those not listed included.
        shared: Objects that were written outside of the private namespaces, as (namespace, name).
        files: Path -> what the first effect on it found and what the last one left, each None for nothing there.
        complete: False when there were more rows than are looked through.
    """

    effects: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    shared: dict[tuple[str, str], None] = field(default_factory=dict)
    files: dict[str, list[Any]] = field(default_factory=dict)
    complete: bool = True
    _open: dict[int, tuple[Row, dict[str, Any]]] = field(default_factory=dict)

    def look(self, store: Store, pids: Collection[int], after: int, upto: int) -> Iterator[None]:
        """Read the rows of processes after row `after` and up to row `upto`; yields after each page, so that others get a turn."""
        room = DIFF_ROWS_MAX
        for pid in sorted(pids):
            seen = after
            while rows := store.tape(pid, seen, PAGE_ROWS, upto):
                for row in rows:
                    self._enter(store, row, pids, after)
                seen, room = rows[-1].seq, room - len(rows)
                if room <= 0:
                    self.complete = False
                    break
                yield
        self.effects.sort(key=lambda effect: int(effect["seq"]))
        self._open.clear()

    def shared_names(self) -> tuple[str, ...]:
        """Return the shared objects that were written, by name, RESTORE_LISTED_MAX at most."""
        return tuple(sorted(f"{namespace}/{name}" for namespace, name in self.shared)[:RESTORE_LISTED_MAX])

    def _enter(self, store: Store, row: Row, pids: Collection[int], after: int) -> None:
        if row.kind == "result":
            if row.parent not in self._open and row.parent <= after:  # it was under way at the first row
                found = store.rows(row.parent - 1, 1)
                if found and found[0].kind == "intent":
                    self._begin(found[0])
            self._settle(row)
        elif row.kind == "intent":
            self._begin(row)
        elif row.kind == "call" and row.outcome == "done":
            if row.op == "msg.send" and not (row.resource.isdigit() and int(row.resource) in pids):
                self._list(row, row.outcome)
            elif row.op in _OBJECT_OPS:
                own = {f"proc/{pid}" for pid in pids}
                self.shared |= dict.fromkeys(where for where in _objects(row) if where[0] not in own)

    def _begin(self, row: Row) -> None:
        if row.effect not in _LEAVES_NOTHING:
            self._open[row.seq] = (row, self._list(row, "pending"))

    def _list(self, row: Row, outcome: str) -> dict[str, Any]:
        effect = {
            "seq": row.seq, "pid": row.pid, "op": row.op, "resource": row.resource, "effect": row.effect, "outcome": outcome,
            "undoable": False,
        }  # fmt: skip
        self.count += 1
        if len(self.effects) < RESTORE_LISTED_MAX:
            self.effects.append(effect)
        return effect

    def _settle(self, result: Row) -> None:
        intent, effect = self._open.pop(result.parent, (None, None))
        if intent is None or effect is None:
            return
        effect["outcome"] = result.outcome
        if intent.op in _FILE_OPS and result.outcome in ("done", "unknown"):
            effect["undoable"] = True
            if result.outcome == "done":
                self._note_files(intent, decode(result.result))

    def _note_files(self, intent: Row, value: Any) -> None:
        found = value if isinstance(value, dict) else {}
        paths = _paths(intent)
        before = {"object": found["before"]} if found.get("before") else None
        after = {name: found[name] for name in ("digest", "bytes") if name in found} or {"op": intent.op}
        for at, path in enumerate(paths):
            gone = intent.op == "fs.delete" or (intent.op == "fs.move" and at == 0)
            known = self.files.setdefault(path, [before if intent.op != "fs.move" or at else {"moved": paths[-1]}, None])
            known[1] = None if gone else after


def _objects(row: Row) -> list[tuple[str, str]]:
    """Return namespace and name of the objects of a call, as it said them: a resource is quoted, and a name may have several parts."""
    args = decode(row.args) if row.args else {}
    if row.op != "obj.link" and args:
        return [(str(args["namespace"]), str(args["name"]))]
    found = [str(args[side]) for side in ("a", "b")] if args else row.resource.splitlines()
    return [(namespace, last) for namespace, _, last in (name.rpartition("/") for name in found)]


def _paths(row: Row) -> list[str]:
    """Return the paths of a call, which may hold line breaks: the lines of its resource are not always they."""
    if row.op != "fs.move":
        return [row.resource]
    parts = row.resource.split("\n")
    if len(parts) == 2 or not row.args:
        return parts
    args = decode(row.args)
    return [str(args["path"]), str(args["to"])]


def look_at_once(store: Store, pids: Collection[int], after: int, upto: int) -> Doings:
    """Return what was done, in one go: for callers that cannot wait."""
    doings = Doings()
    for _ in doings.look(store, pids, after, upto):
        pass
    return doings
