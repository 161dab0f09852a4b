"""Objects: values with a name in a namespace, kept by content, one version per change.

A version's value is packed into content-addressed chunks by the store, so a long list that grows costs its growth. Names are looked up
in the store and kept in a small cache, in which this kernel, the only writer, always sees its own latest version.

INVARIANT scope-is-mandatory: every read names its namespace, which the door decided on; there is no wildcard and no search across.
INVARIANT labels-join: a version carries its writer's label joined with what the writer says and with the version before when it appends;
reading it raises the reader's label.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentos.abi import labels as label_words
from agentos.abi.codec import decode, digest, encode
from agentos.abi.limits import IDENTIFIER_CHARS_MAX
from agentos.abi.permit import Permit
from agentos.abi.records import Change, NameRecord
from agentos.abi.values import Ref
from agentos.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["ObjectTable"]

Where = tuple[str, str]
_CACHED = 4_096
_TYPES: dict[type, str] = {str: "text", bytes: "bytes"}
_LINKS = "links"


class ObjectTable:
    """(namespace, name) -> versions of a value."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._cache: OrderedDict[Where, NameRecord] = OrderedDict()

    def put(
        self, where: Where, value: Any, permit: Permit, *, label: int, type_name: str | None, if_version: int | None
    ) -> Ref:
        """Store the next version of a name.

        Raises:
            Invalid: `invalid.state`, `if_version` is not the current version (0: the name must be new); a bad name.
        """
        _check_name(where)
        record = self._find(where)
        current = record.version if record is not None and record.live else 0
        if if_version is not None and if_version != current:
            raise Invalid(
                "state",
                f"`{'/'.join(where)}` is at version {current}, not {if_version}",
                hint="read it again",
                field="if_version",
            )
        packed = self._store.objects.pack(value)
        return self._write(
            where,
            record,
            packed,
            permit,
            label=label,
            type_name=type_name or _TYPES.get(type(value), "json"),
            size=len(encode(value)),
        )

    def append(self, where: Where, element: Any, permit: Permit, *, label: int) -> Ref:
        """Append an element to a list object, making it if it is new. Costs the element.

        Raises:
            Invalid: `invalid.state`, the object is not a list.
        """
        _check_name(where)
        record = self._find(where)
        if record is None or not record.live:
            return self._write(
                where,
                record,
                self._store.objects.pack([element]),
                permit,
                label=label,
                type_name="list",
                size=len(encode(element)),
            )
        if not record.value:
            raise _erased(where)
        if record.type not in ("list", "json"):
            raise Invalid("state", f"`{'/'.join(where)}` is a {record.type}, not a list", hint="put a list first", field="name")
        packed = self._store.objects.append(record.value, element)
        is_stricter = label_words.level(record.labels) > label_words.level(label)
        ref = self._write(
            where, record, packed, permit, label=label | record.labels, type_name="list", size=len(encode(element))
        )
        return replace(ref, digest="") if is_stricter else ref  # from a digest what was there before could be guessed

    def _write(  # noqa: PLR0913 - the columns of a version
        self, where: Where, record: NameRecord | None, packed: bytes, permit: Permit, *, label: int, type_name: str, size: int
    ) -> Ref:
        replaced = record.seq if record is not None else 0
        if record is None:
            record = NameRecord(namespace=where[0], name=where[1], version=0)
        record.version += 1
        record.live, record.type, record.value, record.labels = 1, type_name, packed, label
        record.digest, record.pid, record.at = digest(packed).hex(), permit.pid, self._now()
        record.made_by = self._store.journal.head + 1
        record.tags = encode({"size_bytes": size})
        self._remember(where, record)
        permit.changes.append(Change(record, replaced))
        return Ref(where[0], where[1], record.version, record.digest, type_name, size)

    def get(self, where: Where, version: int | None) -> tuple[Any, int]:
        """Return the value of a version (the newest by default) and its label.

        Raises:
            Unavailable: `unavailable.missing`, there is no such object or version.
        """
        record = self._find(where)
        if record is not None and version is not None and version != record.version:
            record = self._find_version(where, version)
        if record is None or not record.live:
            shown = "/".join(where) + (f" version {version}" if version is not None else "")
            raise Unavailable("missing", f"there is no object `{shown}`", hint="see `obj.list`", resource="/".join(where))
        if not record.value:
            raise _erased(where)
        return self._store.objects.unpack(record.value), record.labels

    def list(self, namespace: str, wanted: dict[str, str], *, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return one page of a namespace's objects by name."""
        after = (namespace, cursor or "")
        items: list[dict[str, Any]] = []
        while len(items) < limit:
            page = self._store.current(NameRecord, live=True, namespace=namespace, after=after, limit=limit)
            items += [_item(record) for record in page if _matches(record, wanted)][: limit - len(items)]
            if len(page) < limit:
                return {"items": items, "cursor": None}
            after = (namespace, items[-1]["name"] if len(items) == limit else page[-1].name)
        return {"items": items, "cursor": after[1]}

    def link(self, a: str, b: str, kind: str, permit: Permit) -> None:
        """Record ``a -kind-> b``; both have to exist."""
        for name in (a, b):
            namespace, _, last = name.rpartition("/")
            self.get((namespace, last), None)
        namespace, _, last = a.rpartition("/")
        where = (namespace, f"{last}.{_LINKS}")
        self.append(where, {"a": a, "b": b, "kind": kind}, permit, label=permit.process.label)

    def drop(self, where: Where, permit: Permit) -> None:
        """Drop a name; its versions stay in history.

        Raises:
            Unavailable: `unavailable.missing`, there is no such object.
        """
        record = self._find(where)
        if record is None or not record.live:
            raise Unavailable(
                "missing", f"there is no object `{'/'.join(where)}`", hint="see `obj.list`", resource="/".join(where)
            )
        replaced = record.seq
        record.live = 0
        permit.changes.append(Change(record, replaced))

    def forget(self, namespace: str) -> None:
        """Drop what is cached of a namespace: its names were changed by a restore."""
        for where in [where for where in self._cache if where[0] == namespace]:
            del self._cache[where]

    def clear(self) -> None:
        """Drop all that is cached: content was erased."""
        self._cache.clear()

    def _find(self, where: Where) -> NameRecord | None:
        record = self._cache.get(where)
        if record is not None:
            self._cache.move_to_end(where)
            return record
        record = self._store.get(NameRecord, *where)
        if record is not None:
            self._remember(where, record)
        return record

    def _find_version(self, where: Where, version: int) -> NameRecord | None:
        """Walk back from the newest version; versions are few between a reader and the one it knows."""
        record = self._store.get(NameRecord, *where)
        while record is not None and (record.version > version or (record.version == version and not record.live)):
            record = self._store.get(NameRecord, *where, at=record.seq - 1)
        return record if record is not None and record.version == version else None

    def _remember(self, where: Where, record: NameRecord) -> None:
        self._cache[where] = record
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)


def _erased(where: Where) -> Unavailable:
    name = "/".join(where)
    return Unavailable("missing", f"object `{name}` was erased", hint="put it again", resource=name)


def _check_name(where: Where) -> None:
    for part in where:
        if not part or len(part) > IDENTIFIER_CHARS_MAX:
            raise Invalid(
                "argument", f"a name has {len(part)} characters", hint=f"give 1 to {IDENTIFIER_CHARS_MAX}", field="name"
            )


def _item(record: NameRecord) -> dict[str, Any]:
    return {
        "namespace": record.namespace, "name": record.name, "version": record.version, "type": record.type, "digest": record.digest,
        "labels": label_words.names(record.labels), "size_bytes": decode(record.tags)["size_bytes"] if record.tags else 0, "at": record.at,
        "made_by": record.made_by,
    }  # fmt: skip


def _matches(record: NameRecord, wanted: dict[str, str]) -> bool:
    if "type" in wanted and record.type != wanted["type"]:
        return False
    return "label" not in wanted or wanted["label"] in label_words.names(record.labels)
