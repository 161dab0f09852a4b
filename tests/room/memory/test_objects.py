"""Objects: versions of named values, within a namespace, with labels that only rise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED, names
from tests.builders import alive, host, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def test_every_put_is_a_version_and_old_ones_stay_readable() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        refs = [await process.call("obj.put", value={"n": n}, name="x") for n in range(5)]
        assert [ref.version for ref in refs] == [1, 2, 3, 4, 5]
        assert await process.call("obj.get", name="x") == {"n": 4}
        assert await process.call("obj.get", name="x", version=2) == {"n": 1}
        assert await process.call("obj.get", ref=refs[0]) == {"n": 0}
        assert await refused(process.call("obj.get", name="x", version=9)) == "unavailable.missing"


async def test_if_version_is_a_compare_and_set() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        await process.call("obj.put", value=1, name="x", if_version=0)
        assert await refused(process.call("obj.put", value=2, name="x", if_version=0)) == "invalid.state"
        await process.call("obj.put", value=2, name="x", if_version=1)
        assert await process.call("obj.get", name="x") == 2
        assert await refused(process.call("obj.put", value=3, name="x", if_version=1)) == "invalid.state"


async def test_append_grows_a_list_and_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        for n in range(300):
            await process.call("obj.append", name="log", value={"n": n})
        assert [item["n"] for item in await process.call("obj.get", name="log")] == list(range(300))
        assert len(await process.call("obj.get", name="log", version=7)) == 7
        await process.call("obj.put", value="text", name="t")
        assert await refused(process.call("obj.append", name="t", value=1)) == "invalid.state"
    async with opened(tmp_path / "a.db") as kernel:
        process = kernel.process(process.pid)
        await process.call("obj.append", name="log", value="last")
        assert (await process.call("obj.get", name="log"))[-2:] == [{"n": 299}, "last"]


async def test_a_mapping_is_not_appended_to() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        await process.call("obj.put", value={"a": 1}, name="m")
        assert (await refused(process.call("obj.append", name="m", value=1))).startswith("invalid.")
        assert await process.call("obj.get", name="m") == {"a": 1}


async def test_a_dropped_name_is_gone_until_it_is_put_again() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        await process.call("obj.put", value=1, name="x")
        await process.call("obj.drop", name="x")
        for op in ("obj.get", "obj.drop"):
            assert await refused(process.call(op, name="x")) == "unavailable.missing"
        assert (await process.call("obj.list"))["items"] == []
        assert (await process.call("obj.put", value=2, name="x", if_version=0)).version == 2
        assert await process.call("obj.get", name="x", version=1) == 1


async def test_lists_are_paged_in_order_and_filtered_within_their_namespace() -> None:
    async with opened() as kernel:
        process, other = await host(kernel), await host(kernel)
        for n in range(25):
            await process.call("obj.put", value=n if n % 2 else str(n), name=f"n{n:02}")
        await other.call("obj.put", value=1, name="n99")
        names: list[str] = []
        cursor = None
        while True:
            page = await process.call("obj.list", limit=10, cursor=cursor)
            names += [item["name"] for item in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert names == [f"n{n:02}" for n in range(25)]
        texts = await process.call("obj.list", type="text", limit=5)
        assert [item["name"] for item in texts["items"]] == ["n00", "n02", "n04", "n06", "n08"]
        more = await process.call("obj.list", type="text", limit=100, cursor=texts["cursor"])
        assert len(more["items"]) == 8


async def test_scope_is_mandatory_no_read_crosses_namespaces() -> None:
    async with opened() as kernel:
        mine, other = await host(kernel, "obj.* box/**"), await host(kernel)
        await other.call("obj.put", value="secret", name="x")
        for args in (
            {"name": "x", "namespace": f"proc/{other.pid}"},
            {"name": "x", "namespace": "*"},
            {"name": "x", "namespace": "**"},
        ):
            assert await refused(mine.call("obj.get", **args)) == "denied.capability"
        assert await refused(mine.call("obj.list", namespace=f"proc/{other.pid}")) == "denied.capability"
        ref = agentos.Ref(f"proc/{other.pid}", "x", 1, "", "text")
        assert await refused(mine.call("obj.get", ref=ref)) == "denied.capability"
        assert await refused(mine.call("obj.get", name=f"../{other.pid}/x")) in (
            "denied.capability",
            "invalid.argument",
            "unavailable.missing",
        )
        assert await refused(mine.call("obj.get", name="x")) == "unavailable.missing"


async def test_a_name_with_a_slash_is_the_same_place_for_everybody() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.put, obj.get box/a/**")
        assert await refused(process.call("obj.put", value=1, name="b", namespace="box")) == "denied.capability"
        await process.call("obj.put", value=1, name="b", namespace="box/a")
        assert await process.call("obj.get", name="b", namespace="box/a") == 1
        assert await refused(process.call("obj.put", value=1, name="x", namespace="box/a/../b")) in (
            "invalid.argument",
            "denied.capability",
        )


async def test_labels_join_from_an_object_to_its_reader_and_what_that_writes() -> None:
    async with opened() as kernel:
        writer, reader = await host(kernel, "obj.* box/**"), await host(kernel, "obj.* box/**")
        await writer.call("obj.put", value="s3cret", name="x", namespace="box", labels=["secret", "untrusted"])
        assert alive(kernel, writer).label == 0
        await reader.call("obj.get", name="x", namespace="box")
        assert alive(kernel, reader).label == SECRET | UNTRUSTED
        assert names(rows(kernel, reader.pid)[-1].labels) == ["secret", "untrusted"]
        await reader.call("obj.put", value="derived", name="y", namespace="box")
        items = (await reader.call("obj.list", namespace="box"))["items"]
        assert {item["name"]: item["labels"] for item in items} == {"x": ["secret", "untrusted"], "y": ["secret", "untrusted"]}
        assert (
            await refused(writer.call("obj.put", value=1, name="z", namespace="box", labels=["sekret"])) == "invalid.argument"
        )


async def test_labels_join_over_messages_children_forks_appends_and_a_reopen(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        source = await host(kernel, "obj.* box/**", "msg.send")
        await source.call("obj.put", value=[1], name="x", namespace="box", labels=["internal"])
        await source.call("obj.get", name="x", namespace="box")
        receiver = await host(kernel, "obj.* box/**")
        await source.call("msg.send", to=receiver.pid, value="derived")
        assert alive(kernel, receiver).label == 0
        await receiver.call("msg.recv")
        assert alive(kernel, receiver).label == INTERNAL
        child = await kernel.spawn(agentos.Image.host(), parent=receiver)
        assert alive(kernel, child).label == INTERNAL
        clean = await host(kernel, "obj.* box/**")
        await clean.call("obj.append", name="x", value=2, namespace="box")
        assert alive(kernel, clean).label == 0
    async with opened(tmp_path / "a.db") as kernel:
        assert alive(kernel, receiver.pid).label == INTERNAL
        clean = kernel.process(clean.pid)
        assert await clean.call("obj.get", name="x", namespace="box") == [1, 2]
        assert alive(kernel, clean).label == INTERNAL


async def test_labels_join_from_a_childs_exit_value_to_the_parent_that_waits_for_it() -> None:
    async def leaf(sys: Any) -> Any:
        return await sys.obj.get("x", namespace="box")

    async def parent(sys: Any) -> Any:
        child = await sys.proc.spawn("leaf", grant=["obj.get box/**"])
        value = (await sys.proc.wait(child)).value
        await sys.obj.put(value, name="copy", namespace="box")
        return value

    async with opened() as kernel:
        await (await host(kernel, "obj.* box/**")).call("obj.put", value="s", name="x", namespace="box", labels=["secret"])
        kernel.programs._given["leaf"] = agentos.program("leaf")(leaf)
        await kernel.register(agentos.Image.program("leaf"))
        process = await started(kernel, parent, "proc.spawn, proc.wait", "obj.get, obj.put box/**")
        assert (await process.wait(5)).value == "s"
        reader = await host(kernel, "obj.* box/**")
        items = (await reader.call("obj.list", namespace="box"))["items"]
        assert {item["name"]: item["labels"] for item in items}["copy"] == ["secret"]


async def test_big_values_and_bytes_come_back_as_they_went(tmp_path: Path) -> None:
    value = {
        "text": "ü" * 200_000,
        "raw": bytes(range(256)) * 1000,
        "list": list(range(20_000)),
        "deep": {"a": {"b": [None, True, 1.5]}},
    }
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        await process.call("obj.put", value=value, name="big")
        assert await process.call("obj.get", name="big") == value
    async with opened(tmp_path / "a.db") as kernel:
        assert await kernel.process(process.pid).call("obj.get", name="big") == value


async def test_links_need_both_ends() -> None:
    async with opened() as kernel:
        process = await host(kernel, "obj.* box/**")
        for name in "ab":
            await process.call("obj.put", value=name, name=name, namespace="box")
        await process.call("obj.link", a="box/a", b="box/b", kind="cites")
        assert await refused(process.call("obj.link", a="box/a", b="box/c", kind="cites")) == "unavailable.missing"
        assert await refused(process.call("obj.link", a="box/a", b="other/b", kind="cites")) == "denied.capability"


async def test_a_program_sees_its_own_writes_and_survives_with_them(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        for n in range(10):
            await sys.obj.append("log", n)
        await sys.msg.recv()
        return await sys.obj.get("log")

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, work)
        await settled(kernel)
    async with opened(tmp_path / "a.db", programs=[agentos.program("work")(work)]) as kernel:
        await kernel.process(process.pid).send("go")
        assert (await kernel.process(process.pid).wait(5)).value == list(range(10))
