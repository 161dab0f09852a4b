"""What a kernel should do, without any of what makes it hard: no journal, no scheduler, no crash. Plain dictionaries, one call at a time.

Two kinds of process: hosts, whose calls the test makes itself, and workers, which obey commands that come as messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Oracle", "Process", "Right"]


@dataclass
class Right:
    """A capability: `space` and whether it covers every name in it, or only `x`."""

    cap: int
    pid: int
    space: str
    is_wide: bool
    uses: int | None
    parent: int | None = None
    is_live: bool = True

    def covers(self, space: str, name: str) -> bool:
        return self.is_live and self.uses != 0 and self.space == space and (self.is_wide or name == "x")

    def contains(self, space: str, is_wide: bool) -> bool:
        return self.is_live and self.uses != 0 and self.space == space and (self.is_wide or not is_wide)


@dataclass
class Process:
    """A process. A worker has commands to obey, and a question it waits for.

    `told` are all commands that it ever got, `ids` the pids that it knows others by, `born_to` its first parent; `is_bare`: a branch of one
    that held nothing.
    """

    pid: int
    parent: int | None
    is_worker: bool = False
    is_live: bool = True
    is_paused: bool = False
    commands: list[tuple[Any, ...]] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)
    question: str | None = None
    answer: str | None = None
    inbox: list[int] = field(default_factory=list)
    forks: list[Process] = field(default_factory=list)
    giver: Process | None = None
    told: list[tuple[Any, ...]] = field(default_factory=list)
    ids: dict[int, int] = field(default_factory=dict)
    born_to: int | None = None
    is_bare: bool = False

    def tell(self, command: tuple[Any, ...]) -> None:
        self.told.append(command)
        self.commands.append(command)

    @property
    def has_rights(self) -> bool:
        """A worker's rights come from the host, or from the worker that forked it: then they end with that one's."""
        return not self.is_bare and (self.giver is None or (self.giver.is_live and self.giver.has_rights))


@dataclass
class Then:
    """What a worker was at a checkpoint."""

    obeyed: int
    commands: list[tuple[Any, ...]]
    log: list[Any]
    question: str | None
    inbox: list[int]
    had_rights: bool
    ids: dict[int, int]


@dataclass
class Point:
    """A checkpoint of a worker and those below it, by pid, and which pids there were at all."""

    pid: int
    family: dict[int, Then]
    known: set[int]


class Oracle:
    """The whole state of the world."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.rights: dict[int, Right] = {}
        self.objects: dict[tuple[str, str], list[Any]] = {}
        self.effects: list[Any] = []

    # --- processes ----------------------------------------------------------------------------------------------------------

    def born(self, pid: int, parent: int | None = None, *, is_worker: bool = False) -> Process:
        process = self.processes[pid] = Process(pid, parent, is_worker, born_to=parent)
        return process

    def live(self, *, workers: bool | None = None) -> list[Process]:
        return [p for p in self.processes.values() if p.is_live and (workers is None or p.is_worker is workers)]

    def descends(self, pid: int, ancestor: int) -> bool:
        above = self.processes[pid].parent
        while above is not None:
            if above == ancestor:
                return True
            above = self.processes[above].parent
        return False

    def end(self, pid: int) -> None:
        """A process ends: its rights end with all that was derived from them, and its living ancestors keep its children."""
        process = self.processes[pid]
        process.is_live, process.question, process.inbox, process.is_paused = False, None, [], False
        for right in [right for right in self.rights.values() if right.pid == pid]:
            self.revoke(right.cap)
        for child in self.processes.values():
            if child.parent == pid:
                child.parent = process.parent

    def kill(self, pid: int) -> None:
        for process in self.live():
            if self.descends(process.pid, pid):
                process.is_live = False
        for process in [p for p in self.processes.values() if not p.is_live] + [self.processes[pid]]:
            self.end(process.pid)

    # --- rights -------------------------------------------------------------------------------------------------------------

    def mint(self, cap: int, pid: int, space: str, is_wide: bool, uses: int | None) -> None:
        self.rights[cap] = Right(cap, pid, space, is_wide, uses)

    def may_derive(self, parent: Right, space: str, is_wide: bool, uses: int | None) -> bool:
        if not parent.contains(space, is_wide):
            return False
        return parent.uses is None or (uses is not None and uses <= parent.uses)

    def derive(self, cap: int, parent: Right, pid: int, is_wide: bool, uses: int | None) -> None:
        if parent.uses is not None:
            assert uses is not None
            parent.uses -= uses
        self.rights[cap] = Right(cap, pid, parent.space, is_wide, uses, parent.cap)

    def revoke(self, cap: int) -> int:
        """End a right and all derived from it; what is left of counted uses goes back to a live parent. Returns how many ended."""
        ended = sum(self.revoke(right.cap) for right in list(self.rights.values()) if right.parent == cap)
        right = self.rights[cap]
        if not right.is_live:
            return ended
        right.is_live = False
        parent = self.rights.get(right.parent or 0)
        if parent is not None and parent.is_live and parent.uses is not None and right.uses:
            parent.uses += right.uses
        return ended + 1

    def covering(self, pid: int, space: str, name: str) -> list[Right]:
        return [right for right in self.rights.values() if right.pid == pid and right.covers(space, name)]

    # --- calls --------------------------------------------------------------------------------------------------------------

    def put(self, right: Right, space: str, name: str, value: Any) -> None:
        if right.uses is not None:
            right.uses -= 1
        self.objects.setdefault((space, name), []).append(value)

    def obey(self, process: Process) -> None:
        """Let a worker do whatever it can do now."""
        while process.is_live and not process.is_paused:
            if process.question is not None:
                if process.answer is None:
                    return
                process.log.append(process.answer)
                process.question = process.answer = None
            elif process.commands:
                self._do(process, *process.commands.pop(0))
            else:
                return

    def _do(self, process: Process, what: str, *args: Any) -> None:
        if what in ("effect", "send", "fork") and not process.has_rights:
            process.log.append("denied.capability")
        elif what == "note":
            process.log.append(args[0])
        elif what == "effect":
            self.effects.append(args[0])
        elif what == "send":
            target = self.processes[process.ids.get(args[0], args[0])]
            process.log.append("sent" if target.is_live else "invalid.state")
            target.inbox += [process.pid] * target.is_live
        elif what == "ask":
            process.question = args[0]
        elif what == "fork":
            child = Process(0, process.pid, is_worker=True, giver=process, log=list(process.log), ids=process.ids)
            child.born_to = process.pid
            process.forks.append(child)
            process.log.append("forked")
        elif what == "exit":
            self.end(process.pid)
        else:
            assert what == "save"

    # --- checkpoints --------------------------------------------------------------------------------------------------------

    def point(self, pid: int) -> Point:
        """Remember what a worker and those below it are."""
        family = {
            p.pid: Then(
                len(p.told) - len(p.commands),
                list(p.commands),
                list(p.log),
                p.question,
                list(p.inbox),
                p.has_rights,
                dict(p.ids),
            )
            for p in self.live()
            if self.is_below(p.pid, pid)
        }
        return Point(pid, family, set(self.processes))

    def is_below(self, pid: int, ancestor: int) -> bool:
        """Say whether a process is or descends from another, whoever of them has ended."""
        at: int | None = pid
        while at is not None and at != ancestor:
            at = self.processes[at].born_to
        return at is not None

    def restore(self, point: Point) -> None:
        """Go back: whoever is younger ends, the others are what they were, and are told again what they were told since."""
        members = {pid for pid in self.processes if self.is_below(pid, point.pid)}
        for pid in sorted(members - point.known, reverse=True):
            if self.processes[pid].is_live:
                self.end(pid)
        for pid, then in point.family.items():
            process = self.processes[pid]
            since = process.inbox[len(then.inbox) :] if process.is_live else []
            process.is_live, process.is_paused = True, False
            process.log, process.question, process.answer, process.ids = list(then.log), then.question, None, dict(then.ids)
            process.commands = process.told[then.obeyed :]
            process.inbox = then.inbox + [sender for sender in since if sender not in members]
        for process in self.processes.values():
            process.parent = self._living_parent(process.born_to)

    def _living_parent(self, pid: int | None) -> int | None:
        while pid is not None and not self.processes[pid].is_live:
            pid = self.processes[pid].born_to
        return pid

    def copy(self, point: Point, pids: dict[int, int]) -> None:
        """Start the family of a point once more, under new pids."""
        for old in sorted(point.family):
            then, source = point.family[old], self.processes[old]
            above = source.born_to
            while above is not None and above not in pids:
                above = self.processes[above].born_to
            process = self.branch(point, old, pids[old])
            process.parent = process.born_to = None if above is None else pids[above]
            process.commands, process.told = list(then.commands), list(then.commands)
            process.inbox = [pids.get(sender, sender) for sender in then.inbox]
            process.ids = {known: pids.get(at, at) for known, at in then.ids.items()} | pids
            if source.giver is not None and source.giver.pid in pids and then.had_rights:
                process.giver = self.processes[pids[source.giver.pid]]

    def branch(self, point: Point, old: int, pid: int) -> Process:
        """Start a worker that goes on from what another was at a point."""
        then = point.family[old]
        process = self.born(pid, None, is_worker=True)
        process.log, process.question, process.is_bare, process.ids = (
            list(then.log),
            then.question,
            not then.had_rights,
            dict(then.ids),
        )
        return process
