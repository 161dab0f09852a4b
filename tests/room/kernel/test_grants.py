"""Grants from process to process: by name, over messages, back when their time is over, and asked of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.limits import ASK_TIMEOUT_S, CAPS_PER_PROCESS_MAX
from agentos.abi.records import CapRecord
from agentos.errors import Denied, Invalid
from agentos.policy import parse_capability
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, host, live, opened, refused, settled, started

pytestmark = pytest.mark.anyio

PUT: dict[str, Any] = {"value": "v", "name": "x", "namespace": "box"}


async def child_of(kernel: Kernel, parent: Process, *grant: str) -> Process:
    return await kernel.spawn(agentos.Image.host(), parent=parent, grant=grant)


async def left(process: Process) -> list[int | None]:
    return [cap.uses_left for cap in await process.caps()]


# --- by name ------------------------------------------------------------------------------------------------------------------


async def test_a_grant_comes_from_the_first_capability_that_can_give_it() -> None:
    async with opened() as kernel:
        giver = await host(kernel, "obj.put box/a", "obj.put box/** uses 1", "obj.put box/** uses 3", "obj.get box/**")
        taker = await child_of(kernel, giver)
        given = await giver.call("cap.grant", text="obj.put box/** uses 2", to=taker.pid)
        assert await left(giver) == [None, 1, 1, None]
        assert [(cap.id, cap.uses_left) for cap in await taker.caps()] == [(given, 2)]
        for text in ("obj.put box/** uses 2", "obj.put box/**", "obj.list box/**", "obj.put **"):
            assert await refused(giver.call("cap.grant", text=text, to=taker.pid)) == "denied.capability"
        assert await left(giver) == [None, 1, 1, None]


async def test_a_policy_can_take_granting_away() -> None:
    async with opened(policy='restrict "r"\ndeny cap.grant, cap.derive') as kernel:
        giver = await host(kernel, "obj.put box/**")
        assert await refused(giver.call("cap.grant", text="obj.put box/**", to=giver.pid)) == "denied.policy"


async def test_grants_of_one_spawn_share_what_several_capabilities_have() -> None:
    async with opened() as kernel:
        giver = await host(kernel, "obj.put box/** uses 2", "obj.put box/** uses 2", "obj.get box/** uses 1")
        child = await child_of(kernel, giver, "obj.put box/** uses 1", "obj.put box/** uses 2", "obj.put box/** uses 1")
        assert (await left(giver), await left(child)) == ([0, 0, 1], [1, 2, 1])
        assert await refused(child_of(kernel, giver, "obj.get box/** uses 1", "obj.get box/** uses 1")) == "denied.capability"
        assert await left(giver) == [0, 0, 1]


async def test_what_an_image_requests_is_given_once_also_where_more_was_granted() -> None:
    async with opened() as kernel:
        image = agentos.Image.host(capabilities=["obj.put box/** uses 3", "obj.get box/**"])
        process = await kernel.spawn(image, grant=["obj.put", "obj.get"])
        assert await left(process) == [3, None]


# --- over messages ------------------------------------------------------------------------------------------------------------


async def test_a_right_is_passed_to_a_sibling_and_named_in_a_message() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put box/** uses 5 depth 2", "msg.send")
        sender = await child_of(kernel, parent, "obj.put box/** uses 4", "msg.send")
        receiver = await child_of(kernel, parent)
        cap = await sender.call("cap.grant", text="obj.put box/** uses 2", to=receiver.pid)
        await sender.call("msg.send", to=receiver.pid, value={"cap": cap})
        assert (await receiver.call("msg.recv")).value["cap"] == cap
        assert [held["id"] for held in await receiver.call("cap.list")] == [cap]
        await receiver.call("obj.put", **PUT)
        assert [await left(each) for each in (parent, sender, receiver)] == [[1, None], [2, None], [1]]
        assert await refused(receiver.call("cap.grant", text="obj.put box/** uses 1", to=sender.pid)) == "denied.capability"


async def test_an_id_in_a_message_grants_nothing() -> None:
    async with opened() as kernel:
        parent = await host(kernel)
        sender = await host(kernel, "obj.put box/** depth 3", "msg.send")
        receiver = await child_of(kernel, parent)
        cap = (await sender.caps())[0].id
        await sender.call("msg.send", to=receiver.pid, value=cap)
        cap = (await receiver.call("msg.recv")).value
        assert await refused(receiver.call("obj.put", **PUT)) == "denied.capability"
        assert await refused(receiver.call("cap.derive", cap=cap, text="obj.put box/**", to=receiver.pid)) == "invalid.argument"
        assert await refused(receiver.call("cap.drop", cap=cap)) == "invalid.argument"
        assert await refused(receiver.call("cap.revoke", cap=cap)) == "invalid.argument"


async def test_an_old_id_is_worth_nothing_after_a_revoke(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        sender, receiver = await host(kernel, "obj.put box/** depth 2"), await host(kernel)
        cap = await sender.call("cap.grant", text="obj.put box/** depth 1", to=receiver.pid)
        await receiver.call("obj.put", **PUT)
        assert await sender.call("cap.revoke", cap=cap) == 1
        assert await refused(receiver.call("obj.put", **PUT)) == "denied.capability"
        assert await refused(receiver.call("cap.derive", cap=cap, text="obj.put box/**", to=receiver.pid)) == "invalid.argument"
        again = await sender.call("cap.grant", text="obj.put box/a depth 1", to=receiver.pid)
        assert again != cap
    async with opened(tmp_path / "a.db") as kernel:
        receiver = kernel.process(receiver.pid)
        assert await refused(receiver.call("obj.put", **PUT)) == "denied.capability"
        assert await refused(receiver.call("cap.drop", cap=cap)) == "invalid.argument"


async def test_a_right_without_depth_reaches_no_sibling() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put box/**")
        one, other = await child_of(kernel, parent, "obj.put box/**"), await child_of(kernel, parent)
        assert await refused(one.call("cap.grant", text="obj.put box/**", to=other.pid)) == "denied.capability"
        assert await refused(one.call("cap.grant", text="obj.put box/**", to=parent.pid)) == "denied.capability"
        assert await one.call("cap.grant", text="obj.put box/a", to=one.pid)


# --- when time is over --------------------------------------------------------------------------------------------------------


async def test_an_expired_capability_gives_its_unused_uses_back(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        parent = await host(kernel, "obj.put box/** uses 5")
        child = await child_of(kernel, parent, "obj.put box/** uses 5 for 1m")
        grandchild = await child_of(kernel, child, "obj.put box/** uses 3")
        await child.call("obj.put", **PUT)
        assert await refused(parent.call("obj.put", **PUT)) == "denied.capability"
        advance(kernel, 60)
        assert await left(parent) == [4]
        assert [cap.state for cap in await grandchild.caps()] == ["expired"]
        await parent.call("obj.put", **PUT)
        assert (await left(parent), await left(child), await left(grandchild)) == ([3], [], [])
        assert sorted(record.uses_left for record in live(kernel, CapRecord)) == [3]
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        assert await left(kernel.process(parent.pid)) == [3]
        await child_of(kernel, kernel.process(parent.pid), "obj.put box/** uses 3")
        assert await left(kernel.process(parent.pid)) == [0]


async def test_uses_that_came_back_can_be_given_again_even_when_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        parent = await host(kernel, "proc.spawn", "obj.put box/** uses 5")
        await child_of(kernel, parent, "obj.put box/** uses 4 for 1m")
        advance(kernel, 60)
        await kernel.register(agentos.Image.host("worker"))
        with monkeypatch.context() as patched:
            patched.setattr("agentos.kernel.capability.CAPS_PER_PROCESS_MAX", 1)
            grant = ["obj.put box/** uses 4", "obj.put box/** uses 1"]
            assert await refused(parent.call("proc.spawn", image="worker:1", grant=grant)) == "denied.capability"
        await parent.call("proc.spawn", image="worker:1", grant=["obj.put box/** uses 4"])
        assert await left(parent) == [None, 1]
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        assert sum(uses or 0 for cap in await kernel.caps() if (uses := cap.uses_left)) == 5


async def test_expired_capabilities_do_not_count_against_the_most_that_one_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.capability.CAPS_PER_PROCESS_MAX", 3)
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel, "obj.put box/** for 1m", "obj.put box/** for 1m", "obj.put box/**")
        assert await refused(kernel.grant(process.pid, "obj.get box/**")) == "denied.capability"
        advance(kernel, 60)
        await kernel.grant(process.pid, "obj.get box/**")
        assert len(await process.caps()) == 2


# --- long chains, sleeping devices --------------------------------------------------------------------------------------------


async def test_a_chain_of_any_length_can_be_revoked() -> None:
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel, "obj.put box/** uses 9 depth 9000")
        cap = (await process.caps())[0].id
        for _ in range(CAPS_PER_PROCESS_MAX - 1):
            cap = await process.call("cap.derive", cap=cap, text="obj.put box/** uses 9 for 1h", to=process.pid)
        await process.call("obj.put", **PUT)
        assert (await process.caps())[-1].uses_left == 8
        advance(kernel, 3600)
        await process.call("obj.put", **PUT)
        [root] = await process.caps()
        assert root.uses_left == 7
        assert await kernel.revoke(root.id) == 1


async def test_revoke_wins_over_capabilities_whose_device_is_not_mounted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        parent = await host(kernel, "ledger.once, obj.put")
        child = await child_of(kernel, parent, "obj.put box/**")
        other = await child_of(kernel, parent, "ledger.once")
        [cap] = [cap.id for cap in await parent.caps()]
    async with opened(tmp_path / "a.db") as kernel:
        child = kernel.process(child.pid)
        await child.call("obj.put", **PUT)
        assert await kernel.revoke(cap) == 3
        assert await refused(child.call("obj.put", **PUT)) == "denied.capability"
        kernel.mount("ledger", ledger.device)
        assert await kernel.caps(other.pid) == []
        assert live(kernel, CapRecord) == []


async def test_a_capability_that_wakes_up_hangs_where_it_hung(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        parent = await host(kernel, "ledger.once, obj.put")
        child = await child_of(kernel, parent, "obj.put box/**")
        [cap] = [cap.id for cap in await parent.caps()]
    async with opened(tmp_path / "a.db") as kernel:
        kernel.mount("ledger", ledger.device)
        assert (await kernel.caps(child.pid))[0].chain == (
            "host",
            f"pid {parent.pid} cap {cap}",
            f"pid {child.pid} cap {cap + 1}",
        )
        assert await kernel.revoke(cap) == 2
        assert await refused(kernel.process(child.pid).call("obj.put", **PUT)) == "denied.capability"


async def test_what_a_process_held_for_a_sleeping_device_ends_with_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.once")
    async with opened(tmp_path / "a.db") as kernel:
        await kernel.process(process.pid).exit()
        assert live(kernel, CapRecord) == []


# --- exec ---------------------------------------------------------------------------------------------------------------------


async def test_exec_narrows_what_is_wider_than_the_new_image_asks_for() -> None:
    async def before(sys: Any) -> None:
        await sys.proc.exec("after")

    async def after(sys: Any) -> list[str]:
        return [cap["text"] for cap in await sys.cap.list()]

    requests = ["obj.get box/**", "obj.get shelf/**", "obj.put box/** when if_version >= 1", "obj.list box/** uses 2"]
    held = ["obj.get, obj.drop", "obj.put box/a", "obj.list uses 9", "clock.sleep"]
    async with opened() as kernel:
        kernel.programs._given["after"] = agentos.program("after")(after)
        await kernel.register(agentos.Image.program("after", capabilities=requests))
        process = await started(kernel, before, "proc.exec", *held)
        assert sorted((await process.wait(5)).value) == [
            "obj.get box/**", "obj.get shelf/**", "obj.list box/** uses 2", "obj.put box/a when if_version >= 1",
        ]  # fmt: skip


async def test_exec_keeps_counted_uses_whole_and_ends_what_is_no_longer_within() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.put uses 9")
        process = await child_of(kernel, parent, "obj.put uses 6")
        inside = await child_of(kernel, process, "obj.put box/a uses 1")
        outside = await child_of(kernel, process, "obj.put shelf/a uses 1")
        core = kernel.core
        [cap] = core.processes.find(process.pid).caps.values()
        changes: list[Any] = []
        wanted = parse_capability("obj.put box/** uses 2", core.ops)
        core.caps.shrink(cap, [cap.spec.narrow(wanted)], changes, now=core.clock.now())
        core.note(process.pid, "test", {}, changes)
        assert [await left(each) for each in (parent, process, inside, outside)] == [[6], [2], [1], []]
        assert [record.text for record in live(kernel, CapRecord) if record.cap == cap.cap] == ["obj.put box/** uses 2"]


async def test_an_exec_that_gives_its_own_right_up_has_used_it_all_the_same() -> None:
    async def before(sys: Any) -> None:
        await sys.proc.exec("after")

    async def after(sys: Any) -> list[Any]:
        return list(await sys.cap.list())

    async with opened() as kernel:
        kernel.programs._given |= {"before": agentos.program("before")(before), "after": agentos.program("after")(after)}
        await kernel.register(agentos.Image.program("after"))
        parent = await host(kernel, "proc.exec uses 3")
        process = await kernel.spawn(agentos.Image.program("before"), parent=parent, grant=["proc.exec uses 1"])
        assert (await process.wait(5)).value == []
        assert await left(parent) == [2]


# --- asked of a person --------------------------------------------------------------------------------------------------------


async def wish(sys: Any) -> Any:
    try:
        await sys.obj.put("v", name="x", namespace="box")
    except Denied as error:
        cap = await sys.cap.request(error.request, "to keep\nnotes")
    await sys.obj.put("v", name="x", namespace="box")
    return cap


async def test_a_denied_call_drafts_the_request_that_a_person_sees() -> None:
    async with opened() as kernel:
        process = await started(kernel, wish, "obj.get box/**")
        await settled(kernel)
        [ask] = await kernel.asks()
        assert ask.args == {"text": "obj.put box/x uses 1", "why": "to keep\nnotes"}
        assert ask.preview["holds"] == ["obj.get box/**"]
        assert (ask.preview["denied"]["op"], ask.preview["denied"]["resource"]) == ("obj.put", "box/x")
        await kernel.answer(ask.id, "approve", by="me")
        ended = await process.wait(5)
        assert ended.state == "exited"


async def test_a_person_grants_another_text_and_that_is_minted() -> None:
    async with opened() as kernel:
        process = await started(kernel, wish)
        await settled(kernel)
        [ask] = await kernel.asks()
        for edit in ({"text": "obj.putt box/x"}, {"why": "no"}, {"text": "obj.put", "why": "no"}):
            with pytest.raises(Invalid):
                await kernel.answer(ask.id, "approve", by="me", edit=edit)
        with pytest.raises(Invalid):
            await kernel.answer(ask.id, "approve", by="me", scope="process")
        await kernel.answer(ask.id, "approve", by="me", edit={"text": "obj.put box/** uses 2"})
        ended = await process.wait(5)
        assert ended.state == "exited"
        [record] = [record for record in kernel.core.store.current(CapRecord, live=None) if record.cap == ended.value]
        assert (record.text, record.origin) == ("obj.put box/** uses 2", f"ask {ask.id}")


async def test_a_request_that_nobody_answers_in_time_is_refused() -> None:
    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, wish)
        await settled(kernel)
        [ask] = await kernel.asks()
        assert ask.expires == kernel.core.clock.now() + ASK_TIMEOUT_S
        advance(kernel, ASK_TIMEOUT_S)
        ended = await process.wait(5)
        assert ended.error is not None
        assert ended.error.code == "denied.human"
        assert [each.state for each in await kernel.asks(None)] == ["expired"]


async def test_the_refusal_of_a_call_tells_the_grant_that_would_allow_it() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        with pytest.raises(Denied) as caught:
            await process.call("obj.put", **PUT)
        assert caught.value.request == "obj.put box/x uses 1"
        assert "`obj.put box/x uses 1`" in caught.value.hint
        await kernel.grant(process.pid, caught.value.request)
        await process.call("obj.put", **PUT)
        assert await refused(process.call("obj.put", **PUT)) == "denied.capability"


# --- listing ------------------------------------------------------------------------------------------------------------------


async def test_a_listing_tells_where_each_capability_came_from_and_where_it_may_go(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        parent = await host(kernel, "obj.put box/** depth 2")
        child = await child_of(kernel, parent, "obj.put box/a")
        last = await child_of(kernel, child, "obj.put box/a")
        found = await kernel.caps()
        assert [cap.passes_to for cap in found] == ["anyone", "anyone", "nobody"]
        assert found[2].chain == ("host", f"pid {parent.pid} cap 1", f"pid {child.pid} cap 2", f"pid {last.pid} cap 3")
        assert (await child.call("cap.list"))[0]["chain"] == list(found[1].chain)
    async with agentos.connect(tmp_path / "a.db") as view:
        assert await view.caps() == found
