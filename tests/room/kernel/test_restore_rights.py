"""What binds is not taken back by a restore: revocations, counted uses, approvals, layers, labels, budgets."""

from __future__ import annotations

from typing import Any

import pytest

import agentos
from agentos.kernel.lifecycle import decode_layers
from agentos.testing import FakeClock
from tests.builders import advance, alive, host, live, opened, refused, settled, started

pytestmark = pytest.mark.anyio


async def texts(process: agentos.Process) -> list[str]:
    return sorted(cap.text for cap in await process.caps())


async def test_what_was_revoked_stays_revoked_and_what_was_granted_since_is_dropped() -> None:
    """INVARIANT revoke-wins: over a restore to before the revocation."""
    async with opened() as kernel:
        process = await host(kernel, "obj.put a/**", "obj.get a/**")
        checkpoint = await process.checkpoint()
        revoked = next(cap.id for cap in await process.caps() if "put" in cap.text)
        await kernel.revoke(revoked)
        await kernel.grant(process.pid, "obj.put **")
        report = await kernel.restore(checkpoint)
        assert await texts(process) == ["obj.get a/**"]
        assert [(entry["cap"], entry["reason"]) for entry in report.not_restored] == [(revoked, "it was revoked")]


async def test_uses_that_were_taken_stay_taken() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put a/** uses 3")
        checkpoint = await process.checkpoint()
        for number in range(2):
            await process.call("obj.put", value=number, name="x", namespace="a")
        report = await kernel.restore(checkpoint)
        assert [cap.uses_left for cap in await process.caps()] == [1]
        assert [entry["reason"] for entry in report.not_restored] == ["1 of its 3 uses are left"]


async def family(kernel: Any) -> tuple[agentos.Process, agentos.Process, str]:
    """A parent with ten uses, a child with four of them, and a checkpoint of the parent."""
    parent = await host(kernel, "obj.put a/** uses 10")
    child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/** uses 4"])
    return parent, child, await parent.checkpoint()


async def test_a_child_that_had_ended_takes_its_uses_from_its_parent_again() -> None:
    """INVARIANT uses-are-conserved: what came back to the parent at its end leaves it again."""
    async with opened() as kernel:
        parent, child, checkpoint = await family(kernel)
        await child.call("obj.put", value=1, name="x", namespace="a")
        await child.exit()
        await kernel.restore(checkpoint)
        assert [cap.uses_left for cap in await parent.caps()] == [6]
        assert [cap.uses_left for cap in await child.caps()] == [3]


async def test_uses_that_have_gone_elsewhere_do_not_come_back() -> None:
    async with opened() as kernel:
        parent, child, checkpoint = await family(kernel)
        await child.exit()
        for number in range(9):
            await parent.call("obj.put", value=number, name="x", namespace="a")
        report = await kernel.restore(checkpoint)
        assert await child.caps() == []
        assert [cap.uses_left for cap in await parent.caps()] == [1]
        assert any("uses left" in entry["reason"] for entry in report.not_restored if entry["pid"] == child.pid)


async def test_a_capability_whose_origin_was_revoked_while_its_holder_was_dead_stays_dead() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put a/**")
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/x"])
        checkpoint = await parent.checkpoint()
        await child.exit()
        await kernel.revoke((await parent.caps())[0].id)
        report = await kernel.restore(checkpoint)
        assert await child.caps() == await parent.caps() == []
        assert len(report.not_restored) == 2


async def test_a_family_that_had_ended_has_its_capabilities_derived_as_before() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put a/**")
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/x"])
        checkpoint = await parent.checkpoint()
        await parent.signal("kill")
        await kernel.restore(checkpoint)
        [above], [below] = await parent.caps(), await child.caps()
        assert below.parent == above.id
        await kernel.revoke(above.id)
        assert await child.caps() == []


async def test_what_has_expired_meanwhile_does_not_come_back() -> None:
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel, "obj.put a/** for 1h")
        checkpoint = await process.checkpoint()
        await process.exit()
        advance(kernel, 3601)
        report = await kernel.restore(checkpoint)
        assert await process.caps() == []
        assert [entry["reason"] for entry in report.not_restored] == ["its time is over"]


async def test_an_approval_of_before_a_restore_is_not_used_after_it() -> None:
    """INVARIANT one-shot-once: the ask is withdrawn, answered or not, and the call asks anew."""

    async def work(sys: Any) -> Any:
        return [(await sys.obj.put(1, name="x", namespace="shared")).version, await sys.human.ask("done?")]

    async with opened(policy='policy "p"\nallow * any *\nask obj.put any *') as kernel:
        process = await started(kernel, work, "obj.put shared/**")
        await settled(kernel)
        [asked] = await kernel.asks()
        checkpoint = await process.checkpoint()
        await process.signal("pause")
        await kernel.answer(asked.id, "approve", by="me")
        report = await kernel.restore(checkpoint)
        await settled(kernel)
        [again] = await kernel.asks()
        assert report.withdrawn == (asked.id,)
        assert again.id != asked.id
        assert (await kernel.ask(asked.id)).state == "withdrawn"


async def test_layers_that_came_since_stay_and_those_of_then_come_back() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.* **", "policy.update")
        checkpoint = await process.checkpoint()
        await process.call("policy.update", text='policy "tight"\nallow * any *\ndeny obj.put')
        await kernel.restore(checkpoint)
        assert await refused(process.call("obj.put", value=1, name="x", namespace="a")) == "denied.policy"


async def test_the_label_is_that_of_the_state() -> None:
    """INVARIANT labels-join: a secret read since is forgotten with its label; one read before stays."""
    async with opened() as kernel:
        writer = await host(kernel, "obj.* **")
        await writer.call("obj.put", value=1, name="s", namespace="a", labels=["secret"])
        await writer.call("obj.put", value=1, name="u", namespace="a", labels=["untrusted"])
        process = await host(kernel, "obj.get a/**")
        await process.call("obj.get", name="u", namespace="a")
        checkpoint = await process.checkpoint()
        await process.call("obj.get", name="s", namespace="a")
        assert process.info.labels == ("secret", "untrusted")
        await kernel.restore(checkpoint)
        assert process.info.labels == ("untrusted",)


async def test_a_budget_is_not_rewound_and_counts_once_after_a_revival() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put **", budget={"calls": 10})
        child = await kernel.spawn(agentos.Image.host(), parent=parent)
        checkpoint = await parent.checkpoint()
        for number in range(4):
            await child.call("obj.put", value=number, name="x")
        await child.exit()
        used = parent.usage["calls"]
        await kernel.restore(checkpoint)
        assert (parent.usage["calls"], child.usage["calls"]) == (used, 4)
        await child.exit()
        assert parent.usage["calls"] == used


async def test_usage_is_the_same_after_a_revival_and_a_reopen(tmp_path: Any) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        parent = await host(kernel)
        middle = await kernel.spawn(agentos.Image.host(), parent=parent)
        child = await kernel.spawn(agentos.Image.host(), parent=middle)
        checkpoint = await parent.checkpoint()
        for process in (parent, middle, child):
            await process.call("obj.put", value=1, name="x")
        await middle.exit()
        await child.exit()
        await kernel.restore(checkpoint)
        assert [process.usage["calls"] for process in (parent, middle, child)] == [3, 2, 1]
        await child.exit()
    async with opened(tmp_path / "a.db") as kernel:
        assert [kernel.process(p.pid).usage["calls"] for p in (parent, middle, child)] == [3, 2, 1]
        assert alive(kernel, middle).account.ended == {"calls": 1}


async def test_an_agent_that_takes_itself_back_lets_go_of_no_pause() -> None:
    async with opened() as kernel:
        parent = await host(kernel)
        child = await kernel.spawn(agentos.Image.host(), parent=parent)
        checkpoint = await parent.checkpoint()
        await child.signal("pause")
        await parent.call("ckpt.restore", checkpoint=checkpoint)
        assert child.info.state == "paused"
        await kernel.restore(checkpoint)
        assert child.info.state == "ready"


async def test_one_that_is_refused_changes_nothing() -> None:
    async def work(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async with opened() as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        checkpoint = await process.checkpoint()
        record = kernel.core.checkpoints.find(checkpoint)
        record.at_seq = 1
        assert await refused(kernel.restore(checkpoint)) == "invalid.state"
        await process.send("still here")
        assert (await process.wait(5)).value == "still here"
        assert decode_layers(kernel.core.store.get(type(alive(kernel, await host(kernel)).record), process.pid)) == []
        assert live(kernel, type(record))


async def test_a_note_that_was_written_with_a_secret_in_mind_brings_its_label_along() -> None:
    """INVARIANT labels-join: through checkpoints; a restore forgets the label of a state, not of what outlives it."""
    async with opened() as kernel:
        writer = await host(kernel, "obj.put a/**")
        await writer.call("obj.put", value="hunter2", name="s", namespace="a", labels=["secret"])
        process = await host(kernel, "obj.get a/**")
        clean = await process.call("ckpt.save")
        await process.call("ckpt.save", note=await process.call("obj.get", name="s", namespace="a"))
        await kernel.restore(clean)
        assert process.info.labels == ()
        assert [item["note"] for item in await process.call("ckpt.list")] == ["", "hunter2"]
        assert process.info.labels == ("secret",)


async def test_the_overlay_of_a_try_goes_back_with_it(tmp_path: Any) -> None:
    async with opened(workspace=tmp_path) as kernel:
        parent = await host(kernel, "fs.*", "proc.*")
        trial = await parent.fork(grant=["fs.*"], speculative=True)
        await trial.call("fs.write", path="/a.txt", text="first")
        checkpoint = await trial.checkpoint()
        await trial.call("fs.write", path="/a.txt", text="second")
        await trial.call("fs.write", path="/b.txt", text="new")
        await kernel.restore(checkpoint)
        assert await trial.call("fs.read", path="/a.txt") == "first"
        assert await refused(trial.call("fs.read", path="/b.txt")) == "unavailable.missing"
        assert list(tmp_path.iterdir()) == []
        assert await refused(kernel.restore(checkpoint, mode="new")) == "invalid.state"


async def test_a_try_forks_no_way_out_of_its_overlay() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "fs.*", "proc.*", "ckpt.fork")
        before = await parent.checkpoint()
        trial = await parent.fork(grant=["fs.*", "ckpt.fork"], speculative=True)
        assert await refused(trial.call("ckpt.fork", checkpoint=before)) == "invalid.argument"
        again = await trial.call("ckpt.fork", checkpoint=await trial.checkpoint(), grant=["fs.*"])
        assert alive(kernel, again).facts["overlay"] is True
        count = len(kernel.core.processes)
        assert await refused(kernel.fork(pid=trial.pid, speculative=True)) == "invalid.state"
        assert len(kernel.core.processes) == count


async def test_an_agent_that_goes_back_by_itself_keeps_its_label() -> None:
    """INVARIANT labels-join: which of many points it chooses could tell a secret, a byte at a time."""
    async with opened() as kernel:
        writer = await host(kernel, "obj.put a/**")
        await writer.call("obj.put", value=2, name="s", namespace="a", labels=["secret"])
        parent = await host(kernel, "obj.get a/**", "obj.put b/**")
        child = await kernel.spawn(agentos.Image.host(), parent=parent)
        points = [await parent.call("ckpt.save", note=str(number)) for number in range(4)]
        await parent.call("ckpt.restore", checkpoint=points[await parent.call("obj.get", name="s", namespace="a")])
        assert (parent.info.labels, child.info.labels) == (("secret",), ("secret",))
        await kernel.restore(points[0])
        assert parent.info.labels == ()


async def test_a_revived_process_gives_what_it_holds_now_and_not_what_it_held() -> None:
    """INVARIANT revoke-wins: nothing is remembered of the grants of a process that had ended."""
    async with opened() as kernel:
        image = agentos.Image.host("plain")
        await kernel.register(image)
        process = await host(kernel, "proc.spawn", "obj.put a/**")
        checkpoint = await process.checkpoint()
        await process.call("proc.spawn", image="plain:1", grant=["obj.put a/x"])
        for _ in range(2):
            await process.exit()
            await kernel.restore(checkpoint)
            child = await process.call("proc.spawn", image="plain:1", grant=["obj.put a/x"])
            [above] = [cap for cap in await process.caps() if "obj" in cap.text]
            assert [cap.parent for cap in await kernel.process(child).caps()] == [above.id]
            await kernel.process(child).exit()


async def test_a_capability_whose_origin_is_narrower_now_stays_ended() -> None:
    """INVARIANT children-are-never-wider: at a revival as at a grant."""

    async def wide(sys: Any) -> Any:
        await sys.msg.recv()
        await sys.proc.exec("narrow:1")

    async def narrow(sys: Any) -> Any:
        await sys.msg.recv()

    async with opened(programs=[agentos.program("narrow")(narrow)]) as kernel:
        await kernel.register(agentos.Image.program("narrow", capabilities=["obj.put a/x"]))
        parent = await started(kernel, wide, "obj.put a/**", "proc.exec")
        await settled(kernel)
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/**"])
        checkpoint = await child.checkpoint()
        await child.exit()
        await parent.send("go")
        await settled(kernel)
        report = await kernel.restore(checkpoint)
        assert await texts(parent) == ["obj.put a/x"]
        assert await child.caps() == []
        assert ["narrower" in entry["reason"] for entry in report.not_restored] == [True]
