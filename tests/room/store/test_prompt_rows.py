"""INVARIANT cost-is-local: arguments that mostly repeat those of the call before cost what is new, and are none the less whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentos.abi import codec
from agentos.abi.records import Change, NameRecord
from agentos.errors import KernelPanic
from agentos.store import Store, blobs, chain, open_store, packing, trees
from agentos.store.archive import archive
from agentos.store.backup import backup
from agentos.store.collect import collect
from agentos.store.erase import Scope, erase
from agentos.store.export import export_lines, verify_lines
from tests.room.store.builders import FixedClock, file_store, intent, result, row

CANARY = "canary-7c1e"
WINDOW = 150


def said(number: int, mark: str = "") -> dict[str, str]:
    """One message; each has its own text."""
    return {"role": "user", "content": f"{mark} {random.Random(number).randbytes(200).hex()}"}


def prompts(calls: int, mark: str = "", window: int = WINDOW) -> Iterator[bytes]:
    """The arguments of model calls: what was said so far, and once that is too much its end, behind the same beginning."""
    begin, talk = said(-1, "system"), []
    for turn in range(calls):
        talk += [said(2 * turn, mark), said(2 * turn + 1, mark)]
        yield codec.encode({"messages": [begin, *talk[-window:]], "model": "m", "temperature": 0.5})


def called(store: Store, pid: int, args: bytes) -> int:
    seq = store.journal.append(intent(pid, op="llm.complete", args=args))
    store.journal.append(result(seq, pid, op="llm.complete", result=codec.encode("yes")))
    return seq


def filled(store: Store, calls: int, mark: str = "", pid: int = 1, window: int = WINDOW) -> list[bytes]:
    args = list(prompts(calls, mark, window))
    for one in args:
        called(store, pid, one)
    store.journal.append(row(pid + 50))  # the head is never archived
    store.journal.flush()
    return args


def args_of(store: Store, pid: int = 1) -> list[bytes]:
    return [each.args for each in store.tape(pid, 0, 100_000) if each.kind == "intent"]


def stored(store: Store, column: str = "args") -> list[bytes]:
    return [bytes(value) for (value,) in store.reader.fetch(f"SELECT {column} FROM journal WHERE kind <> 'note' ORDER BY seq")]


def objects(store: Store) -> int:
    return int(store.reader.fetch("SELECT count(*) FROM object")[0][0])


def collected(store: Store, without: set[bytes] | None = None) -> int:
    """Collect as a kernel that was opened just now would, or, with `without`, as after an erasure."""
    store.journal.watch(without=list(store.journal._known) if without is None else without)
    try:
        return collect(store).objects
    finally:
        store.journal.unwatch()
        store.objects.clear()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith("store.db"))


def test_two_thousand_prompts_cost_what_is_new_in_them(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        args = filled(store, 2_000)
        new = 2_000 * 2 * 430
        assert sum(map(len, args)) > 100_000_000
    size = (tmp_path / "store.db").stat().st_size
    assert new / 2 < size < 5 * new
    with file_store(tmp_path) as store:
        found = args_of(store)
        assert all(one == other for one, other in zip(found, args, strict=True))
        assert collected(store) == 0
        assert store.verify().ok


def test_rows_read_back_the_very_bytes(store: Store) -> None:
    args = filled(store, 60)
    assert sum(map(blobs.is_tree, stored(store))) > 50
    assert args_of(store) == args
    assert store.rows(118, 1)[0].args == args[59]
    archive(store, [1])
    assert args_of(store) == args
    assert [head.args for head, _ in store.entries(0, 500, pid=1)[0]] == args
    assert store.verify().ok


def test_a_store_that_was_closed_gives_the_same_bytes(kept: str | Path) -> None:
    with open_store(kept, clock=FixedClock(), durability="fast") as store:
        args = filled(store, 30)
    with open_store(kept, clock=FixedClock(), durability="fast", writer=False) as reader:
        assert args_of(reader) == args
        assert reader.verify().ok


@pytest.mark.parametrize(
    "args",
    [
        b"\x81\xa1a" + bytes(3_000),
        b"x" * 3_000,
        codec.encode("x" * 9_000),
        b"\xdd\x00\x00\x00\x02" + codec.encode("x" * 9_000) * 2,
    ],
)
def test_other_bytes_are_one_object_as_ever(store: Store, args: bytes) -> None:
    seq = store.journal.append(intent(1, args=args))
    store.journal.flush()
    assert stored(store) == [blobs.reference(blobs.name_of(args))]
    assert store.rows(seq - 1, 1)[0].args == args
    assert store.verify().ok


def test_a_value_that_looks_like_a_tree_is_none(store: Store) -> None:
    fake = blobs.tree(b"h" * 32, trees.link(trees.LIST, b"n" * 32))
    store.journal.append(row(1, args=fake, result=fake), [Change(NameRecord(namespace="n", name="a", value=fake))])
    store.journal.flush()
    assert (store.rows(0, 1)[0].args, store.rows(0, 1)[0].result) == (fake, fake)
    assert store.get(NameRecord, "n", "a").value == fake
    assert store.verify().ok


def test_a_result_is_one_object_as_ever(store: Store) -> None:
    value = codec.encode([said(number) for number in range(90)])
    store.journal.append(row(1, result=value))
    store.journal.flush()
    assert stored(store, "result") == [blobs.reference(blobs.name_of(value))]
    assert store.rows(0, 1)[0].result == value


def test_arguments_that_are_all_new_are_one_object_until_they_are_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_ROW_NODES_MAX", 100)
    args = list(prompts(100))[-1]
    for _ in range(3):
        called(store, 1, args)
    store.journal.flush()
    assert list(map(blobs.is_tree, stored(store)[::2])) == [False, True, True]
    assert args_of(store) == [args] * 3
    assert store.verify().ok


def test_the_chain_covers_the_whole_value_however_it_is_kept() -> None:
    """A row whose arguments are one object, as older writers kept them, has the same hash."""
    args = list(prompts(40))[-1]
    tree = blobs.tree(blobs.name_of(args), trees.link(trees.LIST, b"n" * 32))
    kept = [msgspec.structs.astuple(intent(1, args=column)) for column in (tree, blobs.reference(blobs.name_of(args)))]
    assert [chain.seal(columns, 3, is_spilled=True)[1:] for columns in kept] == [chain.seal(kept[1], 3)[1:]] * 2


def test_rows_of_older_writers_are_read_kept_and_erased_as_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(packing, "pack_bytes", lambda *_: None)
        args = filled(store, 20)
    assert not any(map(blobs.is_tree, stored(store)))
    args += filled(store, 30)
    assert args_of(store) == args
    assert (collected(store), store.verify().ok) == (0, True)
    collected(store, erase(store, Scope((1,)), {}).names)
    assert (objects(store), store.verify().ok) == (0, True)


def test_erased_prompts_leave_no_byte_and_those_of_others_stay_whole(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store, 80, CANARY, pid=1)
        others = filled(store, 80, pid=2)
        assert CANARY.encode() in b"".join(args_of(store))
        before = store.verify()
        done = erase(store, Scope((1,)), {})
        assert collected(store, done.names) > 80
        store.rewrite()
        assert CANARY.encode() not in bytes_of(tmp_path)
        assert args_of(store, 2) == others
        assert store.verify(before.head) == before
    with file_store(tmp_path) as store:
        assert args_of(store, 2) == others
        assert set(args_of(store, 1)) == {b""}


@pytest.mark.parametrize("pids", [[1], [2], [1, 2]])
def test_parts_that_others_have_too_stay_until_they_go_as_well(store: Store, pids: list[int]) -> None:
    args = filled(store, 30, pid=1)
    assert filled(store, 30, pid=2) == args
    archive(store, pids)
    shared = objects(store)
    collected(store, erase(store, Scope((1,)), {}).names)
    assert (objects(store), args_of(store, 2)) == (shared, args)
    collected(store, erase(store, Scope((2,)), {}).names)
    assert (objects(store), store.verify().ok) == (0, True)


def test_what_was_packed_before_an_erasure_is_written_again_after_it(store: Store) -> None:
    """INVARIANT known-parts-are-kept: the memo does not outlive the objects that it names."""
    args = filled(store, 30)
    done = erase(store, Scope((1,)), {})
    assert collected(store, done.names) > 0
    assert objects(store) == 0
    called(store, 2, args[-1])
    root = store.objects.pack(codec.decode(args[-1]))
    store.journal.flush()
    assert args_of(store, 2) == [args[-1]]
    assert codec.encode(store.objects.unpack(root)) == args[-1]


def test_what_is_packed_while_objects_are_collected_stays(store: Store) -> None:
    args = filled(store, 30)
    done = erase(store, Scope((1,)), {})
    store.journal.watch(without=done.names)
    called(store, 2, args[-1])
    called(store, 2, args[-1])
    collect(store)
    store.journal.unwatch()
    store.objects.clear()
    store.journal.flush()
    assert args_of(store, 2) == [args[-1]] * 2
    assert store.verify().ok


def test_bytes_in_arguments_that_are_a_name_keep_no_object(store: Store) -> None:
    """Whoever reads a hash must not be able to hold up an erasure by passing it on, as bytes either."""
    name = bytes.fromhex(store.objects.put(b"nobody's " * 500))
    args = codec.encode(
        {"messages": [said(1)] * 9, "hash": name, "hashes": [name] * 90, "deep": [{"x": [name, "y" * 300]}] * 9}
    )
    called(store, 1, args)
    store.journal.flush()
    assert blobs.is_tree(stored(store)[0])
    assert collected(store) == 1
    assert args_of(store) == [args]


def test_a_state_and_a_row_share_their_parts(store: Store) -> None:
    args = list(prompts(100))[-1]
    called(store, 1, args)
    store.journal.flush()
    before = objects(store)
    root = store.objects.pack({"view": codec.decode(args)["messages"], "turn": 100})
    store.journal.append(row(1), [Change(NameRecord(namespace="n", name="a", value=root))])
    store.journal.flush()
    assert objects(store) - before <= 2


def part_of(store: Store, item: bytes, *, leaf: bool) -> bytes:
    """The name of a message below `item`, or of the node on top of it."""
    names = list(trees.Walk(store.objects.load).names(item))
    return next(name for name in names if store.objects.load(name).startswith(b"\x82")) if leaf else names[0]


CHANGES = {
    "flipped": "UPDATE object SET body = ? WHERE hash = ?",
    "removed": "DELETE FROM object WHERE body <> ? AND hash = ?",
}


@pytest.mark.parametrize("leaf", [True, False])
@pytest.mark.parametrize("how", CHANGES)
def test_a_part_that_was_changed_is_found(tmp_path: Path, how: str, leaf: bool) -> None:
    with file_store(tmp_path) as store:
        filled(store, 20)
        columns = [column for column in stored(store) if blobs.is_tree(column)]
        name = part_of(store, blobs.tree_in(columns[5])[1], leaf=leaf)
        with store.upkeep() as connection:
            assert connection.execute(CHANGES[how], (b"another body", name)).rowcount == 1
    with file_store(tmp_path) as store:
        report = store.verify()
        assert not report.ok
        assert report.first_bad_seq is not None
        with pytest.raises(KernelPanic):
            args_of(store)
        if not leaf:  # a collection reads nothing but nodes
            with pytest.raises(KernelPanic):
                collect(store)


def test_a_tree_that_was_put_in_anothers_place_is_found(tmp_path: Path) -> None:
    """The chain does not cover the item, only the hash of the value; both have to fit."""
    with file_store(tmp_path) as store:
        filled(store, 30)
        found = store.reader.fetch("SELECT seq, args FROM journal WHERE kind = 'intent' ORDER BY seq DESC LIMIT 2")
        (seq, args), (_, other) = ((seq, blobs.tree_in(bytes(args))) for seq, args in found)
        with store.upkeep() as connection:
            connection.execute("UPDATE journal SET args = ? WHERE seq = ?", (blobs.tree(args[0], other[1]), seq))
        report = store.verify()
        assert (report.ok, report.first_bad_seq) == (False, seq)
        with pytest.raises(KernelPanic, match="another hash"):
            store.rows(seq - 1, 1)


def test_an_export_of_trees_is_verified_without_the_store(store: Store) -> None:
    args = filled(store, 40)
    lines = list(export_lines(store))
    assert verify_lines(lines, store.verify().head).ok
    collected(store, erase(store, Scope((1,)), {}).names)
    assert verify_lines(lines, store.verify().head).ok
    assert str(codec.decode(args[-1])["messages"][-1]["content"]).encode() in lines[-4]


def test_a_backup_has_the_trees(store: Store, tmp_path: Path) -> None:
    args = filled(store, 40)
    (tmp_path / "copy").mkdir()
    backup(store, tmp_path / "copy" / "store.db")
    with file_store(tmp_path / "copy") as copy:
        assert args_of(copy) == args
        assert copy.verify().ok


def test_a_torn_log_leaves_whole_prompts_up_to_a_commit(tmp_path: Path) -> None:
    """The parts of a value are in the file before, or with, the row that needs them: at every frame of the log."""
    args = list(prompts(12, window=60))
    frame = 24 + 4_096
    with file_store(tmp_path / "made") as store:
        for one in args:
            store.journal.append(intent(1, args=one))
            store.journal.flush()
        shutil.copytree(tmp_path / "made", tmp_path / "torn")
    wal = (tmp_path / "torn" / "store.db-wal").read_bytes()
    seen = set()
    for frames in range(1, (len(wal) - 32) // frame + 1, 2):
        torn = shutil.copytree(tmp_path / "torn", tmp_path / "copy", ignore=lambda *_: ["store.db-shm", "store.db-wal"])
        (torn / "store.db-wal").write_bytes(wal[: 32 + frames * frame - 1_000])
        with file_store(torn) as store:
            found = args_of(store)
            assert found == args[: len(found)]
            assert store.verify().ok
            called(store, 2, args[-1])
            assert args_of(store, 2) == [args[-1]]
        seen.add(len(found))
        shutil.rmtree(torn)
    assert len(seen) > 6


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_erased_and_collected_between_what_is_left_is_whole(tmp_path: Path, seed: int) -> None:
    """INVARIANT known-parts-are-kept: conversations that share their messages, erased, archived, collected and opened again."""
    choose, pool, store = random.Random(seed), list(prompts(60, window=80)), file_store(tmp_path)
    args: dict[int, list[bytes]] = {pid: [] for pid in (1, 2, 3)}
    for _ in range(80):
        pid, act = choose.choice((1, 2, 3)), choose.choice(("call",) * 6 + ("erase", "archive", "open", "collect"))
        if act == "call":
            args[pid].append(choose.choice(pool))
            called(store, pid, args[pid][-1])
        elif act == "open":
            store.close()
            store = file_store(tmp_path)
        else:
            store.journal.append(row(4))
            store.journal.flush()
            if act == "archive":
                archive(store, [pid])
            gone = erase(store, Scope((pid,)), {}).names if act == "erase" else set()
            args[pid] = [b""] * len(args[pid]) if act == "erase" else args[pid]
            collected(store, gone)
    assert {pid: args_of(store, pid) for pid in args} == args
    assert store.verify().ok
    collected(store, {name for pid in args for name in erase(store, Scope((pid,)), {}).names})
    assert objects(store) == 0
    store.close()
