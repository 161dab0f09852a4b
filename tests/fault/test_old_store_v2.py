"""A store of schema version 2 opens with everything that was in it, and everything goes on. See `stores/make_v2.py`."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.labels import names
from agentos.abi.records import FileLabelRecord, ProcessRecord, QuotaRecord, StandingRecord
from agentos.runtime.boot import Open
from agentos.testing import FakeClock
from tests.builders import advance, alive, live, opened, refused, settled
from tests.fault.stores.make_v2 import (
    ASKER,
    AUTHOR,
    DRAFT,
    ENDED,
    FOOLED,
    FORKED,
    FORKER,
    GRANTED,
    KEEPER,
    KERNEL,
    KEYER,
    LARGE,
    LISTENER,
    LOG_ENTRIES,
    ONCER,
    PAUSED,
    PROBER,
    PROGRAMS,
    RATIONER,
    REPEATER,
    REPORT,
    SLEEPER,
    START_S,
    side,
)

pytestmark = pytest.mark.anyio
V2 = Path(__file__).parent / "stores" / "v2.db.gz"
ALIVE = [pid for pid in range(AUTHOR, ASKER + 1) if pid != ENDED]


def reopened(folder: Path) -> Open:
    """A kernel of today on the store of then, a minute later; the same store when called again."""
    path = folder / "store.db"
    if not path.exists():
        (folder / "w").mkdir()
        path.write_bytes(gzip.decompress(V2.read_bytes()))
    clock, devices = FakeClock(START_S + 60), {"side": side(answers=True)}
    return opened(path, workspace=folder / "w", devices=devices, programs=PROGRAMS, policy=KERNEL, clock=clock)


async def value_of(kernel: agentos.Kernel, pid: int) -> Any:
    """What a process ends with."""
    ended = await kernel.process(pid).wait(5)
    assert ended.state == "exited", ended.error
    return ended.value


async def answer(kernel: agentos.Kernel, pid: int, verdict: str = "approve", **value: Any) -> agentos.Ask:
    """Answer the one ask of a process."""
    await settled(kernel)
    (ask,) = [ask for ask in await kernel.asks() if ask.pid == pid]
    return await kernel.answer(ask.id, verdict, by="pat", **value)


async def test_every_process_is_there_and_its_audit_goes_on(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        records = live(kernel, ProcessRecord)
        assert [record.pid for record in records] == ALIVE
        new = {(record.resumes >= 0, record.overlay, record.id_map, record.restored) for record in records}
        assert new == {(True, 0, b"", "")}
        report = await kernel.verify_audit()
        assert (report.ok, report.rows > 200) == (True, True)
        assert (await kernel.process(KEEPER).call("clock.now"), (await kernel.verify_audit(report.head)).ok) == (
            START_S + 60,
            True,
        )


@pytest.mark.parametrize(
    ("pid", "value"), [(REPEATER, "repeatable again"), (KEYER, "keyed again"), (PROBER, "probeable had happened")]
)
async def test_an_open_effect_is_finished_as_its_class_says(tmp_path: Path, pid: int, value: str) -> None:
    async with reopened(tmp_path) as kernel:
        assert await value_of(kernel, pid) == value
        assert pid not in {ask.pid for ask in await kernel.asks(state=None)}


async def test_an_open_effect_that_may_not_be_repeated_is_asked_about(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        ask = await answer(kernel, ONCER, value="it happened")
        assert (ask.kind, ask.op, ask.args) == ("unknown_outcome", "side.once", {"value": "once"})
        assert await value_of(kernel, ONCER) == "it happened"


async def test_a_pending_ask_can_be_answered_and_what_was_overwritten_is_kept(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await answer(kernel, AUTHOR)
        assert await value_of(kernel, AUTHOR) == "/report.md"
        assert (tmp_path / "w" / "report.md").read_text() == REPORT
        (kept,) = [row for row in kernel.core.store.rows(0, 1_000) if row.op == "note.before"]
        before = kernel.core.store.objects.get(agentos.abi.codec.decode(kept.args)["object"])
        assert before == DRAFT.encode()


async def test_an_ask_that_was_answered_before_is_used_and_not_asked_again(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await kernel.process(PAUSED).signal("resume")
        assert await value_of(kernel, PAUSED) == "approved again"
        assert [(ask.pid, ask.state) for ask in await kernel.asks(state=None) if ask.pid == PAUSED] == [(PAUSED, "consumed")]


async def test_a_question_can_be_answered(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await answer(kernel, ASKER, value="that")
        assert await value_of(kernel, ASKER) == "that"


async def test_a_timer_and_a_save_point_still_hold(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await settled(kernel)
        advance(kernel, 3600)
        assert await value_of(kernel, SLEEPER) == "rested, saved"


async def test_messages_wake_who_waited_and_a_fork_knows_what_its_parent_did(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        await kernel.process(LISTENER).send("hello")
        await kernel.process(FORKED).send("grow")
        assert await value_of(kernel, LISTENER) == "hello"
        assert await value_of(kernel, FORKED) == ["child", "grow"]
        assert await value_of(kernel, FORKER) == ["parent", ["child", "grow"], "before the fork"]


async def test_a_limit_goes_on_from_what_was_used(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        assert len(live(kernel, QuotaRecord)) == 1
        await kernel.process(RATIONER).send("go on")
        assert await value_of(kernel, RATIONER) == [1, 2, 3, "denied.policy"]


async def test_a_standing_grant_still_answers_and_can_be_taken_back(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        (grant,) = live(kernel, StandingRecord)
        assert (grant.scope, grant.holder, grant.by, grant.reason) == ("process", str(GRANTED), "pat", "small sums")
        await kernel.process(GRANTED).send("go on")
        assert await value_of(kernel, GRANTED) == [7, 7]
        assert GRANTED not in {ask.pid for ask in await kernel.asks()}


async def test_labels_of_processes_and_files_still_bind(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        (tmp_path / "w" / "obey.txt").write_text("strangers wrote this")
        assert [record.path for record in live(kernel, FileLabelRecord)] == ["/obey.txt"]
        assert (names(alive(kernel, FOOLED).label), names(alive(kernel, KEEPER).label)) == (["untrusted"], ["secret"])
        reader = await kernel.spawn(agentos.Image.host(capabilities=["fs.*"]))
        await reader.call("fs.read", path="/obey.txt")
        assert names(alive(kernel, reader).label) == ["untrusted"]


async def test_values_names_and_their_versions_are_read(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        keeper = kernel.process(KEEPER)
        assert await keeper.call("obj.get", name="large", namespace="shared") == {**LARGE, "key 7": "changed"}
        assert await keeper.call("obj.get", name="large", namespace="shared", version=1) == LARGE
        assert await keeper.call("obj.get", name="log", namespace="shared") == [f"entry {n}" for n in range(LOG_ENTRIES)]
        assert await keeper.call("obj.get", name="thing", namespace="shared") == {"a": [1, 2]}
        assert (await refused(keeper.call("obj.get", name="gone", namespace="shared"))).startswith("unavailable.")
        assert (await keeper.call("msg.recv")).value == "a note to itself"


async def test_a_policy_of_its_own_still_binds_a_process(tmp_path: Path) -> None:
    async with reopened(tmp_path) as kernel:
        keeper = kernel.process(KEEPER)
        assert await refused(keeper.call("obj.put", value=1, name="new", namespace="shared")) == "denied.policy"
        assert await keeper.call("obj.put", value=1, name="new")
        assert [cap.uses_left for cap in await keeper.caps() if cap.text.startswith("clock")] == [3]


async def test_everybody_comes_to_an_end_over_several_openings(tmp_path: Path) -> None:
    for step in range(3):
        async with reopened(tmp_path) as kernel:
            await settled(kernel)
            asks = await kernel.asks()
            for ask in asks[:2]:
                await kernel.answer(ask.id, "approve", by="pat", **({"value": "that"} if ask.kind != "approval" else {}))
            for pid in (LISTENER, FORKED, RATIONER, GRANTED) if step == 0 else ():
                await kernel.process(pid).send("go on")
            if step == 0:
                await kernel.process(PAUSED).signal("resume")
            advance(kernel, 3600)
            await settled(kernel)
            assert (await kernel.verify_audit()).ok
    async with reopened(tmp_path) as kernel:
        assert [info.pid for info in await kernel.ps()] == [FOOLED, KEEPER]
        ended = {info.pid: info.state for info in await kernel.ps(all=True)}
        assert {state for pid, state in ended.items() if pid not in (FOOLED, KEEPER)} == {"exited"}
