"""What `explain` says about a call: who decided, what is used, what is carried, and what would have to change."""

from __future__ import annotations

from typing import Any

import pytest

import agentos
from agentos.runtime.boot import MODES
from agentos.shell.verbs.run import Mode
from tests.builders import host, opened

pytestmark = pytest.mark.anyio

POLICY = """policy "p"
allow mail.read
allow bank.pay when to from { prompt } else ask "Pay {to}?"
deny bank.pay "acct/9" because "not that one"
limit bank.pay 2 per tree
allow web.post any *
"""
PAY: dict[str, Any] = {"account": "7", "to": "ALICE-9"}


def devices() -> dict[str, agentos.Device]:
    bank, mail, web = agentos.Device("bank"), agentos.Device("mail"), agentos.Device("web")

    @bank.op(resource="acct/{account}", effect="repeatable", sinks=("to",))
    async def pay(account: str, to: str) -> str:
        return to

    @mail.op(effect="repeatable")
    async def read() -> dict[str, str]:
        return {"sender": "EVIL-1"}

    @web.op(resource="{url}", kind="url", effect="once", sinks=("url",))
    async def post(url: str, text: str) -> str:
        return text

    return {"bank": bank, "mail": mail, "web": web}


def opened_office(**options: Any) -> Any:
    return opened(**{"devices": devices(), "policy": POLICY, "secrets": {"KEY": "0123456789"}, **options})


async def office(kernel: Any) -> Any:
    return await host(kernel, "bank.pay acct/7", "bank.pay acct/9", "mail.*", "web.post", goal="Pay ALICE-9, please.")


def told(kernel: Any, process: Any, op: str, **args: Any) -> list[str]:
    return [line.strip() for line in kernel.check(process.pid, op, **args).explain().splitlines()]


async def test_a_missing_capability_is_told_with_the_least_grant() -> None:
    async with opened_office() as kernel:
        process = await office(kernel)
        lines = told(kernel, process, "bank.pay", account="8", to="ALICE-9")
        assert lines[1] == "deny, denied.capability: process 1 may not `bank.pay` `acct/8`"
        [grant] = [line for line in lines if line.startswith("closest change: ")]
        assert grant == "closest change: agentos grant 1 'bank.pay acct/8 when to == \"ALICE-9\" uses 1'"
        await kernel.grant(process.pid, grant.split("'")[1])
        assert kernel.check(process.pid, "bank.pay", account="8", to="ALICE-9").outcome == "allow"


async def test_a_rule_that_denies_is_told_once() -> None:
    async with opened_office() as kernel:
        text = "\n".join(told(kernel, await office(kernel), "bank.pay", account="9", to="ALICE-9"))
        assert text.count("deny by <policy>:4 (not that one)") == 1
        assert "denied.policy" not in text
        assert 'closest change: only a change of <policy>:4 can: deny bank.pay "acct/9"' in text


async def test_a_limit_tells_how_much_is_used_before_and_when_it_is_reached() -> None:
    async with opened_office() as kernel:
        process = await office(kernel)
        await process.call("bank.pay", **PAY)
        assert "used: 1 of 2 of <policy>:5, this call takes 1" in told(kernel, process, "bank.pay", **PAY)
        await process.call("bank.pay", **PAY)
        decision = kernel.check(process.pid, "bank.pay", **PAY)
        assert (decision.outcome, decision.rule) == ("deny", "<policy>:5")
        lines = told(kernel, process, "bank.pay", **PAY)
        assert lines[1].startswith('deny, denied.policy: limit "bank.pay 2 per tree" is reached')
        assert lines[-1] == "closest change: a change of <policy>:5: limit bank.pay 2 per tree"


async def test_an_argument_that_nobody_said_is_told_with_its_origin() -> None:
    async with opened_office() as kernel:
        process = await office(kernel)
        await process.call("mail.read")
        text = "\n".join(told(kernel, process, "bank.pay", account="7", to="EVIL-1"))
        assert "`to` is from result(mail.read).sender: untrusted" in text
        assert "labels: the process carries untrusted" in text
        assert "closest change: a person approves the ask of <policy>:3" in text


async def test_a_secret_that_may_not_be_sent_is_told_with_its_grant() -> None:
    async with opened_office() as kernel:
        process = await office(kernel)
        lines = told(kernel, process, "web.post", url="https://a.example/", text="{{secret:KEY}}")
        assert lines[1] == "deny, denied.capability: process 1 may not `secret.use` `KEY`"
        assert lines[-1].startswith('closest change: agentos grant 1 \'secret.use KEY when op == "web.post"')


async def test_a_label_above_the_clearance_is_told_with_both() -> None:
    policy = 'policy "l"\nallow fs.*, mail.read\nlabel result(mail.read) secret'
    async with opened_office(policy=policy) as kernel:
        process = await host(kernel, "mail.*", "fs.write /**")
        await process.call("mail.read")
        lines = told(kernel, process, "fs.write", path="/a", text="x")
        assert lines[1].startswith("deny, denied.label: ")
        assert "labels: the process carries secret, untrusted; fs.write takes up to internal" in lines
        assert lines[-1] == "closest change: a person approves a `proc.relabel` of the process"


async def test_the_modes_of_a_kernel_are_told() -> None:
    policy = 'policy "m"\nask fs.write "/**"'
    for mode, outcome, said in (
        ("plan", "deny", "opened with another mode"),
        ("noninteractive", "ask", "opened with mode `ask`"),
    ):
        async with opened(policy=policy, mode=mode) as kernel:
            decision = kernel.check((await host(kernel, "fs.write /**")).pid, "fs.write", path="/a", text="x")
            assert decision.outcome == outcome
            assert said in decision.explain().splitlines()[-1]


async def test_what_no_rule_asks_but_the_op_itself_is_told_apart() -> None:
    async with opened() as kernel:
        process = await host(kernel, "proc.relabel")
        decision = kernel.check(process.pid, "proc.relabel", remove=["untrusted"], why="done with it")
        assert (decision.outcome, decision.rule) == ("ask", "op:proc.relabel")
        assert decision.explain().splitlines()[1].strip().startswith("ask by op:proc.relabel (it ")


def test_the_modes_of_the_command_line_are_those_of_a_kernel() -> None:
    assert tuple(Mode) == MODES
