"""Replay across what the kernel does to a process's history: restores, forks in time, edited approvals, erased content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, opened, rows, settled, started

pytestmark = pytest.mark.anyio


async def words(sys: Any) -> Any:
    """Collect words; save every second one."""
    seen = sys.state or []
    while True:
        word = (await sys.msg.recv()).value
        seen = [*seen, word, str(sys.uuid()), await sys.now()]
        await sys.obj.put(seen, name="seen")
        if word == "done":
            return seen
        if len(seen) % 2 == 0:
            await sys.save(seen)


async def told(kernel: Any, process: Any, *said: str) -> None:
    for word in said:
        await process.send(word)
        await settled(kernel)


async def fine(kernel: Any, pid: int, *, exit_equal: bool | None = True) -> int:
    report = await kernel.replay(pid)
    assert report.ok, report
    assert report.exit_equal is exit_equal
    return int(report.lives)


@pytest.mark.parametrize("before", [1, 2, 3])
async def test_a_restored_process_replays_through_its_restore(before: int) -> None:
    async with opened() as kernel:
        process = await started(kernel, words)
        await told(kernel, process, *"abc"[:before])
        checkpoint = await process.checkpoint()
        await told(kernel, process, "lost")
        await kernel.restore(checkpoint)
        await settled(kernel)
        assert await fine(kernel, process.pid, exit_equal=None) == 2
        await told(kernel, process, "done")
        await process.wait(5)
        assert await fine(kernel, process.pid) == 2


async def test_what_was_started_once_more_and_what_was_forked_replays_from_anothers_past() -> None:
    async with opened() as kernel:
        process = await started(kernel, words)
        await told(kernel, process, "a", "b", "c")
        checkpoint = await process.checkpoint()
        await told(kernel, process, "later")
        report = await kernel.restore(checkpoint, mode="new")
        others = [
            kernel.process(report.pids[process.pid]),
            await kernel.fork(pid=process.pid, seq=rows(kernel, process.pid)[2].seq),
        ]
        for other in others:
            await settled(kernel)
            await told(kernel, other, "done")
            assert (await other.wait(5)).state == "exited", other.info.exit
            await fine(kernel, other.pid)
        await fine(kernel, process.pid, exit_equal=None)


async def test_calls_that_people_edited_denied_or_let_expire_replay(tmp_path: Path) -> None:
    async def asks(sys: Any) -> Any:
        got = []
        for value in ("edited", "denied", "late"):
            try:
                got.append((await sys.ledger.once(value))["value"])
            except agentos.Denied as error:
                got.append(error.code)
        return got

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, clock=FakeClock()) as kernel:
        process = await started(kernel, asks, "ledger.*", policy='restrict "p" version 1\nask ledger.once\n')
        await settled(kernel)
        await kernel.answer((await kernel.asks())[0].id, "approve", by="pat", edit={"value": "better"})
        await settled(kernel)
        await kernel.answer((await kernel.asks())[0].id, "deny", by="pat")
        await settled(kernel)
        advance(kernel, 10 * 86400)
        assert (await process.wait(5)).value == ["better", "denied.human", "denied.human"]
        await fine(kernel, process.pid)


async def test_what_was_erased_is_said_and_not_guessed() -> None:
    async with opened() as kernel:
        process = await started(kernel, words)
        await told(kernel, process, "a", "done")
        await process.wait(5)
        await kernel.erase(pid=process.pid)
        with pytest.raises(agentos.Invalid, match="erased"):
            await kernel.replay(process.pid)


async def test_a_fork_that_was_erased_before_it_did_anything_has_no_state_to_replay() -> None:
    async with opened() as kernel:
        process = await started(kernel, words)
        await told(kernel, process, "a", "b")
        fork = await kernel.fork(pid=process.pid)
        await settled(kernel)
        await fork.signal("kill")
        await kernel.erase(tree=fork.pid)
        with pytest.raises(agentos.Invalid, match=f"what process {fork.pid} was is not kept any more: it was erased"):
            await kernel.replay(fork.pid)


async def test_a_long_process_is_replayed_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once is bounded by a page and what is open, however long the process was."""
    from agentos.kernel.tape import Tape

    largest = 0
    add = Tape.add

    def counting(self: Any, row: Any) -> None:
        nonlocal largest
        add(self, row)
        largest = max(largest, len(self))

    async def long(sys: Any) -> Any:
        for n in range(sys.state or 0, 3000):
            await sys.obj.put(n, name="n")
            if n % 500 == 499:
                await sys.save(n + 1)
        return "done"

    async with opened() as kernel:
        process = await started(kernel, long)
        await process.wait(30)
        monkeypatch.setattr(Tape, "add", counting)
        report = await kernel.replay(process.pid)
        assert (report.ok, report.calls, report.lives) == (True, 3006, 1)
        assert largest <= 300
