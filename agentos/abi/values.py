"""Values that ops return and the API shows. Frozen; equal when live and when replayed from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "CapInfo", "Checkpoint", "Diff", "Divergence", "ErrorData", "Event", "Exit", "MergeReport", "Message", "ProcessInfo",
    "Ref", "ReplayReport", "RestoreReport", "Schedule", "UndoReport",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ErrorData:
    """An error as data. `code` is a code of the error tree, or ``exception`` for what a program raised (`type` then names it)."""

    code: str
    message: str
    hint: str = ""
    type: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return code and message."""
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `state` is exited, failed or killed; `value` is what its program returned."""

    state: str
    value: Any = None
    error: ErrorData | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `sender` is a pid, 0 for the host."""

    id: int
    sender: int
    value: Any
    channel: str = "main"
    reply_to: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ref:
    """Handle of one version of an object: names it, grants nothing."""

    namespace: str
    name: str
    version: int
    digest: str
    type: str = "json"
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CapInfo:
    """One capability as its holder and the host see it. `uses_left` None = unlimited; `expires` None = never; `origin`: host, PID, ask.

    `chain` is who made it from what, from the host (or the ask) to itself; `passes_to` who may get a part of it: descendants, anyone
    (`depth` times), nobody. `state`: live, or expired.
    """

    id: int
    pid: int
    ops: tuple[str, ...]
    pattern: tuple[str, ...]
    text: str
    uses_left: int | None
    expires: float | None
    depth: int | None
    parent: int | None
    origin: str
    state: str = "live"
    chain: tuple[str, ...] = ()
    passes_to: str = "descendants"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process as `ps` shows it. `usage` and `budget` are per resource; `waiting_on` are words such as ``ask 3``.

    `labels` are the words of what it has read: internal, secret, untrusted.
    """

    pid: int
    ppid: int
    name: str
    image: str
    digest: str
    state: str
    waiting_on: tuple[str, ...]
    goal: str | None
    usage: dict[str, float]
    budget: dict[str, float]
    created: float
    exit: Exit | None = None
    tree: int = 0
    program: str = "host"
    weight: float = 1.0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something a follower can see happen: spawned, state, call, denied, ask, answered, exited, slow. `seq` orders and resumes."""

    seq: int
    kind: str
    pid: int
    at: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A named point of a process and its descendants: their state right after journal row `seq`. `by` is who made it, 0 the host."""

    id: str
    pid: int
    tree: int
    seq: int
    note: str = ""
    by: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What going back to a checkpoint did, and what it could not undo.

    Attributes:
        checkpoint: Its id.
        mode: ``replace`` or ``new``.
        seq: Journal number of the restore.
        pids: Pid of each process that lived then -> its pid now.
        killed: Processes that were started since, and were ended.
        revived: Processes that had ended since, and live again.
        effects: What was done outside since the checkpoint, oldest first, RESTORE_LISTED_MAX at most, as
            ``{seq, pid, op, resource, effect, outcome, undoable}``; messages to others are among them. `undoable`: `undo` can take it back.
        effects_count: How many there were.
        not_restored: Capabilities that were held then and are not now, or with fewer uses: ``{pid, cap, text, reason}``.
        shared: Objects outside the private namespaces that were changed since, as ``NAMESPACE/NAME``: left as they are.
        withdrawn: Asks that were open.
    """

    checkpoint: str
    mode: str
    seq: int
    pids: dict[int, int]
    killed: tuple[int, ...] = ()
    revived: tuple[int, ...] = ()
    effects: tuple[dict[str, Any], ...] = ()
    effects_count: int = 0
    not_restored: tuple[dict[str, Any], ...] = ()
    shared: tuple[str, ...] = ()
    withdrawn: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two points, one page of it.

    Attributes:
        a: The first point, a checkpoint's id.
        b: The second, a checkpoint's id or ``now``.
        seqs: Their journal numbers.
        items: ``{what, key, before, after}``: `what` is process, object, message, capability, file, label or policy; None stands where
            there was, or is, nothing.
        cursor: To pass for the next page, or None.
        complete: False when more rows lie between than are looked through for files and shared objects.
    """

    a: str
    b: str
    seqs: tuple[int, int]
    items: tuple[dict[str, Any], ...]
    cursor: str | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """A standing order to spawn.

    Attributes:
        id: Its number.
        state: ``live``, ``paused``, ``done`` (it was for one run) or ``cancelled``.
        image: ``name:version`` of what it starts.
        digest: Digest of exactly that image.
        every_s: Seconds from one run to the next, None without.
        cron: Calendar of its runs, "" without.
        zone: Time zone of the calendar.
        due: When it starts the next run, None when it starts none.
        overlap: What becomes of a run that is due while the last one lives: ``skip``, ``allow`` or ``replace``.
        goal: Of its processes.
        args: Of its processes.
        grant: Capability texts; None is what the image requests.
        name: What `ps` calls its processes.
        runs: Processes that were started.
        skipped: Runs that were not: missed while no kernel ran, or due while the last one lived.
        last_pid: The newest process, 0 before the first.
        created: When it was made.
    """

    id: int
    state: str
    image: str
    digest: str
    every_s: float | None
    cron: str
    zone: str
    due: float | None
    overlap: str
    goal: Any = None
    args: dict[str, Any] | None = None
    grant: tuple[str, ...] | None = None
    name: str = ""
    runs: int = 0
    skipped: int = 0
    last_pid: int = 0
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a program first did something else than its journal says.

    Attributes:
        call: Number of the call, "" for how the process ended.
        seq: Journal number of what was recorded there, None for what was not.
        life: Which run of the program it was, from 1: each time a process was parked or its kernel ended, a new one began.
        message: What was recorded and what came now.
        hint: The likely cause, and what to do.
    """

    call: str
    seq: int | None
    life: int
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What running a process again from its journal showed.

    Attributes:
        ok: Everything was as recorded.
        pid: The process.
        calls: Calls that were compared, each of them once.
        lives: Runs of its program that were repeated.
        exit_equal: Whether it ended as recorded; None where its program's end cannot be compared: it lives, it was ended from outside, or
            only a part was looked at.
        divergence: The first difference, or None.
    """

    ok: bool
    pid: int
    calls: int
    lives: int
    exit_equal: bool | None
    divergence: Divergence | None = None


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What taking file effects back did, or, with `dry_run`, would do.

    Attributes:
        pid: The process that made the calls: `undo` of it takes this back. None where nothing was to be done, or done.
        restored: Files that got another content.
        created: Files and folders that came back.
        deleted: Files and folders that went.
        moved: (from, to) of what was moved.
        conflicts: Paths that are not as they were left: ``{path, expected, found, diff}`` or ``{path, why}``. With any, nothing was done.
        refused: The call that was refused or failed, as ``{op, path, code, message, rule, seq}``: those before it were made.
        not_covered: What was done and is not taken back: ``{op, resource, seq, pid}``, RESTORE_LISTED_MAX at most.
        not_covered_count: How much that was.
        dry_run: Nothing was to be done.
        diffs: Path -> unified diff of the content that was there to the one that came; sizes where it is no text.
    """

    pid: int | None
    restored: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    conflicts: tuple[dict[str, Any], ...] = ()
    refused: tuple[dict[str, Any], ...] = ()
    not_covered: tuple[dict[str, Any], ...] = ()
    not_covered_count: int = 0
    dry_run: bool = False
    diffs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MergeReport(UndoReport):
    """What merging the files of a speculative process did, or would do. `merged` is its pid; `is_over` says that its overlay has ended."""

    merged: int = 0
    is_over: bool = False
