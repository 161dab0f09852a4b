"""The restrict files on a running kernel, pushed on top of other policies: they only take away. And the default policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from tests.builders import host, opened, refused
from tests.policies.builders import POLICIES, Place, because, decided, kernel

pytestmark = pytest.mark.anyio
OPEN = 'policy "open"\nallow * any *\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/a.txt").write_text("a")
    return tmp_path / "w"


def under(folder: Path, *policies: Any) -> Any:
    return opened(workspace=folder, policy=[OPEN, *policies])


async def branch(k: Kernel, name: str | None = None) -> agentos.Process:
    if "exec.run" not in k.broker.door.served:
        Place().serve(k, "exec.run", "net.fetch", "git.push", "git.commit", "git.status", "llm.complete")
    policy = POLICIES / f"{name}.policy" if name else None
    return await host(k, "*", policy=policy)


OUTSIDE: list[tuple[str, dict[str, Any]]] = [
    ("fs.write", {"path": "/b.txt", "text": "x"}),
    ("fs.mkdir", {"path": "/b"}),
    ("fs.move", {"path": "/a.txt", "to": "/b.txt"}),
    ("fs.delete", {"path": "/a.txt"}),
    ("exec.run", {"argv": ["ls"]}),
    ("net.fetch", {"url": "https://news.example/"}),
    ("git.push", {"remote": "origin", "ref": "main"}),
    ("git.commit", {"message": "x"}),
]
INSIDE: list[tuple[str, dict[str, Any]]] = [
    ("fs.read", {"path": "/a.txt"}),
    ("fs.list", {"path": "/"}),
    ("git.status", {}),
    ("llm.complete", {"messages": []}),
    ("obj.put", {"value": 1, "name": "x"}),
]


@pytest.mark.parametrize("name", ["read-only", "speculative"])
@pytest.mark.parametrize(("op", "args"), OUTSIDE)
async def test_what_changes_the_outside_is_denied_under_an_open_policy(
    folder: Path, name: str, op: str, args: dict[str, Any]
) -> None:
    async with under(folder) as k:
        assert decided(k, await branch(k), op, **args) == "allow"
        assert because(k, await branch(k, name), op, **args)


@pytest.mark.parametrize("name", ["read-only", "speculative"])
@pytest.mark.parametrize(("op", "args"), INSIDE)
async def test_looking_thinking_and_keeping_go_on(folder: Path, name: str, op: str, args: dict[str, Any]) -> None:
    async with under(folder) as k:
        assert decided(k, await branch(k, name), op, **args) == "allow"


@pytest.mark.parametrize("name", ["read-only", "speculative"])
async def test_a_restrict_allows_nothing_that_the_policy_below_does_not(folder: Path, name: str) -> None:
    async with opened(workspace=folder, policy='policy "p"\nallow fs.list "/**"') as k:
        process = await host(k, "fs.*", policy=POLICIES / f"{name}.policy")
        assert decided(k, process, "fs.read", path="/a.txt") == "deny"
        assert decided(k, process, "fs.list", path="/") == "allow"


@pytest.mark.parametrize("name", ["read-only", "speculative"])
async def test_a_child_of_a_restricted_process_is_restricted(folder: Path, name: str) -> None:
    async with under(folder) as k:
        parent = await branch(k, name)
        child = await k.spawn(agentos.Image.host(), parent=parent, grant=["fs.*"], policy=OPEN)
        assert await refused(child.call("fs.write", path="/b.txt", text="x")) == "denied.policy"
        assert await child.call("fs.read", path="/a.txt") == "a"


async def test_a_device_that_is_mounted_later_is_held_by_its_effect_class(folder: Path) -> None:
    async with under(folder) as k:
        process = await branch(k, "read-only")
        later = agentos.Device("later")
        _declare(later)
        k.mount("later", later)
        await k.grant(process.pid, "later.*")
        assert because(k, process, "later.act") == "this run is read-only"
        assert decided(k, process, "later.look") == "allow"


def _declare(device: agentos.Device) -> None:
    @device.op
    def act() -> None: ...

    @device.op(effect="repeatable")
    def look() -> None: ...


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("human.ask", {"question": "may I?"}),
        ("human.tell", {"text": "x"}),
        ("msg.send", {"to": 1, "value": "x"}),
        ("proc.signal", {"pid": 1, "signal": "kill"}),
        ("cap.request", {"text": "fs.*", "why": "x"}),
    ],
)
async def test_speculation_tells_nobody_and_takes_no_rights(folder: Path, op: str, args: dict[str, Any]) -> None:
    async with under(folder) as k:
        other = await branch(k)
        args = {name: other.pid if name in ("to", "pid") else value for name, value in args.items()}
        assert because(k, await branch(k, "speculative"), op, **args)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("obj.put", {"value": 1, "name": "x", "namespace": "findings"}),
        ("obj.append", {"value": 1, "name": "x", "namespace": "findings"}),
        ("obj.drop", {"name": "x", "namespace": "findings"}),
        ("obj.put", {"value": 1, "name": "x", "namespace": "proc"}),
        ("obj.put", {"value": 1, "name": "x", "namespace": "proc/../findings"}),
    ],
)
async def test_speculation_keeps_things_in_its_own_place_only(folder: Path, op: str, args: dict[str, Any]) -> None:
    async with under(folder) as k:
        process = await branch(k, "speculative")
        own = {**args, "namespace": f"proc/{process.pid}"}
        assert decided(k, process, op, **own) == "allow"
        if ".." in args["namespace"] or args["namespace"] == "proc":
            assert await refused(process.call(op, **args)) in ("invalid.argument", "denied.policy")
        else:
            assert because(k, process, op, **args) == "shared notes outlive the branch"


async def test_speculation_ends_when_its_tokens_do(folder: Path) -> None:
    async with under(folder) as k:
        process = await branch(k, "speculative")
        served = k.broker.door.served["llm.complete"]
        k.broker.door.served["llm.complete"] = _costing(served, 15_000)
        await process.call("llm.complete", messages=[])
        await process.call("llm.complete", messages=[])
        with pytest.raises(agentos.Denied, match="20000 of tokens per process"):
            await process.call("llm.complete", messages=[])


def _costing(syscall: Any, tokens: int) -> Any:
    """The same served op, which says what it cost."""
    from dataclasses import replace

    async def handle(permit: Any, args: dict[str, Any]) -> Any:
        permit.cost = {"tokens": tokens}
        return await syscall.handler(permit, args)

    return replace(syscall, handler=handle)


async def test_the_default_policy_asks_before_what_cannot_be_repeated_or_undone(folder: Path) -> None:
    async with kernel("default", workspace=folder) as k:
        process = await branch(k)
        outcomes = {op: decided(k, process, op, **args) for op, args in [*OUTSIDE, *INSIDE]}
        assert {op for op, outcome in outcomes.items() if outcome == "ask"} == {"exec.run", "net.fetch", "git.push"}
        assert {outcome for op, outcome in outcomes.items() if op not in ("exec.run", "net.fetch", "git.push")} == {"allow"}
