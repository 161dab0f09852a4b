"""Budgets of model calls: what a call will cost is held before it is made, and replaced by what it did cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.counting import count_messages
from agentos.abi.model import ModelReply, ModelRequest, Usage, model_failed
from agentos.devices.llm.profile import Price, Profile
from agentos.devices.llm.scripted import ScriptedModel
from tests.builders import alive, crashing, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello " * 20}]
QUESTION = count_messages(HELLO)


class Talker:
    """A model whose answers are as long as they may be, and cost what it says: `extra` tokens more than that."""

    def __init__(self, *, extra: int = 0, delay_s: float = 0.0) -> None:
        self.extra, self.delay_s = extra, delay_s
        self.bounds: list[int] = []
        self.busy = self.most = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await anyio.sleep(self.delay_s)
        self.busy -= 1
        self.bounds.append(request.tokens_max or 0)
        return ModelReply("x", (), "stop", Usage(request.tokens, (request.tokens_max or 0) + self.extra), "talker")


def spoken(driver: Any, **profile: Any) -> dict[str, Any]:
    return {"default": Profile(driver, **{"output_tokens": 100, **profile})}


async def ask(process: Any, **args: Any) -> Any:
    return await process.call("llm.complete", messages=HELLO, **args)


async def test_an_answer_is_cut_to_what_the_budget_has_left_after_the_question() -> None:
    model = Talker()
    async with opened(models=spoken(model)) as kernel:
        process = await host(kernel, budget={"tokens": QUESTION + 30})
        await ask(process)
        assert model.bounds == [30]
        assert process.usage["tokens"] == QUESTION + 30
        assert await refused(ask(process)) == "denied.budget"
        assert len(model.bounds) == 1


async def test_a_question_without_room_is_refused_and_names_whose_budget_it_is() -> None:
    async with opened(models=spoken(Talker())) as kernel:
        top = await host(kernel, budget={"tokens": QUESTION})
        child = await kernel.spawn(agentos.Image.host(), parent=top)
        with pytest.raises(agentos.Denied, match=f"needs about {QUESTION}") as caught:
            await ask(child)
        assert (caught.value.pid, caught.value.limit) == (top.pid, "tokens")
        assert child.usage["calls"] == 0


@pytest.mark.parametrize("extra", [0, 3])
async def test_twenty_callers_at_once_use_no_more_than_their_tree_has_but_what_a_server_reports_beyond(extra: int) -> None:
    model = Talker(extra=extra, delay_s=0.002)
    async with opened(models=spoken(model)) as kernel:
        top = await host(kernel, budget={"tokens": 1_000})
        children = [await kernel.spawn(agentos.Image.host(), parent=top) for _ in range(20)]
        async with anyio.create_task_group() as tasks:
            for child in children:
                tasks.start_soon(child.calls, [("llm.complete", {"messages": HELLO})] * 2)
        assert 1_000 - QUESTION <= top.usage["tokens"] <= 1_000 + extra * len(model.bounds)
        assert model.most > 1
        assert not alive(kernel, top).account.held


async def test_what_others_hold_is_waited_for_and_not_taken_for_used() -> None:
    model = Talker(delay_s=0.01)
    async with opened(models=spoken(model)) as kernel:
        process = await host(kernel, budget={"tokens": 3 * (QUESTION + 100)})
        outcomes = await process.calls([("llm.complete", {"messages": HELLO})] * 3 + [("llm.complete", {"messages": HELLO})])
        assert sorted(outcome.ok for outcome in outcomes) == [False, True, True, True]
        assert [outcome.error.code for outcome in outcomes if outcome.error is not None] == ["denied.budget"]
        assert model.bounds == [100, 100, 100]


async def test_a_caller_that_is_killed_while_it_waits_for_room_leaves_nothing_held() -> None:
    model = Talker(delay_s=30)
    async with opened(models=spoken(model)) as kernel:
        top = await host(kernel, budget={"tokens": QUESTION + 100})
        first, second = [await started(kernel, patient, parent=top) for _ in range(2)]
        await settled(kernel, lambda: model.busy == 1)
        await first.signal("kill")
        await second.signal("kill")
        await settled(kernel, lambda: not alive(kernel, top).account.held)
        assert top.usage["tokens"] == QUESTION  # the one that was made is known to have asked


async def patient(sys: Any) -> None:
    await sys.llm.complete(messages=HELLO)


async def test_dollars_are_bounded_by_the_price_table() -> None:
    model = Talker()
    price = Price(input=1.0, output=10.0)
    async with opened(models=spoken(model, price=price)) as kernel:
        room = QUESTION * 1e-6 + 25 * 1e-5
        process = await host(kernel, budget={"usd": room})
        await ask(process)
        assert model.bounds == [25]
        assert process.usage["usd"] == pytest.approx(room)
        assert await refused(ask(process)) == "denied.budget"


async def test_an_attempt_that_fails_gives_back_what_it_held() -> None:
    def fails(request: ModelRequest) -> Any:
        raise model_failed("server", "no", retry=True)

    async with opened(models=spoken(ScriptedModel(fails))) as kernel:
        process = await host(kernel, budget={"tokens": QUESTION + 100})
        assert await refused(ask(process)) == "unavailable.device"
        account = alive(kernel, process).account
        assert (account.held, account.used.get("tokens", 0)) == ({}, 0)


async def test_an_answer_without_usage_costs_its_estimate_and_says_so() -> None:
    silent = ScriptedModel(lambda request: ModelReply("twelve chars", usage=None))
    async with opened(models=spoken(silent)) as kernel:
        process = await host(kernel)
        said = await ask(process)
        assert said["tokens"] == {"input": QUESTION, "output": 4, "cached": 0, "is_estimate": True}
        assert process.usage["tokens"] == QUESTION + 4


LIES = {
    "nothing": Usage(-5, -7),
    "less than nothing out": Usage(QUESTION, -1_000_000),
    "a fortune": Usage(10**15, 10**15),
    "more at hand than there was": Usage(QUESTION, 5, cached=10**9),
    "no question": Usage(0, 0),
}


@pytest.mark.parametrize("lie", LIES)
async def test_usage_that_cannot_be_true_is_bounded_by_the_estimate_and_says_so(lie: str) -> None:
    async with opened(models=spoken(ScriptedModel(lambda request: ModelReply("yes", usage=LIES[lie])))) as kernel:
        process = await host(kernel)
        said = await ask(process)
        assert said["tokens"]["is_estimate"]
        assert QUESTION + 1 <= process.usage["tokens"] <= 5 * QUESTION + 3_000


async def test_a_call_that_a_crash_interrupts_counts_its_question_once_and_for_all(tmp_path: Path) -> None:
    store, copies = tmp_path / "a.db", [tmp_path / "b.db", tmp_path / "c.db"]
    slow, grant = Talker(delay_s=60), {"budget": {"tokens": 10_000}}
    async with crashing(store, copies[0], models=spoken(slow), durability="strict") as kernel:
        process = await started(kernel, patient, **grant)
        await settled(kernel, lambda: slow.busy == 1)
    again = Talker(delay_s=60)
    async with crashing(
        copies[0], copies[1], models=spoken(again), durability="strict", programs=[agentos.program("patient")(patient)]
    ) as kernel:
        await settled(kernel, lambda: again.busy == 1)
        assert kernel.process(process.pid).usage["tokens"] == QUESTION
    async with opened(copies[1], models=spoken(Talker()), programs=[agentos.program("patient")(patient)]) as kernel:
        assert (await kernel.process(process.pid).wait(5)).state == "exited"
        assert kernel.process(process.pid).usage["tokens"] == 2 * QUESTION + QUESTION + 100
        assert kernel.process(process.pid).usage["calls"] == 1


async def test_a_budget_is_not_filled_again_by_a_kill(tmp_path: Path) -> None:
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    slow = Talker(delay_s=60)
    async with crashing(store, copy, models=spoken(slow), durability="strict") as kernel:
        process = await started(kernel, patient, budget={"tokens": 2 * QUESTION - 1})
        await settled(kernel, lambda: slow.busy == 1)
    model = Talker()
    async with opened(copy, models=spoken(model), programs=[agentos.program("patient")(patient)]) as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert (ended.state, ended.error.code, model.bounds) == ("failed", "denied.budget", [])


async def test_what_a_killed_process_spent_counts_in_its_parent_after_a_reopen(tmp_path: Path) -> None:
    slow = Talker(delay_s=60)
    async with opened(tmp_path / "a.db", models=spoken(slow)) as kernel:
        top = await host(kernel)
        child = await started(kernel, patient, parent=top)
        await settled(kernel, lambda: slow.busy == 1)
        await child.signal("kill")
        await settled(kernel)
        assert top.usage["tokens"] == child.usage["tokens"] == QUESTION
    async with opened(tmp_path / "a.db", models=spoken(slow)) as kernel:
        assert kernel.process(top.pid).usage["tokens"] == kernel.process(child.pid).usage["tokens"] == QUESTION


POLICY = """policy "p"
limit llm.complete {} of tokens per tree
allow llm.complete any messages
"""


async def test_a_limit_of_tokens_counts_true_cost_and_bounds_the_answer() -> None:
    model = Talker()
    async with opened(models=spoken(model), policy=POLICY.format(2 * QUESTION + 100 + 40)) as kernel:
        process = await host(kernel)
        await ask(process)
        await ask(process)
        assert model.bounds == [100, 40]
        with pytest.raises(agentos.Denied, match="is reached") as caught:
            await ask(process)
        assert caught.value.code == "denied.policy"


async def test_a_limit_with_less_left_than_the_question_needs_refuses_it() -> None:
    model = Talker()
    async with opened(models=spoken(model), policy=POLICY.format(QUESTION)) as kernel:
        with pytest.raises(agentos.Denied, match="needs about"):
            await ask(await host(kernel))
        assert model.bounds == []


async def test_an_unknown_tool_is_refused_before_anything_is_held() -> None:
    async with opened(models=spoken(Talker())) as kernel:
        process = await host(kernel, budget={"tokens": 1_000})
        assert await refused(ask(process, tools=["no.such"])) == "invalid.op"
        assert alive(kernel, process).account.held == {}
        assert [row.kind for row in rows(kernel, process.pid)] == ["call"]
