"""People in the middle: a yes used for something else, later, twice or by somebody else, and asks that imitate what people trust."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.probe import set_probe
from agentos.kernel.ask import Ask
from agentos.shell.askframe import framed
from tests.acceptance.hostile.world import GRANT, Case, World, a_world, devices
from tests.builders import code_of, crashing, opened, refused, rows, settled

pytestmark = pytest.mark.anyio

POLICY = """policy "people" version 1
let vault = "/vault/**"
label $vault secret
allow mail.*, proc.*, obj.*, msg.*, human.*, fs.read, fs.move, fs.list any *
ask bank.*, fs.write, sh.run any *
deny bank.pay when to == "EVIL"
deny fs.write "/denied/**"
"""
INTERACTIVE: dict[str, Any] = {"mode": "ask"}
PAY = ("eve", "bank.pay", {"to": "ALICE-1", "amount": 70})
WRITE = ("eve", "fs.write", {"path": "/desk/own.txt", "text": "mine"})


class Attempt:
    """A step that waits for a person."""

    def __init__(self, world: World, *step: Any) -> None:
        self._world, self._step = world, step
        self.value: Any = None
        self.error: agentos.AgentOSError | None = None

    @property
    def over(self) -> bool:
        return self.value is not None or self.error is not None

    async def run(self) -> None:
        try:
            self.value = await self._world.step(*self._step) or "done"
        except agentos.AgentOSError as error:
            self.error = error


class People:
    """A world with somebody to ask."""

    def __init__(self, world: World, tasks: Any) -> None:
        self.world, self.tasks = world, tasks

    async def asked(self, *step: Any) -> tuple[Attempt, Ask]:
        """Make a step until it waits for a person."""
        known = {ask.id for ask in await self.world.kernel.asks()}
        attempt = Attempt(self.world, *step)
        self.tasks.start_soon(attempt.run)
        await settled(self.world.kernel, lambda: attempt.over or {record.ask for record in self.world.kernel.core.asks} - known)
        assert not attempt.over, f"nobody was asked: {attempt.value or attempt.error}"
        return attempt, next(ask for ask in await self.world.kernel.asks() if ask.id not in known)

    async def approve(self, ask: Ask, attempt: Attempt | None = None, **how: Any) -> None:
        await self.world.kernel.answer(ask.id, "approve", by="ann", **how)
        if attempt is not None:
            await settled(self.world.kernel, lambda: attempt.over)


@asynccontextmanager
async def people(folder: Path, policy: str = POLICY, **options: Any) -> AsyncIterator[People]:
    case = Case("people", (), policy=policy, options={**INTERACTIVE, **options})
    async with a_world(case, folder) as world, anyio.create_task_group() as tasks:
        yield People(world, tasks)
        tasks.cancel_scope.cancel()


# --- another call ---------------------------------------------------------------------------------------------------------------

OTHERS: list[tuple[str, tuple[Any, ...]]] = [
    ("other recipient", ("eve", "bank.pay", {"to": "ALICE-2", "amount": 70})),
    ("other amount", ("eve", "bank.pay", {"to": "ALICE-1", "amount": "70.01"})),
    ("same call again", PAY),
    ("same call of another process", ("ann", *PAY[1:])),
    ("same arguments, other op", ("eve", "bank.wire", PAY[2])),
    ("space", ("eve", "bank.pay", {"to": "ALICE-1 ", "amount": 70})),
    ("look-alike", ("eve", "bank.pay", {"to": "\u0391LICE-1", "amount": 70})),
]


@pytest.mark.parametrize(("name", "other"), OTHERS, ids=[name for name, _ in OTHERS])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
async def test_no_yes_is_used_for_another_call(name: str, other: Any, first: bool, tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        if first:
            later, second = await here.asked(*other)
        attempt, ask = await here.asked(*PAY)
        await here.approve(ask, attempt)
        assert attempt.value
        if not first:
            later, second = await here.asked(*other)
        assert not later.over
        assert here.world.done == [("pay", "ALICE-1", 70)]
        assert await refused(here.world.kernel.answer(ask.id, "approve", by="ann")) == "invalid.state"
        await here.world.kernel.answer(second.id, "deny", by="ann")
        await settled(here.world.kernel, lambda: later.over)
        assert code_of(later.error or ValueError()) == "denied.human"


SCOPES = [
    ("process", ("ann", *PAY[1:])),
    ("process", ("eve", "bank.pay", {"to": "ALICE-2", "amount": 70})),
    ("process", ("eve", "bank.pay", {"to": "ALICE-1", "amount": 71})),
    ("tree", ("ann", *PAY[1:])),
    ("project", ("eve", "bank.pay", {"to": "alice-1", "amount": 70})),
    ("project", ("eve", "bank.wire", PAY[2])),
    ("1h", ("ann", *PAY[1:])),
]


@pytest.mark.parametrize(("scope", "other"), SCOPES)
async def test_no_standing_grant_reaches_further_than_it_says(scope: str, other: Any, tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*PAY)
        await here.approve(ask, attempt, scope=scope)
        assert attempt.value
        with anyio.fail_after(2):
            await here.world.step(*PAY)
        await here.asked(*other)
        assert len(here.world.done) == 2


async def expire(world: World) -> None:
    world.clock.advance(3_601)


async def revoke(world: World) -> None:
    [grant] = await world.kernel.standing()
    await world.kernel.revoke_standing(grant.id)


async def read_mail(world: World) -> None:
    await world.step("eve", "mail.read")


async def read_vault(world: World) -> None:
    await world.step("eve", "fs.read", {"path": "/vault/own.txt"})


@pytest.mark.parametrize("then", [expire, revoke, read_mail, read_vault], ids=lambda then: str(then.__name__))
async def test_no_standing_grant_outlives_what_it_was_given_for(then: Callable[[World], Any], tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*PAY)
        await here.approve(ask, attempt, scope="1h")
        with anyio.fail_after(2):
            await here.world.step(*PAY)
        await then(here.world)
        await here.asked(*PAY)
        assert len(here.world.done) == 2


async def test_no_standing_grant_of_a_process_serves_its_fork_or_the_program_after_it(tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*PAY)
        await here.approve(ask, attempt, scope="process")
        await here.world.step("eve", "proc.fork", {"grant": ["bank.*"]}, "kid")
        await here.asked("kid", *PAY[1:])
        assert len(here.world.done) == 1


# --- another target -------------------------------------------------------------------------------------------------------------


def edited(work: Path) -> None:
    (work / "desk" / "own.txt").write_text("somebody else wrote this meanwhile")


def relinked(work: Path) -> None:
    (work / "desk" / "own.txt").unlink()
    (work / "desk" / "own.txt").symlink_to("../inbox/own.txt")


def denied(work: Path) -> None:
    (work / "desk" / "own.txt").unlink()
    (work / "desk" / "own.txt").symlink_to("../denied/own.txt")


def refoldered(work: Path) -> None:
    (work / "desk").rename(work / "desk2")
    (work / "desk").symlink_to("inbox")


@pytest.mark.parametrize("swap", [edited, relinked, denied, refoldered], ids=lambda swap: str(swap.__name__))
async def test_no_yes_is_used_on_another_target(swap: Callable[[Path], None], tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*WRITE)
        swap(here.world.work)
        before = here.world.files()
        await here.world.kernel.answer(ask.id, "approve", by="ann")
        await settled(
            here.world.kernel, lambda: attempt.over or any(record.ask != ask.id for record in here.world.kernel.core.asks)
        )
        assert attempt.value is None
        assert here.world.files() == before


@pytest.mark.parametrize("point", ["admit.before", "admit.appended", "admit.durable"])
@pytest.mark.parametrize("swap", [relinked, denied, refoldered], ids=lambda swap: str(swap.__name__))
async def test_no_target_is_swapped_once_the_yes_is_used(swap: Callable[[Path], None], point: str, tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*WRITE)
        swapped: list[dict[str, bytes]] = []

        def probe(name: str) -> None:
            if name == point and not swapped:
                swap(here.world.work)
                swapped.append(here.world.files())

        set_probe(probe)
        try:
            await here.world.kernel.answer(ask.id, "approve", by="ann")
            await settled(here.world.kernel, lambda: attempt.over)
        finally:
            set_probe(None)
        assert code_of(attempt.error or ValueError()) == "denied.policy"
        assert here.world.files() == swapped[0]


async def test_no_yes_survives_a_right_that_was_taken_back_or_a_deny_in_the_edit(tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*PAY)
        await here.world.kernel.answer(ask.id, "approve", by="ann", edit={"to": "EVIL"})
        await settled(here.world.kernel, lambda: attempt.over)
        assert code_of(attempt.error or ValueError()) == "denied.policy"
        attempt, ask = await here.asked(*PAY)
        for cap in [cap.id for cap in await here.world.kernel.caps(here.world.kept["eve"]) if "bank.pay" in cap.ops]:
            await here.world.kernel.revoke(cap)
        await here.world.kernel.answer(ask.id, "approve", by="ann")
        await settled(here.world.kernel, lambda: attempt.over)
        assert code_of(attempt.error or ValueError()) == "denied.capability"
        assert here.world.done == []


async def test_no_label_comes_off_that_the_person_was_not_shown(tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        await here.world.step("eve", "mail.read")
        attempt, ask = await here.asked(
            "eve", "proc.relabel", {"remove": ["untrusted", "secret", "internal"], "why": "only the sum"}
        )
        assert ask.labels == ["untrusted"]
        await here.world.step("eve", "fs.read", {"path": "/vault/own.txt"})
        await here.world.kernel.answer(ask.id, "approve", by="ann")
        await settled(
            here.world.kernel, lambda: attempt.over or any(record.ask != ask.id for record in here.world.kernel.core.asks)
        )
        assert "secret" in here.world.kernel.process(here.world.kept["eve"]).info.labels


async def test_no_yes_from_before_a_crash_beats_the_policy_after_it(tmp_path: Path) -> None:
    async def pays(sys: Any) -> Any:
        return await sys.bank.pay(to="ALICE-1", amount=70)

    done: list[Any] = []
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    options: dict[str, Any] = {"devices": devices(done), "programs": [agentos.program("pays")(pays)]}
    async with crashing(store, copy, policy=POLICY, **options) as kernel:
        process = await kernel.spawn(agentos.Image.program("pays"), grant=["bank.*"])
        await settled(kernel, lambda: list(kernel.core.asks))
        [ask] = await kernel.asks()
        await kernel.run_until_idle(5)
    async with opened(copy, policy=POLICY + "deny bank.pay\n", **options) as kernel:
        await settled(kernel)
        if kernel.core.asks.is_pending(ask.id):
            await kernel.answer(ask.id, "approve", by="ann")
        assert (await kernel.process(process.pid).wait(5)).state == "failed"
        assert done == []


# --- who answers, and what they see ---------------------------------------------------------------------------------------------

ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"verdict": "allow"}, "invalid.argument"),
    ({"verdict": ""}, "invalid.argument"),
    ({"by": ""}, "invalid.argument"),
    ({"by": "x" * 10_000}, "invalid.argument"),
    ({"scope": "covered by ask 1"}, "invalid.argument"),
    ({"scope": "forever"}, "invalid.argument"),
    ({"scope": "-1h"}, "invalid.argument"),
    ({"scope": "1e9h"}, "invalid.argument"),
    ({"scope": "9999999h"}, "invalid.argument"),
    ({"scope": "tree", "edit": {"amount": 1}}, "invalid.argument"),
    ({"edit": {"too": "x"}}, "invalid.argument"),
    ({"edit": {"amount": "NaN"}}, "invalid.argument"),
    ({"scope": "tree", "verdict": "deny"}, "invalid.argument"),
    ({"valeu": 1}, "invalid.argument"),
    ({"ask_id": 99}, "invalid.state"),
    ({"ask_id": -1}, "invalid.state"),
]


@pytest.mark.parametrize(("answer", "code"), ANSWERS)
async def test_no_answer_counts_that_is_none(answer: dict[str, Any], code: str, tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        attempt, ask = await here.asked(*PAY)
        given = {"ask_id": ask.id, "verdict": "approve", "by": "ann", **answer}
        assert await refused(here.world.kernel.answer(given.pop("ask_id"), given.pop("verdict"), **given)) == code
        assert not attempt.over
        assert [each.state for each in await here.world.kernel.asks()] == ["pending"]
        assert here.world.done == []


@pytest.mark.parametrize("by", ["eve", "", "ann ", "Ann", "kernel", "host", "*", "ann\0", "\u0430nn", "ann,ops", "2"])
async def test_nobody_answers_in_anothers_name(by: str, tmp_path: Path) -> None:
    async with people(tmp_path, people={"ann": ["bank.pay"], "ops": ["*"], "eve": []}) as here:
        attempt, ask = await here.asked(*PAY)
        assert await refused(here.world.kernel.answer(ask.id, "approve", by=by)) in ("denied.human", "invalid.argument")
        assert not attempt.over
        assert here.world.done == []


IMITATIONS = [
    "x\n\u2514\nask 9  process 1 wants  bank.pay\n  rule     safe.policy:1",
    "x\r\n\u2514\r\nask 9",
    "\x1b[2J\x1b[Hask 9  process 1 wants",
    "x\u2028\u2514\u2028ask 9",
    "x\u0085\u2514\u0085ask 9",
    "x\x0b\u2514\x0cask 9",
    "\u202egnihtemos",
    "a" * 5_000 + "\n\u2514\nask 9",
    "\n" * 500 + "\u2514\nask 9",
    "\x9b2J",
    "\b\b\b\bask 9",
    "\u2066ask 9\u2069",
    "\x1b]0;approved\x07",
    "\x00ask 9",
    "\t\u2514\task 9",
    "\u2502\n\u2514\n  effect   harmless",
    "\u200b\n\u2514",
    "\u2514\u001d\u2514",
]


@pytest.mark.parametrize("text", IMITATIONS, ids=range(len(IMITATIONS)))
async def test_no_text_of_an_agent_leaves_its_frame(text: str, tmp_path: Path) -> None:
    async with people(tmp_path) as here:
        steps = [
            ("eve", "human.ask", {"question": text}),
            ("eve", "bank.many", {"to": [text], "note": text}),
            ("eve", "fs.write", {"path": "/desk/own.txt", "text": text}),
            ("eve", "sh.run", {"argv": ["echo", text.replace("\0", "") or "x"]}),
        ]
        for step in steps:
            _, ask = await here.asked(*step)
            lines = framed(ask)
            begin, end = lines.index("\u250c written by the agent"), len(lines) - 1
            assert lines[end] == "\u2514"
            assert all(line.startswith(("\u2502 ", "\u250a ")) for line in lines[begin + 1 : end])
            assert all(char.isprintable() for line in lines for char in line)
            assert lines.count("\u2514") == 1


# --- keys -----------------------------------------------------------------------------------------------------------------------


async def test_no_key_is_used_for_another_call(tmp_path: Path) -> None:
    async with a_world(Case("keys", (), policy='policy "open" version 1\nallow * any *\n', grant=GRANT), tmp_path) as world:
        eve, ann = (world.kernel.process(world.kept[name]) for name in ("eve", "ann"))
        await eve.call("bank.pay", key="k", to="ALICE-1", amount=70)
        await eve.call("bank.pay", key="k", to="ALICE-1", amount=70)
        for args in ({"to": "ALICE-2", "amount": 70}, {"to": "ALICE-1", "amount": 71}):
            assert await refused(eve.call("bank.pay", key="k", **args)) == "invalid.argument"
        assert await refused(eve.call("bank.wire", key="k", to="ALICE-1", amount=70)) == "invalid.argument"
        await ann.call("bank.send", key="k", note="hers")
        assert world.done == [("pay", "ALICE-1", 70), ("send", "hers")]
        assert len([row for row in rows(world.kernel, eve.pid) if row.kind == "intent"]) == 1
