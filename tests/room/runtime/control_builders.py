"""Builders for the tests of the control socket: a place of one's own, a kernel here or in another process, and a raw client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from agentos.abi.image import AgentImage
from agentos.abi.limits import MIB
from agentos.runtime.boot import Open
from agentos.runtime.places import control_path

FILES = AgentImage.host(capabilities=["fs.read, fs.list, fs.write /**"])
OPEN = 'policy "open" version 1\nallow effect pure, effect local, effect probeable, effect repeatable any *\n'
ASKING = f'{OPEN}ask fs.write "/**" because "look first"\n'

_KERNEL = """
import os, sys, anyio, agentos

async def main(store, workspace):
    async with agentos.open(store, workspace=workspace, durability="fast") as kernel:
        print(os.getpid(), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

anyio.run(main, *sys.argv[1:])
"""


@dataclass(frozen=True)
class Place:
    """A store and a workspace beside it."""

    root: Path
    clients: list[Raw] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.root / "store.db"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def socket(self) -> Path:
        return control_path(self.store)

    def open(self, **options: Any) -> Open:
        """Return a kernel of this process."""
        return Open(self.store, workspace=self.workspace, durability="fast", **options)

    @contextmanager
    def held(self) -> Iterator[subprocess.Popen[str]]:
        """Run a kernel in another process until the block ends."""
        command = [sys.executable, "-c", _KERNEL, str(self.store), str(self.workspace)]
        kernel = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert kernel.stdout is not None
            assert kernel.stdout.readline().strip() == str(kernel.pid)
            yield kernel
        finally:
            kernel.communicate(timeout=10)


@contextmanager
def a_place() -> Iterator[Place]:
    """Make a place whose paths are short enough for a socket, and make it the state folder."""
    root = Path(tempfile.mkdtemp(prefix="aos-"))
    (root / "workspace").mkdir()
    before = os.environ.get("AGENTOS_STATE")
    os.environ["AGENTOS_STATE"] = str(root / "state")
    try:
        yield Place(root)
    finally:
        if before is None:
            del os.environ["AGENTOS_STATE"]
        else:
            os.environ["AGENTOS_STATE"] = before
        shutil.rmtree(root)


class Raw:
    """A client that may send anything."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._lines = BufferedByteReceiveStream(stream)

    async def send(self, frame: Any) -> None:
        data = frame if isinstance(frame, bytes) else json.dumps(frame).encode() + b"\n"
        await self.stream.send(data)

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(5):
            found: dict[str, Any] = json.loads(await self._lines.receive_until(b"\n", 64 * MIB))
        return found

    async def ask(self, frame: Any) -> dict[str, Any]:
        await self.send(frame)
        return await self.next()

    async def is_disconnected(self) -> bool:
        try:
            await self.next()
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            return True
        return False


async def until(fits: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that nothing announces."""
    with anyio.fail_after(5):
        while not await fits():  # noqa: ASYNC110 - as it says
            await anyio.sleep(0.005)


async def hang_up(place: Place) -> None:
    """Close every raw client."""
    for client in place.clients:
        await client.stream.aclose()


async def raw_client(place: Place) -> Raw:
    """Connect, and read the greeting. The test's `place` closes it."""
    client = Raw(await anyio.connect_unix(place.socket))
    place.clients.append(client)
    assert (await client.next())["agentos"] == 1
    return client
