"""The toolmaker policy on a running kernel: a tool is proposed by a model, tested in a sandbox, and installed by a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.labels import UNTRUSTED
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import alive, host
from tests.policies.builders import Place, because, decided, in_person, kernel

pytestmark = pytest.mark.anyio
TOOL: dict[str, Any] = {
    "name": "sum",
    "description": "add",
    "source": "export default 1",
    "ops": ["fs.read"],
    "input": {"type": "object"},
}


@asynccontextmanager
async def maker(folder: Path, **options: Any) -> AsyncIterator[tuple[Kernel, agentos.Process, Place]]:
    async with kernel("toolmaker", workspace=folder, **options) as k:
        place = Place()
        place.serve(k, "tool.propose", "tool.test", "tool.install", "tool.call", "exec.run", "net.fetch")
        yield k, await host(k, "fs.*", "tool.*", "exec.*", "net.*", "cap.*"), place


async def test_a_tool_is_written_proposed_tested_and_called(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    async with maker(tmp_path) as (_, process, place):
        await process.call("fs.write", path="/tools/sum.ts", text="export default 1")
        await process.call("tool.propose", **TOOL)
        assert (await process.call("tool.test", digest="tested"))["passed"] == 3
        await process.call("tool.call", name="sum", args={})
        assert place.done == ["tool.propose jit/sum", "tool.test jit/tested", "tool.call jit/sum"]


async def test_a_tool_is_installed_once_a_person_agrees(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, place):
        name, told = await in_person(k, process.call("tool.install", digest="tested"))
        assert (name, told) == ("sum", "a new tool becomes callable")
        code, _ = await in_person(k, process.call("tool.install", digest="tested"), "deny")
        assert (code, place.done) == ("denied.human", ["tool.install jit/tested"])


@pytest.mark.parametrize(
    "ops", [["net.fetch"], ["fs.read", "exec.run"], ["cap.grant"], ["*"], ["fs.*"], ["fs.read "], ["llm.complete"]]
)
async def test_a_tool_may_not_even_ask_for_ops_that_act(tmp_path: Path, ops: list[str]) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert decided(k, process, "tool.propose", **{**TOOL, "ops": ops}) == "deny"


async def test_a_source_that_nobody_would_review_is_not_proposed(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert decided(k, process, "tool.propose", **{**TOOL, "source": "x" * 65_537}) == "deny"


async def test_nothing_that_a_stranger_had_a_hand_in_becomes_a_tool(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, _):
        alive(k, process).label |= UNTRUSTED
        assert "derived from untrusted content" in because(k, process, "tool.propose", **TOOL)
        assert "derived from untrusted content" in because(k, process, "tool.install", digest="tested")
        assert decided(k, process, "tool.call", name="sum", args={}) == "allow"


@pytest.mark.parametrize("path", ["/tools/sum.py", "/src/a.ts", "/tools/../src/a.ts", "/tools/sum.ts/x"])
async def test_only_tools_are_written(tmp_path: Path, path: str) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert decided(k, process, "fs.write", path=path, text="x") == "deny"


async def test_tools_widen_no_authority(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert "may not widen" in because(k, process, "cap.derive", cap=1, text="fs.read /**", to=2)
        assert "may not widen" in because(k, process, "cap.request", text="net.*", why="the tool needs it")
        assert "may not widen" in because(k, process, "cap.grant", text="fs.read /**", to=2)


async def test_commands_and_the_web_are_closed(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert "tool sandbox only" in because(k, process, "exec.run", argv=["deno", "run", "/tools/sum.ts"])
        assert "tool sandbox only" in because(k, process, "net.fetch", url="https://evil.example/")


async def test_secrets_are_not_read_into_a_tool(tmp_path: Path) -> None:
    async with maker(tmp_path) as (k, process, _):
        assert because(k, process, "fs.read", path="/deploy/.env") == "secrets never enter a tool"


async def test_five_installs_a_day_are_asked_about_and_the_sixth_is_not(tmp_path: Path) -> None:
    async with maker(tmp_path, clock=FakeClock(1_000_000.0)) as (k, process, place):
        for _ in range(5):
            await in_person(k, process.call("tool.install", digest="tested"))
        with pytest.raises(agentos.Denied, match="5 per 1d"):
            await process.call("tool.install", digest="tested")
        assert len(place.done) == 5
