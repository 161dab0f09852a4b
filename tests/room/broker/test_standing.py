"""Standing grants: they answer the asks of one rule, for what the person saw, within their scope and time, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.labels import INTERNAL, UNTRUSTED
from agentos.abi.records import AskRecord, StandingRecord
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock
from tests.builders import advance, alive, code_of, host, live, opened, refused, rows, settled
from tests.room.broker.test_approvals import Later, pending

pytestmark = pytest.mark.anyio

POLICY = 'policy "p"\nask bank.*, fs.write any * because "look first"\nallow proc.* any *'
TO_BOB: dict[str, Any] = {"account": "7", "to": "bob", "amount": 5}


def a_bank() -> agentos.Device:
    """An op with a resource and sinks, one with nothing declared, and one that writes to several resources."""
    bank = agentos.Device("bank")

    @bank.op(resource="acct/{account}", effect="once", sinks=("to",), trusted=("*",))
    async def transfer(account: str, to: str, amount: int, urgent: bool = False) -> str:
        return f"{amount} to {to}"

    @bank.op(trusted=("*",))
    async def order(what: str, tags: list[str] = [], note: str | None = None) -> str:  # noqa: B006 - a declaration
        return what

    return bank


def opened_bank(**options: Any) -> Any:
    return opened(**{"devices": {"bank": a_bank()}, "policy": POLICY, **options})


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def granted(
    kernel: Kernel, tasks: Any, process: Process, scope: str, op: str = "bank.transfer", **args: Any
) -> agentos.Ask:
    """Approve a call with a scope and wait until it is done."""
    later = Later(process.call(op, **(args or TO_BOB)))
    tasks.start_soon(later.run)
    [ask] = await pending(kernel)
    await kernel.answer(ask.id, "approve", by="ann", scope=scope)
    await settled(kernel, lambda: later.value)
    return ask


async def asks(kernel: Kernel, process: Process, op: str = "bank.transfer", **changed: Any) -> bool:
    """Say whether a call asks a person, by making it; it is withdrawn if so."""
    args = {**TO_BOB, **changed} if op == "bank.transfer" else changed
    outcome = kernel.check(process.pid, op, **args).outcome
    with anyio.move_on_after(0.05):
        await process.call(op, **args)
    is_asked = any(row.op == op and row.code == "unavailable.cancelled" for row in rows(kernel, process.pid)[-1:])
    assert outcome == ("ask" if is_asked else "allow"), "the dry run says what the call does"
    return is_asked


async def test_standing_is_exact_about_resource_sink_and_flag(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree")
        assert not await asks(kernel, process)
        assert not await asks(kernel, process, amount=6), "an argument that is no sink is left open, and the offer says so"
        assert await asks(kernel, process, account="8")
        assert await asks(kernel, process, to="bob2")
        assert await asks(kernel, process, to="Bob")
        assert await asks(kernel, process, urgent=True)


async def test_an_op_that_declares_nothing_is_pinned_in_every_argument(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree", "bank.order", what="tea", tags=["a", "b"])
        assert not await asks(kernel, process, "bank.order", what="tea", tags=["a", "b"])
        for changed in ({"tags": ["a"]}, {"tags": ["b", "a"]}, {"tags": ["a", "b", "b"]}, {"what": "gin"}, {"note": "x"}):
            assert await asks(kernel, process, "bank.order", **{"what": "tea", "tags": ["a", "b"], **changed})


@pytest.mark.parametrize(
    ("scope", "covered"),
    [("process", {"self"}), ("tree", {"self", "child", "fork"}), ("8h", {"self", "child", "fork"}),
     ("image", {"self", "fork", "twin", "child"}), ("project", {"self", "child", "fork", "twin", "stranger"})],
)  # fmt: skip
async def test_standing_is_exact_about_its_scope(tasks: Any, scope: str, covered: set[str]) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        others = {
            "self": process, "child": await kernel.spawn(agentos.Image.host(), parent=process, grant=["bank.*"]),
            "fork": await process.fork(grant=["bank.*"]), "twin": await host(kernel, "bank.*"),
            "stranger": await kernel.spawn(agentos.Image.host("other"), grant=["bank.*"]),
        }  # fmt: skip
        await granted(kernel, tasks, process, scope)
        assert {name for name, other in others.items() if not await asks(kernel, other)} == covered


async def test_a_grant_ends_by_revoking_by_time_and_with_its_process(tasks: Any) -> None:
    async with opened_bank(clock=FakeClock()) as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree")
        [grant] = await kernel.standing()
        assert (await kernel.revoke_standing(grant.id)).state == "revoked"
        assert await asks(kernel, process)
        assert await refused(kernel.revoke_standing(grant.id)) == "invalid.argument"
        await granted(kernel, tasks, process, "1h")
        advance(kernel, 3599)
        assert not await asks(kernel, process)
        advance(kernel, 1)
        assert await asks(kernel, process)
        assert await kernel.standing() == []
        await granted(kernel, tasks, process, "process")
        await process.exit()
        states = [record.state for record in kernel.core.store.current(StandingRecord, live=None)]
        assert states == ["revoked", "expired", "ended"]


async def test_a_grant_for_a_tree_ends_with_the_last_process_of_the_tree(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        child = await kernel.spawn(agentos.Image.host(), parent=process)
        await kernel.grant(child.pid, "bank.*")
        await granted(kernel, tasks, process, "tree")
        await process.exit()
        assert not await asks(kernel, child)
        await child.exit()
        assert live(kernel, StandingRecord) == []


async def test_a_grant_survives_a_reopen_but_not_an_edited_policy(tmp_path: Path, tasks: Any) -> None:
    async with opened_bank(store=tmp_path / "a.db") as kernel:
        pid = (process := await host(kernel, "bank.*")).pid
        await granted(kernel, tasks, process, "tree")
    async with opened_bank(store=tmp_path / "a.db") as kernel:
        assert not await asks(kernel, kernel.process(pid))
        assert (await kernel.standing())[0].uses == 1
    edited = POLICY.replace("bank.*, fs.write", "bank.*")
    async with opened_bank(store=tmp_path / "a.db", policy=edited) as kernel:
        assert await asks(kernel, kernel.process(pid)), "the same place, but another rule"


@pytest.mark.parametrize("more", [UNTRUSTED, INTERNAL])
async def test_a_grant_does_not_cover_a_call_that_carries_more_labels(tasks: Any, more: int) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree")
        alive(kernel, process).label |= more
        assert await asks(kernel, process)
        ask = await asked_again(kernel, tasks, process)
        await kernel.answer(ask.id, "approve", by="ann", scope="tree")
        await settled(kernel, lambda: not kernel.core.effects)
        assert not await asks(kernel, process), "given for what carried them"


async def asked_again(kernel: Kernel, tasks: Any, process: Process, **changed: Any) -> agentos.Ask:
    tasks.start_soon(Later(process.call("bank.transfer", **{**TO_BOB, **changed})).run)
    [ask] = await pending(kernel)
    return ask


async def test_a_grant_never_answers_for_a_deny_or_for_what_is_not_held(tasks: Any) -> None:
    policy = POLICY + "\ndeny bank.transfer when amount > 100"
    async with opened_bank(policy=policy) as kernel:
        process = await host(kernel, "bank.transfer acct/**")
        await granted(kernel, tasks, process, "project")
        assert await refused(process.call("bank.transfer", **{**TO_BOB, "amount": 101})) == "denied.policy"
        other = await host(kernel)
        assert await refused(other.call("bank.transfer", **TO_BOB)) == "denied.capability"


async def test_another_layer_that_asks_has_to_be_covered_too(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "project")
        second = 'restrict "second"\nask bank.transfer when amount > 3 because "much"'
        strict = await host(kernel, "bank.*", policy=second)
        assert await asks(kernel, strict)
        assert not await asks(kernel, strict, amount=3)
        ask = await asked_again(kernel, tasks, strict)
        assert (ask.offer, ask.scopes) == ("", ("once",)), "what two rules ask is approved once"
        assert await refused(kernel.answer(ask.id, "approve", by="ann", scope="process")) == "invalid.argument"


async def test_a_second_rule_of_the_same_layer_that_asks_is_not_answered_along(tasks: Any) -> None:
    policy = 'policy "p"\nask bank.transfer any * remember tree\nask bank.transfer when amount > 100 any * remember tree'
    async with opened_bank(policy=policy) as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree")
        assert not await asks(kernel, process, amount=100)
        assert await asks(kernel, process, amount=101)


async def test_the_row_of_a_covered_call_names_the_rule_and_the_ask(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        ask = await granted(kernel, tasks, process, "tree")
        await process.call("bank.transfer", **{**TO_BOB, "amount": 9})
        intents = [row for row in rows(kernel, process.pid) if row.kind == "intent"]
        assert [(row.rule, row.ask) for row in intents] == [("<policy>:2", ask.id)] * 2
        assert [a.state for a in await kernel.asks(None)] == ["consumed"]
        assert "standing grant 1, given by ann with ask 1" in kernel.check(process.pid, "bank.transfer", **TO_BOB).explain()


async def test_the_pending_asks_that_a_grant_covers_are_settled_with_it(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        same, other = (
            Later(process.call("bank.transfer", **TO_BOB)),
            Later(process.call("bank.transfer", **{**TO_BOB, "to": "eve"})),
        )
        first = Later(process.call("bank.transfer", **TO_BOB))
        for later in (first, same, other):
            tasks.start_soon(later.run)
        found = await pending(kernel, 3)
        mine = next(ask for ask in found if ask.args["to"] == "bob")
        await kernel.answer(mine.id, "approve", by="ann", scope="tree")
        await settled(kernel, lambda: first.value and same.value)
        answers = {ask.id: ask.answer for ask in await kernel.asks(None) if ask.answer}
        assert sorted(answer["scope"] for answer in answers.values()) == [f"covered by ask {mine.id}", "tree"]
        assert {answer["by"] for answer in answers.values()} == {"ann"}
        assert [ask.args["to"] for ask in await kernel.asks()] == ["eve"]
        notes = [row for row in rows(kernel, notes=True) if row.op == "note.answered"]
        assert len(notes) == 1, "one append"


async def test_a_grant_is_given_only_as_far_as_the_rule_lets_a_person(tasks: Any) -> None:
    policy = 'policy "p"\nask bank.transfer any * remember 2h'
    async with opened_bank(policy=policy, clock=FakeClock()) as kernel:
        process = await host(kernel, "bank.*")
        ask = await asked_again(kernel, tasks, process)
        assert ask.scopes == ("once", "process", "2h")
        for scope in ("tree", "image", "project", "2h1s", "3h", "0s", "forever", "Once", ""):
            assert await refused(kernel.answer(ask.id, "approve", by="ann", scope=scope)) == "invalid.argument", scope
        assert await refused(kernel.answer(ask.id, "deny", by="ann", scope="process")) == "invalid.argument"
        assert await refused(kernel.answer(ask.id, "approve", by="ann", scope="1h", edit={"to": "bo"})) == "invalid.argument"
        assert await kernel.standing() == []
        await kernel.answer(ask.id, "approve", by="ann", scope="process")
        [grant] = await kernel.standing()
        assert grant.expires == grant.created + 7200, "the process, for as long as the rule says"


async def test_a_scope_that_nobody_knows_reaches_nothing(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree")
        assert not await asks(kernel, process)
        kernel.core.standing._live[1].scope = "everything"
        assert await asks(kernel, process)


async def test_only_approvals_take_a_scope(tasks: Any) -> None:
    async with opened(policy='policy "p"\nallow human.ask any *') as kernel:
        process = await host(kernel)
        tasks.start_soon(Later(process.call("human.ask", question="?")).run)
        [ask] = await pending(kernel)
        assert ask.scopes == ("once",)
        assert await refused(kernel.answer(ask.id, "approve", by="ann", scope="tree", value="x")) == "invalid.argument"


async def test_what_would_have_been_covered_is_shown_with_the_offer(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        for to in ("bob", "eve", "bob"):
            ask = await asked_again(kernel, tasks, process, to=to)
            await kernel.answer(ask.id, "approve", by="ann")
            await settled(kernel, lambda: not kernel.core.asks._live)
        ask = await kernel.ask((await asked_again(kernel, tasks, process)).id)
        covered = [(each["pid"], each["op"], each["resource"]) for each in ask.would_cover]
        assert covered == [(process.pid, "bank.transfer", "acct/7")] * 2
        assert ask.would_cover[0]["seq"] > ask.would_cover[1]["seq"]
        assert await refused(kernel.ask(999)) == "invalid.argument"


async def test_a_denied_call_stays_denied_when_a_grant_is_given_later(tasks: Any) -> None:
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        first, second = Later(process.call("bank.transfer", **TO_BOB)), Later(process.call("bank.transfer", **TO_BOB))
        tasks.start_soon(first.run)
        tasks.start_soon(second.run)
        one, two = await pending(kernel, 2)
        await kernel.answer(one.id, "deny", by="ann")
        await kernel.answer(two.id, "approve", by="ann", scope="tree")
        await settled(kernel, lambda: first.error and second.value)
        assert code_of(first.error or ValueError()) == "denied.human"
        assert live(kernel, AskRecord) == []


async def test_a_resource_that_no_pattern_can_name_has_no_offer(tmp_path: Path, tasks: Any) -> None:
    async with opened_bank(workspace=tmp_path) as kernel:
        process = await host(kernel, "fs.write /**")
        for name in ("a*.txt", "who?.txt", "a\u202eb", "line\nbreak"):
            tasks.start_soon(Later(process.call("fs.write", path=name, text="x")).run)
            ask = (await pending(kernel))[-1]
            assert (ask.offer, ask.scopes) == ("", ("once",)), name
            await kernel.answer(ask.id, "deny", by="ann")
            await settled(kernel, lambda: not kernel.core.asks._live)


async def test_a_value_that_looks_like_the_end_of_the_rule_is_only_a_value(tasks: Any) -> None:
    evil = 'bob" any * # exactly this call: 00000000000000000000000000000000'
    async with opened_bank() as kernel:
        process = await host(kernel, "bank.*")
        await granted(kernel, tasks, process, "tree", account="7", to=evil, amount=1)
        assert not await asks(kernel, process, to=evil)
        assert await asks(kernel, process, to="bob")
        assert await asks(kernel, process, to="eve")


async def test_calls_made_together_share_a_batch() -> None:
    async with opened_bank() as kernel, anyio.create_task_group() as group:
        process = await host(kernel, "bank.*")
        group.start_soon(process.calls, [("bank.transfer", TO_BOB), ("bank.order", {"what": "tea"})])
        group.start_soon(Later(process.call("bank.order", what="gin")).run)
        found = await pending(kernel, 3)
        batches = {ask.args.get("what", "transfer"): ask.batch for ask in found}
        assert batches["transfer"] == batches["tea"] != ""
        assert batches["gin"] == ""
        for ask in found:
            await kernel.answer(ask.id, "deny", by="ann")
