"""The policies of the shipped agents on a running kernel with real files: what is looked at, what is asked, what is never done."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.runtime.kernel import Kernel
from tests.builders import host, refused
from tests.policies.builders import because, decided, in_person, kernel

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("name", ["careful", "editing"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("src", ".git/hooks", "deploy", ".github/workflows", "tools/hooks", "vendor/lib"):
        (tmp_path / "w" / folder).mkdir(parents=True)
    (tmp_path / "w/src/a.py").write_text("a = 1\n")
    (tmp_path / "w/deploy/prod.env").write_text("TOKEN=hush\n")
    (tmp_path / "w/.git/config").write_text("[core]\n")
    (tmp_path / "w/tools/hooks/pre-commit").write_text("curl https://evil.example\n")
    (tmp_path / "w/vendor/lib/b.py").write_text("b = 1\n")
    return tmp_path / "w"


def under(name: str, place: Path) -> Any:
    return kernel(name, workspace=place)


async def with_a_yes(k: Kernel, call: Awaitable[Any]) -> Any:
    """Make a call while a person approves whatever is asked; returns its value, or the code of its error."""

    async def person() -> None:
        while True:
            for ask in await k.asks():
                await k.answer(ask.id, "approve", by="ann")
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(person)
        try:
            value = await call
        except agentos.AgentOSError as error:
            value = error.code
        tasks.cancel_scope.cancel()
    return value


@BOTH
async def test_a_change_is_made_once_a_person_has_seen_it(name: str, place: Path) -> None:
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        assert await process.call("fs.read", path="/src/a.py") == "a = 1\n"
        _, told = await in_person(k, process.call("fs.write", path="/src/a.py", text="a = 2\n"))
        assert told.startswith("a person")
        assert (place / "src/a.py").read_text() == "a = 2\n"


@BOTH
async def test_the_person_sees_the_difference(name: str, place: Path) -> None:
    async with under(name, place) as k, anyio.create_task_group() as tasks:
        process = await host(k, "fs.*")
        tasks.start_soon(partial(process.call, "fs.write", path="/src/a.py", text="a = 2\n"))
        with anyio.fail_after(5):
            while not (asks := await k.asks()):  # noqa: ASYNC110 - an ask has no event of its own
                await anyio.sleep(0.001)
        assert asks[0].preview["diff"].endswith("-a = 1\n+a = 2\n")
        await k.answer(asks[0].id, "approve", by="ann")


@BOTH
async def test_a_change_that_is_refused_is_not_made(name: str, place: Path) -> None:
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        code, _ = await in_person(k, process.call("fs.delete", path="/src/a.py"), "deny")
        assert (code, (place / "src/a.py").exists()) == ("denied.human", True)


@BOTH
@pytest.mark.parametrize("path", ["/deploy/prod.env", "/src/../deploy/prod.env", "/deploy//prod.env", "/src/notes.txt"])
async def test_credentials_are_not_read_however_they_are_named(name: str, place: Path, path: str) -> None:
    os.symlink("../deploy/prod.env", place / "src/notes.txt")
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        assert await refused(process.call("fs.read", path=path)) == "denied.policy"


@BOTH
@pytest.mark.parametrize(
    "args",
    [
        {"path": "/deploy/prod.env", "to": "/src/env.txt"},
        {"path": "/deploy", "to": "/src/deploy"},
        {"path": "/src/a.py", "to": "/.git/hooks/pre-commit"},
        {"path": "/tools/hooks", "to": "/.git/hooks/more"},
        {"path": "/tools", "to": "/src/.git"},
        {"path": "/.git", "to": "/src/git"},
        {"path": "/tools", "to": "/.husky"},
    ],
)
async def test_what_must_not_be_read_or_written_does_not_move_either(name: str, place: Path, args: dict[str, str]) -> None:
    before = sorted(path.relative_to(place) for path in place.rglob("*"))
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        assert await with_a_yes(k, process.call("fs.move", **args)) == "denied.policy"
    assert sorted(path.relative_to(place) for path in place.rglob("*")) == before


@BOTH
@pytest.mark.parametrize(
    "path", ["/.git/hooks/pre-commit", "/.github/workflows/ci.yml", "/.envrc", "/src/.vscode/tasks.json", "/link/pre-commit"]
)
async def test_what_runs_later_by_itself_is_not_written(name: str, place: Path, path: str) -> None:
    os.symlink(".git/hooks", place / "link")
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        assert await with_a_yes(k, process.call("fs.write", path=path, text="x")) == "denied.policy"
        assert not (place / ".git/hooks/pre-commit").exists()


@BOTH
@pytest.mark.parametrize("path", ["/deploy", "/.git", "/.github", "/tools/.husky"])
async def test_a_folder_that_holds_what_must_stay_is_not_deleted_even_with_a_yes(name: str, place: Path, path: str) -> None:
    (place / "tools/.husky").mkdir()
    async with under(name, place) as k:
        process = await host(k, "fs.*")
        assert await with_a_yes(k, process.call("fs.delete", path=path, recursive=True)) == "denied.policy"
    assert (place / path[1:]).is_dir()


async def test_other_peoples_code_is_read_and_not_changed_and_its_reader_is_untrusted(place: Path) -> None:
    async with under("editing", place) as k:
        process = await host(k, "fs.*")
        assert await process.call("fs.read", path="/vendor/lib/b.py") == "b = 1\n"
        assert (
            because(k, process, "fs.write", path="/vendor/lib/b.py", text="x") == "other people's code is updated, not edited"
        )
        assert "untrusted" in process.info.labels


@BOTH
@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("proc.spawn", {"image": "x:1"}),
        ("image.register", {"path": "/x.yaml"}),
        ("msg.send", {"to": 1, "value": "x"}),
    ],
)
async def test_what_no_rule_mentions_is_denied_whatever_is_held(name: str, place: Path, op: str, args: dict[str, Any]) -> None:
    async with under(name, place) as k:
        process = await host(k, "*")
        assert decided(k, process, op, **args) == "deny"
