"""The control socket: other processes of the same user call the kernel that holds the store.

Protocol: `wire` has the frames, `served` the methods. Each connection has one task that reads, one that writes, and one per request; a
cancel frame cancels its request, a closed connection all of its own. Cancelling a request is a host that stops waiting: it withdraws
a call that was not admitted and never touches a process.

INVARIANT a-client-never-harms-the-kernel: frames, requests and connections are bounded, what is no request ends its own connection
only, and a client that does not read waits alone.
INVARIANT acknowledged-is-durable: whatever a reply or an event may show is committed before it is sent.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketListener, TaskGroup, TaskStatus

from agentos.abi.limits import (
    CONTROL_CLIENTS_MAX,
    CONTROL_FRAME_BYTES_MAX,
    CONTROL_REPLY_BYTES_MAX,
    CONTROL_REQUESTS_MAX,
)
from agentos.abi.place import Place
from agentos.errors import AgentOSError, Invalid, KernelPanic, Unavailable
from agentos.runtime import wire
from agentos.runtime.kernel import Kernel
from agentos.runtime.lines import Lines, LineTooLong, Lost
from agentos.runtime.peer import is_ours, make_folder
from agentos.runtime.places import control_path
from agentos.runtime.served import Broken, Method, find

__all__ = ["serve"]

log = logging.getLogger("agentos.runtime")

_FAREWELL_S = 1.0  # what a client that is turned away gets to read why
_REFUSED_ACCEPT_PAUSE_S = 0.1


async def serve(kernel: Kernel, store: Place, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Serve the control socket of a store until cancelled. The caller holds the store's lease: a socket found there is a dead kernel's.

    Args:
        kernel: What is served.
        store: Where the store is; the socket is at `places.control_path(store)`.
        task_status: Told once clients can connect.

    Raises:
        Invalid: `invalid.state`, the socket's folder is not ours alone, or the socket cannot be made.

    Cancellation: every client is disconnected, its requests are cancelled, and the socket is removed.
    """
    path = control_path(store)
    make_folder(path.parent)
    async with await _listen(path) as listener:
        made = path.lstat().st_ino
        task_status.started()
        try:
            await _accept(kernel, listener)
        finally:
            _remove(path, made)


async def _listen(path: Path) -> SocketListener:
    try:
        return await anyio.create_unix_listener(path, mode=0o600)
    except OSError as error:
        reason = (error.strerror or "it cannot be made").lower()
        raise Invalid(
            "state", f"the control socket `{path}`: {reason}", hint="set AGENTOS_STATE to a folder of yours"
        ) from error


def _remove(path: Path, made: int) -> None:
    """Remove the socket, unless another kernel has put its own there."""
    try:
        if path.lstat().st_ino == made:
            path.unlink()
    except FileNotFoundError:
        pass


async def _accept(kernel: Kernel, listener: SocketListener) -> None:
    clients: set[_Client] = set()
    async with anyio.create_task_group() as tasks:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                log.warning("control_accept_failed error=%s", error)
                await anyio.sleep(_REFUSED_ACCEPT_PAUSE_S)
                continue
            lines = Lines(stream)
            if not is_ours(lines.socket):
                lines.close()
            elif len(clients) >= CONTROL_CLIENTS_MAX:
                tasks.start_soon(_turn_away, lines)
            else:
                tasks.start_soon(_Client(kernel, lines, clients).run)


async def _turn_away(lines: Lines) -> None:
    error = Unavailable("overloaded", f"{CONTROL_CLIENTS_MAX} clients are connected", hint="close some")
    with closing(lines), suppress(Lost), anyio.move_on_after(_FAREWELL_S):
        await lines.send(wire.frame(refused=error))


class _Client:
    """One connection.

    `_out` hands over without a buffer: the writer takes a frame only when it has written the one before, so a cancelled request either
    sent a frame or did not, and nobody fills memory for a client that does not read.
    """

    def __init__(self, kernel: Kernel, lines: Lines, clients: set[_Client]) -> None:
        self._kernel = kernel
        self._lines = lines
        self._clients = clients
        self._requests: dict[int, anyio.CancelScope] = {}
        self._out, self._taken = anyio.create_memory_object_stream[bytes](0)
        clients.add(self)

    async def run(self) -> None:
        """Serve until the client leaves, says something that is no request, or the kernel closes."""
        with closing(self._lines), self._out, self._taken:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write, tasks.cancel_scope)
                    await self._serve(tasks)
                    tasks.cancel_scope.cancel()
            finally:
                self._clients.discard(self)

    async def _serve(self, tasks: TaskGroup) -> None:
        await self._out.send(wire.frame(agentos=wire.PROTOCOL, pid=os.getpid(), thread=threading.get_ident()))
        try:
            await self._read(tasks)
        except Invalid as error:
            await self._say_goodbye(error)

    async def _write(self, whole: anyio.CancelScope) -> None:
        async for data in self._taken:
            if not data:
                return
            try:
                await self._lines.send(data)
            except Lost:
                whole.cancel()
                return

    async def _say_goodbye(self, error: Invalid) -> None:
        """Send why the client is disconnected; the empty frame is taken once that is written."""
        with anyio.move_on_after(_FAREWELL_S):
            await self._out.send(wire.frame(id=None, ok=False, error=error))
            await self._out.send(b"")

    async def _read(self, tasks: TaskGroup) -> None:
        while True:
            try:
                line = await self._lines.next(CONTROL_FRAME_BYTES_MAX)
            except LineTooLong:
                hint = "send less at once"
                raise Invalid("argument", f"a frame has over {CONTROL_FRAME_BYTES_MAX} bytes", hint=hint) from None
            except Lost:
                return
            await self._take(wire.parse(line), tasks)

    async def _take(self, request: wire.Request, tasks: TaskGroup) -> None:
        if request.cancel is not None:
            scope = self._requests.get(request.cancel)
            if scope is not None:
                scope.cancel()
            return
        if request.id is None or request.id in self._requests:
            raise Invalid(
                "argument", f"request has id {request.id}", hint="give every request an id that is not in use", field="id"
            )
        if len(self._requests) >= CONTROL_REQUESTS_MAX:
            error = Unavailable("overloaded", f"{CONTROL_REQUESTS_MAX} requests are under way", hint="wait for some")
            await self._out.send(wire.frame(id=request.id, ok=False, error=error))
            return
        scope = self._requests[request.id] = anyio.CancelScope()
        tasks.start_soon(self._answer, request, request.id, scope)

    async def _answer(self, request: wire.Request, number: int, scope: anyio.CancelScope) -> None:
        cancelled = Unavailable("cancelled", f"`{request.method[:100]}` was cancelled", may_have_happened=True)
        last = wire.frame(id=number, ok=False, error=cancelled)
        with scope:
            last = await self._last(request, number)
        del self._requests[number]
        await self._out.send(last)

    async def _last(self, request: wire.Request, number: int) -> bytes:
        """Do what is asked and return the last frame of it."""
        try:
            method = find(request.method)
            args = wire.arguments(request.args)
            with method.guarded():
                if method.streams:
                    return await self._items(method, request, number, args)
                value = await method.value(self._kernel, request.pid, args)
            journal = self._kernel.core.journal
            await journal.durable(journal.head)
            return self._bounded(method, wire.frame(id=number, ok=True, value=value))
        except (AgentOSError, TimeoutError, KernelPanic) as error:
            return wire.frame(id=number, ok=False, error=error)
        except Broken as error:
            log.exception("control_request_failed method=%s", request.method[:100])
            told = Unavailable("device", str(error), may_have_happened=True, hint="the kernel's log has the traceback")
            return wire.frame(id=number, ok=False, error=told)

    async def _items(self, method: Method, request: wire.Request, number: int, args: dict[str, Any]) -> bytes:
        journal = self._kernel.core.journal
        async with aclosing(method.start(self._kernel, request.pid, args)) as items:
            async for item in items:
                await journal.durable(min(item.seq, journal.head))
                await self._out.send(self._bounded(method, wire.frame(id=number, item=item)))
        return wire.frame(id=number, end=True)

    def _bounded(self, method: Method, data: bytes) -> bytes:
        if len(data) > CONTROL_REPLY_BYTES_MAX:
            hint = "ask for less, or open the store"
            raise Unavailable(
                "overloaded", f"what `{method.name}` gives has {len(data)} bytes", may_have_happened=True, hint=hint
            )
        return data
