"""A program that does not repeat itself: each common mistake, told so that a newcomer finds it.

Every story runs a program, lets the kernel die, and runs the program again with the mistake in it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.records import ProcessRecord
from agentos.abi.values import ErrorData
from tests.builders import alive, crashing, opened, rows, settled, started

pytestmark = pytest.mark.anyio

HERE = Path(__file__).name
NAMES = ["b", "a", "c"]
THINGS: list[object] = []


async def story(path: Path, first: Callable[..., Any], second: Callable[..., Any]) -> ErrorData:
    """Run `first`, crash, run `second` as the same program, and return the error that ends the process."""
    second.__name__ = first.__name__
    async with crashing(path / "a.db", path / "b.db") as kernel:
        process = await started(kernel, first)
        await settled(kernel)
        assert process.info.state == "waiting", process.info.exit
    async with opened(path / "b.db", programs=[agentos.program(first.__name__)(second)]) as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert ended.state == "failed"
        assert ended.error is not None
        assert ended.error.code == "invalid.state"
        return ended.error


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "wall clock": (time.time, "use `await sys.now()`"),
    "wall clock in a text": (lambda: f"at {time.strftime('%H:%M:%S')}.{time.time_ns()}", "use `await sys.now()`"),
    "random number": (random.random, "use `sys.random()`"),
    "uuid": (lambda: str(uuid.uuid4()), "use `sys.random()` or `sys.uuid()`"),
    "uuid in a text": (lambda: {"order": [f"order-{uuid.uuid4().hex}"]}, "use `sys.random()` or `sys.uuid()`"),
    "order of a list": (lambda: NAMES.reverse() or list(NAMES), "use sorted(...)"),
    "order in a text": (lambda: NAMES.reverse() or ", ".join(NAMES), "use sorted(...)"),
    "address": (lambda: THINGS.append(object()) or repr(THINGS[-1]), "an object's address"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_value_from_outside_is_told_with_its_likely_cause(mistake: str, tmp_path: Path) -> None:
    make, hint = MISTAKES[mistake]
    kept = []

    async def careless(sys: Any) -> Any:
        await sys.clock.now()
        kept.append(make())
        await sys.obj.put(kept[-1], name="made")
        await sys.msg.recv()

    error = await story(tmp_path, careless, careless)
    assert "does not repeat itself at call 2 (journal" in error.message
    assert f"at {HERE}:" in error.message
    assert "in careless" in error.message
    assert f"- value: {kept[0]!r}"[:40] in error.message
    assert f"+ value: {kept[1]!r}"[:40] in error.message
    assert hint in error.hint


async def test_the_order_of_keys_is_no_difference(tmp_path: Path) -> None:
    keys = ["x", "y"]

    async def keyed(sys: Any) -> Any:
        keys.reverse()
        await sys.obj.put(dict.fromkeys(keys, 1), name="made")
        return (await sys.msg.recv()).value

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, keyed)
        await settled(kernel)
    async with opened(tmp_path / "a.db", programs=[keyed]) as kernel:
        await kernel.process(process.pid).send("on")
        assert (await kernel.process(process.pid).wait(5)).value == "on"


async def one(sys: Any) -> Any:
    await sys.obj.put(1, name="one")
    await sys.clock.now()
    await sys.obj.put(3, name="three")
    await sys.msg.recv()


async def without_the_first(sys: Any) -> Any:
    await sys.clock.now()
    await sys.obj.put(3, name="three")
    await sys.msg.recv()


async def with_one_more(sys: Any) -> Any:
    await sys.obj.put(1, name="one")
    await sys.obj.put(2, name="two")
    await sys.clock.now()
    await sys.obj.put(3, name="three")
    await sys.msg.recv()


async def without_the_last(sys: Any) -> Any:
    await sys.obj.put(1, name="one")
    await sys.clock.now()
    return "done"


async def inside_gather(sys: Any) -> Any:
    await sys.gather(sys.obj.put(1, name="one"))
    await sys.clock.now()
    await sys.obj.put(3, name="three")
    await sys.msg.recv()


CHANGES = {
    without_the_first: ["at call 1", "recorded: obj.put", "now:      clock.now", "was call 1 left out?"],
    with_one_more: ["at call 2", "recorded: clock.now", "now:      obj.put"],
    without_the_last: ["without making call 3"],
    inside_gather: ["made call 1.1.1, obj.put, instead of call 1 (journal", f"at {HERE}:"],
}


@pytest.mark.parametrize("changed", CHANGES, ids=lambda changed: changed.__name__)
async def test_changed_code_is_told_with_what_to_do(changed: Callable[..., Any], tmp_path: Path) -> None:
    async def second(sys: Any) -> Any:
        return await changed(sys)

    error = await story(tmp_path, one, second)
    for said in CHANGES[changed]:
        assert said in error.message
    assert "the program's code has changed since this process ran" in error.hint
    assert all(way in error.hint for way in ("code that it was started with", "restore a checkpoint", "proc.exec"))


@pytest.mark.parametrize(("before", "now"), [(3, 2), (2, 3)])
async def test_a_gather_of_another_width_is_a_difference(before: int, now: int, tmp_path: Path) -> None:
    width = before

    async def wide(sys: Any) -> Any:
        await sys.gather(*(sys.obj.put(n, name=f"n{n}") for n in range(width)))
        await sys.obj.put("after", name="after")
        await sys.msg.recv()

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, wide)
        await settled(kernel)
    width = now
    async with opened(tmp_path / "a.db", programs=[wide]) as kernel:
        error = (await kernel.process(process.pid).wait(5)).error
        assert error is not None
        assert "call 1.3.1" in error.message
        assert not any(row.number == "1.3.1" for row in rows(kernel, process.pid)[before + 1 :])


async def test_what_a_program_uses_of_its_module_is_its_code_too() -> None:
    from agentos.programs.registry import fingerprint, is_other_code

    def made(body: str) -> Any:
        space: dict[str, Any] = {"__name__": "made"}
        exec(f"def part(x):\n    {body}\n\nasync def whole(sys):\n    # a remark\n    return part(sys)\n", space)
        return space["whole"]

    same, again, other = made("return x + 1"), made("'Say it.'\n    return x + 1"), made("return x + 2")
    assert fingerprint("p", same) == fingerprint("p", again)
    assert is_other_code(fingerprint("p", same), fingerprint("p", other))
    assert not is_other_code(fingerprint("q", same), fingerprint("p", other))
    assert not is_other_code("", fingerprint("p", other))


async def test_code_that_changed_but_makes_the_same_calls_goes_on(tmp_path: Path) -> None:
    async def before(sys: Any) -> Any:
        await sys.obj.put(1, name="one")
        return (await sys.msg.recv()).value

    async def before_(sys: Any) -> Any:
        kept = (await sys.obj.put(1, name="one")).version
        return [kept, (await sys.msg.recv()).value]

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, before)
        await settled(kernel)
    async with opened(tmp_path / "a.db", programs=[agentos.program("before")(before_)]) as kernel:
        await kernel.process(process.pid).send("on")
        assert (await kernel.process(process.pid).wait(5)).value == [1, "on"]


async def test_a_process_stays_on_its_image_when_a_newer_one_is_registered(tmp_path: Path) -> None:
    """Neither the image that a process runs nor what it may follows its name; only proc.exec changes them."""

    async def v1(sys: Any) -> Any:
        await sys.msg.recv()
        return [(await sys.proc.info())["image"], 1]

    async def v2(sys: Any) -> Any:
        return [(await sys.proc.info())["image"], 2]

    programs = [agentos.program("v1")(v1), agentos.program("v2")(v2)]
    old, new = (
        agentos.Image.from_dict({"name": "job", "version": n, "program": {"kind": "python", "name": p}})
        for n, p in (("1", "v1"), ("2", "v2"))
    )
    async with opened(tmp_path / "a.db", programs=programs) as kernel:
        process = await kernel.spawn(old)
        await settled(kernel)
        await kernel.register(new)
    async with opened(tmp_path / "a.db", programs=programs) as kernel:
        assert kernel.process(process.pid).info.digest == old.digest
        await kernel.process(process.pid).send("on")
        assert (await kernel.process(process.pid).wait(5)).value == ["job:1", 1]
        assert (await (await kernel.spawn("job")).wait(5)).value == ["job:2", 2]


async def test_random_numbers_and_ids_repeat_themselves_and_differ_between_processes(tmp_path: Path) -> None:
    async def draws(sys: Any) -> Any:
        async def in_branch() -> Any:
            first = sys.random().random()
            await sys.clock.now()
            return [first, sys.random().random()]

        if sys.state is None:
            drawn = [str(sys.uuid()), str(sys.uuid()), *await sys.gather(in_branch, in_branch)]
            await sys.obj.put(drawn, name="drawn", namespace=f"proc/{sys.pid}")
            await sys.proc.fork(grant=["obj.*"])
            after = str(sys.uuid())
            await sys.obj.put(after, name="after", namespace=f"proc/{sys.pid}")
            await sys.save([drawn, after])
        await sys.obj.put(str(sys.uuid()), name="later", namespace=f"proc/{sys.pid}")
        await sys.msg.recv()

    ends: dict[int, Any] = {}
    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, draws, "proc.*, obj.*")
        other = await started(kernel, draws, "proc.*, obj.*")
        await settled(kernel)
        pids = [info.pid for info in await kernel.ps()]
        child_of = {info.ppid: info.pid for info in await kernel.ps()}
    async with opened(tmp_path / "a.db", programs=[draws]) as kernel:
        for pid in pids:
            assert kernel.process(pid).info.state in ("ready", "waiting", "running"), kernel.process(pid).info.exit
            report = await kernel.replay(pid)
            assert report.ok, report
            record = kernel.core.store.get(ProcessRecord, pid)
            assert record is not None
            ends[pid] = kernel.core.store.objects.unpack(record.save_state)
    assert len(pids) == 4
    assert ends[process.pid][0] == ends[child_of[process.pid]][0], "a fork has its parent's past"
    assert len({ends[pid][1] for pid in pids}) == 4, "and a future of its own"
    flat = [*ends[process.pid][0][:2], *ends[process.pid][0][2], *ends[process.pid][0][3]]
    assert len(set(flat)) == 6
    assert ends[other.pid][0] != ends[process.pid][0]


async def test_a_call_without_await_is_told_at_the_next_call() -> None:
    async def forgets(sys: Any) -> Any:
        sys.obj.put(1, name="one")
        try:
            await sys.clock.now()
        except agentos.Invalid as error:
            return [str(error), error.hint, await sys.now() > 0]

    async with opened() as kernel:
        process = await started(kernel, forgets)
        told, hint, goes_on = (await process.wait(5)).value
        assert "`obj.put` at test_determinism.py:" in told
        assert "in forgets was written without `await`, so it was not made" in told
        assert hint == "write `await sys.obj.put(...)`, or give it to sys.gather"
        assert goes_on
        assert (await kernel.replay(process.pid)).ok


async def test_a_call_without_await_at_the_end_or_in_a_value_fails_the_process() -> None:
    async def at_the_end(sys: Any) -> Any:
        sys.obj.put(1, name="one")
        return "done"

    async def saves(sys: Any) -> Any:
        sys.save("x")

    async def now(sys: Any) -> Any:
        return sys.now()

    async def kept(sys: Any) -> Any:
        call = sys.obj.put(1, name="one")
        return "done" if call else ""

    async def returned(sys: Any) -> Any:
        return {"when": sys.clock.now()}

    async def stored(sys: Any) -> Any:
        await sys.obj.put([sys.clock.now()], name="one")

    async with opened() as kernel:
        for program in (at_the_end, saves, now, kept, returned, stored):
            error = (await (await started(kernel, program)).wait(5)).error
            assert error is not None
            assert "was written without `await`" in error.message, program
            assert f"in {program.__name__}" in error.message


async def test_a_call_is_awaited_once() -> None:
    async def twice(sys: Any) -> Any:
        call = sys.obj.put(1, name="one")
        await call
        await call

    async with opened() as kernel:
        process = await started(kernel, twice)
        error = (await process.wait(5)).error
        assert error is not None
        assert "was awaited before" in error.message
        assert len(rows(kernel, process.pid)) == 1


async def test_calls_made_ready_for_gather_are_not_forgotten_and_unwinding_forgets_none() -> None:
    async def prepares(sys: Any) -> Any:
        calls = [sys.obj.put(n, name=f"n{n}") for n in range(100)]
        await sys.clock.now()
        made = await sys.gather(calls)
        waiting = sys.clock.now()
        await sys.msg.recv()
        return [len(made), await waiting > 0]

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, prepares)
        await settled(kernel)
        await process.send("on")
        assert (await process.wait(5)).value == [100, True]


async def test_what_a_newcomer_meets_says_what_to_do() -> None:
    async def twice(sys: Any) -> Any:
        import asyncio

        async def read() -> Any:
            return await sys.msg.recv(timeout_s=0.01)

        await asyncio.gather(read(), read())

    async def unstorable(sys: Any) -> Any:
        return {"socket": object()}

    async def raises_in_gather(sys: Any) -> Any:
        async def bad() -> Any:
            raise ValueError("no")

        await sys.gather(bad, sys.obj.put(1, name="made"))

    said = {
        twice: ("`msg.recv` was called while `msg.recv` is open", "sys.gather"),
        unstorable: ("a `object` cannot be stored", "JSON types"), raises_in_gather: ("no", ""),
    }  # fmt: skip
    async with opened() as kernel:
        for program, (message, hint) in said.items():
            process = await started(kernel, program)
            error = (await process.wait(5)).error
            assert error is not None
            assert message in error.message, error
            assert hint in error.hint
        assert [row.op for row in rows(kernel, process.pid)] == ["obj.put"], "the other branch is made to its end"


async def test_a_parked_program_comes_back_to_answer_a_query(tmp_path: Path) -> None:
    async def works(sys: Any) -> Any:
        done: list[int] = []
        sys.expose("progress", lambda: len(done))
        while True:
            done.append((await sys.msg.recv()).value)

    async with opened(tmp_path / "a.db") as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, works)
        await settled(kernel)
        for n in range(3):
            await process.send(n)
            await settled(kernel)
        await settled(kernel, lambda: not alive(kernel, process).running)
        assert not kernel.core.processes.find(process.pid).queries, "its memory was given back"
        count = len(rows(kernel, process.pid))
        assert await process.query("progress") == 3
        with pytest.raises(agentos.Unavailable, match="exposes no `nothing`"):
            await process.query("nothing")
        assert len(rows(kernel, process.pid)) == count
    async with opened(tmp_path / "a.db", programs=[works]) as kernel:
        assert await kernel.process(process.pid).query("progress") == 3
