"""A connected Unix socket as a stream of lines, for both ends of the control socket.

Waits through `anyio.wait_readable` and `wait_writable` and does its own reading: closing or cancelling a Unix stream of anyio just as it
becomes ready makes the event loop report an invalid state (agronholm/anyio issue 1267 has the half of it that was mended).
Not here: what a line means (`wire`).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketStream

__all__ = ["LineTooLong", "Lines", "Lost"]

_CHUNK_BYTES: Final = 65_536


class Lost(Exception):
    """The connection has ended."""


class LineTooLong(Exception):
    """The next line is longer than the reader takes; nothing can be read any more."""


class Lines:
    """One connection. At most one task reads and at most one writes; a cancelled `send` leaves half a line behind, so close after it."""

    def __init__(self, stream: SocketStream) -> None:
        self.socket: socket.socket = stream.extra_attributes[SocketAttribute.raw_socket]()
        self._buffer = bytearray()
        self._searched = 0
        self._closed = False

    async def next(self, bytes_max: int) -> bytes:
        """Return the next line, without its end.

        Raises:
            Lost: the connection has ended; a line without an end is none.
            LineTooLong: it has over `bytes_max` bytes.

        Cancellation: safe; what has been read is kept.
        """
        await anyio.lowlevel.checkpoint()
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > bytes_max:
                raise LineTooLong
            self._buffer += await self._receive()
            await anyio.lowlevel.checkpoint()
        if end > bytes_max:
            raise LineTooLong
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    async def send(self, data: bytes) -> None:
        """Send bytes that end a line.

        Raises:
            Lost: the connection has ended.
        """
        await anyio.lowlevel.checkpoint()
        left = memoryview(data)
        while left:
            try:
                left = left[self.socket.send(left) :]
            except BlockingIOError:
                await self._ready(anyio.wait_writable)
            except OSError as error:
                raise Lost from error

    async def _receive(self) -> bytes:
        while True:
            try:
                data = self.socket.recv(_CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(anyio.wait_readable)
                continue
            except OSError as error:
                raise Lost from error
            if not data:
                raise Lost
            return data

    async def _ready(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self._closed:
            raise Lost
        try:
            await wait(self.socket)
        except anyio.ClosedResourceError:
            raise Lost from None

    def close(self) -> None:
        """Close, and end what waits. Idempotent."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self.socket)
            self.socket.close()
