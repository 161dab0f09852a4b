"""Answers from another machine: a store on a server, a kernel whose socket is out of reach, and somebody who has the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.abi.place import place_of
from agentos.runtime import wire
from agentos.runtime.inbox import send_answer
from agentos.runtime.offline import StoreView
from agentos.store import post
from tests.builders import opened, refused, settled, started

pytestmark = pytest.mark.anyio
Addresses = Callable[[], str]


@pytest.fixture
def address(postgres: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    return postgres()


async def asker(sys: Any) -> str:
    return str(await sys.human.ask("go on?"))


@pytest.fixture
async def elsewhere(address: str) -> AsyncIterator[agentos.Kernel]:
    """A kernel whose process waits for a person."""
    async with opened(address, control=True) as kernel:
        process = await started(kernel, asker, "human.ask")
        await settled(kernel, lambda: process.info.state == "waiting")
        yield kernel


async def answered(address: str, *words: Any, **options: Any) -> agentos.Ask:
    """Answer as somebody does who reaches the database, and not the kernel's socket."""
    view = StoreView(place_of(address))
    try:
        return await view.answer(*words, **options)
    finally:
        view.close()


async def test_an_answer_from_another_machine_reaches_the_kernel(address: str, elsewhere: agentos.Kernel) -> None:
    ask = await answered(address, 1, "approve", by="ann", value="yes")
    assert (ask.id, ask.state) == (1, "decided")
    assert (await elsewhere.process(1).wait(5)).value == "yes"
    assert elsewhere.core.store._reader.fetch("SELECT count(*) FROM inbox") == [(0,)]


async def test_what_the_kernel_refuses_is_refused_there_too(address: str, elsewhere: agentos.Kernel) -> None:
    assert await refused(answered(address, 99, "approve", by="ann")) == "invalid.state"
    assert await refused(answered(address, 1, "perhaps", by="ann")) == "invalid.argument"
    await answered(address, 1, "approve", by="ann", value="yes")
    assert await refused(answered(address, 1, "deny", by="bob")) == "invalid.state"


async def test_nothing_but_an_answer_is_taken(address: str, elsewhere: agentos.Kernel) -> None:
    for body in (wire.frame(id=1, method="spawn", args={"image": "x"}), b"no frame at all", b"{}", b""):
        reply = await anyio.to_thread.run_sync(post, place_of(address), body)
        assert wire.read(reply, wire.values)["error"].code == "invalid.argument"
    assert len(await elsewhere.ps()) == 1


async def test_a_kernel_that_takes_no_orders_takes_no_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.store.inbox.CONTROL_REPLY_S", 0.3)
    async with opened(address) as kernel:
        assert await refused(answered(address, 1, "approve", by="ann")) == "unavailable.timeout"
        assert kernel.core.store._reader.fetch("SELECT count(*) FROM inbox") == [(0,)]


async def test_an_answer_posted_while_no_kernel_listens_is_found_by_the_next(address: str) -> None:
    async with opened(address, control=True) as kernel:
        process = await started(kernel, asker, "human.ask")
        await settled(kernel, lambda: process.info.state == "waiting")
    async with anyio.create_task_group() as tasks:
        args = {"ask_id": 1, "verdict": "approve", "by": "ann", "value": "late"}
        tasks.start_soon(send_answer, place_of(address), args)
        await anyio.sleep(0.3)
        async with opened(address, control=True, programs=[agentos.program("asker")(asker)]) as kernel:
            assert (await kernel.process(1).wait(5)).value == "late"
            rows = [row for row in kernel.core.store.rows(0, 99) if row.op == "note.answered"]
            assert [decode(row.args)["by"] for row in rows] == ["ann"]
