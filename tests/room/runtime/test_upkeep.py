"""What a store needs over the years: rules, archive, erasure, collection, backup, inspection, through the embedded API."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.limits import UPKEEP_EVERY_S
from agentos.store.export import verify_lines
from agentos.testing import FakeClock
from tests.builders import advance, alive, code_of, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio
CANARY = "canary-51c0"
DAY = 86_400.0


async def over(kernel: agentos.Kernel, *, goal: str = CANARY, **put: Any) -> int:
    """A tree that has put an object and ended; returns its pid."""
    process = await host(kernel, "obj.*", goal=goal)
    await process.call("obj.put", **{"value": CANARY * 400, "name": "thing", **put})
    await process.exit(CANARY)
    return process.pid


async def stored(kernel: agentos.Kernel, table: str) -> int:
    kernel.core.journal.flush()
    return int(kernel.core.store.reader.fetch(f"SELECT count(*) FROM {table}")[0][0])


# --- what may go ------------------------------------------------------------------------------------------------------------


async def forked(kernel: agentos.Kernel) -> int:
    """The pid of a process that has ended and whose fork lives."""

    async def parent(sys: Any) -> None:
        await sys.obj.put(CANARY, name="thing")
        if await sys.proc.fork() == 0:
            await sys.msg.recv()

    process = await started(kernel, parent, "obj.*", "msg.*", "proc.*")
    await process.wait(5)
    return process.pid


async def test_only_the_past_goes(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        living = await host(kernel, "obj.*")
        parent = await forked(kernel)
        for pid in (living.pid, parent):
            assert await refused(kernel.erase(tree=pid)) == "invalid.state"
            assert await refused(kernel.erase(pid=pid)) == "invalid.state"
            assert await refused(kernel.archive(tree=pid)) == "invalid.state"
        before = rows(kernel)
        assert (await kernel.archive()).rows == 0
        assert (await kernel.erase(before=2e9)).rows == 0
        assert rows(kernel) == before


async def test_a_tree_that_a_checkpoint_holds_is_needed(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        process = await host(kernel, "obj.*")
        await process.call("obj.put", value=1, name="thing")
        held = await process.checkpoint()
        await process.exit()
        assert await refused(kernel.erase(tree=process.pid)) == "invalid.state"
        await kernel.drop_checkpoint(held)
        assert (await kernel.erase(tree=process.pid)).rows > 0


async def saver(sys: Any) -> None:
    """Go on from message to message; `save` makes a save point."""
    while (said := (await sys.msg.recv()).value) != "end":
        await (sys.save(said) if said == "save" else sys.obj.put(said, name="thing"))


async def told(kernel: agentos.Kernel, process: agentos.Process, *words: str) -> agentos.Process:
    for word in words:
        await process.send(word)
        await settled(kernel)
    return process


async def test_what_a_fork_inherited_is_needed_though_it_was_saved_over_since(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        first = await told(kernel, await started(kernel, saver, "obj.*"), CANARY)
        second = await kernel.fork(pid=first.pid)
        third = await told(kernel, await kernel.fork(pid=second.pid))
        await told(kernel, second, "save", "end")
        await told(kernel, first, "end")
        assert await refused(kernel.erase(tree=first.pid)) == "invalid.state"
        await told(kernel, third, "end")
        assert (await kernel.erase(tree=first.pid)).rows > 0


async def test_a_checkpoint_keeps_what_its_process_was_forked_from(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        first = await told(kernel, await started(kernel, saver, "obj.*"), CANARY)
        second = await told(kernel, await kernel.fork(pid=first.pid), "mine")
        held = await second.checkpoint()
        await told(kernel, second, "save", "end")
        await told(kernel, first, "end")
        assert await refused(kernel.erase(tree=first.pid)) == "invalid.state"
        await kernel.restore(held)
        assert (await second.wait(5)).state == "exited", "it reads again what it was sent since"


async def test_nothing_goes_on_from_what_was_erased(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        first = await told(kernel, await started(kernel, saver, "obj.*"), CANARY)
        second = await told(kernel, await kernel.fork(pid=first.pid), "end")
        await told(kernel, first, "end")
        await kernel.erase(tree=first.pid)
        for wish in (kernel.fork(pid=first.pid), kernel.fork(pid=second.pid), kernel.replay(second.pid)):
            with pytest.raises(agentos.Invalid, match="erased"):
                await wish


async def test_a_fork_of_what_was_erased_in_part_fails_and_its_kernel_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        first = await told(kernel, await started(kernel, saver, "obj.*"), CANARY, "end")
        await kernel.erase(namespace=f"proc/{first.pid}")
        exit_ = await (await kernel.fork(pid=first.pid)).wait(5)
        assert exit_.error is not None
        assert (exit_.state, exit_.error.code) == ("failed", "invalid.state")
        assert "erased" in exit_.error.message
        assert (await kernel.verify_audit()).ok


@pytest.mark.parametrize("said", [{}, {"tree": 99}, {"pid": 99}, {"label": "public"}, {"label": "nonsense"}])
async def test_an_erasure_says_what_it_means(said: dict[str, Any]) -> None:
    async with opened() as kernel:
        assert await refused(kernel.erase(**said)) == "invalid.argument"


# --- erasing ------------------------------------------------------------------------------------------------------------------


async def test_erased_is_gone_and_the_chain_verifies(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        pid, other = await over(kernel), await host(kernel, "obj.*")
        await other.call("obj.put", value="kept" * 900, name="mine")
        head = (await kernel.verify_audit()).head
        report = await kernel.erase(tree=pid, by="pat")
        assert report.rows >= 3
        assert report.objects > 0
        assert (await kernel.verify_audit(head)).ok
        assert CANARY.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("s.db*"))
        assert await other.call("obj.get", name="mine") == "kept" * 900
        ended = kernel.process(pid).info.exit
        assert ended is not None
        assert (ended.state, ended.value, kernel.process(pid).info.goal) == ("exited", None, None)
        note = rows(kernel, 0, notes=True)[-1]
        assert (note.op, agentos.abi.codec.decode(note.args)["by"]) == ("note.erased", "pat")


async def test_an_erased_object_is_missing_and_may_be_put_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        reader = await host(kernel, "obj.*")
        pid = await over(kernel, namespace="shared")
        assert await reader.call("obj.get", name="thing", namespace="shared") == CANARY * 400
        await kernel.erase(tree=pid)
        for op, args in (("obj.get", {}), ("obj.append", {"value": 1})):
            with pytest.raises(agentos.Unavailable, match="was erased") as raised:
                await reader.call(op, name="thing", namespace="shared", **args)
            assert code_of(raised.value) == "unavailable.missing"
        await reader.call("obj.put", value="new", name="thing", namespace="shared")
        assert await reader.call("obj.get", name="thing", namespace="shared") == "new"


async def test_a_namespace_and_a_label_are_erased_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        pid = await over(kernel, namespace="a/b")
        secret = await over(kernel, labels=["secret"])
        assert (await kernel.erase(namespace="a")).records == 1
        assert kernel.process(pid).info.goal == CANARY
        assert (await kernel.erase(label="secret", dry_run=True)).rows == 1
        report = await kernel.erase(label="secret")
        assert report.rows == 1
        assert kernel.process(secret).info.goal == CANARY


async def test_only_what_ended_before_is_erased(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "s.db", clock=clock) as kernel:
        old = await over(kernel)
        advance(kernel, DAY)
        new = await over(kernel)
        assert (await kernel.erase(before=clock.now())).rows > 0
        assert [kernel.process(pid).info.goal for pid in (old, new)] == [None, CANARY]


async def test_an_object_that_is_put_again_while_it_is_erased_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        pid, other = await over(kernel), await host(kernel, "obj.*")

        async def put() -> None:
            for number in range(50):
                await other.call("obj.put", value=CANARY * 400, name=f"mine{number}")
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put)
            await kernel.erase(tree=pid)
        assert await other.call("obj.get", name="mine0") == CANARY * 400
        assert {finding.state for finding in await kernel.inspect() if finding.what != "room"} == {"ok"}


# --- archive and rules ----------------------------------------------------------------------------------------------------------


async def test_what_is_archived_is_still_shown_and_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        pid = await over(kernel)
        kernel.core.note(0, "later")
        before, journal = [entry async for entry in kernel.audit()], rows(kernel, notes=True)
        moved = await kernel.archive()
        assert moved.rows == len([row for row in journal if row.pid == pid])
        assert [entry async for entry in kernel.audit()] == before
        assert rows(kernel, notes=True) == journal


async def test_rules_are_kept_listed_and_ended(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        first = await kernel.retain("all", keep_s=DAY)
        second = await kernel.retain("label", "secret", keep_s=7 * DAY, action="erase")
    async with opened(tmp_path / "s.db") as kernel:
        assert await kernel.retention() == [first, second]
        assert await kernel.forget_retention(first.id) == first
        assert await kernel.retention() == [second]
        assert await refused(kernel.forget_retention(first.id)) == "invalid.argument"
        assert (await kernel.retain("tree", 3, keep_s=0)).id == second.id + 1


@pytest.mark.parametrize(
    ("scope", "value", "options"),
    [
        ("all", "x", {}), ("tree", None, {}), ("tree", "x", {}), ("label", "secret", {}), ("namespace", "n", {}), ("other", "x", {}),
        ("label", "public", {"action": "erase"}), ("all", None, {"action": "burn"}), ("all", None, {"keep_s": -1}),
        ("all", None, {"keep_s": float("nan")}),
    ],
)  # fmt: skip
async def test_a_rule_that_means_nothing_is_refused(scope: str, value: Any, options: dict[str, Any]) -> None:
    async with opened() as kernel:
        assert await refused(kernel.retain(scope, value, **{"keep_s": 1.0, **options})) == "invalid.argument"


async def test_without_a_rule_everything_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", clock=FakeClock()) as kernel:
        await over(kernel)
        advance(kernel, 1e9)
        report = await kernel.tidy()
        assert (report.archived, report.erased, report.objects) == (0, 0, 0)


async def test_a_rule_waits_until_it_is_due(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", clock=FakeClock()) as kernel:
        pid = await over(kernel)
        await kernel.retain("all", keep_s=DAY)
        await kernel.retain("tree", pid, keep_s=2 * DAY, action="erase")
        assert (await kernel.tidy()).archived == 0
        advance(kernel, DAY)
        assert (await kernel.tidy(dry_run=True)).archived > 0
        await kernel.tidy()
        assert await stored(kernel, "segment") == 1
        assert kernel.process(pid).info.goal == CANARY
        advance(kernel, DAY)
        await kernel.tidy()
        assert kernel.process(pid).info.goal is None
        assert (await kernel.tidy()).erased == 0


async def test_a_running_kernel_applies_the_rules_every_hour(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", clock=FakeClock()) as kernel:
        await over(kernel)
        await kernel.retain("all", keep_s=60)
        await kernel.retain("all", keep_s=120, action="erase")
        await settled(kernel)
        advance(kernel, UPKEEP_EVERY_S)
        await settled(kernel, lambda: any(row.op == "note.tidied" for row in rows(kernel, notes=True)))
        assert await stored(kernel, "segment") == 1
        assert (await kernel.verify_audit()).ok


async def test_upkeep_runs_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        pids = [await over(kernel) for _ in range(6)]
        await kernel.retain("all", keep_s=0)
        async with anyio.create_task_group() as tasks:
            for pid in pids[:4]:
                tasks.start_soon(lambda each: kernel.erase(tree=each), pid)
            for work in (kernel.tidy, kernel.archive, kernel.inspect, kernel.tidy):
                tasks.start_soon(work)
        assert (await kernel.verify_audit()).ok
        assert [kernel.process(pid).info.goal for pid in pids] == [None] * 4 + [CANARY] * 2


async def test_calls_go_on_while_a_store_is_tidied(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        for _ in range(20):
            await over(kernel)
        process, made = await host(kernel, "obj.*"), 0

        async def work() -> None:
            nonlocal made
            while True:
                await process.call("obj.put", value=f"{made} " * 900, name="mine")
                made += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            for pid in range(1, 6):
                await kernel.erase(tree=pid)
            await kernel.archive()
            tasks.cancel_scope.cancel()
        assert made > 0
        assert (await kernel.verify_audit()).ok
        assert alive(kernel, process).record.live


# --- copies and inspection --------------------------------------------------------------------------------------------------------


async def test_a_backup_opens_as_a_store(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        process = await host(kernel, "obj.*")
        await process.call("obj.put", value=[1, 2], name="mine")
        report = await kernel.backup(tmp_path / "b.db")
        assert await refused(kernel.backup(tmp_path / "b.db")) == "invalid.argument"
    async with opened(tmp_path / "b.db") as kernel:
        assert await kernel.process(process.pid).call("obj.get", name="mine") == [1, 2]
        assert (await kernel.verify_audit(report.head)).ok


async def test_an_export_is_written_beside_the_work_and_proves_itself(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        await over(kernel)
        count = await kernel.export(tmp_path / "e.jsonl")
        lines = (tmp_path / "e.jsonl").read_bytes().splitlines(keepends=True)
        assert verify_lines(lines, (await kernel.verify_audit()).head).rows == count == len(lines) - 2
        assert json.loads(lines[-1])["head"] == (await kernel.verify_audit()).head


DAMAGE: dict[str, tuple[str, str]] = {
    "DROP INDEX cap_live": ("schema", "mend"),
    "DELETE FROM segment_pid": ("archive", "mend"),
    "INSERT INTO segment_pid VALUES (77, 0)": ("archive", "mend"),
    "UPDATE segment SET body = x'00'": ("archive", ""),
    "UPDATE journal SET op = 'other' WHERE seq = (SELECT min(seq) FROM journal)": ("chain", ""),
    "DELETE FROM object": ("objects", ""),
    "DELETE FROM process WHERE pid = 2": ("records", ""),
    "DELETE FROM image": ("records", ""),
    "DELETE FROM policy": ("records", ""),
}


@pytest.mark.parametrize("statement", list(DAMAGE))
async def test_damage_is_found_and_mended_where_that_is_safe(tmp_path: Path, statement: str) -> None:
    what, end = DAMAGE[statement]
    async with opened(tmp_path / "s.db") as kernel:
        await over(kernel)
        await kernel.archive()
        process = await host(kernel, "obj.*", policy='policy "p"\nallow obj.*\n')
        await process.call("obj.put", value="large" * 1_000, name="mine")
        assert {finding.state for finding in await kernel.inspect()} == {"ok"}
        kernel.core.journal.flush()
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as raw:
            raw.execute(statement)
        bad = {finding.what: finding for finding in await kernel.inspect() if finding.state != "ok"}
        assert what in bad
        assert bad[what].remedy
        again = {finding.what for finding in await kernel.inspect(repair=True) if finding.state != "ok"}
        assert (what in again) == (not end)


async def test_a_draft_that_was_left_behind_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        (tmp_path / "s.db-draft").touch()
        assert [finding.what for finding in await kernel.inspect() if finding.state != "ok"] == ["files"]


# --- without a kernel, and from outside -------------------------------------------------------------------------------------------


LOOKS: dict[str, Callable[[Any, Path], Any]] = {
    "retention": lambda kernel, _: kernel.retention(),
    "inspect": lambda kernel, _: kernel.inspect(),
    "backup": lambda kernel, folder: kernel.backup(folder / "b.db"),
    "export": lambda kernel, folder: kernel.export(folder / "e.jsonl"),
}


@pytest.mark.parametrize("look", list(LOOKS))
async def test_looking_and_copying_need_no_kernel(tmp_path: Path, look: str) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        await over(kernel)
        await kernel.retain("all", keep_s=1)
    async with agentos.connect(tmp_path / "s.db") as view:
        assert await LOOKS[look](view, tmp_path)
        assert await refused(view.inspect(repair=True)) == "invalid.state"


async def test_everything_works_over_the_control_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    async with opened(tmp_path / "s.db", control=True) as kernel, agentos.connect(tmp_path / "s.db") as other:
        pid = await over(kernel)
        assert await other.retain("all", keep_s=1e6) == (await kernel.retention())[0]
        assert (await other.archive(tree=pid)).rows > 0
        assert (await other.erase(tree=pid, by="pat")).records > 0
        assert (await other.tidy(dry_run=True)).dry_run
        assert (await other.backup(tmp_path / "b.db")).head == (await kernel.verify_audit()).head
        assert await other.export(tmp_path / "e.jsonl", pid=pid) > 0
        assert {finding.state for finding in await other.inspect()} == {"ok"}
        assert (await other.forget_retention(1)).id == 1


async def test_a_tree_that_lived_on_is_erased_when_its_time_comes(tmp_path: Path) -> None:
    """A rule that has looked at later trees does not forget one that was alive, held or not yet due then."""
    async with opened(tmp_path / "s.db", clock=FakeClock()) as kernel:
        await kernel.retain("all", keep_s=60, action="erase")
        living, held = [await host(kernel, "obj.*", goal=CANARY) for _ in range(2)]
        checkpoint = await held.checkpoint()
        await held.exit()
        first = await over(kernel)
        advance(kernel, 60)
        late = await over(kernel)
        await kernel.tidy()
        goals = [kernel.process(pid).info.goal for pid in (living.pid, held.pid, first, late)]
        assert goals == [CANARY, CANARY, None, CANARY]
        await living.exit()
        await kernel.drop_checkpoint(checkpoint)
        advance(kernel, 60)
        await kernel.tidy()
        assert {kernel.process(pid).info.goal for pid in (living.pid, held.pid, first, late)} == {None}


async def test_what_an_archive_has_freed_a_tidy_gives_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db") as kernel:
        process = await host(kernel, "obj.*")
        for number in range(1_000):
            await process.call("obj.put", value="large " * 200, name=f"{number % 7}")
        await process.exit()
        await kernel.archive()
        before = (tmp_path / "s.db").stat().st_size
        await kernel.tidy()
        assert (tmp_path / "s.db").stat().st_size < before * 0.9
        assert (await kernel.verify_audit()).ok
