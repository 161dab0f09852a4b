"""The life of a process: spawn, exit, fork, exec, and hosts that stop waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from tests.builders import alive, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def test_a_program_exits_with_what_it_returns_or_raises() -> None:
    async def returns(sys: Any) -> Any:
        return {"pid": sys.pid, "goal": sys.goal, "args": sys.args}

    async def raises(sys: Any) -> None:
        raise ValueError("no way")

    async def denied(sys: Any) -> None:
        await sys.fs.read("/x")

    async def odd(sys: Any) -> Any:
        return object()

    async def exits(sys: Any) -> Any:
        await sys.proc.exit({"early": True})
        return "never"

    async with opened() as kernel:
        process = await started(kernel, returns, goal="win")
        assert (await process.wait(5)).value == {"pid": process.pid, "goal": "win", "args": {}}
        ended = await (await started(kernel, raises)).wait(5)
        assert (ended.state, ended.error and (ended.error.code, ended.error.type, ended.error.message)) == (
            "failed", ("exception", "ValueError", "no way"),
        )  # fmt: skip
        ended = await (await started(kernel, denied)).wait(5)
        assert ended.error is not None
        assert ended.error.code == "denied.capability"
        ended = await (await started(kernel, odd)).wait(5)
        assert (ended.state, ended.error and ended.error.code) == ("failed", "invalid.argument")
        assert (await (await started(kernel, exits)).wait(5)).value == {"early": True}


async def test_an_exit_is_the_same_for_everybody_and_after_a_reopen(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel, goal={"do": "it"}, name="worker")
        await process.exit([1, 2])
        assert (await process.wait(1)).value == [1, 2]
        assert await refused(process.call("clock.now")) == "invalid.state"
        assert await refused(process.signal("kill")) == "invalid.state"
        assert await refused(process.send("x")) == "invalid.state"
    async with opened(tmp_path / "a.db") as kernel:
        process = kernel.process(process.pid)
        assert (await process.wait(1)).value == [1, 2]
        assert (process.info.name, process.info.goal, process.info.state) == ("worker", {"do": "it"}, "exited")
        assert await kernel.ps() == []
        assert [info.pid for info in await kernel.ps(all=True)] == [process.pid]


async def test_a_bounded_run_never_changes_fate_and_a_cancelled_wait_never_kills() -> None:
    """a-bounded-run-never-changes-fate"""

    async def wait(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async with opened() as kernel:
        process = await started(kernel, wait)
        with pytest.raises(TimeoutError):
            await process.wait(0.02)
        with anyio.move_on_after(0.02):
            await process.wait()
        with pytest.raises(TimeoutError):
            await kernel.run_until_idle(0)
        assert process.info.state == "waiting"
        await process.send("still here")
        assert (await process.wait(5)).value == "still here"


async def test_pids_are_never_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        first = await host(kernel)
        await first.exit()
    async with opened(tmp_path / "a.db") as kernel:
        assert (await host(kernel)).pid > first.pid


REFUSED: list[dict[str, Any]] = [
    {"name": ""}, {"name": "x" * 201}, {"name": "\ud800"}, {"weight": 0}, {"weight": -1}, {"weight": float("nan")}, {"goal": "x" * 300_000},
    {"goal": object()}, {"budget": {"colls": 1}}, {"deadline_s": float("nan")}, {"args": {"x": object()}}, {"policy": "polcy"},
]  # fmt: skip


@pytest.mark.parametrize("options", REFUSED, ids=lambda options: next(iter(options)))
async def test_a_spawn_that_is_refused_leaves_nothing_behind(options: dict[str, Any], tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        code = await refused(kernel.spawn(agentos.Image.host(), **options))
        assert code.startswith("invalid."), code
        assert await kernel.ps() == []
        process = await kernel.spawn(agentos.Image.host())
        await process.exit()
    async with opened(tmp_path / "a.db") as kernel:
        assert await kernel.ps() == []


async def test_children_of_an_ended_process_live_on_in_its_tree() -> None:
    async with opened() as kernel:
        top = await host(kernel)
        middle = await kernel.spawn(agentos.Image.host(), parent=top)
        leaf = await kernel.spawn(agentos.Image.host(), parent=middle)
        await middle.exit()
        assert [info.pid for info in await kernel.tree(top.pid)] == [top.pid, leaf.pid]
        assert leaf.info.tree == top.pid
        assert alive(kernel, top).is_ancestor_of(alive(kernel, leaf))


# --- fork and exec ----------------------------------------------------------------------------------------------------------


async def test_fork_returns_zero_in_the_child_which_goes_on_with_the_same_state() -> None:
    runs: list[int] = []

    async def work(sys: Any) -> Any:
        if sys.state is None:
            await sys.save({"n": 5})
        noted = (await sys.obj.put("before", name="note")).version
        runs.append(sys.pid)
        child = await sys.proc.fork()
        if child == 0:
            return ["child", sys.state["n"], noted]
        return ["parent", (await sys.proc.wait(child)).value]

    async with opened() as kernel:
        process = await started(kernel, work, "proc.fork, proc.wait")
        assert (await process.wait(5)).value == ["parent", ["child", 5, 1]]
        child = next(info.pid for info in await kernel.ps(all=True) if info.ppid == process.pid)
        assert [row.op for row in rows(kernel, child)] == []
        assert runs == [process.pid, child]
        puts = [row for row in rows(kernel) if row.op == "obj.put"]
        assert len(puts) == 1


async def test_a_fork_has_no_rights_but_the_named_ones_and_an_empty_mailbox() -> None:
    async def work(sys: Any) -> Any:
        child = await sys.proc.fork(grant=["obj.get box/**"])
        if child == 0:
            held = [cap["text"] for cap in await sys.cap.list()]
            try:
                await sys.msg.recv(timeout_s=0.0)
            except agentos.Unavailable as error:
                return [held, error.code]
        return (await sys.proc.wait(child)).value

    async with opened() as kernel:
        process = await started(kernel, work, "proc.fork, proc.wait", "obj.get, obj.put box/**")
        await process.send("for the parent")
        assert (await process.wait(5)).value == [["obj.get box/**"], "unavailable.timeout"]


async def test_a_fork_of_a_fork_replays_both_tapes(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        a = await sys.proc.fork(grant=["proc.fork, proc.wait"])
        if a:
            return ["a", (await sys.proc.wait(a)).value]
        await sys.obj.put(1, name="x")
        b = await sys.proc.fork()
        if b:
            return ["b", (await sys.proc.wait(b)).value]
        return ["c", (await sys.msg.recv()).value]

    async with opened(tmp_path / "a.db") as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, work, "proc.fork, proc.wait")
        await settled(kernel)
        leaf = max(info.pid for info in await kernel.ps())
    async with opened(tmp_path / "a.db", programs=[agentos.program("work")(work)]) as kernel:
        await settled(kernel)
        await kernel.process(leaf).send("go")
        assert (await kernel.process(process.pid).wait(5)).value == ["a", ["b", ["c", "go"]]]


async def test_the_host_forks_a_waiting_program() -> None:
    async def work(sys: Any) -> Any:
        first = (await sys.msg.recv()).value
        return [first, (await sys.msg.recv()).value]

    async with opened() as kernel:
        process = await started(kernel, work)
        await process.send(1)
        await settled(kernel)
        twin = await process.fork()
        await twin.send("twin")
        await process.send("first")
        assert (await process.wait(5)).value == [1, "first"]
        assert (await twin.wait(5)).value == [1, "twin"]


async def test_exec_starts_the_new_image_in_the_same_process() -> None:
    async def before(sys: Any) -> None:
        await sys.obj.put("kept", name="x")
        await sys.proc.exec("after", args={"n": 2})

    async def after(sys: Any, n: int) -> Any:
        return [sys.pid, n, await sys.obj.get("x"), sys.state]

    async with opened() as kernel:
        kernel.programs._given["after"] = agentos.program("after")(after)
        await kernel.register(agentos.Image.program("after"))
        process = await started(kernel, before, "proc.exec")
        assert (await process.wait(5)).value == [process.pid, 2, "kept", None]


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_the_host_can_exec_a_waiting_program(resident: int) -> None:
    async def before(sys: Any) -> None:
        await sys.msg.recv()

    async def after(sys: Any) -> Any:
        return "after"

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        kernel.programs._given["after"] = agentos.program("after")(after)
        await kernel.register(agentos.Image.program("after"))
        process = await started(kernel, before, "proc.exec")
        await settled(kernel)
        await process.call("proc.exec", image="after")
        assert (await process.wait(5)).value == "after"
