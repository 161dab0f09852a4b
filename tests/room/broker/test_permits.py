"""no-effect-without-permit, check-before-observe, deny-wins: nothing happens, and nothing is looked at, before the decision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.permit import Permit, claim_seal
from agentos.abi.syscall import Syscall
from agentos.testing import Ledger
from tests.builders import host, opened, refused, rows

pytestmark = pytest.mark.anyio


async def test_no_effect_without_permit_because_a_permit_cannot_be_forged() -> None:
    async with opened():
        for seal in (object(), None, "seal", True):
            with pytest.raises(agentos.KernelPanic):
                Permit(seal, 1, "fs.read", (), "1", None)
        with pytest.raises(agentos.KernelPanic):
            claim_seal()


async def test_every_served_op_spends_its_permit_before_anything_else() -> None:
    async with opened() as kernel:
        door = kernel.broker.door
        process = kernel.core.processes.find((await host(kernel)).pid)
        for name, syscall in door.served.items():
            spent = _permit_for("other.op", process)
            with pytest.raises(agentos.KernelPanic, match="used twice or for"):
                await _handled(syscall, spent)
            assert not spent.changes, name


async def _handled(syscall: Syscall, permit: Permit) -> Any:
    value = syscall.handler(permit, {})
    return await value if syscall.awaits else value


def _permit_for(op: str, process: Any) -> Permit:
    from agentos.broker import door

    return Permit(door._SEAL, process.pid, op, (), "1", process)


async def test_a_permit_is_spent_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = kernel.core.processes.find((await host(kernel)).pid)
        permit = _permit_for("ledger.once", process)
        handler = kernel.broker.door.served["ledger.once"].handler
        args = {"value": "x", "delay_s": 0.0, "fail": False}
        await handler(permit, args)
        with pytest.raises(agentos.KernelPanic):
            await handler(permit, args)
        assert len(ledger.entries) == 1


async def test_check_before_observe_a_denied_path_looks_the_same_whether_it_exists(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    async with opened(workspace=tmp_path) as kernel:
        process = await host(kernel, "fs.read /other/**")
        seen = []
        for name in ("there", "gone"):
            with pytest.raises(agentos.Denied) as caught:
                await process.call("fs.read", path=name)
            seen.append({k: str(v).replace(name, "NAME") for k, v in caught.value.to_data().items()})
        assert seen[0] == seen[1]


async def test_check_before_observe_a_denied_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with opened(workspace=tmp_path) as kernel:
        process = await host(kernel)
        with anyio.fail_after(2):
            assert await refused(process.call("fs.read", path="pipe")) == "denied.capability"
        with pytest.raises(OSError, match="No such device"):
            os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)  # ENXIO: nobody has it open for reading


async def test_check_before_observe_a_preview_is_made_only_once_a_person_is_to_be_asked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    policy = 'policy "p"\nask fs.write "/a" any *\ndeny fs.write "/b"'
    async with opened(workspace=tmp_path, policy=policy) as kernel:
        syscall = kernel.broker.door.served["fs.write"]
        seen: list[Any] = []
        original = syscall.preview
        assert original is not None

        async def preview(args: Any, facts: Any) -> Any:
            seen.append(args["path"])
            return await original(args, facts)

        object.__setattr__(syscall, "preview", preview)
        process = await host(kernel, "fs.write /**")
        assert await refused(process.call("fs.write", path="b", text="x")) == "denied.policy"
        assert await refused(process.call("fs.write", path="a", text="x", timeout_s=0.05)) == "unavailable.timeout"
        assert seen == ["/a"]


async def test_deny_wins_over_every_allow_in_every_layer() -> None:
    kernel_layer = 'policy "k"\nallow obj.* any *'
    own = 'restrict "own"\ndeny obj.put "box/**" because "closed"'
    async with opened(policy=kernel_layer) as kernel:
        process = await host(kernel, "obj.* box/**", policy=own)
        with pytest.raises(agentos.Denied, match="closed") as caught:
            await process.call("obj.put", value=1, name="x", namespace="box")
        assert caught.value.rule
        assert rows(kernel, process.pid)[-1].rule == caught.value.rule


async def test_with_a_policy_what_it_does_not_mention_is_denied() -> None:
    async with opened(policy='policy "k"\nallow obj.get') as kernel:
        process = await host(kernel, "obj.* box/**")
        assert await refused(process.call("obj.put", value=1, name="x", namespace="box")) == "denied.policy"
        assert await refused(process.call("obj.get", name="x", namespace="box")) == "unavailable.missing"


async def test_a_child_inherits_every_layer_of_its_parent() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "obj.* box/**", policy='restrict "r"\ndeny obj.drop')
        child = await kernel.spawn(agentos.Image.host(), parent=parent, grant=["obj.* box/**"])
        assert await refused(child.call("obj.drop", name="x", namespace="box")) == "denied.policy"
        assert await child.call("obj.put", value=1, name="x", namespace="box")


async def test_in_plan_mode_nothing_happens_outside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, mode="plan") as kernel:
        process = await host(kernel, "ledger.*")
        for op in ("keyed", "probeable", "once"):
            assert await refused(process.call(f"ledger.{op}", value="x")) == "denied.policy"
        assert not ledger.entries


async def test_stored_data_imports_nothing_and_grants_nothing() -> None:
    """visibility-is-not-authority: an image may name a program or request a right; neither comes from the name."""
    async with opened() as kernel:
        image = agentos.Image.program("os.system", capabilities=["fs.read /**"])
        process = await kernel.spawn(image, grant=())
        ended = await process.wait(5)
        assert (ended.state, ended.error and ended.error.code) == ("failed", "invalid.state")
        visible = await kernel.spawn(agentos.Image.host(tools=["fs.*"]))
        assert await refused(visible.call("fs.read", path="/x")) == "denied.capability"
