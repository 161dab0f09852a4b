"""Recovery, sentence by sentence: what became of an interrupted effect, who says so, and what is due when a kernel comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import TimerRecord
from agentos.testing import FakeClock, Ledger
from tests.builders import alive, host, live, settled, started
from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.recovery_cases import START, opened

pytestmark = pytest.mark.anyio
CASES = "tests.fault.recovery_cases"


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started_:
        yield started_


def killed(kernels: Zygote, story: str, *args: Any, at: str) -> None:
    assert kernels.run(f"{CASES}:{story}", *args, crash_at=at) is None, f"`{at}` was not reached"


# --- the device is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "value", "pushed", "asked"),
    [
        ("value", "found x", 1, ""), ("not started", "pushed x", 2, ""), ("unknown", None, 1, "ran: did"),
        ("raises", None, 1, "could not say (unavailable.device)"), ("odd", "unavailable.device", 1, ""),
    ],
)  # fmt: skip
async def test_a_device_says_what_became_of_an_effect(
    kernels: Zygote, tmp_path: Path, said: str, value: str | None, pushed: int, asked: str
) -> None:
    killed(kernels, "push", str(tmp_path), "peer.push", at="peer.pushed:1")
    async with opened(tmp_path, said) as kernel:
        await kernel.run_until_idle(5)
        asks = await kernel.asks()
        assert [asked in ask.because and "approve everything" not in ask.because for ask in asks] == ([True] if asked else [])
        if value is not None:
            assert (await kernel.process(2).wait(5)).value == value
        assert kernel.process(1).info.state == "waiting"
    assert len((tmp_path / "pushed").read_text().splitlines()) == pushed


@pytest.mark.parametrize("op", ["peer.push", "peer.block"])
async def test_a_device_that_hangs_holds_up_nobody_and_a_person_is_asked(
    kernels: Zygote, tmp_path: Path, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentos.broker.replay.RECONCILE_S", 0.2)
    killed(kernels, "push", str(tmp_path), op, at="peer.pushed:1" if op == "peer.push" else "peer.blocked:1")
    with anyio.fail_after(1):
        async with opened(tmp_path, "hangs") as kernel:
            await (await host(kernel)).call("clock.now")
            await settled(kernel)
            [ask] = await kernel.asks()
            assert "did not say within 0.2 s" in ask.because
            await kernel.answer(ask.id, "approve", by="pat", value="seen")
            assert (await kernel.process(2).wait(1)).value == "seen"


async def test_a_person_who_was_asked_is_not_overruled_by_a_device(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "push", str(tmp_path), "peer.push", at="peer.pushed:1")
    async with opened(tmp_path, "unknown") as kernel:
        await kernel.run_until_idle(5)
    async with opened(tmp_path, "value") as kernel:
        await kernel.run_until_idle(5)
        [ask] = await kernel.asks()
        await kernel.answer(ask.id, "deny", by="pat")
        assert (await kernel.process(2).wait(5)).value == "unavailable.outcome_unknown"
        assert [each.state for each in await kernel.asks(None)] == ["consumed"]


# --- a person is asked ------------------------------------------------------------------------------------------------------

ANSWERS: list[tuple[list[str], dict[str, Any], Any, int]] = [
    (
        ["approve", "--happened", '{"value": "x", "when": 9}'],
        {"value": {"value": "x", "when": 9}},
        {"value": "x", "when": 9},
        1,
    ),
    (["approve", "--run"], {}, {"value": "x", "when": 2}, 2),
    (["deny"], {}, "unavailable.outcome_unknown", 1),
]


@pytest.mark.parametrize(("words", "value", "came", "lines"), ANSWERS, ids=["happened", "run", "deny"])
@pytest.mark.parametrize("way", ["kernel", "store", "command"])
async def test_an_unknown_outcome_is_answered_with_or_without_a_kernel(
    kernels: Zygote, tmp_path: Path, way: str, words: list[str], value: dict[str, Any], came: Any, lines: int
) -> None:
    killed(kernels, "push", str(tmp_path), "ledger.once", at="ledger.once.after:1")
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(5)
        [ask] = await kernel.asks()
        assert (ask.kind, ask.op) == ("unknown_outcome", "ledger.once")
        if way == "kernel":
            await kernel.answer(ask.id, words[0], by="pat", **value)
            await kernel.process(2).wait(5)
    if way == "store":
        async with agentos.connect(tmp_path / "store.db") as view:
            await view.answer(ask.id, words[0], by="pat", **value)
    if way == "command":
        command = [
            sys.executable,
            "-m",
            "agentos",
            words[0],
            str(ask.id),
            *words[1:],
            "--store",
            str(tmp_path / "store.db"),
            "-o",
            "json",
        ]
        done = await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
        assert done.returncode == 0, done
        assert json.loads(done.stdout)
    async with opened(tmp_path) as kernel:
        assert (await kernel.process(2).wait(5)).value == came
        assert await kernel.asks() == []
    assert len(Ledger.read(tmp_path / "ledger")) == lines


async def test_an_effect_that_closing_cancels_is_asked_about_like_one_that_a_kill_interrupts(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "ledger.*")

        async def call() -> None:
            with pytest.raises(BaseException):  # noqa: B017, PT011 - the kernel goes away under it
                await process.call("ledger.once", value="x", delay_s=30)

        tasks.start_soon(call)
        await settled(kernel, lambda: kernel.core.effects)
        await anyio.sleep(0.02)
        kernel.core.closing = True
        tasks.cancel_scope.cancel()
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(5)
        [ask] = await kernel.asks()
        assert ask.kind == "unknown_outcome"
        await kernel.answer(ask.id, "deny", by="pat")
        await kernel.run_until_idle(5)
        assert kernel.core.store.open_intents(process.pid, 0) == []


# --- what is due ------------------------------------------------------------------------------------------------------------


async def test_a_timer_that_came_due_while_nobody_ran_wakes_its_process_at_once(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "push", str(tmp_path), "peer.push", at="peer.pushed:1")
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(5)
        now = kernel.core.clock.now()
        assert kernel.process(1).info.state == "waiting"
    async with opened(tmp_path, clock=FakeClock(now + 7200)) as kernel:
        assert (await kernel.process(1).wait(1)).value == "woke"


async def test_a_timer_of_a_host_that_is_gone_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel)
        tasks.start_soon(lambda: process.call("clock.sleep", seconds=60))
        await settled(kernel, lambda: live(kernel, TimerRecord))
        kernel.core.closing = True
        tasks.cancel_scope.cancel()
    async with opened(tmp_path, clock=clock) as kernel:
        assert live(kernel, TimerRecord) == []
        assert list(kernel.core.timers) == []


async def test_a_process_that_is_paused_while_it_waits_for_a_slot_makes_no_effect(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        return await sys.fs.write(f"/{sys.pid}", text="x")

    async with opened(tmp_path) as kernel:
        slots = kernel.core.slots["thread"]
        taken, slots.free = slots.free, 0
        process = await started(kernel, work, "fs.write /**")
        await settled(kernel, lambda: slots._waiting)
        await process.signal("pause")
        slots.free = taken - 1
        slots.release()
        await settled(kernel, lambda: alive(kernel, process).open_calls)
        assert not list((tmp_path / "w").iterdir())
        await process.signal("resume")
        await process.wait(5)
        assert slots.free == taken
    assert len(list((tmp_path / "w").iterdir())) == 1


# --- all or nothing ---------------------------------------------------------------------------------------------------------


def test_a_crash_at_any_point_of_a_firing_neither_loses_a_run_nor_doubles_it(kernels: Zygote, tmp_path: Path) -> None:
    for point in ("schedule.due", "schedule.fired", "append.done", "commit.before", "resumed"):
        for number in range(1, 40):
            folder = tmp_path / f"{point}{number}"
            folder.mkdir()
            whole = kernels.run(f"{CASES}:tick", str(folder), crash_at=f"{point}:{number}")
            found = whole or kernels.run(f"{CASES}:tick", str(folder))
            if not found["runs"]:
                continue  # it died before the orders were durable
            assert found["runs"] == [1] * len(found["runs"]), (point, number, found)
            assert found["due"] == [START + 120] * len(found["due"])
            assert found["skipped"] == [0] * len(found["runs"])
            assert found["states"] == ["exited"] * len(found["runs"])
            entries = Counter(entry["value"] for entry in Ledger.read(folder / "ledger"))
            assert all(count == 1 for count in entries.values())
            if whole:
                break  # the point is not reached so often
        else:
            raise AssertionError(f"`{point}` has no end")


async def test_a_crash_in_a_kill_ends_the_whole_tree_or_nobody(kernels: Zygote, tmp_path: Path) -> None:
    ended, points = set(), [f"append.done:{number}" for number in range(1, 12)] + ["commit.before:1", "commit.done:1"]
    for point in points:
        folder = tmp_path / point
        folder.mkdir()
        kernels.run(f"{CASES}:kill_family", str(folder), crash_at=point)
        async with opened(folder, resume=False) as kernel:
            states = {info.state == "killed" for info in await kernel.ps(all=True)}
            assert len(states) == 1, (point, states)
            ended |= states
            assert len(await kernel.ps()) == (0 if states == {True} else 7)
    assert ended == {True, False}
