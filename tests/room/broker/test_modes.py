"""The modes of a kernel: `plan` keeps every effect inside, `noninteractive` asks nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentos
from agentos.testing import Ledger
from tests.builders import host, opened, refused, rows

pytestmark = pytest.mark.anyio

ASKING = 'policy "p"\nask ledger.*, cap.request, human.ask any *\nallow ledger.pure, obj.put any *'


async def test_plan_denies_effects_outside_whatever_the_policy_says_and_lets_looking_pass(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy='policy "p"\nallow * any *', mode="plan") as kernel:
        process = await host(kernel, "ledger.*", "obj.*")
        for op in ("keyed", "probeable", "once"):
            with pytest.raises(agentos.Denied, match="only plans") as caught:
                await process.call(f"ledger.{op}", value="x")
            assert caught.value.rule == "mode:plan"
        for op in ("pure", "repeatable"):
            await process.call(f"ledger.{op}", value="x")
        assert await process.call("obj.put", value=1, name="x")
        assert [row.code for row in rows(kernel, process.pid)][:3] == ["denied.policy"] * 3


async def test_plan_asks_nobody_about_an_effect_that_it_will_not_make(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy=ASKING, mode="plan") as kernel:
        process = await host(kernel, "ledger.*")
        assert await refused(process.call("ledger.once", value="x")) == "denied.policy"
        assert await kernel.asks(None) == []


async def test_noninteractive_turns_every_ask_into_a_denial_that_is_journaled(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy=ASKING, mode="noninteractive") as kernel:
        process = await host(kernel, "ledger.*")
        calls = [
            ("ledger.once", {"value": "x"}),
            ("cap.request", {"text": "fs.read /a", "why": "x"}),
            ("human.ask", {"question": "?"}),
        ]
        for op, args in calls:
            assert await refused(process.call(op, **args)) == "denied.human"
        assert [(row.op, row.outcome) for row in rows(kernel, process.pid)] == [(op, "denied") for op, _ in calls]
        assert await kernel.asks(None) == []
        assert not [entry for entry in ledger.entries if entry]


async def test_noninteractive_lets_what_is_allowed_pass_and_what_is_denied_fail(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(
        devices={"ledger": ledger.device}, policy=f"{ASKING}\ndeny ledger.keyed", mode="noninteractive"
    ) as kernel:
        process = await host(kernel, "ledger.*")
        assert await process.call("obj.put", value=1, name="x")
        assert await refused(process.call("ledger.keyed", value="x")) == "denied.policy"
