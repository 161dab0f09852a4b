"""INVARIANT collection-keeps-what-is-referred-to: an object goes when nothing leads to it, and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentos.abi import codec
from agentos.abi.records import Change, ImageRecord, NameRecord, OverlayRecord, ProcessRecord
from agentos.store import Store
from agentos.store.archive import archive
from agentos.store.collect import Collected, collect
from tests.room.store.builders import change, file_store, row

BIG = b"large " * 2_000
TREE = {
    "list": [f"{number} " * 60 for number in range(300)],
    "text": "long " * 5_000,
    "dict": {str(n): "x" * 50 for n in range(500)},
}


def collected(store: Store) -> Collected:
    """Collect as a kernel that was opened just now would: nothing counts as kept lately."""
    store.journal.watch(without=list(store.journal._known))
    try:
        return collect(store)
    finally:
        store.journal.unwatch()
        store.objects.clear()


def objects(store: Store) -> int:
    return int(store.reader.fetch("SELECT count(*) FROM object")[0][0])


def before_image(store: Store) -> Callable[[], bytes]:
    name = store.objects.put(BIG)
    store.journal.append(row(1, kind="note", op="note.before", args=codec.encode({"object": name, "bytes": len(BIG)})))
    return lambda: store.objects.get(name)


def in_a_row(store: Store) -> Callable[[], bytes]:
    seq = store.journal.append(row(1, result=BIG))
    return lambda: store.rows(seq - 1, 1)[0].result


def in_a_page(store: Store) -> Callable[[], bytes]:
    seq = store.journal.append(row(1, args=BIG))
    store.journal.append(row(2))
    store.journal.flush()
    archive(store, [1])
    return lambda: store.rows(seq - 1, 1)[0].args


def in_a_record(store: Store) -> Callable[[], bytes]:
    store.journal.append(row(1), [Change(ProcessRecord(pid=1, goal=BIG))])
    return lambda: store.get(ProcessRecord, 1).goal


def in_an_old_version(store: Store) -> Callable[[], bytes]:
    process = ProcessRecord(pid=1, goal=BIG)
    seq = store.journal.append(row(1), [change(process)])
    process.goal = b""
    store.journal.append(row(1), [change(process)])
    return lambda: store.get(ProcessRecord, 1, at=seq).goal


def in_a_tree(store: Store) -> Callable[[], bytes]:
    record = NameRecord(namespace="n", name="tree", value=store.objects.pack(TREE))
    store.journal.append(row(1), [change(record)])
    record.value = store.objects.append(store.objects.pack([1, BIG]), "more")
    store.journal.append(row(1), [change(record)])
    return lambda: codec.encode([store.objects.unpack(store.get(NameRecord, "n", "tree", at=at).value) for at in (1, 2)])


def in_an_overlay(store: Store) -> Callable[[], bytes]:
    name = store.objects.put(BIG)
    store.journal.append(row(1), [Change(OverlayRecord(pid=1, path="/a", object=name, size=len(BIG)))])
    return lambda: store.objects.get(name)


def inside_an_image(store: Store) -> Callable[[], bytes]:
    """A root in the middle of a value that lies in an object itself."""
    manifest = codec.encode({"seed": store.objects.pack(TREE), "files": {"a": "x" * 3_000}})
    store.journal.append(row(1), [Change(ImageRecord(digest="d", manifest=manifest))])
    return lambda: codec.encode(store.objects.unpack(codec.decode(store.get(ImageRecord, "d").manifest)["seed"]))


def in_the_arguments_of_the_host(store: Store) -> Callable[[], bytes]:
    name = store.objects.put(BIG)
    store.journal.append(row(1), [Change(ProcessRecord(pid=1, args=codec.encode({"plan": name})))])
    return lambda: store.objects.get(name)


REFERRED = [
    in_the_arguments_of_the_host,
    before_image,
    in_a_row,
    in_a_page,
    in_a_record,
    in_an_old_version,
    in_a_tree,
    in_an_overlay,
    inside_an_image,
]


@pytest.mark.parametrize("made", REFERRED)
def test_collection_keeps_what_is_referred_to(store: Store, made: Callable[[Store], Callable[[], bytes]]) -> None:
    read = made(store)
    store.objects.put(b"nobody's " * 500)
    store.journal.flush()
    kept, before = objects(store), read()
    gone = collected(store)
    assert (gone.objects, objects(store)) == (1, kept - 1)
    assert read() == before
    assert store.verify().ok


def test_a_dry_run_removes_nothing(store: Store) -> None:
    store.objects.put(BIG)
    store.journal.flush()
    store.journal.watch(without=list(store.journal._known))
    assert collect(store, dry_run=True).objects == 1
    assert objects(store) == 1


def test_what_is_kept_while_objects_are_collected_stays(store: Store) -> None:
    """An old, unused object is stored again after it was found unused: it is one object, and it stays."""
    old = store.objects.put(BIG)
    store.journal.flush()
    store.journal.watch(without=list(store.journal._known))
    store.journal.append(row(1, result=BIG))
    assert collect(store).objects == 0
    store.journal.flush()
    assert store.objects.get(old) == BIG


def test_what_is_kept_between_the_sweep_and_its_use_is_written_anew(store: Store) -> None:
    store.objects.put(BIG)
    store.journal.flush()
    assert collected(store).objects == 1
    store.journal.append(row(1, result=BIG))
    store.journal.flush()
    assert store.rows(0, 1)[0].result == BIG
    assert store.verify().ok


def test_without_a_watch_nothing_is_collected(store: Store) -> None:
    store.objects.put(BIG)
    store.journal.flush()
    assert collect(store).objects == 0


def test_a_name_in_a_calls_text_keeps_no_object(store: Store) -> None:
    """Whoever reads a hash must not be able to hold up an erasure by writing it down."""
    name = store.objects.put(BIG)
    child = ProcessRecord(pid=2, ppid=1, args=codec.encode({"plan": name}), goal=codec.encode(name))
    store.journal.append(row(1, args=codec.encode({"text": name}), result=codec.encode(name)), [Change(child)])
    assert collected(store).objects == 1


def test_many_objects_are_collected_in_batches(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        for number in range(3_000):
            store.objects.put(b"%06d" % number * 700)
            if number % 3 == 0:
                store.journal.append(row(1, result=b"%06d" % number * 700))
        assert collected(store).objects == 2_000
        assert store.verify().ok
