"""What differs between two points of a family: processes, their objects, messages, capabilities, labels and policy, and files.

State is compared as the versioned tables have it at both points, what is outside of it (files, shared objects) as the journal tells it.

INVARIANT cost-is-local: the cost is what has changed since the first point, at most DIFF_ROWS_MAX rows of the journal of it.
INVARIANT scope-is-mandatory: of a shared object a process is shown the versions that its family made; it reads others with `obj.get`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from agentos.abi.codec import decode, encode
from agentos.abi.labels import names as label_names
from agentos.abi.limits import INLINE_BYTES_MAX, LIST_LIMIT_MAX
from agentos.abi.ops.ckpt import NOW
from agentos.abi.records import CapRecord, CheckpointRecord, MessageRecord, NameRecord, ProcessRecord, StateRecord
from agentos.abi.values import Diff
from agentos.errors import Invalid
from agentos.kernel.doings import look_at_once
from agentos.kernel.lifecycle import decode_layers
from agentos.kernel.past import Past

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["compare"]

Record = TypeVar("Record", bound=StateRecord)
Item = dict[str, Any]


def compare(
    core: Core,
    a: CheckpointRecord,
    b: CheckpointRecord | None,
    *,
    limit: int = LIST_LIMIT_MAX,
    cursor: str | None = None,
    for_process: bool = False,
) -> tuple[Diff, int]:
    """Return what differs between checkpoint `a` and checkpoint `b`, or now, and the label of what that shows.

    Args:
        core: The kernel's state.
        a: The earlier point; its process and descendants are compared.
        b: The later one.
        limit: At most this many items, 1 to LIST_LIMIT_MAX.
        cursor: As the page before returned it.
        for_process: A process wants it, not the host.

    Raises:
        Invalid: the two are not of one tree, or not in that order; a bad `limit` or `cursor`.
    """
    if b is not None and (b.tree != a.tree or b.at_seq < a.at_seq):
        said = "is of another tree" if b.tree != a.tree else "is the older one"
        raise Invalid("argument", f"checkpoint `{b.checkpoint}` {said}", hint="name the older one of one tree first", field="b")
    begin = int(cursor) if cursor is not None and cursor.isdigit() else 0
    if not 1 <= limit <= LIST_LIMIT_MAX or (cursor is not None and not cursor.isdigit()):
        raise Invalid(
            "argument", f"there is no page {cursor!r} of {limit}", hint=f"limit is 1 to {LIST_LIMIT_MAX}", field="limit"
        )
    until = core.journal.head if b is None else b.at_seq
    found = _Comparison(core, a, until, for_process=for_process)
    items = found.items()
    last = begin + limit
    page = Diff(
        a.checkpoint, NOW if b is None else b.checkpoint, (a.at_seq, until), tuple(items[begin:last]),
        cursor=str(last) if last < len(items) else None, complete=found.doings.complete,
    )  # fmt: skip
    return page, found.label


class _Comparison:
    """One comparison of a family right after row `after` with it right after row `until`."""

    def __init__(self, core: Core, a: CheckpointRecord, until: int, *, for_process: bool) -> None:
        self._core = core
        self._store = core.store
        self._after, self._until = a.at_seq, until
        self.label = 0
        self._for_process = for_process
        past = Past(core, a.at_seq)
        born = past.members_since(a.pid, a.tree)
        self._pids = sorted({*born, *(then.pid for then in past.family(a.pid, a.tree))})
        self._tree = a.tree
        self.doings = look_at_once(core.store, self._pids, a.at_seq, until)

    def items(self) -> list[Item]:
        """Return every difference, by what it is of and by key."""
        return [
            *self._processes(), *self._objects(), *self._of_pids(MessageRecord, "message", _message),
            *self._of_pids(CapRecord, "capability", _cap), *self._files(),
        ]  # fmt: skip

    def _pairs(self, kind: type[Record], key: tuple[str, ...], **equals: Any) -> Iterator[tuple[Record | None, Record | None]]:
        """Yield (before, after) of each record that has changed since the first point."""
        for changed in self._store.changed_since(kind, self._after, **equals):
            where = tuple(getattr(changed, name) for name in key)
            before = self._store.get(kind, *where, at=self._after)
            after = changed if changed.seq <= self._until else self._store.get(kind, *where, at=self._until)
            if (before.seq if before else 0) != (after.seq if after else 0):
                yield before, after

    def _processes(self) -> Iterator[Item]:
        items: list[Item] = []
        for before, after in self._pairs(ProcessRecord, ("pid",), tree=self._tree):
            record = after or before
            if record is None or record.pid not in self._pids:
                continue
            self.label |= record.label | (before.label if before else 0)
            for what, show in (("process", _process), ("label", _label), ("policy", self._policy)):
                items += _item(what, str(record.pid), before, after, show)
        yield from sorted(items, key=lambda item: (_KINDS.index(item["what"]), int(item["key"])))

    def _policy(self, record: ProcessRecord) -> list[str]:
        layers = [*decode_layers(record), *([record.own_layer] if record.own_layer else [])]
        return [f"{layer.name} {layer.digest[:16]}" for layer in (self._core.layers.get(digest) for digest in layers)]

    def _objects(self) -> Iterator[Item]:
        for pid in self._pids:
            for before, after in self._pairs(NameRecord, NameRecord.keys, namespace=f"proc/{pid}"):
                yield from self._object(before, after)
        for namespace, name in sorted(self.doings.shared):
            before, after = (self._store.get(NameRecord, namespace, name, at=at) for at in (self._after, self._until))
            yield from self._object(before, after)

    def _object(self, before: NameRecord | None, after: NameRecord | None) -> Iterable[Item]:
        record = after or before
        if record is None:
            return []
        self.label |= record.labels | (before.labels if before else 0)
        return _item("object", f"{record.namespace}/{record.name}", before, after, self._shown_object)

    def _shown_object(self, record: NameRecord) -> Item:
        if self._for_process and record.pid not in self._pids and (record.namespace, record.name) in self.doings.shared:
            return {"version": record.version, "by_others": True}
        shown: Item = {
            "version": record.version,
            "type": record.type,
            "digest": record.digest,
            "labels": label_names(record.labels),
        }
        size = decode(record.tags).get("size_bytes", 0) if record.tags else 0
        if size <= INLINE_BYTES_MAX and record.type != "list":
            shown["value"] = self._store.objects.unpack(record.value)
        return shown | {"size_bytes": size}

    def _of_pids(self, kind: type[Record], what: str, show: Callable[[Any], Item]) -> Iterator[Item]:
        for pid in self._pids:
            for before, after in self._pairs(kind, kind.keys, pid=pid):
                record: Any = after or before
                self.label |= getattr(record, "labels", 0)
                yield from _item(what, str(getattr(record, kind.keys[0])), before, after, show)

    def _files(self) -> Iterator[Item]:
        for path, (before, after) in sorted(self.doings.files.items()):
            yield {"what": "file", "key": path, "before": before, "after": after}


_KINDS = ("process", "label", "policy")


def _item(what: str, key: str, before: Any, after: Any, show: Callable[[Any], Any]) -> list[Item]:
    """Return the difference of one thing, as nothing or one item. What has ended is shown as it ended, except names that were dropped."""
    old, new = (show(record) if record is not None and _is_there(record) else None for record in (before, after))
    return [] if encode(old) == encode(new) else [{"what": what, "key": key, "before": old, "after": new}]


def _is_there(record: StateRecord) -> bool:
    return not isinstance(record, NameRecord) or bool(record.live)


def _process(record: ProcessRecord) -> Item:
    shown: Item = {"state": "live" if record.live else record.state, "name": record.name, "image": record.image}
    if record.exit:
        shown["exit"] = decode(record.exit)["value"]
    return shown | {"saved": record.save_number}


def _label(record: ProcessRecord) -> list[str]:
    return label_names(record.label)


def _message(record: MessageRecord) -> Item:
    value = decode(record.value) if len(record.value) <= INLINE_BYTES_MAX else f"... ({len(record.value)} bytes)"
    return {"pid": record.pid, "state": record.state, "sender": record.sender, "channel": record.channel, "value": value}


def _cap(record: CapRecord) -> Item:
    shown: Item = {"pid": record.pid, "state": record.state, "text": record.text}
    return shown | ({"uses_left": record.uses_left} if record.uses_left >= 0 else {})
