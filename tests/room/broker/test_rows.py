"""rows-are-exact: one row for a pure, local, denied or failed call, two for an effect; a batch is a constant number of statements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.runtime.process import Process
from agentos.testing import Ledger
from tests.builders import host, opened, refused, rows

pytestmark = pytest.mark.anyio

Calls = Callable[[Process], Awaitable[Any]]

ONE_ROW: dict[str, tuple[Calls, str, str]] = {
    "pure": (lambda p: p.call("clock.now"), "done", ""),
    "local": (lambda p: p.call("obj.put", value=1, name="x"), "done", ""),
    "denied": (lambda p: p.call("obj.put", value=1, name="x", namespace="n"), "denied", "denied.capability"),
    "unknown op": (lambda p: p.call("no.op"), "failed", "invalid.op"),
    "not served": (lambda p: p.call("net.fetch", url="https://a.example/"), "failed", "invalid.op"),
    "bad argument": (lambda p: p.call("obj.put", valeu=1), "failed", "invalid.argument"),
    "not data": (lambda p: p.call("obj.put", value=object()), "failed", "invalid.argument"),
    "failed inside": (lambda p: p.call("obj.get", name="gone"), "failed", "unavailable.missing"),
    "not a number": (lambda p: p.call("clock.sleep", seconds=float("nan")), "failed", "invalid.argument"),
}


@pytest.mark.parametrize("kind", ONE_ROW)
async def test_rows_are_exact_one_row_says_it_all(kind: str) -> None:
    call, outcome, code = ONE_ROW[kind]
    async with opened() as kernel:
        process = await host(kernel)
        try:
            found = (await call(process), "", kernel.core.journal.head)[1:]
        except agentos.AgentOSError as error:
            found = error.code, error.seq
        assert found == (code, kernel.core.journal.head)
        [row] = rows(kernel, process.pid)
        assert (row.kind, row.outcome, row.code) == ("call", outcome, code)


@pytest.mark.parametrize("effect", ["pure", "repeatable", "keyed", "probeable", "once"])
async def test_rows_are_exact_an_effect_has_two_and_only_its_intent_is_waited_for(effect: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.*")
        await process.call(f"ledger.{effect}", value="x")
        found = rows(kernel, process.pid)
        if effect == "pure":
            assert [(row.kind, row.outcome) for row in found] == [("call", "done")]
        else:
            assert [(row.kind, row.outcome) for row in found] == [("intent", ""), ("result", "done")]
            assert found[1].parent == found[0].seq
        assert kernel.core.journal.durable_seq >= found[-1].seq


@pytest.mark.parametrize("effect", ["repeatable", "keyed", "probeable", "once"])
async def test_a_device_that_raises_has_failed_and_is_not_unknown(effect: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.*")
        with pytest.raises(agentos.Unavailable) as caught:
            await process.call(f"ledger.{effect}", value="x", fail=True)
        assert (caught.value.code, caught.value.may_have_happened) == ("unavailable.device", False)
        assert [row.outcome for row in rows(kernel, process.pid)] == ["", "failed"]


async def test_a_batch_is_a_constant_number_of_statements_and_one_commit(tmp_path: Path) -> None:
    async def statements(calls: int) -> tuple[int, int]:
        async with opened(tmp_path / f"{calls}.db") as kernel:
            processes = [await host(kernel) for _ in range(calls)]
            kernel.core.journal.flush()
            before = (kernel.core.journal.statements, kernel.core.journal.commits)
            async with anyio.create_task_group() as tasks:
                for process in processes:
                    tasks.start_soon(lambda p=process: p.call("obj.put", value=1, name="x"))
            return kernel.core.journal.statements - before[0], kernel.core.journal.commits - before[1]

    few, many = await statements(4), await statements(200)
    assert many[1] <= few[1] + 2
    assert many[0] <= few[0] + 20
    print(f"\n4 calls: {few[0]} statements in {few[1]} commits; 200 calls: {many[0]} in {many[1]}")


async def test_every_row_of_a_call_names_who_what_and_by_which_right() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put box/**")
        [cap] = await process.caps()
        await process.call("obj.put", value={"a": 1}, name="x", namespace="box")
        [entry] = [entry async for entry in kernel.audit(pid=process.pid)]
        assert (entry.op, entry.resource, entry.cap, entry.outcome) == ("obj.put", "box/x", cap.id, "done")
        assert entry.args["value"] == {"a": 1}
        assert entry.result["version"] == 1


async def test_check_makes_no_row_and_no_effect() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put box/**")
        head = kernel.core.journal.head
        assert kernel.check(process.pid, "obj.put", value=1, name="x", namespace="box").outcome == "allow"
        assert kernel.check(process.pid, "obj.put", value=1, name="x", namespace="no").outcome == "deny"
        assert kernel.core.journal.head == head


async def test_the_rows_of_parallel_host_calls_are_their_own() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        outcomes = await process.calls([("obj.put", {"value": n, "name": f"n{n}"}) for n in range(100)])
        by_seq = {row.seq: row for row in rows(kernel, process.pid)}
        assert [by_seq[outcome.seq].resource for outcome in outcomes if outcome.seq] == [
            f"proc/{process.pid}/n{n}" for n in range(100)
        ]


async def test_the_chain_of_a_busy_journal_verifies(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.*")
        await process.calls([("ledger.keyed", {"value": str(n)}) for n in range(20)])
        report = await kernel.verify_audit()
        assert report.ok
        assert report.rows == kernel.core.journal.head


async def test_a_denial_for_want_of_budget_names_no_rule_that_allowed_the_call() -> None:
    async with opened(policy='policy "p" version 1\nallow clock.*\n') as kernel:
        process = await host(kernel, budget={"calls": 0})
        assert await refused(process.call("clock.now")) == "denied.budget"
        assert [entry.rule async for entry in kernel.audit(outcome="denied")] == [""]
