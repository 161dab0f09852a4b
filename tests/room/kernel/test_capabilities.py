"""Capabilities: minted by the host, derived from named ones, never wider, gone with their subtree when revoked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.records import CapRecord
from agentos.kernel.ops.cap import _descends
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock
from tests.builders import advance, alive, host, live, opened, refused, settled, started

pytestmark = pytest.mark.anyio


async def child_of(kernel: Kernel, parent: Process, *grant: str, **options: Any) -> Process:
    return await kernel.spawn(agentos.Image.host(), parent=parent, grant=grant, **options)


async def uses(process: Process) -> list[int | None]:
    return [cap.uses_left for cap in await process.caps()]


async def only(process: Process) -> int:
    [cap] = await process.caps()
    return cap.id


async def test_a_process_holds_nothing_but_its_self_rights() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        assert await process.caps() == []
        assert await process.call("obj.put", value=1, name="own")
        assert await refused(process.call("obj.put", value=1, name="x", namespace="shared")) == "denied.capability"
        assert await refused(process.call("fs.read", path="/builders.py")) == "denied.capability"


async def test_the_host_mints_and_what_it_minted_can_be_revoked() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        cap = await kernel.grant(process.pid, "obj.* shared/**")
        assert await process.call("obj.put", value=1, name="x", namespace="shared")
        assert await kernel.revoke(cap) == 1
        assert await refused(process.call("obj.get", name="x", namespace="shared")) == "denied.capability"
        assert await refused(kernel.revoke(cap)) == "invalid.argument"


async def test_children_are_never_wider_than_what_their_parent_holds() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "fs.read /a/**", "obj.put box/** when if_version >= 1")
        assert await refused(child_of(kernel, parent, "fs.read /**")) == "denied.capability"
        assert await refused(child_of(kernel, parent, "fs.read")) == "denied.capability"
        assert await refused(child_of(kernel, parent, "fs.write /a/x")) == "denied.capability"
        child = await child_of(kernel, parent, "fs.read /a/b/**", "obj.put box/**")
        assert await refused(child.call("obj.put", value=1, name="x", namespace="box")) == "denied.capability"
        assert kernel.check(child.pid, "fs.read", path="/a/b/c").outcome == "allow"
        assert kernel.check(child.pid, "fs.read", path="/a/c").code == "denied.capability"


async def test_a_spawn_without_grants_gives_a_child_nothing() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.* box/**")
        image = agentos.Image.host(capabilities=["obj.* box/**"])
        child = await kernel.spawn(image, parent=parent)
        assert await child.caps() == []


async def test_authority_is_what_the_image_requests_and_the_grant_allows() -> None:
    async with opened() as kernel:
        image = agentos.Image.host(capabilities=["fs.read /a/**", "fs.read /b/**"])
        process = await kernel.spawn(image, grant=["fs.read /**"])
        outcomes = [kernel.check(process.pid, "fs.read", path=path).outcome for path in ("/a/x", "/b/x", "/c/x")]
        assert outcomes == ["allow", "allow", "deny"]
        assert await refused(kernel.spawn(image, grant=["fs.write /a/**"])) == "denied.capability"


async def test_counted_uses_are_not_multiplied_by_what_an_image_requests() -> None:
    async with opened() as kernel:
        image = agentos.Image.host(capabilities=["obj.put box/**", "obj.get box/**"])
        try:
            process = await kernel.spawn(image, grant=["obj.put, obj.get box/** uses 3"])
        except agentos.Denied:
            return  # it may be refused; it may not be doubled
        assert sum(left or 0 for left in await uses(process)) == 3


async def test_uses_are_carved_out_of_the_parent_and_returned_at_the_end() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put box/** uses 10")
        child = await child_of(kernel, parent, "obj.put box/** uses 4")
        assert (await uses(parent), await uses(child)) == ([6], [4])
        await child.call("obj.put", value=1, name="x", namespace="box")
        await child.exit()
        assert await uses(parent) == [9]


async def test_a_share_of_counted_uses_has_to_be_named_and_cannot_exceed_them() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put box/** uses 2")
        assert await refused(child_of(kernel, parent, "obj.put box/**")) == "denied.capability"
        assert await refused(child_of(kernel, parent, "obj.put box/** uses 3")) == "denied.capability"
        assert await uses(parent) == [2]


async def test_a_failing_spawn_leaves_nothing_behind(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    async with opened(store) as kernel:
        parent = await host(kernel, "obj.put box/** uses 5", "obj.get box/**")
        image = agentos.Image.host("worker")
        grant = ["obj.put box/** uses 2", "obj.get other/**"]
        assert await refused(kernel.spawn(image, parent=parent, grant=grant)) == "denied.capability"
        assert (
            await refused(kernel.spawn(image, parent=parent, grant=["obj.put box/** uses 4", "obj.put box/** uses 2"]))
            == "denied.capability"
        )
        assert sorted(await uses(parent), key=str) == [5, None]
        assert [info.pid for info in await kernel.ps()] == [parent.pid]
        assert len(live(kernel, CapRecord)) == 2
        child = await kernel.spawn(image, parent=parent, grant=["obj.put box/** uses 1"])
    async with opened(store) as kernel:
        assert [info.pid for info in await kernel.ps()] == [parent.pid, child.pid]
        assert sorted(await uses(kernel.process(parent.pid)), key=str) == [4, None]


async def test_a_used_up_capability_covers_nothing_more() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put box/** uses 2")
        for name in "ab":
            await process.call("obj.put", value=1, name=name, namespace="box")
        assert await refused(process.call("obj.put", value=1, name="c", namespace="box")) == "denied.capability"


async def test_a_denied_call_uses_nothing_up() -> None:
    async with opened(policy='policy "p"\nallow obj.* any *\ndeny obj.put "box/no"') as kernel:
        process = await host(kernel, "obj.put box/** uses 1")
        assert await refused(process.call("obj.put", value=1, name="no", namespace="box")) == "denied.policy"
        assert await uses(process) == [1]


async def test_revoke_wins_over_the_whole_subtree() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.* box/**")
        child = await child_of(kernel, parent, "obj.get, obj.put box/**")
        grandchild = await child_of(kernel, child, "obj.get box/**")
        await child.call("obj.put", value=1, name="x", namespace="box")
        assert await grandchild.call("obj.get", name="x", namespace="box") == 1
        assert await kernel.revoke(await only(parent)) == 3
        for process in (parent, child, grandchild):
            assert await refused(process.call("obj.get", name="x", namespace="box")) == "denied.capability"


async def test_a_revoked_capability_stays_revoked_after_a_reopen(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel, "obj.* box/**")
        await kernel.revoke(await only(process))
    async with opened(tmp_path / "a.db") as kernel:
        assert (
            await refused(kernel.process(process.pid).call("obj.put", value=1, name="x", namespace="box"))
            == "denied.capability"
        )


async def test_an_expired_capability_covers_nothing_and_grants_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        process = await host(kernel, "obj.* box/** for 30m")
        child = await child_of(kernel, process, "obj.put box/** for 2h")
        await child.call("obj.put", value=1, name="x", namespace="box")
        assert (await child.caps())[0].expires == clock.now() + 1800
        advance(kernel, 1799)
        assert await child.call("obj.put", value=1, name="x", namespace="box")
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        advance(kernel, 1)
        child = kernel.process(child.pid)
        assert await refused(child.call("obj.put", value=1, name="x", namespace="box")) == "denied.capability"
        assert await refused(child_of(kernel, kernel.process(process.pid), "obj.put box/**")) == "denied.capability"


async def test_depth_bounds_how_often_a_right_is_passed_on() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.get box/** depth 1")
        child = await child_of(kernel, parent, "obj.get box/**")
        assert (await child.caps())[0].depth == 0
        assert await refused(child_of(kernel, child, "obj.get box/**")) == "denied.capability"


async def test_without_depth_a_right_reaches_descendants_only() -> None:
    async with opened() as kernel:
        giver, stranger = await host(kernel, "obj.get box/**"), await host(kernel)
        cap = await only(giver)
        assert await refused(giver.call("cap.derive", cap=cap, text="obj.get box/**", to=stranger.pid)) == "denied.capability"
        with_depth = await kernel.grant(giver.pid, "obj.get box/** depth 2")
        derived = await giver.call("cap.derive", cap=with_depth, text="obj.get box/a", to=stranger.pid)
        assert [(cap.id, cap.depth, cap.text) for cap in await stranger.caps()] == [(derived, 1, "obj.get box/a depth 2")] or (
            await stranger.caps()
        )[0].depth == 1


async def test_a_process_can_revoke_what_it_gave_and_nothing_else() -> None:
    async with opened() as kernel:
        giver = await host(kernel, "obj.get box/**")
        stranger = await host(kernel, "obj.get box/**")
        child = await child_of(kernel, giver, "obj.get box/**")
        assert await refused(giver.call("cap.revoke", cap=await only(stranger))) == "invalid.argument"
        assert await refused(child.call("cap.revoke", cap=await only(giver))) == "invalid.argument"
        assert await giver.call("cap.revoke", cap=await only(child)) == 1
        assert await child.caps() == []
        cap = kernel.core.caps.get(await only(giver))
        assert cap is not None
        assert not _descends(cap, alive(kernel, giver))


async def test_dropping_a_derived_right_gives_its_uses_back() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put box/** uses 5")
        child = await child_of(kernel, parent, "obj.put box/** uses 5")
        assert await uses(parent) == [0]
        await child.call("cap.drop", cap=await only(child))
        assert (await uses(parent), await uses(child)) == ([5], [])


async def test_handles_of_others_say_nothing_about_them() -> None:
    async with opened() as kernel:
        process, other = await host(kernel, "obj.get a/**"), await host(kernel, "obj.get b/**")
        messages = []
        for cap in (await only(other), 999):
            with pytest.raises(agentos.Invalid) as caught:
                await process.call("cap.drop", cap=cap)
            messages.append(caught.value.message.replace(str(cap), "N"))
        assert messages[0] == messages[1]


async def test_conditions_hold_for_every_call() -> None:
    async with opened() as kernel:
        process = await host(kernel, "clock.*", "obj.put box/** when if_version == 0")
        assert await process.call("obj.put", value=1, name="x", namespace="box", if_version=0)
        assert await refused(process.call("obj.put", value=1, name="x", namespace="box", if_version=1)) == "denied.capability"
        assert await refused(process.call("obj.put", value=1, name="x", namespace="box")) == "denied.capability"


async def test_a_requested_capability_is_minted_once_a_person_agrees() -> None:
    async def wish(sys: Any) -> Any:
        await sys.cap.request("obj.put box/**", "to keep notes")
        return (await sys.obj.put(1, name="x", namespace="box")).version

    async with opened() as kernel:
        process = await started(kernel, wish)
        await settled(kernel)
        [ask] = await kernel.asks()
        assert (ask.kind, ask.args["text"], ask.args["why"]) == ("capability", "obj.put box/**", "to keep notes")
        await kernel.answer(ask.id, "approve", by="me")
        assert (await process.wait(5)).value == 1


async def test_approving_that_a_process_may_ask_for_a_right_is_not_the_right() -> None:
    async def wish(sys: Any) -> Any:
        return await sys.cap.request("obj.put box/**", "to keep notes")

    async with opened(policy='policy "p"\nask cap.request any *') as kernel:
        process = await started(kernel, wish)
        await settled(kernel)
        [ask] = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="me")
        await settled(kernel)
        [second] = await kernel.asks()
        assert (ask.kind, second.kind) == ("approval", "capability")
        assert await process.caps() == []
        await kernel.answer(second.id, "deny", by="me")
        ended = await process.wait(5)
        assert ended.error is not None
        assert ended.error.code == "denied.human"
        assert not live(kernel, CapRecord)


async def test_exec_drops_what_the_new_image_does_not_request() -> None:
    async def before(sys: Any) -> None:
        await sys.proc.exec("after")

    async def after(sys: Any) -> list[str]:
        return [cap["text"] for cap in await sys.cap.list()]

    async with opened() as kernel:
        kernel.programs._given["after"] = agentos.program("after")(after)
        await kernel.register(agentos.Image.program("after", capabilities=["obj.get box/**"]))
        process = await started(kernel, before, "proc.exec", "obj.get box/**", "obj.put box/**")
        assert (await process.wait(5)).value == ["obj.get box/**"]
        assert process.info.image == "after:1"


async def test_what_is_remembered_about_decisions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.capability.DECISION_CACHE_MAX", 50)
    monkeypatch.setattr("agentos.broker.decide.DECISION_CACHE_MAX", 50)
    async with opened(policy='policy "p"\nallow obj.put any *') as kernel:
        process = await host(kernel, "obj.put box/**")
        for n in range(200):
            await process.call("obj.put", value=n, name=f"n{n}", namespace="box")
        record = alive(kernel, process)
        assert 0 < len(record.cover_cache) <= 50
        assert 0 < len(record.verdict_cache) <= 50


@pytest.mark.parametrize(
    ("grant", "outcome"),
    [
        (["fs.read /link.txt", "fs.read /real.txt uses 1"], "denied.capability"),
        (["fs.read /link.txt", "fs.read /real.txt"], "x"),
        (["fs.read /real.txt uses 1", "fs.read /**"], "x"),
        (["fs.read /** uses 3"], "x"),
    ],
)
async def test_counted_uses_are_not_walked_around_by_a_link(tmp_path: Path, grant: list[str], outcome: str) -> None:
    (tmp_path / "real.txt").write_text("x")
    (tmp_path / "link.txt").symlink_to("real.txt")
    async with opened(workspace=tmp_path) as kernel:
        process = await host(kernel, *grant)
        for _ in range(3):
            (found,) = await process.calls([("fs.read", {"path": "/link.txt"})])
            assert (found.value if found.ok else found.error.code) == outcome
        counted = {cap.text: cap.uses_left for cap in await kernel.caps(process.pid) if cap.uses_left is not None}
        assert counted.get("fs.read /real.txt uses 1", 1) == 1
        assert counted.get("fs.read /** uses 3", 0) == 0
