"""Flow: what the kernel knows about the values of one process. Implements `policy.flow.Flow` for decisions, and labels results.

    origin of an argument     `kernel.provenance`, an index of what the process was told: kept only where a layer asks for it
    label of a result         what the device, the carried labels and the layers' label statements say about each of its fields
    history                   counters of the task, in `kernel.quota`

After a reopen the index is read again from the process's own rows, the newest ones, when it is first needed.

INVARIANT labels-join: the label of a result is the join over its fields; a field is trusted only when its device or an endorsing
layer says so, and never when it carries the mark of an untrusted source itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode
from agentos.abi.fence import own_words
from agentos.abi.labels import UNTRUSTED, carried
from agentos.abi.limits import PROVENANCE_ROWS_MAX, RESULT_LEAVES_MAX
from agentos.abi.op import Op
from agentos.kernel.provenance import Provenance, joined_path
from agentos.policy.flow import Origin

if TYPE_CHECKING:
    from agentos.abi.records import ProcessRecord
    from agentos.kernel.core import Core
    from agentos.kernel.process import AgentProcess

__all__ = ["OWN_ARGS", "ProcessFlow", "fields", "texts"]

OWN_ARGS: Final = "own_args"
_OWN_WORDS: Final = frozenset({"llm.complete", "llm.embed"})  # what a model says grounds nothing that it says again
"""The option of a process that has given itself its arguments."""


class ProcessFlow:
    """Values and history of one process. `vouched` and `given` belong to the call that is being decided right now."""

    __slots__ = ("_core", "_index", "_process", "given", "vouched")

    def __init__(self, core: Core, process: AgentProcess) -> None:
        self._core = core
        self._process = process
        self._index: Provenance | None = None
        self.vouched: tuple[Any, ...] = ()
        self.given: Mapping[str, Any] = {}

    # --- what decisions ask -------------------------------------------------------------------------------------------------

    @property
    def label(self) -> int:
        """Label bits that the process's calls carry."""
        return self._process.call_label

    def origin(self, value: Any) -> Origin:
        """Return the origin of an argument's value. What the host vouched for is trusted."""
        if any(type(value) is type(vouched) and value == vouched for vouched in self.vouched):
            return Origin(0, frozenset({"human"}))
        index = self.index
        found = index.origin(value, self._field_label, self.label)
        if not found.sources and isinstance(value, str) and value in self.given:
            found = index.origin(self.given[value], self._field_label, self.label)
        return found

    def count(self, op: str) -> int:
        """Return how many calls of `op` the task was admitted to make."""
        return self._core.quotas.count(self._process.record.tree, op)

    def total(self, op: str, attr: str) -> float:
        """Return the sum of an argument over those calls."""
        return float(self._core.quotas.total(self._process.record.tree, op, attr))

    def happened(self, op: str) -> bool:
        """Say whether a call of `op` by the task has succeeded."""
        return self._core.quotas.happened(self._process.record.tree, op)

    # --- what the door tells ------------------------------------------------------------------------------------------------

    @property
    def index(self) -> Provenance:
        """The index of what the process was told so far; built on first use."""
        if self._index is None:
            self._index = Provenance()
            self._read_words(self._index)
            self._read_rows(self._index)
        return self._index

    @property
    def is_indexed(self) -> bool:
        """True when results have to be noted: a layer asks where values come from, or has asked."""
        return self._index is not None or self._process.stack.uses_provenance

    def note_result(self, op: Op, value: Any, args: Mapping[str, Any], *, seq: int, label: int) -> None:
        """Index what a call returned. `value` is plain data, `label` what it carried."""
        if self.is_indexed:
            self._note(self.index, op.name, value, args, seq=seq, label=label)

    def note_human(self, value: Any) -> None:
        """Count what a person typed as a person's words: an answer, edited arguments."""
        if self.is_indexed:
            for text in texts(value):
                self.index.human.add(text)

    def forget(self) -> None:
        """Drop the index; it is read again when it is needed."""
        self._index = None

    # --- labels of results --------------------------------------------------------------------------------------------------

    def result_label(self, op: Op, value: Any, carried: int) -> int:
        """Return the label of a result: the join over its fields. At most RESULT_LEAVES_MAX are looked at; more is untrusted."""
        labels = self._process.stack.labels
        if not op.untrusted and not labels.has_result(op.name):
            return carried
        label = carried
        seen: set[str] = set()
        for number, (path, _) in enumerate(fields(value)):
            if number >= RESULT_LEAVES_MAX:
                return label | (UNTRUSTED if op.untrusted else 0)
            if path not in seen:
                seen.add(path)
                label |= self._field_label(op.name, path)
        return label

    def is_endorsed(self, op: str, path: str) -> bool:
        """Say whether an endorsing layer calls a field of an op's result trusted, and none calls it untrusted."""
        bits, trusted = self._process.stack.labels.result(op, path)
        return trusted and not bits & UNTRUSTED

    def _field_label(self, source: str, path: str) -> int:
        labels = self._process.stack.labels
        if source == "prompt":
            return labels.prompt
        if source == "human":
            return labels.human
        op = self._core.ops.get(source)
        if op is None:
            return UNTRUSTED
        bits, trusted = labels.result(source, path)
        if op.untrusted and not trusted and not _is_declared(op, path):
            bits |= UNTRUSTED
        return bits

    # --- reading it again ---------------------------------------------------------------------------------------------------

    def _read_words(self, index: Provenance) -> None:
        """Enter the goals and arguments that people wrote: those of the process where it was born trusted, and of what it descends from.

        Arguments that a process gave itself with `proc.exec` are nobody's words.
        """
        process: AgentProcess | None = self._process
        while process is not None:
            record = process.record
            if not record.ppid or not record.birth_label & UNTRUSTED:
                for encoded in (record.goal, b"" if _chose_its_args(record) else record.args):
                    for text in texts(decode(encoded)) if encoded else ():
                        index.prompt.add(own_words(text))
            process = process.parent

    def _read_rows(self, index: Provenance) -> None:
        record = self._process.record
        store = self._core.store
        spans: list[tuple[int, int | None]] = [(record.pid, None)]
        if record.fork_pid:
            spans.insert(0, (record.fork_pid, record.fork_seq))
        for pid, upto in spans:
            heads: dict[int, tuple[str, bytes]] = {}
            for row in store.newest(pid, PROVENANCE_ROWS_MAX, upto):
                if row.kind == "intent":
                    heads[row.seq] = row.op, row.args
                elif row.kind in ("call", "result") and row.outcome == "done" and row.result:
                    op, args = heads.pop(row.parent, (row.op, row.args))
                    self._note(
                        index, op, decode(row.result), decode(args) if args else {}, seq=row.seq, label=carried(row.labels)
                    )

    def _note(self, index: Provenance, op: str, value: Any, args: Mapping[str, Any], *, seq: int, label: int) -> None:
        if op in _OWN_WORDS:
            return
        if op == "human.ask":
            for text in texts(value):
                index.human.add(text)
        elif op == "msg.recv" and isinstance(value, Mapping) and value.get("sender") == 0:
            for text in texts(value.get("value")):
                index.prompt.add(own_words(text))
        else:
            source = f"object({args.get('namespace')})" if op == "obj.get" else None
            index.note_result(op, value, seq=seq, label=label, source=source, args=args, label_of=self._field_label)


def _chose_its_args(record: ProcessRecord) -> bool:
    return bool(record.options) and bool(decode(record.options).get(OWN_ARGS))


def _is_declared(op: Op, path: str) -> bool:
    """Say whether the device vouches for a field, or for what it is part of."""
    return "*" in op.trusted or any(path == field or path.startswith(field + ".") for field in op.trusted)


def texts(value: Any) -> Iterator[str]:
    """Yield the texts and numbers of a value as text."""
    for _, leaf in fields(value):
        if isinstance(leaf, str):
            yield leaf
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            yield str(leaf)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every scalar of plain data, and of every field of an object, which is there by its name alone.

    Fields are joined by `.`, positions of lists left out. Nothing is yielded for None by itself, an empty list or an empty object.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            inner = joined_path(path, str(key))
            yield inner, None
            yield from fields(item, inner)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from fields(item, path)
    elif value is not None:
        yield path, value
