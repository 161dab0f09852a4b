"""A plan: how files are brought from what they should be now to what they are to become, checked against what is really there.

    part       what is to change: for each path what was left there and what it goes to, or one move that is taken back
    look       what is at each path now, in the light of the parts before it
    judge      as it was left: to be done; as it is to become: done already; anything else: a conflict
    steps      calls of `fs.*`, in an order that works: deletes from the inside, folders from the outside, then contents

Undo and merge make parts, and are the same from there on. Nothing is changed here: `filerun` makes the calls.
INVARIANT foreign-changes-are-shown: a path is only planned for when what is there is exactly what was left there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from agentos.devices.fs.look import SHOWN_BYTES_MAX
from agentos.devices.fs.preview import difference
from agentos.errors import AgentOSError

if TYPE_CHECKING:
    from agentos.devices.fs.look import Looking, Seen

__all__ = ["ABSENT", "FOLDER", "Change", "Move", "Part", "Plan", "State", "Step", "make_plan"]


@dataclass(frozen=True, slots=True)
class State:
    """What is, was or shall be at a path.

    Attributes:
        kind: absent, file, folder, link, other, or unknown: nobody knows, so nothing equals it.
        digest: sha256 of a file's content.
        object: Object that holds the content, "" when there is none.
        size: Bytes of the content.
        permissions: Octal text, "" when nobody knows.
        data: The content where it is at hand.
        why: Of an unknown one.
    """

    kind: str
    digest: str = ""
    object: str = ""
    size: int = 0
    permissions: str = ""
    data: bytes | None = None
    why: str = ""

    def is_like(self, other: State) -> bool:
        """Say whether both are the same thing with the same content."""
        return self.kind == other.kind != "unknown" and self.digest == other.digest


ABSENT: Final = State("absent")
FOLDER: Final = State("folder")


@dataclass(frozen=True, slots=True)
class Change:
    """One path: what was left there, and what it goes to."""

    left: State
    goal: State


@dataclass(frozen=True, slots=True)
class Move:
    """What lies at `path` goes back to `to`; `entries` is what it held when it came (`change.described`), None when nobody noted it."""

    path: str
    to: str
    entries: tuple[tuple[Any, ...], ...] | None = None


Part = dict[str, Change] | Move


@dataclass(frozen=True, slots=True)
class Step:
    """One call: `op`, its arguments without the content, and the object that holds the content."""

    op: str
    args: dict[str, Any]
    object: str = ""


@dataclass(slots=True)
class Plan:
    """What is to be done, and what stands against it.

    Attributes:
        steps: The calls, in order.
        restored: Files that get another content.
        created: Files and folders that come back, or come to be.
        deleted: Files and folders that go.
        moved: (from, to) of what is moved.
        conflicts: ``{path, expected, found, diff}`` or with `why`.
        impossible: Paths whose goal no call can reach: links.
        diffs: Path -> unified diff of what is there to what it becomes.
    """

    steps: list[Step] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    diffs: dict[str, str] = field(default_factory=dict)


def make_plan(parts: Sequence[Part], looking: Looking, load: Callable[[str], bytes]) -> Plan:
    """Plan for `parts`, newest first. Blocks while it reads files: run it in a thread.

    Args:
        parts: What is to change.
        looking: What is there.
        load: Returns the content of an object.
    """
    planner = _Planner(_View(looking), load)
    for part in _beyond_done_moves(parts, looking):
        if isinstance(part, Move):
            planner.move(part)
        else:
            planner.change(part)
    return planner.plan


def _beyond_done_moves(parts: Sequence[Part], looking: Looking) -> list[Part]:
    """Leave out the moves that have been taken back already; what was planned for under the old name is planned for under the new."""
    left: list[Part] = []
    done: list[Move] = []
    for part in reversed(parts):
        if not isinstance(part, Move):
            left.append({_renamed(path, done): change for path, change in part.items()})
            continue
        now = replace(part, path=_renamed(part.path, done))
        if looking.look(now.path).kind == "absent" and looking.look(now.to).kind != "absent":
            done.append(now)
        else:
            left.append(now)
    return left[::-1]


def _renamed(path: str, moves: Sequence[Move]) -> str:
    for move in reversed(moves):
        if is_below(path, move.path):
            path = move.to + path[len(move.path) :]
    return path


def is_below(path: str, folder: str) -> bool:
    """Say whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def parent_of(path: str) -> str:
    """Return the folder that a path lies in."""
    return path.rpartition("/")[0] or "/"


class _View:
    """What is at each path once the parts before have been carried out."""

    def __init__(self, looking: Looking) -> None:
        self._looking = looking
        self._over: dict[str, State] = {}
        self._from: dict[str, str] = {}

    def there(self, path: str) -> str | None:
        """Return where on the disk the content of `path` lies now, None when nothing of the disk is seen there."""
        at = path
        while True:
            if at in self._from:
                return self._from[at] + path[len(at) :]
            if at != path and at in self._over and self._over[at].kind != "folder":
                return None
            if at == "/":
                return path
            at = parent_of(at)

    def state(self, path: str) -> tuple[State, Seen | None]:
        """Return what is at `path`, and what was seen on the disk for it."""
        if path in self._over:
            return self._over[path], None
        where = self.there(path)
        if where is None:
            return ABSENT, None
        seen = self._looking.look(where)
        return State(seen.kind, seen.digest, size=seen.size, data=seen.data), seen

    def names(self, folder: str) -> set[str]:
        """Return the paths of what a folder holds."""
        _, seen = self.state(folder)
        found = {f"{folder.rstrip('/')}/{name}" for name in seen.names} if seen is not None else set()
        found |= {path for path in self._over if parent_of(path) == folder}
        return {path for path in found if self.state(path)[0].kind != "absent"}

    def entries(self, path: str) -> list[list[Any]]:
        """Return what `path` is and holds of the disk, without what parts have changed, and with what they have moved there."""
        where = self.there(path)
        places = {to: source for to, source in self._from.items() if is_below(to, path)}
        found = []
        for to, source in (places if where is None else {path: where, **places}).items():
            for inner, *rest in self._looking.entries(source):
                at = f"{to}/{inner}".rstrip("/")
                if at not in self._over and self.there(at) == f"{source}/{inner}".rstrip("/"):
                    found.append([at[len(path) + 1 :], *rest])
        return found

    def is_changed(self, path: str) -> bool:
        """Say whether a part has changed `path`."""
        return path in self._over

    def put(self, path: str, state: State) -> None:
        """From now on `state` is at `path`."""
        self._over[path] = state

    def move(self, path: str, to: str) -> None:
        """From now on what was at `path` is at `to`."""
        where = self.there(path)
        self._over = {to + at[len(path) :] if is_below(at, path) else at: state for at, state in self._over.items()}
        self._from = {to + at[len(path) :] if is_below(at, path) else at: source for at, source in self._from.items()}
        self._over[path] = ABSENT
        if where is not None:
            self._from[to] = where


class _Planner:
    """Judges parts one after the other and collects the steps."""

    def __init__(self, view: _View, load: Callable[[str], bytes]) -> None:
        self._view = view
        self._load = load
        self.plan = Plan()

    def move(self, move: Move) -> None:
        """Plan for one move."""
        (source, _), (target, _) = self._view.state(move.path), self._view.state(move.to)
        if source.kind == "absent":
            self._conflict(move.path, "it is not there any more")
        elif target.kind != "absent":
            self._conflict(move.to, f"a {target.kind} is there now")
        elif self._view.state(parent_of(move.to))[0].kind != "folder":
            self._conflict(move.to, "its folder is gone")
        elif not self._is_as_it_came(move):
            self._conflict(move.path, "what it holds has changed")
        else:
            self.plan.steps.append(Step("fs.move", {"path": move.path, "to": move.to}))
            self.plan.moved.append((move.path, move.to))
            self._view.move(move.path, move.to)

    def _is_as_it_came(self, move: Move) -> bool:
        if move.entries is None:
            return True
        came = [list(each) for each in move.entries if not self._view.is_changed(f"{move.path}/{each[0]}".rstrip("/"))]
        return sorted(came) == sorted(self._view.entries(move.path))

    def change(self, part: dict[str, Change]) -> None:
        """Plan for the changes of one part."""
        due: dict[str, tuple[Change, State]] = {}
        for path, change in sorted(part.items()):
            now = self._now(path, due)
            if now.is_like(change.goal):
                continue
            if change.goal.kind == "link":
                self.plan.impossible.append(path)
            elif now.is_like(change.left):
                due[path] = (change, now)
            else:
                self._foreign(path, change, now)
        self._delete(due)
        self._create(due)

    def _now(self, path: str, due: dict[str, tuple[Change, State]]) -> State:
        """Return what is at a path; nothing, where a folder on the way is to take the place of something else."""
        above = parent_of(path)
        while above != "/":
            if above in due and due[above][1].kind != "folder":
                return ABSENT
            above = parent_of(above)
        return self._view.state(path)[0]

    def _delete(self, due: dict[str, tuple[Change, State]]) -> None:
        for path in sorted(due, reverse=True):
            change, now = due[path]
            if now.kind == "file" and change.goal.kind != "file":
                self._show(path, now, ABSENT)
                self._step(path, change.goal, Step("fs.delete", {"path": path, "if_digest": now.digest}))
            elif now.kind == "link":
                self._step(path, change.goal, Step("fs.delete", {"path": path}))
            elif now.kind == "folder":
                if self._view.names(path):
                    if change.goal.kind != "absent":
                        self._conflict(path, "the folder holds something else")
                    del due[path]  # others use the folder: it stays
                else:
                    self._step(path, change.goal, Step("fs.delete", {"path": path}))

    def _step(self, path: str, goal: State, step: Step) -> None:
        self.plan.steps.append(step)
        self._view.put(path, ABSENT)
        if goal.kind == "absent":
            self.plan.deleted.append(path)

    def _create(self, due: dict[str, tuple[Change, State]]) -> None:
        for path, (change, now) in due.items():
            goal = change.goal
            if goal.kind not in ("folder", "file"):
                continue
            if self._view.state(parent_of(path))[0].kind != "folder":
                self._conflict(path, "its folder is gone")
                continue
            (self.plan.restored if now.kind == "file" == goal.kind else self.plan.created).append(path)
            if goal.kind == "folder":
                self.plan.steps.append(Step("fs.mkdir", {"path": path}))
            else:
                self._show(path, now, goal)
                args = {"path": path, "if_digest": now.digest if now.kind == "file" else ""}
                if goal.permissions and now.kind != "file":
                    args["permissions"] = goal.permissions
                self.plan.steps.append(Step("fs.write", args, goal.object))
            self._view.put(path, replace(goal, data=None))

    def _show(self, path: str, now: State, goal: State) -> None:
        self.plan.diffs[path] = self._diff(path, now, goal)

    def _diff(self, path: str, before: State, after: State) -> str:
        contents = [self._content(before), self._content(after)]
        if contents[0] is None or contents[1] is None:
            return f"{before.size} bytes before, {after.size} bytes after"
        return difference(contents[0], contents[1], path)[0]

    def _content(self, state: State) -> bytes | None:
        if state.kind != "file":
            return b""
        if state.data is not None or not state.object or state.size > SHOWN_BYTES_MAX:
            return state.data
        try:
            return self._load(state.object)
        except AgentOSError:
            return None  # erased since, or never kept: the sizes are told

    def _foreign(self, path: str, change: Change, now: State) -> None:
        left = change.left
        if left.kind == "unknown":
            self._conflict(path, left.why)
            return
        found = {"path": path, "expected": _told(left), "found": _told(now), "why": "it is not what was left there"}
        if left.kind == now.kind == "file":
            found["diff"] = self._diff(path, left, now)
        self.plan.conflicts.append(found)

    def _conflict(self, path: str, why: str) -> None:
        self.plan.conflicts.append({"path": path, "why": why})


def _told(state: State) -> str:
    return f"sha256 {state.digest}" if state.kind == "file" else state.kind
