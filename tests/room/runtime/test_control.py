"""The control socket against clients that mean harm, or die: whatever one does, the kernel and the others go on."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from agentos.abi.limits import CONTROL_CLIENTS_MAX, CONTROL_FRAME_BYTES_MAX, CONTROL_REQUESTS_MAX
from agentos.errors import Invalid, Unavailable
from agentos.runtime import control, link, peer, served
from agentos.runtime.client import connect
from tests.room.runtime.control_builders import FILES, Place, a_place, hang_up, raw_client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    with a_place() as made:
        yield made
        await hang_up(made)


async def is_alive(place: Place) -> bool:
    async with connect(place.store) as kernel:
        return await kernel.ps() == []


# --- harm ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\n",
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        b'{"id": "one", "method": "ps"}\n',
        b'{"id": 1, "method": "ps", "sudo": true}\n',
        b'{"method": "ps"}\n',
        b"[" * 200_000 + b"\n",
        b'{"id": 1, "method": "ps", "args": {"all": ' + b"[" * 100_000 + b"\n",
    ],
)
async def test_a_client_never_harms_the_kernel_with_garbage_and_is_disconnected(place: Place, garbage: bytes) -> None:
    async with place.open():
        client = await raw_client(place)
        reply = await client.ask(garbage)
        assert (reply["id"], reply["ok"]) == (None, False)
        assert await client.is_disconnected()
        assert await is_alive(place)


async def test_a_huge_frame_is_refused_before_it_is_read_to_its_end(place: Place) -> None:
    async with place.open():
        client = await raw_client(place)
        with pytest.raises(anyio.BrokenResourceError):
            await client.send(b"a" * 4 * CONTROL_FRAME_BYTES_MAX)
        assert await is_alive(place)


async def test_half_a_frame_holds_nobody_up(place: Place) -> None:
    async with place.open():
        client = await raw_client(place)
        await client.send(b'{"id": 1, "meth')
        assert await is_alive(place)
        await client.stream.aclose()
        assert await is_alive(place)


@pytest.mark.parametrize("name", ["__init__", "core", "mount", "broker.call", "process._live", "process.pid", "close", ""])
async def test_only_the_table_is_served(place: Place, name: str) -> None:
    async with place.open():
        client = await raw_client(place)
        reply = await client.ask({"id": 1, "method": name, "pid": 1})
        assert reply["error"]["v"]["code"] == "invalid.argument"
        assert (await client.ask({"id": 2, "method": "ps"}))["ok"]


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("ps", {"all": 1}),
        ("ps", {"sudo": True}),
        ("spawn", {"image": 7}),
        ("spawn", {"image": {"$": "AgentImage", "v": {"name": 3}}}),
        ("spawn", {"image": {"$": "Exit", "v": {"state": "exited"}}}),
        ("spawn", {"image": {"$": "os.system", "v": "true"}}),
        ("spawn", {"image": {"$": "bytes"}}),
        ("spawn", {"image": {"$": "Decimal", "v": "x"}}),
        ("grant", {"pid": True, "text": "fs.read /**"}),
        ("caps", {"pid": "1"}),
        ("audit", {"since": 2**70}),
        ("events", {"since": -1}),
        ("check", {"pid": 1, "op": "fs.read", "args": []}),
        ("process.call", {"op": "fs.read", "args": {"key": "mine"}}),
        ("process.signal", {"what": 9}),
        ("answer", {"ask_id": 1, "verdict": "approve"}),
        ("backup", {"path": 7}),
        ("export", {"path": None}),
        ("backup", {"path": {"$": "bytes", "v": "eA=="}}),
    ],
)
async def test_arguments_are_checked_before_the_kernel_sees_them(place: Place, method: str, args: dict[str, Any]) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES)
        client = await raw_client(place)
        reply = await client.ask({"id": 1, "method": method, "args": args, "pid": 1})
        assert reply["error"]["v"]["code"] == "invalid.argument", reply
        assert (await client.ask({"id": 2, "method": "ps"}))["ok"]


async def test_a_flood_of_requests_is_told_to_wait(place: Place) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES)
        client = await raw_client(place)
        for number in range(CONTROL_REQUESTS_MAX):
            await client.send({"id": number, "method": "process.wait", "pid": 1})
        reply = await client.ask({"id": 9999, "method": "ps"})
        assert reply["error"]["v"]["code"] == "unavailable.overloaded"
        await client.send({"cancel": 0})
        assert (await client.next())["id"] == 0
        assert (await client.ask({"id": 9999, "method": "ps"}))["ok"]


async def test_a_flood_of_connections_is_turned_away_with_a_reason(place: Place) -> None:
    async with place.open():
        clients = [await raw_client(place) for _ in range(CONTROL_CLIENTS_MAX)]
        with pytest.raises(Unavailable, match="clients are connected"):
            async with connect(place.store):
                pass
        await clients[0].stream.aclose()
        await anyio.sleep(0.05)
        assert await is_alive(place)


async def test_a_client_that_does_not_read_waits_alone(place: Place) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES, goal="x" * 200_000)
        deaf = await raw_client(place)
        for number in range(CONTROL_REQUESTS_MAX):
            await deaf.send({"id": number, "method": "ps"})
        async with connect(place.store) as other:
            assert len(await other.ps()) == 1


async def test_an_id_in_use_is_garbage(place: Place) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES)
        client = await raw_client(place)
        await client.send({"id": 1, "method": "process.wait", "pid": 1})
        assert (await client.ask({"id": 1, "method": "ps"}))["id"] is None
        assert await client.is_disconnected()


async def test_what_a_program_exposes_may_raise_and_only_the_asker_hears_of_it(place: Place) -> None:
    async with place.open() as kernel, connect(place.store) as client:
        process = await kernel.spawn(FILES)
        kernel.core.processes.find(process.pid).queries["state"] = lambda: 1 / 0
        with pytest.raises(Unavailable, match="ZeroDivisionError"):
            await client.process(process.pid).query("state")
        assert len(await client.ps()) == 1


# --- who, and where -----------------------------------------------------------------------------------------------------


async def test_the_socket_and_its_folder_are_open_to_the_user_alone_and_gone_with_the_kernel(place: Place) -> None:
    async with place.open():
        assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.socket.parent.stat().st_mode) == 0o700
    assert not place.socket.exists()


async def test_a_folder_that_others_may_write_is_refused(place: Place) -> None:
    folder = place.socket.parent
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    async with place.open(control=False) as kernel:
        with pytest.raises(Invalid, match="open to other users") as caught:
            await control.serve(kernel, place.store)
    assert caught.value.code == "invalid.state"


async def test_a_folder_that_is_a_link_is_refused_by_both_ends(place: Place) -> None:
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.socket.parent.parent.mkdir()
    place.socket.parent.symlink_to(elsewhere)
    async with place.open(control=False) as kernel:
        with pytest.raises(Invalid, match="is not a folder"):
            await control.serve(kernel, place.store)
        with pytest.raises(Invalid, match="is not a folder"):
            async with connect(place.store):
                pass


async def test_another_users_process_is_not_let_in_and_not_trusted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.open():
        monkeypatch.setattr(link, "is_ours", lambda _: False)
        with pytest.raises(Invalid, match="another user's"):
            async with connect(place.store):
                pass
        monkeypatch.undo()
        monkeypatch.setenv("AGENTOS_STATE", str(place.root / "state"))
        monkeypatch.setattr(control, "is_ours", lambda _: False)
        stranger = await anyio.connect_unix(place.socket)
        async with stranger:
            with pytest.raises(anyio.EndOfStream):
                await stranger.receive()


class Peer:
    """A socket whose other end belongs to a user."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("3i", 1, self.uid, 0)[:size]


def test_the_peer_is_this_user_or_root_as_the_system_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        assert peer.is_ours(left)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert [peer.is_ours(Peer(uid)) for uid in (0, 1000, 1001)] == [True, True, False]


async def test_a_dead_kernels_socket_is_replaced(place: Place) -> None:
    place.socket.parent.mkdir(parents=True, mode=0o700)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place.socket))
    dead.close()
    async with place.open():
        assert await is_alive(place)


async def test_a_socket_of_another_kernel_is_not_removed(place: Place) -> None:
    other = socket.socket(socket.AF_UNIX)
    async with place.open():
        place.socket.unlink()
        other.bind(str(place.socket))
    assert place.socket.exists()
    other.close()


async def test_the_end_of_the_kernel_waits_for_no_client(place: Place) -> None:
    async with place.open() as kernel:
        await kernel.spawn(FILES, goal="x" * 200_000)
        deaf = await raw_client(place)
        for number in range(CONTROL_REQUESTS_MAX):
            await deaf.send({"id": number, "method": "ps"})
        begun = anyio.current_time()
    assert anyio.current_time() - begun < 2


# --- what is said is so -------------------------------------------------------------------------------------------------


async def test_acknowledged_is_durable_before_an_event_or_reply_is_sent(place: Place) -> None:
    async with place.open() as kernel, connect(place.store) as client:
        journal = kernel.core.journal
        seen: list[bool] = []

        async def follow(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            events = client.events(since=0)
            async for event in events:
                seen.append(journal.durable_seq >= event.seq)
                if event.kind == "boot":
                    task_status.started()
                if event.kind == "last":
                    break
            await events.aclose()

        async with anyio.create_task_group() as tasks:
            await tasks.start(follow)
            for _ in range(50):
                kernel.core.note(0, "some")
            await client.ps()
            assert journal.durable_seq >= journal.head - 1
            kernel.core.note(0, "last")
    assert len(seen) > 50
    assert all(seen)


def test_the_table_names_no_private_method() -> None:
    assert all(not part.startswith("_") for name in served.METHODS for part in name.split("."))
    assert len(served.METHODS) == 55
