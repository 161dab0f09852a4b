"""Stores made by older versions open, with everything that was in them. A file per schema version lies in `stores/`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import agentos
from agentos.abi.records import AskRecord, ProcessRecord
from agentos.runtime.boot import Open
from agentos.testing import FakeClock
from tests.builders import advance, alive, settled
from tests.fault.stores.make_v1 import ASKER, AUTHOR, ENDED, KEEPER, LISTENER, PAYER, PROGRAMS, REPORT, SLEEPER, START_S, bank

pytestmark = pytest.mark.anyio
STORES = Path(__file__).parent / "stores"


def old_store(folder: Path) -> Path:
    """The store of schema version 1, and a workspace beside it."""
    (folder / "w").mkdir()
    path = folder / "store.db"
    path.write_bytes(gzip.decompress((STORES / "v1.db.gz").read_bytes()))
    return path


def reopened(folder: Path, path: Path | None = None) -> Open:
    """A kernel of today on the store of then, a minute later."""
    return agentos.open(
        path or old_store(folder),
        workspace=folder / "w",
        devices={"bank": bank(answers=True)},
        programs=PROGRAMS,
        clock=FakeClock(START_S + 60),
        control=False,
        durability="fast",
        grace_s=0.2,
    )


def ask_of(asks: list[agentos.Ask], pid: int) -> agentos.Ask:
    (found,) = [ask for ask in asks if ask.pid == pid]
    return found


async def test_the_audit_of_an_old_store_verifies_and_goes_on(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await settled(kernel)
        report = await kernel.verify_audit()
        assert report.ok
        assert report.rows > 17
        assert await kernel.process(KEEPER).call("clock.now") is not None
        assert (await kernel.verify_audit(report.head)).ok


async def test_every_process_of_an_old_store_is_there_with_what_it_had(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        assert [info.pid for info in await kernel.ps()] == [AUTHOR, SLEEPER, LISTENER, PAYER, KEEPER, ASKER]
        assert (kernel.process(KEEPER).info.goal, kernel.process(LISTENER).info.name) == ("keep", "ear")
        assert [cap.text for cap in await kernel.caps(KEEPER) if cap.uses_left == 3] == ["clock.now uses 3"]
        assert (await kernel.process(ENDED).wait(1)).value == "done"


async def test_an_ask_of_an_old_store_can_be_answered_and_its_process_goes_on(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await settled(kernel)
        await kernel.answer(ask_of(await kernel.asks(), AUTHOR).id, "approve", by="pat")
        assert (await kernel.process(AUTHOR).wait(5)).value == "/report.md"
        assert (tmp_path / "w" / "report.md").read_text() == REPORT


async def test_a_question_of_an_old_store_can_be_answered(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await settled(kernel)
        await kernel.answer(ask_of(await kernel.asks(), ASKER).id, "approve", by="pat", value="that")
        assert (await kernel.process(ASKER).wait(5)).value == "that"


async def test_an_effect_that_an_old_kernel_left_open_is_asked_about(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await settled(kernel)
        ask = ask_of(await kernel.asks(), PAYER)
        assert (ask.kind, ask.args) == ("unknown_outcome", {"amount": 7})
        await kernel.answer(ask.id, "approve", by="pat", value=7)
        assert (await kernel.process(PAYER).wait(5)).value == 7


async def test_what_an_old_process_waited_for_still_wakes_it(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await kernel.process(LISTENER).send("hello")
        assert (await kernel.process(LISTENER).wait(5)).value == "hello"
        await settled(kernel)
        advance(kernel, 3600)
        assert (await kernel.process(SLEEPER).wait(5)).value == "rested"


async def test_objects_messages_and_labels_of_an_old_store_are_read(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        keeper = kernel.process(KEEPER)
        assert await keeper.call("obj.get", name="thing", namespace="shared") == {"a": [1, 2]}
        assert await keeper.call("obj.get", name="report", namespace="shared") == REPORT
        assert (await keeper.call("msg.recv")).value == "a note to itself"


async def test_an_old_process_counts_as_born_with_the_label_it_has(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        record = alive(kernel, KEEPER).record
        assert record.label == record.birth_label == 3
        assert (record.own_layer, record.endorsing) == ("", 0)
        author = kernel.core.store.get(ProcessRecord, AUTHOR)
        assert author is not None
        assert author.birth_label == 0


async def test_an_old_store_opens_again_after_it_was_brought_forward(tmp_path: Path) -> None:
    path = old_store(tmp_path)
    for _ in range(2):
        async with reopened(tmp_path, path) as kernel:
            await settled(kernel)
            assert sorted(ask.pid for ask in await kernel.asks()) == [AUTHOR, PAYER, ASKER]
            pending = kernel.core.store.current(AskRecord)
            assert [(ask.layer, ask.remember, ask.offer) for ask in pending] == [("", "", "")] * 3
