"""A process's own layer: narrower at once and for its descendants, wider only through a person and only for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import PolicyRecord, ProcessRecord
from agentos.kernel.ops.policy import _with
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock
from tests.builders import advance, alive, code_of, crash, host, live, opened, refused, rows, settled

pytestmark = pytest.mark.anyio

GRANT = ("policy.update", "obj.*", "proc.fork")
OPEN = 'restrict "own"\n'
NO_SHARED = OPEN + 'deny obj.put "shared/**"'
NO_PUT = OPEN + "deny obj.put"


async def child_of(kernel: Kernel, parent: Process) -> Process:
    return await kernel.spawn(agentos.Image.host(), parent=parent, grant=GRANT)


async def may_put(process: Process, namespace: str = "shared") -> bool:
    try:
        await process.call("obj.put", value=1, name="x", namespace=namespace)
    except agentos.Denied:
        return False
    return True


class Updating:
    """An update that waits for a person beside the test."""

    def __init__(self, key: str | None = None) -> None:
        self.options = {} if key is None else {"key": key}
        self.digest: Any = None
        self.code = ""

    async def run(self, process: Process, text: str) -> None:
        try:
            self.digest = await process.call("policy.update", text=text, **self.options)
        except agentos.AgentOSError as error:
            self.code = code_of(error)


@asynccontextmanager
async def updating(kernel: Kernel, process: Process, text: str) -> AsyncIterator[tuple[Updating, agentos.Ask]]:
    """A wider update, with the ask it waits for; when the block ends the update is over."""
    update = Updating()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(update.run, process, text)
        await settled(kernel, lambda: len(list(kernel.core.asks)) == 1)
        [ask] = await kernel.asks()
        yield update, ask
    assert list(kernel.core.asks) == []


async def test_a_first_layer_and_a_narrower_one_are_in_force_at_once() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        assert await may_put(process)
        digest = await process.call("policy.update", text=NO_SHARED)
        assert not await may_put(process)
        assert await may_put(process, "mine")
        assert await process.call("policy.update", text=NO_PUT) != digest
        assert not await may_put(process, "mine")
        assert await kernel.asks() == []


async def test_a_remembered_decision_does_not_outlive_the_update() -> None:
    async with opened(policy='policy "k"\nallow *  any *') as kernel:
        process = await host(kernel, *GRANT)
        assert await may_put(process)
        assert alive(kernel, process).verdict_cache
        await process.call("policy.update", text=NO_SHARED)
        assert not await may_put(process)


async def test_update_never_widens_without_a_person_and_then_only_for_the_process_itself() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        child = await child_of(kernel, process)
        async with updating(kernel, process, NO_SHARED) as (update, ask):
            assert not await may_put(process, "mine")
            assert (ask.kind, ask.op, ask.lineage[0].split()[0]) == ("widening", "policy.update", str(process.pid))
            assert ask.args["text"] == NO_SHARED
            assert "obj.put" in ask.args["witness"]
            assert "deny before, allow after" in ask.preview["summary"]
            assert '-deny obj.put\n+deny obj.put "shared/**"' in ask.preview["diff"]
            await kernel.answer(ask.id, "approve", by="alice")
        assert update.digest
        assert await may_put(process, "mine")
        assert not await may_put(process)
        assert not await may_put(child, "mine")


async def test_a_denied_update_changes_nothing() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        digest = await process.call("policy.update", text=NO_PUT)
        async with updating(kernel, process, OPEN) as (update, ask):
            await kernel.answer(ask.id, "deny", by="alice")
        assert update.code == "denied.human"
        assert alive(kernel, process).record.own_layer == digest
        assert not await may_put(process)


async def test_nobody_answering_in_time_is_a_deny() -> None:
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        async with updating(kernel, process, OPEN) as (update, _):
            advance(kernel, 5 * 3600)
        assert update.code == "denied.human"


async def test_a_kernel_without_people_denies_what_is_wider() -> None:
    async with opened(mode="noninteractive") as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        assert await refused(process.call("policy.update", text=NO_SHARED)) == "denied.human"
        assert await kernel.asks("withdrawn") == []
        assert not await may_put(process, "mine")


async def test_an_approval_is_for_the_layer_that_was_in_force_when_it_was_asked_for() -> None:
    """While a person thinks, another call of the process narrows its layer: the counterexample they saw is not the one that counts."""
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_SHARED)
        async with updating(kernel, process, OPEN) as (update, ask):
            await process.call("policy.update", text=NO_PUT)
            await kernel.answer(ask.id, "approve", by="alice")
            await settled(kernel, lambda: any(record.ask != ask.id for record in kernel.core.asks))
            [again] = await kernel.asks()
            assert "-deny obj.put\n" in again.preview["diff"] + "\n"
            assert not await may_put(process, "mine")
            await kernel.answer(again.id, "deny", by="alice")
        assert update.code == "denied.human"


async def test_what_is_narrower_by_the_time_it_is_looked_at_again_needs_nobody() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        async with updating(kernel, process, NO_SHARED) as (update, _):
            async with anyio.create_task_group() as tasks:
                opener = Updating()
                tasks.start_soon(opener.run, process, OPEN)
                await settled(kernel, lambda: len(list(kernel.core.asks)) == 2)
                first, second = await kernel.asks()
                await kernel.answer(second.id, "approve", by="alice")
            assert opener.digest
            await kernel.answer(first.id, "approve", by="alice")
        assert update.digest
        assert not await may_put(process)
        assert await may_put(process, "mine")


async def test_live_descendants_get_the_narrower_layer_also_those_born_under_the_old_one() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        before = await child_of(kernel, process)
        await process.call("policy.update", text=NO_SHARED)
        born_under = await child_of(kernel, before)
        await process.call("policy.update", text=NO_PUT)
        assert not await may_put(before, "mine")
        assert not await may_put(born_under, "mine")
        for child in (before, born_under):
            assert len(decode(alive(kernel, child).record.layers)) == 1
            assert alive(kernel, child).record.own_layer == ""


async def test_a_child_keeps_what_it_was_born_under_when_its_parent_may_do_more() -> None:
    """After the parent was widened by a person, a later narrowing of it comes on top for the child and replaces nothing."""
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        child = await child_of(kernel, process)
        async with updating(kernel, process, OPEN) as (_, ask):
            await kernel.answer(ask.id, "approve", by="alice")
        await process.call("policy.update", text=NO_SHARED)
        assert await may_put(process, "mine")
        assert not await may_put(child, "mine")
        assert len(decode(alive(kernel, child).record.layers)) == 2


async def test_a_fork_has_the_own_layer_of_its_parent_as_its_own() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_SHARED)
        fork = kernel.process(await process.call("proc.fork", grant=["obj.*", "policy.update"]))
        assert not await may_put(fork)
        assert alive(kernel, fork).record.own_layer == alive(kernel, process).record.own_layer
        await process.call("policy.update", text=NO_PUT)
        assert not await may_put(fork, "mine")


async def test_own_layers_survive_a_crash_with_the_row_that_made_them(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel, *GRANT)
        child = await child_of(kernel, process)
        await process.call("policy.update", text=NO_SHARED)
        kernel.core.journal.flush()
        crash(kernel, tmp_path / "a.db", tmp_path / "b.db")
    async with opened(tmp_path / "b.db") as kernel:
        process, child = kernel.process(process.pid), kernel.process(child.pid)
        assert not await may_put(process)
        assert not await may_put(child)
        assert await may_put(process, "mine")
        assert await process.call("policy.update", text=NO_PUT)


async def test_an_update_that_waits_for_a_person_survives_a_crash(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=NO_PUT)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Updating("k").run, process, NO_SHARED)
            await settled(kernel, lambda: len(list(kernel.core.asks)) == 1)
            kernel.core.journal.flush()
            crash(kernel, tmp_path / "a.db", tmp_path / "b.db")
            tasks.cancel_scope.cancel()
    async with opened(tmp_path / "b.db") as kernel, anyio.create_task_group() as tasks:
        process = kernel.process(process.pid)
        [ask] = await kernel.asks()
        update = Updating("k")
        tasks.start_soon(update.run, process, NO_SHARED)
        await kernel.answer(ask.id, "approve", by="alice")
        await settled(kernel, lambda: update.digest)
        assert await may_put(process, "mine")


async def test_a_text_with_an_error_names_the_place_and_changes_nothing() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        with pytest.raises(agentos.Invalid, match=r"obj\.putt") as caught:
            await process.call("policy.update", text='restrict "own"\ndeny obj.putt')
        assert caught.value.fields["where"] == f"proc/{process.pid}:2:6"
        for text in ("", "allow obj.put", 'restrict "own"\nallow obj.put', 'restrict "own"\nuse "other.policy"'):
            assert await refused(process.call("policy.update", text=text)) == "invalid.policy"
        assert alive(kernel, process).record.own_layer == ""
        assert live(kernel, PolicyRecord) == []


async def test_a_text_that_would_keep_the_kernel_busy_is_refused_unread() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        text = OPEN + "".join(f'deny obj.put "a{number}/**"\n' for number in range(4_000))
        with pytest.raises(agentos.Invalid, match="over 65536 bytes"):
            await process.call("policy.update", text=text)


async def test_who_holds_no_capability_for_it_cannot_update() -> None:
    async with opened() as kernel:
        assert await refused((await host(kernel)).call("policy.update", text=OPEN)) == "denied.capability"


async def test_the_first_layer_of_a_stack_that_is_full_is_refused_and_reaches_nobody() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        layers = [agentos.Policy(f'restrict "n{number}"') for number in range(64)]
        child = await kernel.spawn(agentos.Image.host(), parent=process, grant=GRANT, policy=layers)
        assert await refused(process.call("policy.update", text=NO_SHARED)) == "invalid.policy"
        assert alive(kernel, process).record.own_layer == ""
        assert await may_put(process)
        assert await may_put(child)
        assert NO_SHARED not in [decode(record.text) for record in live(kernel, PolicyRecord)]


async def test_a_limit_does_not_start_anew_behind_another_name_or_amount() -> None:
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        limited = OPEN + "limit obj.put 3 per process"
        await process.call("policy.update", text=limited)
        for text in (limited.replace("own", "other"), limited.replace("3", "2")):
            async with updating(kernel, process, text) as (update, ask):
                assert "starts counting anew" in ask.args["witness"]
                await kernel.answer(ask.id, "deny", by="alice")
            assert update.code == "denied.human"
        assert await process.call("policy.update", text=f"{limited}\nlimit obj.put 2 per process")


async def test_a_fork_cannot_start_its_parents_limit_anew_by_writing_it_again() -> None:
    """What a fork writes is counted under its own name, so the same line in a text of its own would begin at nothing."""
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        limited = OPEN + "limit obj.put 1 per tree"
        await process.call("policy.update", text=limited)
        fork = kernel.process(await process.call("proc.fork", grant=["obj.*", "policy.update"]))
        assert await may_put(process)
        async with updating(kernel, fork, f"{limited}\ndeny obj.append") as (_, ask):
            assert "starts counting anew; a layer that another process wrote" in ask.args["witness"]
            await kernel.answer(ask.id, "deny", by="alice")
        assert not await may_put(fork)


async def test_a_label_that_might_open_something_goes_to_a_person() -> None:
    opening = 'policy "own"\nallow policy.update, fs.stat any *\nallow obj.put when flow.level == secret any *'
    async with opened() as kernel:
        process = await host(kernel, *GRANT)
        await process.call("policy.update", text=opening)
        async with updating(kernel, process, f"{opening}\nlabel result(fs.stat) secret") as (update, ask):
            assert "could not be decided" in ask.args["witness"]
            await kernel.answer(ask.id, "deny", by="alice")
        assert update.code == "denied.human"


async def test_only_layers_that_the_host_gave_may_endorse() -> None:
    trusting = 'policy "p"\nallow * any *\nlabel result(fs.list) trusted'
    async with opened(policy='restrict "k"') as kernel:
        process = await kernel.spawn(agentos.Image.host(), grant=[*GRANT, "fs.list"], policy=trusting)
        async with updating(kernel, process, trusting.replace("fs.list", "fs.stat")) as (_, ask):
            assert "trusted` is new" in ask.args["witness"]
            await kernel.answer(ask.id, "approve", by="alice")
        child = await kernel.spawn(
            agentos.Image.host(), parent=process, grant=GRANT, policy=trusting.replace("fs.list", "obj.get")
        )
        assert alive(kernel, process).stack.endorsing == 2
        assert alive(kernel, child).stack.endorsing == 2
        labels = alive(kernel, child).stack.labels
        assert [labels.result(op, "")[1] for op in ("fs.list", "obj.get", "fs.stat")] == [True, False, False]


@pytest.mark.parametrize(
    ("digests", "endorsing", "old", "expected"),
    [
        (["a", "d"], 1, "d", ["a", "n"]),
        (["d", "a"], 1, "d", ["d", "a", "n"]),
        (["a", "d", "b", "d"], 1, "d", ["a", "d", "b", "n"]),
        (["a", ""], 0, "", ["a", "", "n"]),
        ([], 0, "", ["n"]),
    ],
)
def test_a_descendant_loses_no_layer_that_it_has_from_elsewhere(
    digests: list[str], endorsing: int, old: str, expected: list[str]
) -> None:
    assert _with(digests, endorsing, old, "n") == expected


async def test_explain_tells_a_process_what_would_be_decided_and_makes_nothing() -> None:
    async with opened(
        policy='policy "k"\nallow obj.*, policy.update any *\ndeny obj.put "shared/**" because "shared is read-only"'
    ) as kernel:
        process = await host(kernel, *GRANT)
        found = await process.call("policy.explain", op="obj.put", args={"value": 1, "name": "x", "namespace": "shared"})
        assert (found["outcome"], found["code"], found["because"]) == ("deny", "denied.policy", "shared is read-only")
        assert "shared is read-only" in found["text"]
        allowed = await process.call("policy.explain", op="obj.put", args={"value": 1, "name": "x", "namespace": "mine"})
        assert allowed["outcome"] == "allow"
        assert await refused(process.call("policy.explain", op="obj.putt", args={})) == "invalid.op"
        assert [row.op for row in rows(kernel, process.pid)] == ["policy.explain"] * 3
        assert live(kernel, ProcessRecord)[0].own_layer == ""
