"""What differs between two points, and images that are made of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from tests.builders import host, opened, refused, settled, started

pytestmark = pytest.mark.anyio


def shown(diff: Any) -> dict[tuple[str, str], tuple[Any, Any]]:
    return {(item["what"], item["key"]): (item["before"], item["after"]) for item in diff.items}


async def test_a_comparison_shows_each_kind_of_change_with_before_and_after(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path) as kernel:
        other = await host(kernel, "obj.* **")
        await other.call("obj.put", value=1, name="secret", namespace="s", labels=["secret"])
        process = await host(kernel, "obj.* s/**", "fs.*", "policy.update")
        await process.call("obj.put", value="old", name="a")
        a = await process.checkpoint()
        await process.call("obj.put", value="new", name="a")
        await process.call("obj.put", value=2, name="shared", namespace="s")
        await process.call("fs.write", path="/f.txt", text="text")
        await process.call("obj.get", name="secret", namespace="s")
        await process.call("policy.update", text='policy "tight"\nallow * any *')
        await process.send("hello")
        cap = await kernel.grant(process.pid, "obj.get b/**")
        child = await kernel.spawn(agentos.Image.host(), parent=process)
        found = shown(await kernel.diff(a))
        pid = str(process.pid)
        assert [side["value"] for side in found["object", f"proc/{pid}/a"]] == ["old", "new"]
        assert found["object", "s/shared"][0] is None
        assert found["file", "/f.txt"][0] is None
        assert found["label", pid] == ([], ["secret"])
        assert found["policy", pid][1][0].startswith("tight ")
        assert found["message", "1"][1]["value"] == "hello"
        assert found["capability", str(cap)][1]["text"] == "obj.get b/**"
        assert found["process", str(child.pid)][0] is None
        assert ("process", pid) not in found


async def test_nothing_differs_where_nothing_was_done() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        a, b = await process.checkpoint(), await process.checkpoint()
        assert (await kernel.diff(a, b)).items == ()


async def test_what_came_after_the_second_point_is_not_shown() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        a = await process.checkpoint()
        await process.call("obj.put", value=1, name="x")
        b = await process.checkpoint()
        await process.call("obj.put", value=2, name="x")
        await process.call("obj.put", value=2, name="y")
        found = shown(await kernel.diff(a, b))
        assert list(found) == [("object", f"proc/{process.pid}/x")]
        assert found["object", f"proc/{process.pid}/x"][1]["value"] == 1


async def test_a_comparison_comes_in_pages() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        a = await process.checkpoint()
        for number in range(5):
            await process.call("obj.put", value=number, name=f"n{number}")
        first = await kernel.diff(a, limit=3)
        second = await kernel.diff(a, limit=3, cursor=first.cursor)
        assert [len(page.items) for page in (first, second)] == [3, 2]
        assert second.cursor is None
        assert await refused(kernel.diff(a, cursor="x")) == "invalid.argument"


async def test_points_of_different_trees_or_in_the_wrong_order_do_not_compare() -> None:
    async with opened() as kernel:
        one, other = await host(kernel), await host(kernel)
        a, b, c = await one.checkpoint(), await one.checkpoint(), await other.checkpoint()
        assert [await refused(kernel.diff(*pair)) for pair in ((b, a), (a, c), (a, "c999"))] == ["invalid.argument"] * 3


async def test_what_an_agent_learns_from_a_comparison_labels_it() -> None:
    """INVARIANT labels-join: a comparison shows what its objects and processes carry."""
    async with opened() as kernel:
        parent = await host(kernel, "proc.*", "ckpt.diff", "obj.*")
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.* s/**"])
        a = await parent.checkpoint()
        await child.call("obj.put", value=1, name="x", namespace="s", labels=["secret"])
        found = await parent.call("ckpt.diff", a=a)
        assert [item["key"] for item in found["items"]] == ["s/x"]
        assert parent.info.labels == ("secret",)


# --- images out of checkpoints --------------------------------------------------------------------------------------------------


async def trained(sys: Any) -> Any:
    """Learn something once, then answer."""
    if sys.state is None:
        await sys.obj.put({"rules": 3}, name="notes")
        await sys.save("trained")
    return [sys.state, (await sys.msg.recv()).value, await sys.obj.get("notes")]


async def committed(kernel: Any, name: str, *grant: str, **options: Any) -> tuple[agentos.Process, str]:
    process = await started(kernel, trained, *grant, **options)
    await settled(kernel)
    return process, await kernel.commit_image(await process.checkpoint(), name)


async def test_what_is_started_from_a_committed_image_begins_with_its_state_and_objects() -> None:
    async with opened() as kernel:
        _, digest = await committed(kernel, "expert")
        for image in ("expert:1", digest):
            process = await kernel.spawn(image)
            await process.send("question")
            assert (await process.wait(5)).value == ["trained", "question", {"rules": 3}]


async def test_equal_content_commits_to_one_digest() -> None:
    """INVARIANT digest-is-content: no pid, time or row number is in a seed."""
    async with opened() as kernel, opened() as another:
        await host(another)
        (_, first), (_, second) = await committed(kernel, "expert"), await committed(another, "expert")
        assert first == second


async def test_a_committed_image_asks_for_no_more_than_was_held() -> None:
    """INVARIANT children-are-never-wider: at an image commit."""
    async with opened() as kernel:
        image = agentos.Image.host("wide", capabilities=["obj.put **", "fs.read /**"])
        process = await kernel.spawn(image, grant=["obj.put a/**", "fs.read /**"])
        await kernel.grant(process.pid, "obj.get **")
        await kernel.revoke(next(cap.id for cap in await process.caps() if "fs" in cap.text))
        await kernel.commit_image(await process.checkpoint(), "narrow")
        again = await kernel.spawn("narrow:1")
        assert [cap.text for cap in await again.caps()] == ["obj.put a/**"]
        more = await kernel.spawn("narrow:1", grant=["obj.put **"])
        assert [cap.text for cap in await more.caps()] == ["obj.put a/**"]
        assert await refused(kernel.spawn("narrow:1", grant=["obj.get **"])) == "denied.capability"


async def test_what_is_started_from_it_has_the_label_of_then() -> None:
    """INVARIANT labels-join: through an image, too."""
    async with opened() as kernel:
        writer = await host(kernel, "obj.* **")
        await writer.call("obj.put", value=1, name="s", namespace="a", labels=["secret", "untrusted"])
        process = await host(kernel, "obj.get a/**")
        await process.call("obj.get", name="s", namespace="a")
        await kernel.commit_image(await process.checkpoint(), "tainted")
        assert (await kernel.spawn("tainted:1")).info.labels == ("secret", "untrusted")


async def test_a_name_that_another_image_has_is_not_taken_over() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        checkpoint = await process.checkpoint()
        await kernel.register(agentos.Image.host("taken", capabilities=["obj.put **"]))
        assert await refused(kernel.commit_image(checkpoint, "taken")) == "invalid.state"
        assert await refused(kernel.commit_image(checkpoint, "no name")) == "invalid.argument"
        assert await kernel.commit_image(checkpoint, "fresh") == await kernel.commit_image(checkpoint, "fresh")


async def test_an_agent_commits_itself_and_sees_what_is_registered() -> None:
    async with opened() as kernel:
        process = await host(kernel, "image.*")
        checkpoint = await process.call("ckpt.save")
        digest = await process.call("image.commit", checkpoint=checkpoint, name="me", version="2")
        listed = await process.call("image.list")
        assert [(item["name"], item["version"]) for item in listed if item["digest"] == digest] == [("me", "2")]


async def test_a_committed_image_is_there_after_a_reopen(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        await committed(kernel, "expert")
    async with opened(tmp_path / "a.db", programs=[agentos.program("trained")(trained)]) as kernel:
        process = await kernel.spawn("expert:1")
        fork = await kernel.fork(pid=process.pid)
        await settled(kernel)
        for one in (process, fork):
            await one.send("q")
            assert (await one.wait(5)).value == ["trained", "q", {"rules": 3}]
