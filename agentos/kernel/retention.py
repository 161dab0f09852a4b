"""What of the past may go: which trees are over, what still needs them, and which retention rules have come due.

A tree is over once every process of it has ended. It is *needed* while a checkpoint of it lives, while a process that lives or that a
checkpoint holds goes on from what one of its processes did (a fork, a restore), and while a file overlay of it is neither merged nor
dropped. What is over and not needed may be archived or erased; nothing else ever is.

INVARIANT only-the-past-goes: no rule and no command archives or erases what lives or is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode, encode
from agentos.abi.labels import names, parse
from agentos.abi.limits import PAGE_ROWS
from agentos.abi.records import CheckpointRecord, OverlayRecord, ProcessRecord, RetentionRecord
from agentos.errors import Invalid
from agentos.kernel.past import origins

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["EndedTrees", "EraseReport", "Retention", "TidyReport", "as_retention", "blank_exit", "check_rule"]

_SCOPES = {"archive": ("all", "tree"), "erase": ("all", "tree", "namespace", "label")}


@dataclass(frozen=True, slots=True)
class Retention:
    """One retention rule.

    Attributes:
        id: Its number.
        scope: all, tree, namespace or label.
        value: Which tree, namespace or label; "" for all.
        keep_s: Seconds after the end of a tree that its content is left alone.
        action: archive (rows move into the archive) or erase (content goes).
        created: When it was made.
    """

    id: int
    scope: str
    value: str
    keep_s: float
    action: str
    created: float


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What an erasure took away: content of so many rows and state versions, objects, and the bytes of those."""

    rows: int
    records: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TidyReport:
    """What the retention rules, and the collection after them, did or (`dry_run`) would do.

    Attributes:
        archived: Rows that moved into the archive.
        erased: Rows and state versions whose content went.
        objects: Objects that nothing referred to any more.
        bytes: What those took.
        seconds: How long it took.
        dry_run: Nothing was changed.
    """

    archived: int
    erased: int
    objects: int
    bytes: int
    seconds: float
    dry_run: bool


class EndedTrees:
    """What is over in one store, at one time. Made anew for each run.

    Args:
        store: The store, with everything committed.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store, now: float) -> None:
        self._store = store
        self._now = now
        self._ended: dict[int, float | None] = {}
        self.needed = _needed(store)

    def tree_of(self, pid: int) -> int:
        """Return the tree of a process.

        Raises:
            Invalid: there never was one of that pid.
        """
        record = self._store.get(ProcessRecord, pid)
        if record is None:
            raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
        return record.tree

    def pids(self, tree: int) -> list[int]:
        """Return the processes of a tree."""
        return [record.pid for record in self._records(tree)]

    def ended(self, tree: int) -> float | None:
        """Return when a tree ended; None while something of it lives or is needed."""
        if tree not in self._ended:
            records = self._records(tree)
            is_over = records and tree not in self.needed and not any(record.live for record in records)
            self._ended[tree] = self._at(max(record.seq for record in records)) if is_over else None
        return self._ended[tree]

    def is_due(self, tree: int, keep_s: float) -> bool:
        """Tell whether a tree was over for `keep_s` seconds."""
        ended = self.ended(tree)
        return ended is not None and ended + keep_s <= self._now

    def is_erased(self, tree: int) -> bool:
        """Tell whether all content of a tree was erased before."""
        return all(record.exit and decode(record.exit).get("erased") for record in self._records(tree))

    def first_alive(self) -> int:
        """Return the lowest tree of a process that lives, or one that is higher than every tree."""
        return min((record.tree for record in self._store.current(ProcessRecord, live=True)), default=2**62)

    def trees(self, after: int = 0) -> Iterator[int]:
        """Yield every tree above `after` that is over and not needed, in order."""
        while page := self._store.current(ProcessRecord, live=False, after=after, limit=PAGE_ROWS):
            after = page[-1].pid
            yield from (record.tree for record in page if record.pid == record.tree and self.ended(record.tree) is not None)

    def expect_over(self, tree: int) -> None:
        """Refuse a tree that is not over, or needed.

        Raises:
            Invalid: `invalid.state`; `invalid.argument`, there never was such a tree.
        """
        records = self._records(tree)
        if not records:
            raise Invalid("argument", f"there is no tree {tree}", hint="see `agentos ps --all`", tree=tree)
        living = next((record.pid for record in records if record.live), None)
        if living is not None:
            raise Invalid(
                "state", f"process {living} of tree {tree} has not ended", hint=f"`agentos kill {living}` first", pid=living
            )
        if tree in self.needed:
            raise Invalid("state", f"tree {tree} is needed: {self.needed[tree]}", hint="end that first", tree=tree)

    def _records(self, tree: int) -> list[ProcessRecord]:
        return self._store.current_at(ProcessRecord, self._store.journal.durable_seq, tree=tree)

    def _at(self, seq: int) -> float:
        return self._store.rows(seq - 1, 1)[0].at


def as_retention(record: RetentionRecord) -> Retention:
    """Return a rule as the API shows it."""
    return Retention(record.retention, record.scope, record.value, record.keep_s, record.action, record.created)


def check_rule(scope: str, value: Any, keep_s: float, action: str) -> str:
    """Check the parts of a rule and return its value as it is stored.

    Raises:
        Invalid: `invalid.argument`, one of them is wrong.
    """
    if action not in _SCOPES:
        raise Invalid("argument", f"there is no action `{action}`", hint=f"use {' or '.join(_SCOPES)}", field="action")
    if scope not in _SCOPES[action]:
        hint = f"to {action}: {', '.join(_SCOPES[action])}; rows are archived by whole trees"
        raise Invalid("argument", f"`{action}` does not go by `{scope}`", hint=hint, field="scope")
    if not keep_s >= 0:
        raise Invalid("argument", f"keep_s is {keep_s}", hint="seconds, 0 or more", field="keep_s")
    if (value is None or value == "") != (scope == "all"):
        raise Invalid(
            "argument",
            f"scope `{scope}` with value `{value}`",
            hint="name what it is about; `all` names nothing",
            field="value",
        )
    if scope == "tree" and not str(value).isdigit():
        raise Invalid("argument", f"`{value}` is no tree", hint="give the pid of its first process", field="value")
    if scope == "label":
        return names(label_bits(str(value)))[0]
    return "" if value is None else str(value)


def label_bits(label: str) -> int:
    """Return the bits of one label word that stands for something to be erased.

    Raises:
        Invalid: `invalid.argument`, there is no such label, or everything carries it.
    """
    bits = parse([label])
    if not bits:
        raise Invalid("argument", f"everything carries `{label}`", hint="internal, secret or untrusted", field="label")
    return bits


def blank_exit(data: bytes) -> bytes:
    """Return what stays of an encoded exit once its value and error are erased: the state."""
    return encode({"state": decode(data)["state"], "value": None, "error": None, "erased": True})


def _needed(store: Store) -> dict[int, str]:
    """Return the trees that something living needs, with what that is."""
    needed: dict[int, str] = {}
    seen: set[tuple[int, int]] = set()
    for held in store.current(CheckpointRecord, live=True):
        needed[held.tree] = f"checkpoint `{held.checkpoint}` of it lives"
        for record in store.current_at(ProcessRecord, held.at_seq, tree=held.tree, live=1):
            _add_origins(store, record, f"checkpoint `{held.checkpoint}`", seen, needed)
    for record in store.current(ProcessRecord, live=True):
        _add_origins(store, record, f"process {record.pid}", seen, needed)
    for pid in {change.pid for change in store.current(OverlayRecord, live=True)}:
        tried = store.get(ProcessRecord, pid)
        if tried is not None:
            needed.setdefault(tried.tree, f"what process {pid} has tried is neither merged nor dropped")
    return needed


def _add_origins(store: Store, record: ProcessRecord, by: str, seen: set[tuple[int, int]], needed: dict[int, str]) -> None:
    """Add the trees that one process goes on from: each origin as it was then, whatever it goes on from by now."""
    for pid, before in [(record.overlay, store.get(ProcessRecord, record.overlay)), *origins(store, record)]:
        if before is None or (pid, before.seq) in seen:
            continue
        seen.add((pid, before.seq))
        needed.setdefault(before.tree, f"{by} goes on from what process {pid} did")
