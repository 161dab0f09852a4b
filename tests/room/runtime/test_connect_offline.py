"""`connect` to a store that no kernel holds: it can be looked at, a person can answer, and nothing else changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from agentos.abi.image import AgentImage
from agentos.devices.app import Device
from agentos.errors import Denied, Invalid
from agentos.policy import parse_capability
from agentos.programs.registry import program
from agentos.runtime.client import connect
from agentos.runtime.kernel import Kernel
from agentos.runtime.offline import StoredProcess, StoreView
from agentos.runtime.process import Process
from tests.room.runtime.control_builders import ASKING, FILES, Place, a_place, until

pytestmark = pytest.mark.anyio


@program("ask_first")
async def ask_first(sys: Any) -> Any:
    return await sys("fs.write", path="/a", text="written")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    with a_place() as made:
        yield made


@pytest.mark.parametrize(("here", "there"), [(Kernel, StoreView), (Process, StoredProcess)])
def test_every_method_of_the_api_is_there(here: type, there: type) -> None:
    assert {name for name in vars(here) if not name.startswith("_")} <= set(vars(there))


async def test_no_store_is_no_view(place: Place) -> None:
    with pytest.raises(Invalid, match="there is no store") as caught:
        async with connect(place.store):
            pass
    assert (caught.value.code, caught.value.reason) == ("invalid.store", "missing")


async def test_what_it_shows_is_what_the_kernel_showed(place: Place) -> None:
    bank = Device("bank")
    bank.op(resource="acct/{account}", effect="repeatable")(look)
    async with place.open(devices={"bank": bank}) as kernel:
        top = await kernel.spawn(FILES, goal="look", budget={"calls": 100})
        child = await kernel.spawn(FILES, parent=top, grant=['fs.read "/a b/**", /c/** uses 3'])
        await kernel.grant(top.pid, "bank.look acct/1, acct/2 for 2h")
        grandchild = await kernel.spawn(AgentImage.host(), parent=child)
        await kernel.spawn(AgentImage.host("other"))
        await top.call("fs.list", path="/")
        await grandchild.call("clock.now")
        with pytest.raises(Denied):
            await child.call("fs.read", path="/x")
        await child.exit("done")
        before = [await shown(kernel), await kernel.caps(), [e async for e in kernel.audit()], await kernel.asks(None)]
        usage = [info.usage["calls"] for info in await kernel.ps(all=True)]
    async with connect(place.store) as view:
        assert view.held_by is None
        assert [await shown(view), await view.caps(), [e async for e in view.audit()], await view.asks(None)] == before
        assert [info.usage["calls"] for info in await view.ps(all=True)] == usage == [2, 0, 1, 0]
        assert [info.pid for info in await view.tree(top.pid)] == [top.pid, grandchild.pid]
        assert (await view.process(child.pid).wait()).value == "done"
        assert view.process(top.pid).info.goal == "look"
        assert (await view.verify_audit()).ok


async def look(account: str) -> str:
    return account


async def shown(kernel: Kernel | StoreView) -> list[Any]:
    return [(info.pid, info.name, info.state, info.goal, info.exit, info.budget) for info in await kernel.ps(all=True)] + [
        info.pid for info in await kernel.tree()
    ]


async def test_events_end_at_the_last_row(place: Place) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES)
    async with connect(place.store) as view:
        events = [event async for event in view.events(since=0)]
        assert [event.kind for event in events] == ["boot", "spawned"]
        assert [event async for event in view.events(since=events[0].seq)] == events[1:]
        assert [event async for event in view.events()] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda view: view.spawn(FILES),
        lambda view: view.grant(1, "fs.read /**"),
        lambda view: view.revoke(1),
        lambda view: view.register(FILES),
        lambda view: view.run_until_idle(),
        lambda view: view.process(1).call("fs.read", path="/a"),
        lambda view: view.process(1).signal("kill"),
        lambda view: view.process(1).send("x"),
        lambda view: view.process(1).exit(),
        lambda view: view.process(1).fork(),
        lambda view: view.process(1).wait(),
        lambda view: anext(view.process(1).stream()),
    ],
)
async def test_what_would_change_something_needs_a_kernel(place: Place, change: Any) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES)
    async with connect(place.store) as view:
        with pytest.raises(Invalid, match="needs a running kernel") as caught:
            await change(view)
        assert (caught.value.code, caught.value.hint) == ("invalid.state", "no kernel runs; open the store")
        with pytest.raises(Invalid, match="`check` needs"):
            view.check(1, "fs.read", path="/a")
        with pytest.raises(Invalid, match="no process 7"):
            view.process(7)


async def an_open_ask(place: Place) -> None:
    """Leave a process parked on an ask in the store."""
    image = AgentImage.program("ask_first", ["fs.write /**"])
    async with place.open(policy=ASKING, programs=[ask_first]) as kernel:
        await kernel.spawn(image)
        await until(lambda: has_asks(kernel))


async def has_asks(kernel: Kernel) -> bool:
    return bool(await kernel.asks())


async def test_an_answer_without_a_kernel_is_kept_for_the_next_one(place: Place) -> None:
    await an_open_ask(place)
    async with connect(place.store) as view:
        (ask,) = await view.asks()
        assert (await view.answer(ask.id, "approve", by="me", reason="fine")).state == "decided"
        assert await view.asks() == []
        with pytest.raises(Invalid, match="decided already"):
            await view.answer(ask.id, "deny", by="me")
        assert [event.kind async for event in view.events(since=0)][-1] == "answered"
        assert (await view.verify_audit()).ok
    assert not (place.workspace / "a").exists()
    async with place.open(policy=ASKING, programs=[ask_first]) as kernel:
        assert (await kernel.process(1).wait(5)).state == "exited"
        assert [ask.state for ask in await kernel.asks(None)] == ["consumed"]
    assert (place.workspace / "a").read_text() == "written"


async def test_a_deny_without_a_kernel_is_kept_too(place: Place) -> None:
    await an_open_ask(place)
    async with connect(place.store) as view:
        await view.answer(1, "deny", by="me", reason="not today")
    async with place.open(policy=ASKING, programs=[ask_first]) as kernel:
        ended = await kernel.process(1).wait(5)
    assert ended.error is not None
    assert (ended.error.code, "not today" in ended.error.message) == ("denied.human", True)


async def test_an_answer_that_does_not_fit_changes_nothing(place: Place) -> None:
    await an_open_ask(place)
    async with connect(place.store) as view:
        rows = (await view.verify_audit()).rows
        for wrong in (
            {"ask_id": 9, "verdict": "approve"},
            {"ask_id": 1, "verdict": "maybe"},
            {"ask_id": 1, "verdict": "deny", "sudo": 1},
        ):
            with pytest.raises(Invalid):
                await view.answer(**wrong, by="me")
        assert (await view.verify_audit()).rows == rows
        assert len(await view.asks()) == 1


async def test_an_answer_never_writes_beside_a_kernel_that_has_started_meanwhile(place: Place) -> None:
    await an_open_ask(place)
    async with connect(place.store) as view:
        async with place.open(policy=ASKING, programs=[ask_first]):
            with pytest.raises(Invalid, match="is held by process") as caught:
                await view.answer(1, "approve", by="me")
        assert (caught.value.code, caught.value.reason) == ("invalid.store", "held")


async def test_two_people_answer_once(place: Place) -> None:
    await an_open_ask(place)
    refused: list[Invalid] = []

    async def answer(view: Any) -> None:
        try:
            await view.answer(1, "approve", by="me")
        except Invalid as error:
            refused.append(error)

    async with connect(place.store) as one, connect(place.store) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, one)
            tasks.start_soon(answer, other)
        assert len(refused) == 1
        assert [ask.state for ask in await one.asks(None)] == ["decided"]


@pytest.mark.parametrize(
    "text",
    [
        "fs.read /**",
        "fs.read, fs.list /a/**, /b/**",
        'fs.read "/a \\"b\\" , when/**" uses 3',
        "fs.write /a when size <= 3",
        "clock.now",
        "obj.put for 2h",
    ],
)
async def test_a_capability_is_shown_as_its_kernel_shows_it(place: Place, text: str) -> None:
    async with place.open() as kernel:
        process = await kernel.spawn(AgentImage.host())
        spec = parse_capability(text, kernel.core.ops)
        await kernel.grant(process.pid, text)
        live = await kernel.caps()
    async with connect(place.store) as view:
        assert await view.caps(process.pid) == live
        assert live[0].text == spec.text
