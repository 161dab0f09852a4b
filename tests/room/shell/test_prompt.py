"""The person at the terminal: what has to be typed for what, with a real kernel and scripted keys."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentos.shell import people
from agentos.shell.people import People
from tests.builders import host, rows, settled
from tests.room.broker.test_approvals import Later, pending
from tests.room.broker.test_standing import TO_BOB, opened_bank

pytestmark = pytest.mark.anyio


class Keys:
    """What the person types, line by line; `prompts` is what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []
        self.said: list[str] = []
        self.people = People(is_present=True, say=self.said.append)
        monkeypatch.setattr(people, "read_line", self.read)

    async def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        assert self.lines, f"nothing left to type at {prompt!r}, after {self.said}"
        await anyio.lowlevel.checkpoint()
        return self.lines.pop(0)


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def consulted(kernel: Any, tasks: Any, keys: Keys, *calls: dict[str, Any]) -> list[Any]:
    process = await host(kernel, "bank.*")
    outcome: list[Any] = []

    async def run() -> None:
        outcome.extend(await process.calls([("bank.transfer", args) for args in calls]))

    tasks.start_soon(run)
    asks = await pending(kernel, len(calls))
    for ask in asks:
        await keys.people.consult(kernel, ask)
    await settled(kernel, lambda: outcome)
    assert not keys.lines, "everything was typed"
    return outcome


async def test_an_irreversible_effect_is_approved_by_its_verb_only(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel:
        keys = Keys(monkeypatch, "a", "y", "a", "bank.transfer", "a", "transfer")
        [outcome] = await consulted(kernel, tasks, keys, TO_BOB)
        assert outcome.value == "5 to bob"
        assert sum("Type `transfer`" in prompt for prompt in keys.prompts) == 3


async def test_a_batch_is_listed_once_and_decided_at_once(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel:
        keys = Keys(monkeypatch, "a", "transfer")
        outcomes = await consulted(kernel, tasks, keys, TO_BOB, {**TO_BOB, "to": "eve"}, {**TO_BOB, "to": "zoe"})
        assert [outcome.value for outcome in outcomes] == ["5 to bob", "5 to eve", "5 to zoe"]
        assert keys.said[0] == "3 calls that process 1 (host:1) made together"
        assert keys.said[1].startswith("  rule     ")
        assert len([line for line in keys.said if line.startswith("│ ")]) == 3


async def test_one_of_a_batch_can_be_looked_at_and_the_rest_refused(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel:
        keys = Keys(monkeypatch, "7", "2", "a", "transfer", "d", "not these")
        outcomes = await consulted(kernel, tasks, keys, TO_BOB, {**TO_BOB, "to": "eve"}, {**TO_BOB, "to": "zoe"})
        assert [outcome.ok for outcome in outcomes] == [False, True, False]
        assert "not these" in str(outcomes[0].error)


async def test_remembering_shows_the_rule_and_wants_a_scope(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel:
        keys = Keys(monkeypatch, "r", "", "r", "nonsense", "transfer", "r", "tree", "transfer")
        await consulted(kernel, tasks, keys, TO_BOB)
        [grant] = await kernel.standing()
        assert (grant.scope, grant.by) == ("tree", people.whoami())
        shown = "".join(line.removeprefix("│ ").removeprefix("┊ ") for line in keys.said)
        assert grant.offer in shown
        assert any(line.startswith("not taken: `nonsense` is not a scope") for line in keys.said)


async def test_an_ask_that_is_settled_already_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel, anyio.create_task_group() as group:
        process = await host(kernel, "bank.*")
        group.start_soon(Later(process.call("bank.transfer", **TO_BOB)).run)
        [ask] = await pending(kernel)
        await kernel.answer(ask.id, "deny", by="ann")
        keys = Keys(monkeypatch)
        await keys.people.consult(kernel, ask)
        assert (keys.said, keys.prompts) == ([], [])


async def test_who_may_not_answer_is_told_and_nothing_happens(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank(people={"ops": ["*"]}) as kernel:
        process = await host(kernel, "bank.*")
        tasks.start_soon(Later(process.call("bank.transfer", **TO_BOB)).run)
        [ask] = await pending(kernel)
        keys = Keys(monkeypatch)
        rules = People(["<policy>:2"], say=keys.said.append)
        await rules.approve(kernel, ask)
        assert keys.said == [f"ask {ask.id} stays open: `--approve` may not answer this ask"]
        assert [row.op for row in rows(kernel, notes=True)][-1] == "note.refused"


async def test_an_argument_that_the_call_does_not_have_is_not_taken(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_bank() as kernel:
        keys = Keys(monkeypatch, "e", '{"account_": "8"}', "e", '{"to": "eve"}', "transfer")
        [outcome] = await consulted(kernel, tasks, keys, TO_BOB)
        assert any("has no argument `account_`; did you mean `account`?" in said for said in keys.said)
        assert outcome.value == "5 to eve"
