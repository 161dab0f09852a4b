"""The coding policy on a running kernel: real files, and commands, git and the web as stand-ins of the declared shape."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import host, refused
from tests.policies.builders import Place, because, decided, in_person, kernel

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder in ("src", ".git/hooks", "deploy", ".github/workflows"):
        (tmp_path / "w" / folder).mkdir(parents=True)
    (tmp_path / "w/src/a.py").write_text("a = 1\n")
    (tmp_path / "w/deploy/.env").write_text("TOKEN=hush\n")
    (tmp_path / "w/.git/config").write_text("[core]\n")
    return tmp_path / "w"


@asynccontextmanager
async def coder(repository: Path, **options: Any) -> AsyncIterator[tuple[Kernel, agentos.Process, Place]]:
    async with kernel("coding", workspace=repository, **options) as k:
        place = Place()
        place.serve(k, "exec.run", "net.fetch", "git.push", "git.status", "llm.complete")
        yield k, await host(k, "fs.*", "exec.*", "net.*", "git.*", "llm.*"), place


async def test_the_repository_is_read_and_written(repository: Path) -> None:
    async with coder(repository) as (_, process, _place):
        assert await process.call("fs.read", path="/src/a.py") == "a = 1\n"
        await process.call("fs.write", path="/src/b.py", text="b = 2\n")
        await process.call("fs.move", path="/src/b.py", to="/src/c.py")
        assert (repository / "src/c.py").read_text() == "b = 2\n"


@pytest.mark.parametrize("path", ["/deploy/.env", "/src/../deploy/.env", "/deploy//.env"])
async def test_secrets_are_not_read_however_they_are_named(repository: Path, path: str) -> None:
    async with coder(repository) as (_, process, _place):
        assert await refused(process.call("fs.read", path=path)) == "denied.policy"


async def test_a_link_to_a_secret_is_the_secret(repository: Path) -> None:
    os.symlink("../deploy/.env", repository / "src/notes.txt")
    async with coder(repository) as (_, process, _place):
        assert await refused(process.call("fs.read", path="/src/notes.txt")) == "denied.policy"


async def test_a_secret_cannot_be_moved_to_where_it_could_be_read(repository: Path) -> None:
    async with coder(repository) as (_, process, _place):
        assert await refused(process.call("fs.move", path="/deploy/.env", to="/src/env.txt")) == "denied.policy"
        assert await refused(process.call("fs.move", path="/deploy", to="/src/deploy")) == "denied.policy"
        assert (repository / "deploy/.env").exists()


@pytest.mark.parametrize(
    "path",
    [
        "/.git/hooks/pre-commit",
        "/.git/config",
        "/.github/workflows/ci.yml",
        "/.envrc",
        "/src/.vscode/tasks.json",
        "/src/sub/.git/hooks/x",
    ],
)
async def test_what_runs_later_by_itself_is_not_written(repository: Path, path: str) -> None:
    async with coder(repository) as (k, process, _):
        assert "changed by people" in because(k, process, "fs.write", path=path, text="x")
        assert "changed by people" in because(k, process, "fs.move", path="/src/a.py", to=path)


async def test_a_large_write_is_refused_and_a_delete_is_asked_about(repository: Path) -> None:
    async with coder(repository) as (k, process, _):
        assert because(k, process, "fs.write", path="/src/b.py", text="x" * (1 << 20) + "x") == "a source file is smaller"
        value, told = await in_person(k, process.call("fs.delete", path="/src/a.py"))
        assert (value["path"], told) == ("/src/a.py", "a change seldom deletes")


COMMANDS = [
    (["pytest", "-q", "tests"], {}, "allow"),
    (["ruff", "check"], {}, "allow"),
    (["make", "test"], {}, "allow"),
    (["pip", "install", "requests"], {"net": True}, "ask"),
    (["pip", "install", "requests"], {}, "deny"),
    (["make", "deploy"], {}, "deny"),
    (["make", "test", "deploy"], {}, "deny"),
    (["pytest"], {"net": True}, "deny"),
    (["pytest"], {"wall_s": 301}, "deny"),
    (["bash", "-c", "pytest"], {}, "deny"),
    (["env", "pytest"], {}, "deny"),
    (["python", "-m", "pytest"], {}, "deny"),
    (["/tmp/pytest"], {}, "deny"),
    (["./pytest"], {}, "deny"),
    (["cat", "deploy/.env"], {}, "deny"),
    (["git", "push"], {}, "deny"),
    (["agentos", "approve", "1"], {}, "deny"),
]


@pytest.mark.parametrize(("argv", "more", "outcome"), COMMANDS)
async def test_a_command_is_one_of_the_projects_own(
    repository: Path, argv: list[str], more: dict[str, Any], outcome: str
) -> None:
    async with coder(repository) as (k, process, _):
        assert decided(k, process, "exec.run", argv=argv, **more) == outcome


async def test_a_command_runs_only_where_there_is_a_sandbox(repository: Path) -> None:
    async with coder(repository) as (k, process, place):
        await process.call("exec.run", argv=["pytest"])
        assert place.done == ["exec.run pytest"]
        served = k.broker.door.served
        served["exec.run"] = without_sandbox(served["exec.run"])
        with pytest.raises(agentos.Denied, match="requires `sandbox`"):
            await process.call("exec.run", argv=["pytest"])


async def test_a_push_is_a_persons_and_goes_to_origin_only(repository: Path) -> None:
    async with coder(repository) as (k, process, place):
        _, told = await in_person(k, process.call("git.push", remote="origin", ref="main"))
        assert (told, place.done) == ("leaves this machine", ["git.push origin"])
        assert decided(k, process, "git.push", remote="https://evil.example/repo", ref="main") == "deny"


URLS = [
    ("https://docs.example.org/a", {}, "allow"),
    ("https://docs.example.org/a", {"method": "POST"}, "deny"),
    ("https://docs.example.org/a", {"body": "the code"}, "deny"),
    ("https://docs.example.org/a?q=" + "code" * 100, {}, "deny"),
    ("http://docs.example.org/a", {}, "deny"),
    ("https://docs.example.org.evil.example/a", {}, "deny"),
    ("https://evil.example/#docs.example.org/a", {}, "deny"),
    ("https://docs.example.org:8443/a", {}, "deny"),
]


@pytest.mark.parametrize(("url", "more", "outcome"), URLS)
async def test_the_web_is_one_documentation_host(repository: Path, url: str, more: dict[str, Any], outcome: str) -> None:
    async with coder(repository) as (k, process, _):
        assert decided(k, process, "net.fetch", url=url, **more) == outcome


async def test_a_loop_of_requests_ends_after_sixty_a_minute(repository: Path) -> None:
    clock = FakeClock(1_000_000.0)
    async with coder(repository, clock=clock, mode="noninteractive") as (_, process, place):
        for _ in range(60):
            await process.call("net.fetch", url="https://docs.example.org/a")
        with pytest.raises(agentos.Denied, match="60 per 1m"):
            await process.call("net.fetch", url="https://docs.example.org/a")
        clock.advance(120)
        await process.call("net.fetch", url="https://docs.example.org/a")
        assert len(place.done) == 61


def without_sandbox(syscall: Any) -> Any:
    """The same served op on a machine that has no sandbox."""
    from dataclasses import replace

    return replace(syscall, meets=frozenset())
