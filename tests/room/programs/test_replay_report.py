"""kernel.replay: a process's past, run again from its journal, is equal, or the first difference is told; nothing else happens.

INVARIANT replay-has-no-effect.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.values import ReplayReport
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, crashing, host, opened, rows, settled, started

pytestmark = pytest.mark.anyio


def same(report: ReplayReport, *, calls: int, lives: int = 1, exit_equal: bool | None = True) -> bool:
    assert report.divergence is None, report.divergence.message
    assert (report.ok, report.calls, report.lives, report.exit_equal) == (True, calls, lives, exit_equal)
    return True


def redefined(kernel: Any, program: Any, name: str) -> None:
    kernel.programs._given[name] = agentos.program(name)(program)


async def test_a_finished_process_is_run_again_without_effects_and_is_equal(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        then = await sys.now()
        await sys.ledger.once("paid")
        await sys.save({"then": then})
        parts = await sys.gather(sys.ledger.once("a"), sys.obj.put([1], name="b"))
        try:
            await sys.obj.get("gone")
        except agentos.Unavailable as error:
            return [str(error), parts[1].name, sys.random().random()]

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await started(kernel, work, "ledger.*")
        await process.wait(5)
        before = len(rows(kernel, notes=True))
        assert same(await kernel.replay(process.pid), calls=6)
        assert len(rows(kernel, notes=True)) == before
    assert len(ledger.entries) == 2


async def test_every_life_is_repeated_from_its_own_save_point(tmp_path: Path) -> None:
    """Unwound between messages, killed once, opened again: four ways to begin anew, and saves between them."""

    async def long(sys: Any) -> Any:
        seen = sys.state or []
        while len(seen) < 6:
            seen = [*seen, (await sys.msg.recv()).value, await sys.now()]
            await sys.obj.put(seen, name="seen")
            if len(seen) % 4 == 0:
                await sys.save(seen)
        return seen

    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, long)
        await settled(kernel)
        await process.send("one")
        await settled(kernel)
    async with opened(tmp_path / "b.db") as kernel:
        await kernel.process(process.pid).send("two")
        await settled(kernel)
    async with opened(tmp_path / "b.db") as kernel:
        assert same(await kernel.replay(process.pid), calls=7, lives=2, exit_equal=None)
        await kernel.process(process.pid).send("three")
        assert len((await kernel.process(process.pid).wait(5)).value) == 6
        assert same(await kernel.replay(process.pid), calls=10, lives=3)


async def test_a_running_process_is_followed_as_far_as_it_has_come() -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put(1, name="a")
        await sys.gather(sys.msg.recv(), sys.clock.now())
        return "done"

    async with opened() as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        assert same(await kernel.replay(process.pid), calls=2, exit_equal=None)
        first = rows(kernel, process.pid)[0].seq
        assert same(await kernel.replay(process.pid, upto=first), calls=1, exit_equal=None)
        await process.send("x")
        await process.wait(5)
        assert same(await kernel.replay(process.pid), calls=3)


async def test_children_forks_and_new_images_are_repeated_too() -> None:
    async def second(sys: Any, n: int) -> Any:
        return n + len(str(await sys.clock.now()))

    async def family(sys: Any) -> Any:
        drawn = sys.uuid()
        await sys.obj.put(str(drawn), name="mine", namespace=f"proc/{sys.pid}")
        pid = await sys.proc.fork(grant=["proc.*"])
        if pid:
            return (await sys.proc.wait(pid)).state
        await sys.obj.put(str(sys.uuid()), name="own")
        return await sys.proc.exec_("second:1", args={"n": 3})

    async with opened() as kernel:
        redefined(kernel, second, "second")
        await kernel.register(agentos.Image.program("second"))
        process = await started(kernel, family, "proc.*, obj.*")
        assert (await process.wait(5)).value == "exited"
        assert same(await kernel.replay(process.pid), calls=3)
        (child,) = [info.pid for info in await kernel.ps(all=True) if info.ppid == process.pid]
        assert (await kernel.replay(child)).divergence is None
        assert same(await kernel.replay(child), calls=3, lives=2)


async def test_how_a_process_failed_is_compared_and_how_it_was_killed_is_not() -> None:
    async def broken(sys: Any) -> Any:
        await sys.obj.put(1, name="a")
        raise ValueError("no")

    async def waiting(sys: Any) -> Any:
        await sys.msg.recv()

    async with opened(clock=FakeClock()) as kernel:
        failed = await started(kernel, broken)
        await failed.wait(5)
        killed = await started(kernel, waiting)
        late = await started(kernel, waiting, deadline_s=5)
        await settled(kernel)
        await killed.signal("kill")
        advance(kernel, 6)
        assert (await late.wait(5)).state == "failed"
        assert same(await kernel.replay(failed.pid), calls=1)
        assert same(await kernel.replay(killed.pid), calls=0, exit_equal=None)
        assert same(await kernel.replay(late.pid), calls=0, exit_equal=None)


async def test_scripts_are_replayed_and_host_processes_are_not() -> None:
    steps = [{"op": "obj.put", "args": {"value": 1, "name": "a"}}, {"op": "no.op"}, {"op": "obj.get", "args": {"name": "a"}}]
    script = agentos.Image.from_dict({"name": "s", "program": {"kind": "script", "steps": steps[::2]}})
    async with opened() as kernel:
        process = await kernel.spawn(script)
        await process.wait(5)
        assert same(await kernel.replay(process.pid), calls=2)
        driven = await host(kernel)
        with pytest.raises(agentos.Invalid, match="driven by its host"):
            await kernel.replay(driven.pid)
        with pytest.raises(agentos.Invalid, match="there is no process 99"):
            await kernel.replay(99)


async def test_a_program_that_is_not_registered_is_named() -> None:
    async def lost(sys: Any) -> Any:
        return 1

    async with opened() as kernel:
        process = await started(kernel, lost)
        await process.wait(5)
        from agentos.programs import registry

        del kernel.programs._given["lost"], registry._declared["lost"]
        with pytest.raises(agentos.Invalid, match="there is no program `lost`"):
            await kernel.replay(process.pid)


async def test_a_device_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    async def pays(sys: Any) -> Any:
        return (await sys.ledger.once("x"))["value"]

    async with opened(tmp_path / "a.db", devices={"ledger": Ledger(tmp_path / "ledger").device}) as kernel:
        process = await started(kernel, pays, "ledger.*")
        await process.wait(5)
    async with opened(tmp_path / "a.db") as kernel:
        redefined(kernel, pays, "pays")
        with pytest.raises(agentos.Invalid, match="no device `ledger` is mounted"):
            await kernel.replay(process.pid)


async def test_calls_that_were_refused_are_refused_again() -> None:
    async def clumsy(sys: Any) -> Any:
        codes = []
        for call in (lambda: sys("no.op"), lambda: sys.obj.put(1, "a", name="b"), lambda: sys.clock.sleep(seconds=-1)):
            try:
                await call()
            except agentos.AgentOSError as error:
                codes.append(error.code)
        return codes

    async with opened() as kernel:
        process = await started(kernel, clumsy)
        assert len((await process.wait(5)).value) == 3
        report = await kernel.replay(process.pid)
        assert report.ok, report


async def test_the_first_difference_is_told_and_the_process_is_not_touched() -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put({"a": 1}, name="x")
        await sys.save({"step": 1})
        return "one"

    async def other_state(sys: Any) -> Any:
        await sys.obj.put({"a": 1}, name="x")
        await sys.save({"step": 2})
        return "one"

    async def other_end(sys: Any) -> Any:
        await sys.obj.put({"a": 1}, name="x")
        await sys.save({"step": 1})
        return "two"

    async def fewer(sys: Any) -> Any:
        await sys.obj.put({"a": 1}, name="x")
        return "one"

    async def more(sys: Any) -> Any:
        await work(sys)
        await sys.clock.now()
        return "one"

    async with opened() as kernel:
        process = await started(kernel, work)
        await process.wait(5)
        for program, said in {
            other_state: "- state: {'step': 1}\n  + state: {'step': 2}", other_end: "recorded: exited 'one'\n  now:      exited 'two'",
            fewer: "without making call 2", more: "it waits",
        }.items():  # fmt: skip
            redefined(kernel, program, "work")
            report = await kernel.replay(process.pid)
            assert not report.ok
            assert report.divergence is not None
            assert said in report.divergence.message
            assert "code has changed" in report.divergence.hint
        assert process.info.exit.value == "one"


@pytest.mark.parametrize("how", ["computes", "awaits", "sleeps"])
async def test_a_program_that_does_not_come_back_is_left_behind(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("agentos.programs.aside.replayed.__kwdefaults__", {"upto": None, "gap_s": 0.1})
    free = threading.Event()

    async def fine(sys: Any) -> Any:
        await sys.clock.now()

    async def stuck(sys: Any) -> Any:
        await sys.clock.now()
        if how == "computes":
            while not free.is_set():
                pass
        elif how == "sleeps":
            free.wait()
        else:
            await anyio.Event().wait()

    async with opened() as kernel:
        process = await started(kernel, fine)
        await process.wait(5)
        redefined(kernel, stuck, "fine")
        began = time.monotonic()
        report = await kernel.replay(process.pid)
        free.set()
        assert time.monotonic() - began < 3
        assert report.divergence is not None
        assert "did not come back" in report.divergence.message
        assert "call 1, clock.now, at test_replay_report.py" in report.divergence.message
        assert ("in stuck" in report.divergence.message.partition("; it is ")[2]) == (how != "awaits")


async def test_the_loop_of_the_kernel_is_free_while_a_program_computes() -> None:
    async def heavy(sys: Any) -> Any:
        total = 0
        for n in range(2_000_000):
            total += n
        return [total, await sys.clock.now()]

    async with opened() as kernel:
        process = await started(kernel, heavy)
        await process.wait(5)
        calls = 0

        async def others() -> None:
            nonlocal calls
            other = await host(kernel)
            while True:
                await other.call("clock.now")
                calls += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            assert (await kernel.replay(process.pid)).ok
            tasks.cancel_scope.cancel()
        assert calls > 3


async def test_a_replay_that_is_cancelled_leaves_at_once_and_nothing_behind() -> None:
    async def fine(sys: Any) -> Any:
        await sys.clock.now()

    async def waits(sys: Any) -> Any:
        await sys.clock.now()
        await anyio.Event().wait()

    async with opened() as kernel:
        process = await started(kernel, fine)
        await process.wait(5)
        redefined(kernel, waits, "fine")
        with anyio.move_on_after(0.1) as scope:
            await kernel.replay(process.pid)
        assert scope.cancelled_caught
        await settled(kernel, lambda: not any(thread.name == "agentos-replay" for thread in threading.enumerate()))
        redefined(kernel, fine, "fine")
        assert (await kernel.replay(process.pid)).ok


async def test_a_process_that_goes_on_while_it_is_replayed_is_no_difference() -> None:
    async def busy(sys: Any) -> Any:
        for n in range(sys.state or 0, 400):
            await sys.obj.put(n, name="n")
            if n % 50 == 49:
                await sys.save(n + 1)
                await sys.clock.sleep(0.002)
        return "done"

    async with opened() as kernel:
        process = await started(kernel, busy)
        while process.info.exit is None:
            report = await kernel.replay(process.pid)
            assert report.ok, report
        assert (await kernel.replay(process.pid)).exit_equal
