"""Records of the journal and of versioned state: what the kernel keeps in memory and the store keeps in tables.

`Row` is one line of the journal. The others are *state records*: current truth, one version per change, each version stamped with
the journal number that made it (`seq`) and closed by the number that replaced it (`until`, kept by the store). A record is the
columns of its table, in order; the store adds nothing to it and the kernel reads nothing else.

Times are seconds since the epoch (float, UTC) from the injected clock. Fields of type bytes hold `codec.encode`d values.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

__all__ = [
    "AccountRecord", "AskRecord", "CapRecord", "Change", "CheckpointRecord", "FileLabelRecord", "ImageRecord", "MessageRecord",
    "NameRecord", "OverlayRecord", "PolicyRecord", "ProcessRecord", "QuotaRecord", "RetentionRecord", "Row", "ScheduleRecord",
    "StandingRecord", "StateRecord", "TimerRecord",
]  # fmt: skip


class Row(msgspec.Struct):
    """One row of the journal.

    kind: ``call`` (pure, local, denied and invalid calls: one row says it all), ``intent`` and ``result`` (effectful calls: two),
    ``note`` (the kernel's own doings: boot, answers by people, timers, parking, host mints).
    `parent` is the intent's seq for a result, the calling tool's seq for a nested call, else 0.
    outcome: done denied failed unknown, or "" for an intent (shown as pending until its result is there).
    `args`, `resource` and `result` are content: erasable, and covered by the chain only through a salted hash.
    """

    pid: int
    number: str
    kind: str
    op: str
    resource: str = ""
    effect: str = ""
    digest: bytes = b""
    args: bytes = b""
    outcome: str = ""
    code: str = ""
    rule: str = ""
    cap: int = 0
    ask: int = 0
    labels: int = 0
    cost: bytes = b""
    result: bytes = b""
    key: str = ""
    parent: int = 0
    at: float = 0.0
    seq: int = 0


class StateRecord(msgspec.Struct, kw_only=True):
    """Base of versioned state. `seq` is stamped when the version is appended; `table` and `keys` say where it lives."""

    table: ClassVar[str] = ""
    keys: ClassVar[tuple[str, ...]] = ()
    seq: int = 0


class ProcessRecord(StateRecord, kw_only=True):
    """One process. `live` is 1 until it has ended; `waits` is the encoded list of typed waits of a parked process.

    A process whose `fork_pid` is not 0 continues what that process (it may be the process itself, once restored) had done before row
    `fork_seq`. `resumes` counts how often in a row it was started again at an open and then did nothing; `overlay` is the pid whose file
    overlay it works on, 0 for the files themselves; `id_map` maps ids that it knows from before a restore to today's; `code` names the
    program text that it last ran; `restored` is the checkpoint that it was last restored from.
    """

    table: ClassVar[str] = "process"
    keys: ClassVar[tuple[str, ...]] = ("pid",)
    pid: int
    ppid: int = 0
    tree: int = 0
    depth: int = 0
    live: int = 1
    state: str = "ready"
    name: str = ""
    image: str = ""
    image_digest: str = ""
    program: str = "host"
    goal: bytes = b""
    args: bytes = b""
    limits: bytes = b""
    weight: float = 1.0
    deadline: float = 0.0
    created: float = 0.0
    label: int = 0
    cwd: str = "/"
    layers: bytes = b""
    save_seq: int = 0
    save_number: int = 0
    save_state: bytes = b""
    fork_pid: int = 0
    fork_seq: int = 0
    waits: bytes = b""
    exit: bytes = b""
    options: bytes = b""
    own_layer: str = ""
    endorsing: int = 0
    birth_label: int = 0
    resumes: int = 0
    overlay: int = 0
    id_map: bytes = b""
    code: str = ""
    restored: str = ""


class AccountRecord(StateRecord, kw_only=True):
    """What a process had used by the row `seq`: `own` by its own calls, `ended` by descendants that have ended.

    Calls after `seq` are counted from the process's tail of the journal, so a call costs no write here. No intent before row `floor`
    is open.
    """

    table: ClassVar[str] = "account"
    keys: ClassVar[tuple[str, ...]] = ("pid",)
    pid: int
    live: int = 1
    floor: int = 0
    own: bytes = b""
    ended: bytes = b""


class CapRecord(StateRecord, kw_only=True):
    """One capability. `uses_left` and `depth` are -1 when unlimited; `state` is live, revoked, dropped, spent or ended."""

    table: ClassVar[str] = "cap"
    keys: ClassVar[tuple[str, ...]] = ("cap",)
    cap: int
    pid: int
    live: int = 1
    state: str = "live"
    text: str = ""
    uses_left: int = -1
    expires: float = 0.0
    depth: int = -1
    parent: int = 0
    origin: str = "host"


class AskRecord(StateRecord, kw_only=True):
    """One question to a person. `live` is 1 while pending or decided; `state`: pending decided consumed withdrawn expired."""

    table: ClassVar[str] = "ask"
    keys: ClassVar[tuple[str, ...]] = ("ask",)
    ask: int
    pid: int
    number: str = ""
    live: int = 1
    state: str = "pending"
    kind: str = "approval"
    op: str = ""
    args: bytes = b""
    preview: bytes = b""
    digest: bytes = b""
    rule: str = ""
    rule_name: str = ""
    because: str = ""
    labels: int = 0
    lineage: bytes = b""
    created: float = 0.0
    expires: float = 0.0
    answer: bytes = b""
    resource: str = ""
    effect: str = ""
    layer: str = ""
    remember: str = ""
    question: str = ""
    offer: str = ""
    batch: str = ""


class MessageRecord(StateRecord, kw_only=True):
    """One durable message; `live` is 1 until it was received."""

    table: ClassVar[str] = "message"
    keys: ClassVar[tuple[str, ...]] = ("message",)
    message: int
    pid: int
    live: int = 1
    state: str = "unread"
    sender: int = 0
    channel: str = "main"
    value: bytes = b""
    labels: int = 0
    reply_to: int = 0
    at: float = 0.0


class TimerRecord(StateRecord, kw_only=True):
    """The due time of one waiting call; `live` is 1 until the call ended."""

    table: ClassVar[str] = "timer"
    keys: ClassVar[tuple[str, ...]] = ("pid", "number")
    pid: int
    number: str
    live: int = 1
    due: float = 0.0


class NameRecord(StateRecord, kw_only=True):
    """One named object: namespace/name at `version`; `value` is inline or chunked (the store decides). `live` is 0 once dropped."""

    table: ClassVar[str] = "name"
    keys: ClassVar[tuple[str, ...]] = ("namespace", "name")
    namespace: str
    name: str
    live: int = 1
    version: int = 1
    type: str = "json"
    digest: str = ""
    value: bytes = b""
    labels: int = 0
    made_by: int = 0
    pid: int = 0
    at: float = 0.0
    tags: bytes = b""
    sources: bytes = b""


class ImageRecord(StateRecord, kw_only=True):
    """One registered image; `manifest` is the encoded canonical configuration with its files."""

    table: ClassVar[str] = "image"
    keys: ClassVar[tuple[str, ...]] = ("digest",)
    digest: str
    live: int = 1
    name: str = ""
    version: str = ""
    manifest: bytes = b""
    at: float = 0.0


class PolicyRecord(StateRecord, kw_only=True):
    """One policy layer by the hash of its source text."""

    table: ClassVar[str] = "policy"
    keys: ClassVar[tuple[str, ...]] = ("digest",)
    digest: str
    live: int = 1
    name: str = ""
    source: str = ""
    text: bytes = b""


class QuotaRecord(StateRecord, kw_only=True):
    """What was used of one limit of a policy, or one counter of history: a total, or the buckets of a sliding window."""

    table: ClassVar[str] = "quota"
    keys: ClassVar[tuple[str, ...]] = ("key",)
    key: str
    live: int = 1
    data: bytes = b""


class StandingRecord(StateRecord, kw_only=True):
    """One standing grant: an approval that a person gave for more than one call. `state`: live revoked expired ended.

    `holder` is what the scope is bound to: a pid, a tree, an image digest, or nothing for the project. `text` is the stored rule.
    """

    table: ClassVar[str] = "standing"
    keys: ClassVar[tuple[str, ...]] = ("standing",)
    standing: int
    live: int = 1
    state: str = "live"
    scope: str = "process"
    holder: str = ""
    op: str = ""
    text: str = ""
    rule: str = ""
    layer: str = ""
    ask: int = 0
    by: str = ""
    reason: str = ""
    created: float = 0.0
    expires: float = 0.0


class FileLabelRecord(StateRecord, kw_only=True):
    """The label that a file got from the process that wrote it. `live` is 0 once it has none again."""

    table: ClassVar[str] = "file_label"
    keys: ClassVar[tuple[str, ...]] = ("path",)
    path: str
    live: int = 1
    labels: int = 0


class CheckpointRecord(StateRecord, kw_only=True):
    """A name for the state of a process and its descendants right after row `at_seq`. While `live`, that state is kept."""

    table: ClassVar[str] = "checkpoint"
    keys: ClassVar[tuple[str, ...]] = ("checkpoint",)
    checkpoint: str
    live: int = 1
    tree: int = 0
    pid: int = 0
    at_seq: int = 0
    note: str = ""
    by: int = 0
    at: float = 0.0


class ScheduleRecord(StateRecord, kw_only=True):
    """A standing order to spawn: every so often, by the calendar, or once. `state` is live, paused, done or cancelled."""

    table: ClassVar[str] = "schedule"
    keys: ClassVar[tuple[str, ...]] = ("schedule",)
    schedule: int
    live: int = 1
    state: str = "live"
    image: str = ""
    every_s: float = 0.0
    cron: str = ""
    zone: str = ""
    overlap: str = "skip"
    goal: bytes = b""
    args: bytes = b""
    options: bytes = b""
    due: float = 0.0
    last_pid: int = 0
    runs: int = 0
    skipped: int = 0
    created: float = 0.0


class OverlayRecord(StateRecord, kw_only=True):
    """One path that a speculative process has changed in its own view. `kind` is file, folder or gone.

    `object` names the content of a file, `base` is the sha256 of the file below when it was first changed: "" where there was none,
    ``folder`` for a folder.
    """

    table: ClassVar[str] = "overlay"
    keys: ClassVar[tuple[str, ...]] = ("pid", "path")
    pid: int
    path: str
    live: int = 1
    kind: str = "file"
    object: str = ""
    size: int = 0
    base: str = ""
    labels: int = 0


class RetentionRecord(StateRecord, kw_only=True):
    """How long something is kept after its process ended: `scope` is all, tree, namespace or label; `action` is archive or erase."""

    table: ClassVar[str] = "retention"
    keys: ClassVar[tuple[str, ...]] = ("retention",)
    retention: int
    live: int = 1
    scope: str = "all"
    value: str = ""
    action: str = "archive"
    keep_s: float = 0.0
    created: float = 0.0


class Change(msgspec.Struct):
    """One new version of a state record. `replaces` is the seq of the version it closes, 0 when the record is new.

    The store checks that exactly that version was current (compare-and-set), so two writers can never both win.
    """

    record: StateRecord
    replaces: int = 0
