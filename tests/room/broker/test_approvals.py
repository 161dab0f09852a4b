"""Approvals: bound to one exact call, used once, never over what was revoked or has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import AskRecord
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, alive, code_of, crashing, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio

PUT = 'policy "p"\nask obj.put, fs.write any * because "look first"'
ASK = PUT + '\nask ledger.* any * because "look first"'


class Later:
    """A host call that runs beside the test."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.value: Any = None
        self.error: agentos.AgentOSError | None = None

    async def run(self) -> None:
        try:
            self.value = await self._call
        except agentos.AgentOSError as error:
            self.error = error


async def pending(kernel: Kernel, many: int = 1) -> list[agentos.Ask]:
    with anyio.fail_after(5):
        while len(found := await kernel.asks()) < many:  # noqa: ASYNC110 - asks have no event of their own
            await anyio.sleep(0.001)
    return found


async def test_one_shot_once_an_approval_is_used_by_the_call_it_was_given_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy=ASK) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "ledger.*")
        first = Later(process.call("ledger.once", value="x"))
        tasks.start_soon(first.run)
        [ask] = await pending(kernel)
        assert (ask.op, ask.args["value"], ask.because) == ("ledger.once", "x", "look first")
        await kernel.answer(ask.id, "approve", by="me")
        await settled(kernel, lambda: first.value)
        again = Later(process.call("ledger.once", value="x"))
        tasks.start_soon(again.run)
        [second] = await pending(kernel)
        assert second.id != ask.id
        assert len(ledger.entries) == 1
        assert [a.state for a in await kernel.asks(None)] == ["consumed", "pending"]
        await kernel.answer(second.id, "deny", by="me", reason="once is enough")
        await settled(kernel, lambda: again.error)
        assert code_of(again.error or ValueError()) == "denied.human"
        assert len(ledger.entries) == 1
        assert [row.ask for row in rows(kernel, process.pid) if row.kind == "intent"] == [ask.id]


async def test_an_answer_is_given_once(tmp_path: Path) -> None:
    async with opened(policy=PUT) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel)
        tasks.start_soon(Later(process.call("obj.put", value=1, name="x")).run)
        [ask] = await pending(kernel)
        await kernel.answer(ask.id, "deny", by="me")
        assert await refused(kernel.answer(ask.id, "approve", by="you")) == "invalid.state"
        assert await refused(kernel.answer(999, "approve", by="you")) == "invalid.state"


async def test_edited_arguments_are_decided_again_and_are_what_happens(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    policy = ASK + '\ndeny ledger.keyed when value == "evil"'
    async with opened(devices={"ledger": ledger.device}, policy=policy) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, 'ledger.keyed when value in ["big", "small", "evil"]')
        for edit in ("small", "evil", "other"):
            call = Later(process.call("ledger.keyed", value="big"))
            tasks.start_soon(call.run)
            [ask] = await pending(kernel)
            await kernel.answer(ask.id, "approve", by="me", edit={"value": edit})
            await settled(kernel, lambda c=call: c.value or c.error)
            assert (code_of(call.error) if call.error else call.value["value"]) == {
                "small": "small", "evil": "denied.policy", "other": "denied.capability",
            }[edit]  # fmt: skip
        assert [entry["value"] for entry in ledger.entries] == ["small"]
        assert not list(kernel.core.asks)
        intent = next(row for row in rows(kernel, process.pid) if row.kind == "intent")
        [entry] = [e async for e in kernel.audit(pid=process.pid) if e.seq == intent.seq]
        assert entry.args["value"] == "small"


async def test_after_a_crash_the_edited_arguments_are_run_again_not_the_programs(tmp_path: Path) -> None:
    async def pay(sys: Any) -> Any:
        return (await sys.ledger.keyed("big", delay_s=0.3))["value"]

    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}, "policy": ASK}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, pay, "ledger.*")
        [ask] = await pending(kernel)
        await kernel.answer(ask.id, "approve", by="me", edit={"value": "small", "delay_s": 0.3})
        await settled(kernel, lambda: [row for row in rows(kernel, process.pid) if row.kind == "intent"])
        await kernel.core.journal.durable(kernel.core.journal.head)
    ledger = Ledger(tmp_path / "ledger2")
    options["devices"] = {"ledger": ledger.device}
    async with opened(tmp_path / "b.db", programs=[agentos.program("pay")(pay)], **options) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == "small"
        assert [entry["value"] for entry in ledger.entries] == ["small"]


async def test_a_target_that_changed_between_ask_and_answer_is_a_new_ask(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    async with opened(workspace=tmp_path, policy=PUT) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "fs.write /**")
        call = Later(process.call("fs.write", path="a", text="mine"))
        tasks.start_soon(call.run)
        [ask] = await pending(kernel)
        (tmp_path / "a").write_text("somebody else's")
        await kernel.answer(ask.id, "approve", by="me")
        await settled(kernel, lambda: [a for a in kernel.core.asks if a.ask != ask.id])
        [second] = await pending(kernel)
        assert second.id != ask.id
        assert second.digest != ask.digest
        assert (tmp_path / "a").read_text() == "somebody else's"
        await kernel.answer(second.id, "approve", by="me")
        await settled(kernel, lambda: call.value)
        assert (tmp_path / "a").read_text() == "mine"
        assert [a.state for a in await kernel.asks(None)] == ["withdrawn", "consumed"]


async def test_revoke_wins_over_a_pending_approval(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy=ASK) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "ledger.*")
        call = Later(process.call("ledger.once", value="x"))
        tasks.start_soon(call.run)
        [ask] = await pending(kernel)
        [cap] = await process.caps()
        await kernel.revoke(cap.id)
        await kernel.answer(ask.id, "approve", by="me")
        await settled(kernel, lambda: call.error)
        assert code_of(call.error or ValueError()) == "denied.capability"
        assert not ledger.entries
        assert not live(kernel, AskRecord)


async def test_revoke_wins_while_a_call_waits() -> None:
    async with opened() as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "proc.wait")
        child = await kernel.spawn(agentos.Image.host(), parent=process)
        call = Later(process.call("proc.wait", pid=child.pid))
        tasks.start_soon(call.run)
        await settled(kernel, lambda: alive(kernel, process).open_calls)
        await kernel.revoke((await process.caps())[0].id)
        await child.exit()
        await settled(kernel, lambda: call.error)
        assert code_of(call.error or ValueError()) == "denied.capability"


async def test_revoke_wins_while_a_call_waits_for_a_slot(tmp_path: Path) -> None:
    from agentos.kernel.slots import Slots

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel, anyio.create_task_group() as tasks:
        kernel.core.slots["one"] = Slots("one", 1)
        kernel.core.ops.find("ledger.once").slot = "one"
        greedy, process = await host(kernel, "ledger.*"), await host(kernel, "ledger.* uses 1")
        tasks.start_soon(Later(greedy.call("ledger.once", value="first", delay_s=0.05)).run)
        await settled(kernel, lambda: kernel.core.effects)
        call = Later(process.call("ledger.once", value="second"))
        tasks.start_soon(call.run)
        await anyio.sleep(0.01)
        await kernel.revoke((await process.caps())[0].id)
        await settled(kernel, lambda: call.error)
        assert code_of(call.error or ValueError()) == "denied.capability"
        assert [entry["value"] for entry in ledger.entries] == ["first"]
        assert await greedy.call("ledger.once", value="third")


async def test_the_last_use_is_used_by_one_of_two_calls_that_wait_for_a_slot(tmp_path: Path) -> None:
    from agentos.kernel.slots import Slots

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        kernel.core.slots["one"] = Slots("one", 1)
        kernel.core.ops.find("ledger.once").slot = "one"
        process = await host(kernel, "ledger.* uses 2")
        outcomes = await process.calls([("ledger.once", {"value": str(n), "delay_s": 0.01}) for n in range(4)])
        assert sorted(outcome.ok for outcome in outcomes) == [False, False, True, True]
        assert len(ledger.entries) == 2


async def test_nobody_answering_in_time_is_a_denial() -> None:
    async with (
        opened(policy='policy "p"\nask obj.put any * timeout 30m', clock=FakeClock()) as kernel,
        anyio.create_task_group() as tasks,
    ):
        process = await host(kernel)
        call = Later(process.call("obj.put", value=1, name="x"))
        tasks.start_soon(call.run)
        [ask] = await pending(kernel)
        advance(kernel, 1801)
        await settled(kernel, lambda: call.error)
        assert code_of(call.error or ValueError()) == "denied.human"
        assert [a.state for a in await kernel.asks(None)] == ["expired"]
        assert await refused(kernel.answer(ask.id, "approve", by="late")) == "invalid.state"


async def test_with_nobody_there_an_ask_is_a_denial() -> None:
    async with opened(policy=PUT, mode="noninteractive") as kernel:
        process = await host(kernel)
        assert await refused(process.call("obj.put", value=1, name="x")) == "denied.human"
        assert await refused(process.call("human.ask", question="?")) in ("denied.human", "denied.policy")


async def test_a_cancelled_host_call_withdraws_its_approval_and_its_question() -> None:
    policy = 'policy "p"\nask obj.put any *\nallow human.ask any *'
    async with opened(policy=policy) as kernel:
        process = await host(kernel)
        for op, args in (("obj.put", {"value": 1, "name": "x"}), ("human.ask", {"question": "well?"})):
            with anyio.move_on_after(0.05):
                await process.call(op, **args)
            assert await kernel.asks() == []
        assert [a.state for a in await kernel.asks(None)] == ["withdrawn", "withdrawn"]
        assert [(row.op, row.code) for row in rows(kernel, process.pid)] == [
            ("obj.put", "unavailable.cancelled"), ("human.ask", "unavailable.cancelled"),
        ]  # fmt: skip


async def test_an_ended_process_withdraws_its_asks() -> None:
    async with opened(policy=PUT) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel)
        call = Later(process.call("obj.put", value=1, name="x"))
        tasks.start_soon(call.run)
        await pending(kernel)
        await process.signal("kill")
        await settled(kernel, lambda: call.error)
        assert [a.state for a in await kernel.asks(None)] == ["withdrawn"]


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_pending_approval_of_a_program_survives_a_reopen(tmp_path: Path, resident: int) -> None:
    async def pay(sys: Any) -> Any:
        return (await sys.ledger.once("x"))["value"]

    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}, "policy": ASK}
    async with opened(tmp_path / "a.db", **options) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, pay, "ledger.*")
        [ask] = await pending(kernel)
    async with opened(tmp_path / "a.db", programs=[agentos.program("pay")(pay)], **options) as kernel:
        await settled(kernel)
        assert [a.id for a in await kernel.asks()] == [ask.id]
        await kernel.answer(ask.id, "approve", by="me")
        assert (await kernel.process(process.pid).wait(5)).value == "x"
        assert len(ledger.entries) == 1


async def test_a_question_takes_one_of_its_options_and_grants_nothing() -> None:
    async def curious(sys: Any) -> Any:
        return await sys.human.ask("fs.read /** ?", options=["yes", "no"])

    async with opened() as kernel:
        process = await started(kernel, curious)
        [ask] = await pending(kernel)
        assert await refused(kernel.answer(ask.id, "approve", by="me")) == "invalid.argument"
        assert await refused(kernel.answer(ask.id, "approve", by="me", value="maybe")) == "invalid.argument"
        assert await refused(kernel.answer(ask.id, "approve", by="me", edit={"question": "?"})) == "invalid.argument"
        await kernel.answer(ask.id, "approve", by="me", value="yes")
        assert (await process.wait(5)).value == "yes"
        assert await kernel.caps() == []
