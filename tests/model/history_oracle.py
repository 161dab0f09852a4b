"""What history should come to: keepers that obey commands, the files they change, and points to go back to. Plain dictionaries.

A keeper is what it was told, up to where it has obeyed. Files are one dictionary, and a list of who changed what from what to
what; an undo is read off that list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["STEP_S", "Change", "Keeper", "Oracle", "Overlay", "Point", "Then"]

STEP_S = 1000.0  # of time that passes at once, and of every sleep


@dataclass
class Overlay:
    """What a speculative keeper sees changed: path -> content, None for gone; `below` is what was there when it began."""

    over: dict[str, str | None] = field(default_factory=dict)
    below: dict[str, str | None] = field(default_factory=dict)

    def copy(self) -> Overlay:
        return Overlay(dict(self.over), dict(self.below))


@dataclass
class Keeper:
    """A process that obeys. `waits` is what it waits for besides commands: an answer, or time.

    `under_way` is what the command said that it waits in, `due` when a sleep is over, `last` what it was when it ended.
    """

    pid: int
    told: list[tuple[Any, ...]] = field(default_factory=list)
    commands: list[tuple[Any, ...]] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)
    waits: str = ""
    under_way: Any = None
    due: float = 0.0
    state: str = "live"
    is_revoked: bool = False
    is_erased: bool = False
    overlay: Overlay | None = None
    last: Then | None = None

    @property
    def is_live(self) -> bool:
        return self.state == "live"


@dataclass
class Then:
    """What a keeper was."""

    obeyed: int
    commands: list[tuple[Any, ...]]
    log: list[Any]
    waits: str
    under_way: Any
    due: float
    is_revoked: bool
    overlay: Overlay | None


@dataclass
class Point:
    """A checkpoint: whose, what it was, and how many changes of files there were."""

    pid: int
    then: Then
    changes: int


@dataclass
class Change:
    """One change of a file; None is no file."""

    pid: int
    path: str
    before: str | None
    after: str | None


class Oracle:
    """The whole state of the world."""

    def __init__(self) -> None:
        self.keepers: dict[int, Keeper] = {}
        self.files: dict[str, str] = {}
        self.changes: list[Change] = []
        self.posts: list[Any] = []
        self.effects: set[Any] = set()
        self.runs = 0
        self.now = 0.0

    def live(self) -> list[Keeper]:
        return [keeper for keeper in self.keepers.values() if keeper.is_live]

    def ended(self) -> list[Keeper]:
        return [keeper for keeper in self.keepers.values() if not keeper.is_live and not keeper.is_erased]

    def obey(self) -> None:
        """Let every keeper do what it can do now."""
        for keeper in self.live():
            while keeper.is_live and not keeper.waits and keeper.commands:
                self._do(keeper, *keeper.commands.pop(0))

    def _do(self, keeper: Keeper, what: str, value: Any, path: str = "") -> None:
        is_tried = keeper.overlay is not None
        if what == "note":
            keeper.log.append(value)
        elif what == "write":
            self.write(keeper, path, value)
            keeper.log.append(value)
        elif what == "delete":
            if path in self.view(keeper):
                self.write(keeper, path, None)
            keeper.log.append(value)
        elif what == "poke":
            refusal = "denied.capability" if keeper.is_revoked else "denied.policy" if is_tried else ""
            self.effects |= set() if refusal else {value}
            keeper.log.append(refusal or value)
        elif what == "post":
            self.posts += [] if is_tried else [value]
            keeper.log.append("denied.policy" if is_tried else value)
        elif what == "ask" and is_tried:
            keeper.log.append("denied.policy")
        elif what in ("ask", "sleep"):
            keeper.waits, keeper.under_way, keeper.due = what, value, self.now + STEP_S
        elif what == "child":
            keeper.log.append(value)
        elif what == "end":
            keeper.last, keeper.state = self.then(keeper), "exited"

    def pass_time(self) -> None:
        """Every sleep that is due is over."""
        self.now += STEP_S
        for keeper in self.live():
            self._wake_due(keeper)

    def _wake_due(self, keeper: Keeper) -> None:
        if keeper.waits == "sleep" and keeper.due <= self.now:
            self.wake(keeper)

    def wake(self, keeper: Keeper, value: Any = None) -> None:
        """What a keeper waited for has come."""
        keeper.waits = ""
        keeper.log.append(keeper.under_way if value is None else value)

    def kill(self, keeper: Keeper) -> None:
        keeper.last = self.then(keeper)
        keeper.state, keeper.waits = "killed", ""
        if keeper.overlay is not None:
            keeper.overlay = Overlay()

    # --- files ----------------------------------------------------------------------------------------------------------------

    def view(self, keeper: Keeper) -> dict[str, str]:
        """The files as a keeper sees them."""
        over = keeper.overlay.over if keeper.overlay is not None else {}
        return {path: text for path, text in {**self.files, **over}.items() if text is not None}

    def write(self, keeper: Keeper, path: str, text: str | None) -> None:
        tried = keeper.overlay
        if tried is None:
            self.change(keeper.pid, path, text)
            return
        if path not in tried.over:
            tried.below[path] = self.files.get(path)
        tried.over[path] = text
        if text is None and tried.below[path] is None:
            del tried.over[path], tried.below[path]

    def change(self, pid: int, path: str, text: str | None) -> None:
        self.changes.append(Change(pid, path, self.files.get(path), text))
        self.files.pop(path, None)
        if text is not None:
            self.files[path] = text

    def undo(self, pid: int, since: int = 0) -> tuple[dict[str, str | None], set[str]]:
        """What an undo has to do, path -> content, and the paths where something stands against it."""
        goal: dict[str, str | None] = {}
        against: set[str] = set()
        own = [change for change in self.changes[since:] if change.pid == pid]
        for path in {change.path for change in own}:
            chain = [change for change in own if change.path == path]
            is_whole = all(one.after == two.before for one, two in pairwise(chain))
            now = self.files.get(path)
            if now == chain[0].before:
                continue
            if is_whole and now == chain[-1].after:
                goal[path] = chain[0].before
            else:
                against.add(path)
        return goal, against

    def merge(self, keeper: Keeper) -> tuple[dict[str, str | None], set[str]]:
        """What a merge has to do, and the paths where something stands against it."""
        tried = keeper.overlay
        assert tried is not None
        different = {path: text for path, text in tried.over.items() if self.files.get(path) != text}
        return different, {path for path in different if self.files.get(path) != tried.below[path]}

    # --- points ---------------------------------------------------------------------------------------------------------------

    def then(self, keeper: Keeper) -> Then:
        """What a keeper is now."""
        overlay = keeper.overlay.copy() if keeper.overlay is not None else None
        obeyed = len(keeper.told) - len(keeper.commands)
        return Then(
            obeyed,
            list(keeper.commands),
            list(keeper.log),
            keeper.waits,
            keeper.under_way,
            keeper.due,
            keeper.is_revoked,
            overlay,
        )

    def point(self, keeper: Keeper) -> Point:
        return Point(keeper.pid, self.then(keeper), len(self.changes))

    def restore(self, point: Point) -> None:
        """Go back: it is what it was, and is told again what it was told since."""
        keeper, then = self.keepers[point.pid], point.then
        keeper.state, keeper.log, keeper.waits, keeper.under_way = "live", list(then.log), then.waits, then.under_way
        keeper.commands, keeper.last = keeper.told[then.obeyed :], None
        keeper.overlay = then.overlay.copy() if then.overlay is not None else None
        keeper.due = then.due
        self._wake_due(keeper)

    def branch(self, source: Keeper, then: Then, pid: int, *, is_copy: bool = False, is_tried: bool = False) -> Keeper:
        """Start a keeper that goes on from what another was; a copy has its mail."""
        told = list(then.commands) if is_copy else []
        made = Keeper(pid, told, list(told), list(then.log), then.waits, then.under_way)
        made.is_revoked = then.is_revoked or source.is_revoked
        made.overlay = Overlay() if is_tried else None
        made.due = then.due if is_copy else self.now + STEP_S
        self._wake_due(made)
        if is_tried and made.waits == "ask":
            self.wake(made, "denied.policy")
        self.keepers[pid] = made
        return made
