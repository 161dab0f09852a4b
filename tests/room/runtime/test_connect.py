"""`connect` to a kernel that runs: the same API, over the socket, from another process or from this one."""

from __future__ import annotations

import inspect
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agentos.abi.image import AgentImage
from agentos.abi.limits import CONTROL_FRAME_BYTES_MAX
from agentos.devices.app import Call, Device
from agentos.errors import Denied, Invalid, Unavailable
from agentos.policy import Policy
from agentos.runtime.client import RemoteKernel, RemoteProcess, connect
from agentos.runtime.kernel import Kernel
from agentos.runtime.offline import StoreView
from agentos.runtime.process import Process
from tests.room.runtime.control_builders import ASKING, FILES, OPEN, Place, a_place, hang_up, raw_client, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def place() -> Iterator[Place]:
    with a_place() as made:
        yield made


@pytest.fixture
async def kernel(place: Place) -> AsyncIterator[Kernel]:
    async with place.open() as opened:
        yield opened


def client(place: Place) -> Any:
    return connect(place.store)


@pytest.mark.parametrize(("here", "there"), [(Kernel, RemoteKernel), (Process, RemoteProcess)])
def test_a_client_has_every_method_with_the_same_parameters(here: type, there: type) -> None:
    for name, member in vars(here).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            assert isinstance(vars(there)[name], property), name
            continue
        mine, its = (list(inspect.signature(vars(each)[name]).parameters.values()) for each in (here, there))
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in its], name


@pytest.mark.parametrize("source", [Kernel, Process])
def test_every_method_is_in_the_reference(source: type) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "embedded-api.md").read_text()
    missing = [
        name for name in vars(source) if not name.startswith("_") and f"`{name}(" not in page and f"`{name}`" not in page
    ]
    assert missing == []


# --- two processes ------------------------------------------------------------------------------------------------------


async def test_another_process_works_with_the_kernel_that_holds_the_store(place: Place) -> None:
    with place.held() as held:
        async with client(place) as kernel:
            assert (type(kernel), kernel.held_by) == (RemoteKernel, held.pid)
            process = await kernel.spawn(FILES, goal="two", name="worker")
            assert (await process.call("fs.write", path="/a", text="hi"))["bytes"] == 2
            assert await process.call("fs.read", path="/a") == "hi"
            assert (process.info.name, process.usage["calls"]) == ("worker", 2)
            assert kernel.check(process.pid, "fs.read", path="/a").outcome == "allow"
            denied = kernel.check(process.pid, "proc.spawn", image="x:1")
            assert (denied.outcome, denied.code) == ("deny", "denied.capability")
            assert "none covers it" in denied.explain()
            await process.exit({"n": 1})
            assert (await process.wait()).value == {"n": 1}
            assert [entry.op async for entry in kernel.audit()] == ["fs.write", "fs.read"]
            assert (await kernel.verify_audit()).ok


async def test_a_killed_kernel_is_told_and_its_store_is_there_to_look_at(place: Place) -> None:
    with place.held() as held:
        async with client(place) as kernel:
            process = await kernel.spawn(FILES)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_gone, process.wait)
                tasks.start_soon(expect_gone, lambda: anext(kernel.events()))
                await anyio.sleep(0.1)
                held.send_signal(signal.SIGKILL)
            with pytest.raises(Unavailable) as caught:
                await kernel.ps()
            assert not caught.value.may_have_happened
    assert place.socket.exists()
    async with client(place) as view:
        assert isinstance(view, StoreView)
        assert [info.pid for info in await view.ps()] == [process.pid]
    async with place.open(), client(place) as again:
        assert isinstance(again, RemoteKernel)


async def expect_gone(call: Any) -> None:
    with pytest.raises(Unavailable) as caught:
        await call()
    assert caught.value.code == "unavailable.cancelled"


# --- values and errors --------------------------------------------------------------------------------------------------


async def test_errors_arrive_as_themselves(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(AgentImage.host(capabilities=["fs.read /docs/**"]))
        with pytest.raises(Denied) as caught:
            await process.call("fs.read", path="/secret")
        assert (caught.value.code, caught.value.seq) == ("denied.capability", kernel.core.journal.head)
        with pytest.raises(Unavailable) as missing:
            await process.call("fs.read", path="/docs/none")
        assert missing.value.code == "unavailable.missing"
        with pytest.raises(Invalid, match="no process 99"):
            await remote.process(99).wait()
        with pytest.raises(TimeoutError):
            await process.wait(timeout_s=0.01)
        good, bad = await process.calls([("clock.now", {}), ("fs.read", {"path": "/x"})])
        assert (good.ok, bad.ok, type(bad.error)) == (True, False, Denied)


async def test_bytes_and_an_apps_own_values_cross(place: Place) -> None:
    bank = Device("bank")

    @bank.op(resource="acct/{account}", effect="repeatable")
    async def look(ctx: Call, account: str, mark: bytes) -> dict[str, bytes]:
        return {account: mark * 2}

    async with place.open(devices={"bank": bank}), client(place) as remote:
        process = await remote.spawn(AgentImage.host(capabilities=["bank.look"]))
        assert await process.call("bank.look", account="a", mark=b"\x00\xff") == {"a": b"\x00\xff\x00\xff"}


async def test_files_are_named_from_the_clients_folder(place: Place, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.root / "client"
    folder.mkdir()
    (folder / "mine.yaml").write_text('agentos: 1\nname: mine\nprogram: {kind: host}\ncapabilities: ["fs.read /**"]\n')
    (folder / "mine.policy").write_text('policy "docs" version 1\nallow fs.read "/docs/**"\n')
    async with client(place) as remote:
        await anyio.to_thread.run_sync(monkeypatch.chdir, folder)
        process = await remote.spawn("mine.yaml", policy="mine.policy")
        await anyio.to_thread.run_sync(monkeypatch.chdir, place.root)
        assert (await remote.ps())[0].image == "mine:1"
        with pytest.raises(Denied) as caught:
            await process.call("fs.read", path="/secret")
        assert caught.value.code == "denied.policy"
        assert await remote.register("mine:1") == "mine:1"
        await remote.spawn("mine:1", policy=[Policy(OPEN, source="p"), OPEN], parent=process, grant=["fs.read /**"])
        with pytest.raises(Invalid, match="cannot be sent"):
            await remote.spawn("mine:1", policy=Policy(OPEN, use=lambda _: None))


async def test_a_request_too_large_is_refused_here(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(FILES)
        with pytest.raises(Invalid, match="at most"):
            await process.call("fs.write", path="/a", text="a" * CONTROL_FRAME_BYTES_MAX)
        assert (await process.call("fs.write", path="/a", text="a" * (CONTROL_FRAME_BYTES_MAX // 2)))["bytes"]
        assert len(await process.call("fs.read", path="/a", bytes_max=CONTROL_FRAME_BYTES_MAX)) == CONTROL_FRAME_BYTES_MAX // 2


async def test_authority_is_granted_shown_and_revoked(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(AgentImage.host())
        cap = await remote.grant(process.pid, "fs.list /**")
        assert [found.id for found in await process.caps()] == [cap] == [found.id for found in await remote.caps()]
        assert await remote.revoke(cap) == 1
        assert await process.caps() == await kernel.caps()


async def test_the_tree_forks_signals_and_messages_cross(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(FILES)
        child = await process.fork(grant=["fs.read /a/**"])
        assert [info.pid for info in await remote.tree(process.pid)] == [process.pid, child.pid]
        assert await process.send({"n": 1}) == 1
        await child.signal("kill")
        assert (await child.wait()).state == "killed"
        await remote.run_until_idle(timeout_s=5)
        assert [(info.pid, info.state) for info in await remote.ps(all=True)] == [(process.pid, "ready"), (child.pid, "killed")]


# --- waiting ------------------------------------------------------------------------------------------------------------


async def test_points_of_history_are_named_and_gone_back_to_from_another_terminal(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(AgentImage.host(), grant=["obj.put a/**"])
        checkpoint = await process.checkpoint("then")
        await process.call("obj.put", value=1, name="x")
        found = await remote.diff(checkpoint)
        report = await remote.restore(checkpoint)
        fork = await remote.fork(checkpoint=checkpoint, grant=("obj.put a/b",))
        assert [item["what"] for item in found.items] == ["object"]
        assert (report.pids, report.seq > found.seqs[1]) == ({process.pid: process.pid}, True)
        assert [cap.text for cap in await fork.caps()] == ["obj.put a/b"]
        assert await remote.commit_image(checkpoint, "then") == await kernel.commit_image(checkpoint, "then")
        assert await remote.checkpoints() == await kernel.checkpoints()
        await remote.drop_checkpoint(checkpoint)
        assert await kernel.checkpoints() == []


async def test_a_client_that_stops_waiting_touches_no_process(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(FILES)
        with anyio.move_on_after(0.05) as scope:
            await process.wait()
        assert scope.cancelled_caught
        assert process.pid in [info.pid for info in await remote.ps()]


async def test_a_cancelled_call_withdraws_its_ask(place: Place) -> None:
    async with place.open(policy=ASKING), client(place) as remote:
        process = await remote.spawn(FILES)
        with anyio.move_on_after(0.1):
            await process.call("fs.write", path="/a", text="x")
        await asked(remote.asks, 0)
        assert [ask.state for ask in await remote.asks(None)] == ["withdrawn"]


async def test_a_client_that_leaves_cancels_its_calls(place: Place) -> None:
    async with place.open(policy=ASKING) as kernel:
        process = await kernel.spawn(FILES)
        leaving = await raw_client(place)
        call = {"op": "fs.write", "args": {"path": "/a", "text": "x"}}
        await leaving.send({"id": 1, "method": "process.call", "pid": process.pid, "args": call})
        await asked(kernel.asks, 1)
        await hang_up(place)
        await asked(kernel.asks, 0)
        assert not (place.workspace / "a").exists()


async def test_a_person_answers_from_another_terminal(place: Place) -> None:
    async with place.open(policy=ASKING), client(place) as agent, client(place) as person:
        process = await agent.spawn(FILES)

        async def answer() -> None:
            (ask,) = await asked(person.asks, 1)
            assert (ask.op, ask.args["path"], ask.because) == ("fs.write", "/a", "look first")
            assert (await person.answer(ask.id, "approve", by="me")).state == "decided"
            with pytest.raises(Invalid):
                await person.answer(ask.id, "approve", by="me")
            with pytest.raises(Invalid, match="unknown field `sudo`"):
                await person.answer(ask.id, "approve", by="me", sudo=True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            assert (await process.call("fs.write", path="/a", text="x"))["bytes"] == 1


async def test_standing_grants_are_given_listed_and_taken_back_from_another_terminal(place: Place) -> None:
    async with place.open(policy=ASKING) as kernel, client(place) as agent, client(place) as person:
        process = await agent.spawn(FILES)

        async def answer() -> None:
            (ask,) = await asked(person.asks, 1)
            assert await person.ask(ask.id) == await kernel.ask(ask.id)
            await person.answer(ask.id, "approve", by="me", scope="tree")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            await process.call("fs.write", path="/a", text="x")
        await process.call("fs.write", path="/a", text="y")
        assert await person.standing() == await kernel.standing() != []
        assert (await person.revoke_standing(1)).state == "revoked"
        with pytest.raises(Invalid):
            await person.revoke_standing(1)
        assert kernel.check(process.pid, "fs.write", path="/a", text="z").outcome == "ask"


async def asked(look: Any, count: int) -> Any:
    async def fits() -> bool:
        return len(await look()) == count

    await until(fits)
    return await look()


async def followed(kernel: Kernel, count: int) -> bool:
    return sum(stream.statistics().open_receive_streams for stream in kernel.core.events._streams) == count


# --- streams ------------------------------------------------------------------------------------------------------------


async def test_a_stream_follows_one_process_to_its_end(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(FILES)
        kinds: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                kinds.extend([event.kind async for event in process.stream("hello")])

            tasks.start_soon(follow)
            await until(lambda: followed(kernel, 1))
            await process.call("fs.list", path="/")
            await process.exit()
        assert "message" in kinds
        assert kinds[-2:] == ["call", "exited"]


async def test_a_stream_left_early_ends_in_the_kernel_too(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        events = remote.events(since=0)
        assert (await anext(events)).kind == "boot"
        assert kernel.core.events.is_followed
        await events.aclose()
        await until(lambda: followed(kernel, 0))
        assert await remote.ps() == []


async def test_a_slow_reader_of_a_stream_holds_nobody_up(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        events = remote.events(since=0)
        await anext(events)
        for _ in range(2_000):
            kernel.core.note(0, "some", {"text": "x" * 1_000})
        assert await remote.ps() == []
        await events.aclose()


# --- what a client cannot do --------------------------------------------------------------------------------------------


async def test_a_blocking_call_in_the_kernels_own_thread_is_refused_and_not_waited_for(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        process = await remote.spawn(FILES)
        with pytest.raises(Invalid, match="this very thread"):
            remote.check(process.pid, "fs.read", path="/a")
        found = await anyio.to_thread.run_sync(lambda: remote.check(process.pid, "fs.read", path="/a"))
        assert found == kernel.check(process.pid, "fs.read", path="/a")


async def test_a_device_does_not_cross_the_socket(place: Place, kernel: Kernel) -> None:
    async with client(place) as remote:
        with pytest.raises(Invalid, match="from outside"):
            remote.mount("bank", Device("bank"))
