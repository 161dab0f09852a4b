"""A client's connection to the kernel that holds a store.

Protocol: `wire`. Requests share one connection: a task reads replies and hands them to whoever waits for them, another writes, so that a
cancelled request never leaves half a frame behind. A stream has a connection of its own: whoever is slow waits alone, and closing it
cancels it in the kernel. `ask_now` blocks on a third, plain one.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from agentos.abi.limits import CONTROL_FRAME_BYTES_MAX, CONTROL_REPLY_BYTES_MAX, CONTROL_REPLY_S, CONTROL_REQUESTS_MAX
from agentos.errors import Invalid, KernelPanic, Unavailable
from agentos.runtime import wire
from agentos.runtime.lines import Lines, LineTooLong, Lost
from agentos.runtime.peer import check_folder, is_ours

__all__ = ["Link", "NoKernel"]

_CANCEL_S = 1.0


class NoKernel(Exception):
    """No kernel listens at the socket."""


class _Waiting:
    """One request that waits for its reply; `frame` is None when the connection ended first."""

    __slots__ = ("came", "frame")

    def __init__(self) -> None:
        self.came = anyio.Event()
        self.frame: dict[str, Any] | None = None


async def _next(lines: Lines) -> dict[str, Any]:
    """Return the next frame; raises `Lost` at the end."""
    try:
        line = await lines.next(CONTROL_REPLY_BYTES_MAX)
    except LineTooLong:
        raise Lost from None
    return wire.read(line, wire.values)


async def _dial(path: Path) -> tuple[Lines, dict[str, Any]]:
    """Connect and be greeted.

    Raises:
        NoKernel: nobody listens.
        Invalid: another user's socket or folder, or another protocol.
        Unavailable: the kernel does not answer, or has too many clients.
    """
    try:
        check_folder(path.parent)
        lines = Lines(await anyio.connect_unix(path))
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoKernel from None
    except OSError as error:
        raise Unavailable("device", f"the control socket `{path}`: {error.strerror}".lower()) from error
    try:
        _check_peer(lines.socket, path)
        with anyio.move_on_after(CONTROL_REPLY_S):
            return lines, _greeted(await _next(lines))
        raise _silent()
    except Lost:
        lines.close()
        raise NoKernel from None
    except BaseException:
        lines.close()
        raise


def _check_peer(connected: socket.socket, path: Path) -> None:
    if not is_ours(connected):
        raise Invalid("state", f"the control socket `{path}` is another user's", hint="set AGENTOS_STATE to a folder of yours")


def _greeted(hello: dict[str, Any]) -> dict[str, Any]:
    if "refused" in hello:
        raise hello["refused"]
    if hello.get("agentos") != wire.PROTOCOL:
        raise Invalid(
            "state",
            f"the kernel speaks protocol {hello.get('agentos')}, this client {wire.PROTOCOL}",
            hint="use one version of agentos",
        )
    return hello


def _silent() -> Unavailable:
    return Unavailable(
        "timeout", f"the kernel did not answer within {CONTROL_REPLY_S:g} s", may_have_happened=True, hint="try again"
    )


class Link:
    """An open connection. Made by `dial`, run by `start`, ended by `close`.

    Attributes:
        pid: Host pid of the process whose kernel it is.
    """

    def __init__(self, path: Path, lines: Lines, hello: dict[str, Any]) -> None:
        self.pid: int = hello["pid"]
        self._path = path
        self._thread: int = hello["thread"]
        self._lines = lines
        self._numbers = count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._streams: set[Lines] = set()
        self._out, self._unsent = anyio.create_memory_object_stream[bytes](CONTROL_REQUESTS_MAX)
        self._closed = False
        self._failure: KernelPanic | None = None

    @classmethod
    async def dial(cls, path: Path) -> Link:
        """Connect to the kernel that listens at `path`.

        Raises:
            NoKernel: nobody listens.
            Invalid, Unavailable: see `agentos.connect`.
        """
        return cls(path, *await _dial(path))

    def start(self, tasks: TaskGroup) -> None:
        """Start the reader and the writer in the caller's task group."""
        tasks.start_soon(self._read)
        tasks.start_soon(self._write)

    def close(self) -> None:
        """Close every connection; what waits ends with `unavailable.cancelled`. Idempotent."""
        self._lose()
        for lines in (*self._streams, self._lines):
            lines.close()

    # --- requests -------------------------------------------------------------------------------------------------------

    async def request(self, method: str, args: dict[str, Any] | None = None, *, pid: int | None = None) -> Any:
        """Ask the kernel for something and return its answer.

        Raises:
            AgentOSError, TimeoutError, KernelPanic: what the kernel answered.
            Unavailable: `unavailable.cancelled`, the kernel is gone; it may have happened.

        Cancellation: the kernel is told, and cancels what it was asked for.
        """
        if self._closed:
            raise wire.gone(may_have_happened=False)
        number = next(self._numbers)
        data = _bounded(wire.frame(id=number, method=method, pid=pid, args=args or {}))
        waiting = self._waiting[number] = _Waiting()
        try:
            await self._out.send(data)
            await waiting.came.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_CANCEL_S, shield=True):
                await self._cancel(number)
            raise
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise wire.gone(may_have_happened=False) from None
        finally:
            self._waiting.pop(number, None)
        if waiting.frame is None:
            raise self._failure or wire.gone(may_have_happened=True)
        return _answer(waiting.frame)

    async def _cancel(self, number: int) -> None:
        try:
            await self._out.send(wire.frame(cancel=number))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def _read(self) -> None:
        try:
            while True:
                found = await _next(self._lines)
                waiting = self._waiting.get(found.get("id") or 0)
                if waiting is not None:
                    waiting.frame = found
                    waiting.came.set()
        except Lost:
            return
        except KernelPanic as error:
            self._failure = error
        finally:
            self._lose()

    async def _write(self) -> None:
        with self._unsent:
            async for data in self._unsent:
                try:
                    await self._lines.send(data)
                except Lost:
                    self._lose()
                    return

    def _lose(self) -> None:
        self._closed = True
        self._out.close()
        for waiting in self._waiting.values():
            waiting.came.set()

    # --- streams --------------------------------------------------------------------------------------------------------

    async def stream(
        self, method: str, args: dict[str, Any] | None = None, *, pid: int | None = None
    ) -> AsyncGenerator[Any, None]:
        """Yield what a method of the kernel yields, over a connection of its own.

        Raises:
            AgentOSError, KernelPanic: what the kernel answered.
            Unavailable: `unavailable.cancelled`, the kernel is gone before the end.

        Cancellation: the connection is closed, which cancels it in the kernel.
        """
        if self._closed:
            raise wire.gone(may_have_happened=False)
        data = _bounded(wire.frame(id=1, method=method, pid=pid, args=args or {}))
        try:
            lines, _ = await _dial(self._path)
        except NoKernel:
            raise wire.gone(may_have_happened=False) from None
        self._streams.add(lines)
        try:
            await lines.send(data)
            while "item" in (found := await _next(lines)):
                yield found["item"]
            if "end" not in found:
                _answer(found)
        except Lost:
            raise wire.gone(may_have_happened=False) from None
        finally:
            self._streams.discard(lines)
            lines.close()

    # --- blocking -------------------------------------------------------------------------------------------------------

    def ask_now(self, method: str, args: dict[str, Any] | None = None, *, pid: int | None = None) -> Any:
        """Ask like `request`, blocking this thread for the round trip: well below a millisecond while the kernel is not busy.

        Raises:
            Invalid: `invalid.state`, the kernel runs in this very thread and could never answer.
            Unavailable: `unavailable.timeout`, no answer within CONTROL_REPLY_S.
        """
        if self.pid == os.getpid() and self._thread == threading.get_ident():
            raise Invalid(
                "state",
                f"`{method}` over the socket would wait for this very thread",
                hint="use the kernel that agentos.open gave you",
            )
        data = _bounded(wire.frame(id=1, method=method, pid=pid, args=args or {}))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain, plain.makefile("rb") as lines:
            plain.settimeout(CONTROL_REPLY_S)
            try:
                plain.connect(str(self._path))
                _check_peer(plain, self._path)
                _greeted(_line(lines.readline(CONTROL_REPLY_BYTES_MAX)))
                plain.sendall(data)
                return _answer(_line(lines.readline(CONTROL_REPLY_BYTES_MAX)))
            except TimeoutError:
                raise _silent() from None
            except OSError as error:
                raise wire.gone(may_have_happened=False) from error


def _bounded(data: bytes) -> bytes:
    if len(data) > CONTROL_FRAME_BYTES_MAX:
        raise Invalid(
            "argument",
            f"the request has {len(data)} bytes, {CONTROL_FRAME_BYTES_MAX} at most",
            hint="send less at once, or through a file",
        )
    return data


def _line(data: bytes) -> dict[str, Any]:
    if not data.endswith(b"\n"):
        raise wire.gone(may_have_happened=False)
    return wire.read(data, wire.values)


def _answer(found: dict[str, Any]) -> Any:
    """Return the value of a last frame, or raise its error."""
    if found.get("ok"):
        return found["value"]
    raise found["error"]
