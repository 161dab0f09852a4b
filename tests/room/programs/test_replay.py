"""resume-never-reruns: a program that runs again gets its journaled results, and stops where it does not repeat itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.testing import Ledger
from tests.builders import alive, crashing, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def unwound(kernel: Any, process: agentos.Process) -> None:
    """Wait until the program has given its task back."""
    await settled(kernel, lambda: alive(kernel, process).record.state == "waiting" and not alive(kernel, process).running)


async def reopened(path: Path, program: Callable[..., Any], name: str, **options: Any) -> Any:
    return opened(path, programs=[agentos.program(name)(program)], **options)


async def test_finished_calls_return_their_journaled_results(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def work(sys: Any) -> Any:
        values = [await sys.clock.now(), (await sys.ledger.once("x"))["when"], (await sys.obj.put(1, name="a")).version]
        try:
            await sys.obj.get("gone")
        except agentos.Unavailable as error:
            values.append(str(error))
        seen.append(values)
        return [*values, (await sys.msg.recv()).value]

    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, work, "ledger.*")
        await settled(kernel)
        count = len(rows(kernel, process.pid))
    async with await reopened(tmp_path / "b.db", work, "work", **options) as kernel:
        await settled(kernel)
        assert len(rows(kernel, process.pid)) == count
        await kernel.process(process.pid).send("end")
        assert (await kernel.process(process.pid).wait(5)).value == [*seen[0], "end"]
    assert seen[0] == seen[1]
    assert len(ledger.entries) == 1


async def test_a_save_point_is_where_a_program_starts_again(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        state = sys.state or {"done": []}
        for step in range(len(state["done"]), 3):
            await sys.ledger.once(str(step))
            await sys.save({"done": [*state["done"], step]})
            state = sys.state
        return [state["done"], (await sys.msg.recv()).value]

    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, work, "ledger.*")
        await settled(kernel)
    async with await reopened(tmp_path / "b.db", work, "work", **options) as kernel:
        await kernel.process(process.pid).send("end")
        assert (await kernel.process(process.pid).wait(5)).value == [[0, 1, 2], "end"]
    assert [entry["value"] for entry in ledger.entries] == ["0", "1", "2"]


DIVERGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "other arguments": (lambda sys: sys.obj.put(2, name="a"), "- value: 1\n  + value: 2"),
    "other op": (lambda sys: sys.obj.get("a"), "recorded: obj.put"),
}


@pytest.mark.parametrize("kind", DIVERGED)
@pytest.mark.parametrize("caught", [False, True], ids=["raised", "caught"])
async def test_a_program_that_does_not_repeat_itself_stops_with_a_difference(kind: str, caught: bool, tmp_path: Path) -> None:
    change, said = DIVERGED[kind]
    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}}

    async def work(sys: Any) -> Any:
        await sys.obj.put(1, name="a")
        await sys.msg.recv()

    async def changed(sys: Any) -> Any:
        try:
            await change(sys)
        except agentos.AgentOSError:
            if not caught:
                raise
        await sys.ledger.once("a guess")

    async with opened(tmp_path / "a.db", **options) as kernel:
        process = await started(kernel, work, "ledger.*")
        other = await host(kernel)
        await settled(kernel)
    async with await reopened(tmp_path / "a.db", changed, "work", **options) as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert (ended.state, ended.error and ended.error.code) == ("failed", "invalid.state")
        assert ended.error is not None
        assert "call 1" in ended.error.message
        assert said in ended.error.message
        assert not ledger.entries
        assert await kernel.process(other.pid).call("clock.now")


async def test_a_program_that_ends_before_its_tape_does_stops_with_what_is_missing(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put(1, name="a")
        await sys.msg.recv()

    async def changed(sys: Any) -> Any:
        return "done"

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, work)
        await settled(kernel)
    async with await reopened(tmp_path / "a.db", changed, "work") as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert ended.error is not None
        assert "without making call 1" in ended.error.message


async def test_calls_of_the_host_are_no_part_of_a_programs_tape(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put(1, name="a")
        return (await sys.msg.recv()).value

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        await process.call("obj.put", value=2, name="b")
        await process.call("obj.put", value=3, name="c", key="mine")
    async with await reopened(tmp_path / "a.db", work, "work") as kernel:
        process = kernel.process(process.pid)
        assert await process.call("obj.get", name="c") == 3
        await process.send("end")
        assert (await process.wait(5)).value == "end"


async def test_a_program_the_host_no_longer_has_stays_where_it_is(tmp_path: Path) -> None:
    async def vanishing(sys: Any) -> Any:
        await sys.msg.recv()

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, vanishing)
        await settled(kernel)
    from agentos.programs import registry

    registry._declared.pop("vanishing")
    async with opened(tmp_path / "a.db") as kernel:
        await kernel.process(process.pid).send("x")
        await settled(kernel)
        assert kernel.process(process.pid).info.state in ("ready", "waiting")
        assert not rows(kernel, process.pid)
    async with await reopened(tmp_path / "a.db", vanishing, "vanishing") as kernel:
        assert (await kernel.process(process.pid).wait(5)).state == "exited"


async def test_calls_since_the_last_save_are_bounded_over_replays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.broker.door.CALLS_PER_SAVE_MAX", 6)

    async def careless(sys: Any) -> Any:
        made = 0
        try:
            while True:
                await sys.obj.put(made, name="n")
                made += 1
                if made == 3:
                    await sys.msg.recv()
        except agentos.Invalid as error:
            return [made, error.code]

    async def careful(sys: Any) -> Any:
        for n in range(sys.state or 0, 20):
            await sys.obj.put(n, name="n")
            if n % 4 == 3:
                await sys.save(n + 1)
        return (await sys.obj.get("n")) + 1

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, careless)
        await settled(kernel)
        await process.send("on")
        assert (await process.wait(5)).value == [5, "invalid.state"]
        assert (await (await started(kernel, careful)).wait(5)).value == 20


async def test_finally_blocks_run_without_effects_while_a_program_is_unwound(tmp_path: Path) -> None:
    finals: list[str] = []

    async def work(sys: Any) -> Any:
        try:
            return (await sys.msg.recv()).value
        finally:
            finals.append("finally")
            try:
                await sys.obj.put(len(finals), name="final")
            except BaseException as error:
                finals.append(type(error).__name__)
                raise

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, work)
        await unwound(kernel, process)
        assert finals == ["finally", "ProcessEnded"]
        assert not rows(kernel, process.pid)
        await process.send("x")
        assert (await process.wait(5)).value == "x"
        assert [row.op for row in rows(kernel, process.pid)] == ["msg.recv", "obj.put"]


async def test_host_calls_on_an_unwound_program_are_its_own_and_do_not_disturb_it() -> None:
    async def work(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, work)
        await unwound(kernel, process)
        assert (await process.call("obj.put", value=1, name="x")).version == 1
        assert await refused(process.call("obj.get", name="y")) == "unavailable.missing"
        await process.send("x")
        assert (await process.wait(5)).value == "x"


@pytest.mark.parametrize("resident", [0, 1], ids=["at once", "when others wait"])
async def test_a_program_is_not_unwound_under_a_host_call(resident: int, tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    import anyio

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        kernel.core.scheduler.resident_max = 100
        process = await started(kernel, work, "ledger.*")
        await settled(kernel)
        kernel.core.scheduler.resident_max = resident
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: process.call("ledger.once", value="x", delay_s=0.05))
            tasks.start_soon(lambda: process.call("msg.recv", channel="host"))
            await settled(kernel, lambda: kernel.core.effects)
            others = [await started(kernel, work) for _ in range(3)]
            await settled(kernel, lambda: all(other.info.state == "waiting" for other in others))
            await process.send("for the host", channel="host")
        await process.send("x")
        assert (await process.wait(5)).value == "x"
        assert len(ledger.entries) == 1


async def test_a_host_call_that_waits_while_the_program_runs_again_leaves_gather_whole() -> None:
    async def work(sys: Any) -> Any:
        first = (await sys.msg.recv()).value

        async def slow() -> Any:
            import anyio

            await anyio.sleep(0.02)
            return await sys.clock.now()

        rest = await sys.gather(sys.msg.recv(channel="b"), slow)
        return [first, rest[0].value]

    import anyio

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, work)
        await settled(kernel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: process.call("msg.recv", channel="host"))
            await settled(kernel, lambda: len(alive(kernel, process).open_calls) == 2)
            await process.send("a")
            await anyio.sleep(0.01)
            await process.send("for the host", channel="host")
            await anyio.sleep(0.03)
        await process.send("b", channel="b")
        assert (await process.wait(5)).value == ["a", "b"]


async def test_a_script_makes_its_calls_and_returns_their_results(tmp_path: Path) -> None:
    steps = [{"op": "obj.put", "args": {"value": 1, "name": "a"}}, {"op": "obj.get", "args": {"name": "a"}}]
    script = {"name": "s", "program": {"kind": "script", "steps": steps}}
    broken = {"name": "t", "program": {"kind": "script", "steps": [{"op": "obj.get", "args": {"name": "b"}}, *steps]}}
    async with opened(tmp_path / "a.db") as kernel:
        process = await kernel.spawn(agentos.Image.from_dict(script))
        ended = await process.wait(5)
        assert ended.value[1] == 1
        ended = await (await kernel.spawn(agentos.Image.from_dict(broken))).wait(5)
        assert ended.error is not None
        assert ended.error.code == "unavailable.missing"


async def test_queries_see_what_a_running_program_exposes() -> None:
    async def work(sys: Any) -> Any:
        progress = [1]
        sys.expose("progress", lambda: progress[0])
        sys.expose("name", "worker")
        progress[0] = 2
        await sys.msg.recv()

    async with opened() as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        assert [await process.query("progress"), await process.query("name")] == [2, "worker"]
        assert await refused(process.query("nothing")) == "unavailable.missing"


async def test_positional_arguments_are_the_declared_ones() -> None:
    async def work(sys: Any) -> Any:
        await sys.obj.put(1, "a")
        codes = []
        for call in (lambda: sys.obj.put(1, "a", name="b"), lambda: sys.clock.now(1), lambda: sys("no.op")):
            try:
                await call()
            except agentos.AgentOSError as error:
                codes.append(error.code)
        return codes

    async with opened() as kernel:
        assert (await (await started(kernel, work)).wait(5)).value == ["invalid.argument", "invalid.argument", "invalid.op"]


async def test_a_call_that_was_refused_is_refused_again_though_it_would_be_served_now(tmp_path: Path) -> None:
    async def tries(sys: Any) -> Any:
        code = await refused(sys.ledger.once("x"))
        return [code, (await sys.msg.recv()).value]

    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, tries)
        await settled(kernel)
    async with await reopened(tmp_path / "a.db", tries, "tries", devices={"ledger": ledger.device}) as kernel:
        await kernel.process(process.pid).send("on")
        assert (await kernel.process(process.pid).wait(5)).value == ["invalid.op", "on"]
        assert (await kernel.replay(process.pid)).ok
    assert not ledger.entries


async def test_a_process_whose_device_is_not_mounted_waits_for_a_kernel_that_has_it(tmp_path: Path) -> None:
    """Neither its finished call nor the one that a crash interrupted can be answered here: nothing is guessed, and nothing is lost."""
    ledger = Ledger(tmp_path / "ledger")

    async def buys(sys: Any) -> Any:
        first = (await sys.ledger.keyed("a"))["value"]
        return [first, (await sys.msg.recv()).value, (await sys.ledger.keyed("b"))["value"]]

    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await started(kernel, buys, "ledger.*")
        await settled(kernel)
    async with await reopened(tmp_path / "a.db", buys, "buys") as kernel:
        process = kernel.process(process.pid)
        await process.send("on")
        await settled(kernel, lambda: process.info.waiting_on)
        assert (process.info.state, process.info.waiting_on) == ("waiting", ("device ledger",))
        kernel.mount("ledger", ledger.device)
        assert (await process.wait(5)).value == ["a", "on", "b"]
        assert (await kernel.replay(process.pid)).ok
    assert len(ledger.entries) == 2


@pytest.mark.parametrize("how", ["closed", "signalled"])
async def test_a_process_that_waits_for_a_device_can_be_left_or_ended(how: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    async def buys(sys: Any) -> Any:
        await sys.ledger.keyed("a")
        return (await sys.msg.recv()).value

    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await started(kernel, buys, "ledger.*")
        await settled(kernel)
    async with await reopened(tmp_path / "a.db", buys, "buys") as kernel:
        await settled(kernel, lambda: kernel.process(process.pid).info.waiting_on)
        if how == "signalled":
            await kernel.process(process.pid).signal("kill")
            assert (await kernel.process(process.pid).wait(5)).state == "killed"
    async with await reopened(tmp_path / "a.db", buys, "buys", devices={"ledger": ledger.device}) as kernel:
        if how == "closed":
            await kernel.process(process.pid).send("on")
            assert (await kernel.process(process.pid).wait(5)).value == "on"
    assert len(ledger.entries) == 1
