"""Which ops a model is shown, and that showing and hiding decide nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from tests.agents import calls, image, made, model, names
from tests.builders import opened, settled

pytestmark = pytest.mark.anyio
ALWAYS = ["obj__get"]


async def shown(place: Path, **manifest: Any) -> list[str]:
    """The names of the tools of the first request, sorted."""
    talker = model("done")
    async with opened(workspace=place, models={"default": talker}) as kernel:
        process = await kernel.spawn(image(**manifest), goal="look")
        assert (await process.wait(5)).value == "done"
    return sorted(names(talker.requests)[0])


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        (["fs.read"], ["fs__read", "obj__get"]),
        (["fs.read", "human.ask"], ["fs__read", "human__ask", "obj__get"]),
        (["clock.*"], ["clock__now", "clock__sleep", "obj__get"]),
        (["nope.*"], ALWAYS),
    ],
)
async def test_an_image_says_what_its_model_is_shown(tmp_path: Path, tools: list[str], expected: list[str]) -> None:
    assert await shown(tmp_path, tools=tools) == expected


async def test_without_tools_the_model_is_shown_what_the_process_holds(tmp_path: Path) -> None:
    assert await shown(tmp_path) == ["fs__list", "fs__read", "fs__stat", "fs__write", "human__ask", "obj__get"]


async def test_what_steers_the_program_is_never_shown(tmp_path: Path) -> None:
    found = await shown(tmp_path, tools=["*"], memory={"context_tokens": 100_000})
    assert "fs__read" in found
    assert not {"proc__save", "proc__exit", "msg__recv", "proc__fork", "human__tell"} & set(found)


@pytest.mark.parametrize("name", ["fs.raed", "proc.save", "mail.send"])
async def test_a_tool_that_no_model_can_have_is_told_before_the_model_is_asked(tmp_path: Path, name: str) -> None:
    talker = model("done")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        ended = await (await kernel.spawn(image(tools=["fs.read", name]), goal="look")).wait(5)
    assert (ended.error.code, ended.error.fields["field"]) == ("invalid.manifest", "tools")
    assert name in ended.error.message
    assert talker.requests == []


async def test_showing_a_tool_grants_nothing_and_hiding_one_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("this is a")
    talker = model(calls(("x", "fs__write", {"path": "/b.txt", "text": "x"}), ("y", "fs__read", {"path": "/a.txt"})), "done")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image("fs.read /**", tools=["fs.write"]), goal="look")
        await process.wait(5)
        did = [row for row in made(kernel, process.pid) if row[0].startswith("fs.")]
    assert sorted(did) == [("fs.read", "done", ""), ("fs.write", "denied", "denied.capability")]


async def test_the_ops_of_a_mounted_device_are_tools_with_their_schemas(tmp_path: Path) -> None:
    device = agentos.Device("shop")

    @device.op(effect="pure")
    def price(item: str, count: int = 1) -> float:
        """Say what so many of an item cost."""
        return 2.5 * count

    talker = model([("shop.price", {"item": "tea", "count": 2})], "done")
    async with opened(models={"default": talker}, devices={"shop": device}) as kernel:
        await (await kernel.spawn(image("shop.*"), goal="ask")).wait(5)
    tool = next(tool["function"] for tool in talker.requests[0].tools if tool["function"]["name"] == "shop__price")
    assert tool["description"] == "Say what so many of an item cost."
    assert tool["parameters"]["required"] == ["item"]
    assert talker.requests[1].messages[-1]["content"].startswith("5.0")


async def test_rights_whose_tools_have_no_room_do_not_end_a_process_that_got_them(tmp_path: Path) -> None:
    talker = model([("human.ask", {"question": "go on?"})], "done")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image("fs.read /**", memory={"context_tokens": 2_000}), goal="look")
        await settled(kernel)
        await kernel.grant(process.pid, "fs.*, proc.*, msg.*, obj.*, cap.* **")
        (ask,) = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="ana", value="yes")
        assert (await process.wait(5)).value == "done"
    assert names(talker.requests)[0] == names(talker.requests)[1]
