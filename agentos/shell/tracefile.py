"""`--trace RUN`: the recorded run that a word means, read and never changed.

STORE          every process of a store, also while a kernel holds it
STORE:PID      one process and everything it started
FILE.jsonl     what `agentos audit -o jsonl` wrote
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agentos.abi.codec import decode
from agentos.abi.fence import own_words
from agentos.abi.labels import UNTRUSTED
from agentos.abi.op import OpTable
from agentos.abi.records import ProcessRecord
from agentos.errors import Invalid
from agentos.kernel.flow import texts
from agentos.kernel.provenance import Provenance
from agentos.policy.decide import Stack
from agentos.policy.flow import Origin
from agentos.policy.trace import Recorded, Skipped, read_trace
from agentos.runtime.clock import SystemClock

__all__ = ["Run", "read_run"]

_SQLITE: Final = b"SQLite format 3\0"
_LINE_BYTES_MAX: Final = 64 * 1024 * 1024
_FORMS: Final = "give the path of a store, STORE:PID, or a file that `agentos audit -o jsonl` wrote"


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run: its calls, the entries that cannot be decided again, and where the values of its calls came from."""

    calls: list[Recorded]
    skipped: list[Skipped]
    origins: TraceOrigins


def read_run(word: str, table: OpTable) -> Run:
    """Read the run that `word` means.

    Raises:
        Invalid: `invalid.argument`, there is none, or it holds no call; `invalid.store`, it is no store of this version.
    """
    path, pid = _place(word)
    if _is_store(path):
        return _from_store(path, pid, table)
    if pid is not None:
        raise Invalid("argument", f"`{path}` is no store, so it has no process {pid}", hint=_FORMS, field="trace")
    return _run(list(_lines(path)), {}, table, word)


def _place(word: str) -> tuple[Path, int | None]:
    path, colon, tail = word.rpartition(":")
    if colon and tail.isdecimal() and not Path(word).exists():
        return Path(path), int(tail)
    return Path(word), None


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise Invalid("argument", f"`{path}` cannot be read: {error.strerror}", hint=_FORMS, field="trace") from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LINE_BYTES_MAX), b""), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Invalid("argument", f"{path}:{number} is not JSON: {error}", hint=_FORMS, field="trace") from error
            if not isinstance(entry, dict):
                raise Invalid("argument", f"{path}:{number} is no audit entry", hint=_FORMS, field="trace")
            yield entry


def _from_store(path: Path, pid: int | None, table: OpTable) -> Run:
    from agentos.runtime.audit import entries  # noqa: PLC0415 - a file of entries needs no store
    from agentos.shell.output import plain_data  # noqa: PLC0415
    from agentos.store import open_store  # noqa: PLC0415

    with open_store(path.absolute(), clock=SystemClock(), writer=False) as store:
        processes = {record.pid: record for record in store.current(ProcessRecord, live=None)}
        if pid is not None and pid not in processes:
            raise Invalid("argument", f"there is no process {pid} in `{path}`", hint="see `agentos ps --all`", field="trace")
        wanted = set(processes) if pid is None else _below(pid, processes)
        found = [
            {**vars_of(entry), "result": plain_data(entry.result)}
            for entry in entries(store, since=0, pid=None, op=None, outcome=None)
            if entry.pid in wanted
        ]
    return _run(found, processes, table, str(path))


def vars_of(entry: Any) -> dict[str, Any]:
    """Return the fields of an audit entry that a trace needs."""
    return {name: getattr(entry, name) for name in ("seq", "pid", "op", "args", "outcome", "code", "ask", "labels")}


def _below(pid: int, processes: Mapping[int, ProcessRecord]) -> set[int]:
    """Return a process and all that descend from it. A parent's pid is always smaller."""
    found = {pid}
    for each in sorted(processes):
        if processes[each].ppid in found:
            found.add(each)
    return found


def _run(entries: Sequence[Mapping[str, Any]], processes: Mapping[int, ProcessRecord], table: OpTable, word: str) -> Run:
    def facts_of(pid: int) -> dict[str, Any]:
        record = processes.get(pid)
        if record is None:
            return {}
        return {"proc.depth": record.depth, "proc.image": record.image, "proc.name": record.name}

    calls, skipped = read_trace(entries, table, facts_of=facts_of)
    if not calls:
        raise Invalid("argument", f"`{word}` holds no call that can be decided again", hint=_FORMS, field="trace")
    goals = {pid: decode(record.goal) for pid, record in processes.items() if record.goal}
    return Run(calls, skipped, TraceOrigins(table, goals))


@dataclass(slots=True)
class TraceOrigins:
    """Where the values of a trace came from, as far as its entries have their results: `policy.trace.Origins`.

    The goal is known from a store only; a row's labels count for the whole of its result.
    """

    table: OpTable
    goals: Mapping[int, Any]
    _indexes: dict[int, Provenance] = field(default_factory=dict)

    def origin(self, call: Recorded, value: Any, stack: Stack) -> Origin:
        """Return the origin of a value of `call` under the label statements of `stack`."""
        return self._index(call.pid).origin(value, lambda op, path: self._label(stack, op, path), call.label)

    def note(self, call: Recorded) -> None:
        """Take in what `call` returned."""
        index = self._index(call.pid)
        name = call.op.name
        if name == "human.ask":
            for text in texts(call.result):
                index.human.add(text)
        elif name == "obj.get":
            source = f"object({call.args.get('namespace')})"
            index.note_result(name, call.result, seq=call.seq, label=call.label, source=source, args=call.args)
        else:
            own = call.label & ~UNTRUSTED if call.op.untrusted else call.label
            index.note_result(name, call.result, seq=call.seq, label=own, args=call.args)

    def _index(self, pid: int) -> Provenance:
        if pid not in self._indexes:
            self._indexes[pid] = Provenance()
            for text in texts(self.goals.get(pid)):
                self._indexes[pid].prompt.add(own_words(text))
        return self._indexes[pid]

    def _label(self, stack: Stack, source: str, path: str) -> int:
        if source in ("prompt", "human"):
            return stack.labels.prompt if source == "prompt" else stack.labels.human
        op = self.table.get(source)
        if op is None:
            return UNTRUSTED
        bits, is_trusted = stack.labels.result(source, path)
        vouched = is_trusted or "*" in op.trusted or any(path == name or path.startswith(f"{name}.") for name in op.trusted)
        return bits | UNTRUSTED if op.untrusted and not vouched else bits
