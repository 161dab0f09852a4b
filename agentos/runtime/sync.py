"""`open_sync`: the embedded API for synchronous code.

The kernel runs in an event loop of its own, in a background thread; every call is handed over to it and waited for. The classes here
have the methods of `Kernel` and `Process`, made from them: coroutines block, async iterators are plain iterators, plain methods and
properties run in the loop's thread too, because the kernel's tables belong to that thread alone.

INVARIANT a-blocked-caller-can-always-leave: Ctrl-C in a waiting call cancels that call and nothing else, and the end of the kernel, by
leaving the block or by a panic, ends the calls of every thread.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from agentos.errors import Invalid
from agentos.runtime.boot import Open
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process

__all__ = ["Items", "SyncKernel", "SyncProcess", "open_sync"]

T = TypeVar("T")
_END: Any = object()


def open_sync(*args: Any, **options: Any) -> AbstractContextManager[SyncKernel]:
    """Open a kernel for synchronous code: `agentos.open` with the same parameters, as a plain context manager.

    Calls may come from any thread but the kernel's own.

    Raises:
        Invalid: a wrong argument; on entering also what `agentos.open` raises.
    """
    return _running(Open(*args, **options))


open_sync.__signature__ = inspect.signature(Open).replace(  # type: ignore[attr-defined]
    return_annotation="AbstractContextManager[SyncKernel]"
)


@contextmanager
def _running(opened: Open) -> Iterator[SyncKernel]:
    with start_blocking_portal("asyncio") as portal:
        loop = _Loop(portal)
        kernel = loop.start(opened)
        try:
            yield SyncKernel(loop, kernel)
        finally:
            loop.stop()


class _Loop:
    """The event loop in its thread, the kernel in it, and the calls that wait for it."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._waiting: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = 0

    def start(self, opened: Open) -> Kernel:
        """Open the kernel."""
        ready: Future[Kernel] = Future()
        self._ended = self._portal.start_task_soon(self._hold, opened, ready)
        return ready.result()

    def stop(self) -> None:
        """Close the kernel; raises the panic that ended it, if one did."""
        self._portal.call(self._leave.set)
        self._ended.result()

    async def _hold(self, opened: Open, ready: Future[Kernel]) -> None:
        self._leave = anyio.Event()
        self._thread = threading.get_ident()
        try:
            async with opened as kernel:
                ready.set_result(kernel)
                await self._leave.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise
        finally:
            self._end_calls()

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function in the loop's thread, await what it returns if need be, and return the value.

        Raises:
            Invalid: `invalid.state`, the kernel is closed, was closed meanwhile, or would wait for itself.
        """
        if threading.get_ident() == self._thread:
            raise Invalid(
                "state", "a blocking call in the kernel's own thread would wait for itself", hint="use `agentos.open` there"
            )
        if self._closed:
            raise _closed()
        future = self._portal.start_task_soon(
            functools.partial(function, *args, **options)
        )  # waits for the loop: holds no lock
        with self._lock:
            self._waiting.add(future)
            if self._closed:
                future.cancel()
        try:
            return future.result()
        except futures.CancelledError:
            raise _closed() from None
        finally:
            future.cancel()  # what is done stays done; what Ctrl-C tore us from ends
            with self._lock:
                self._waiting.discard(future)

    def _end_calls(self) -> None:
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for call in waiting:
            call.cancel()


def _closed() -> Invalid:
    return Invalid("state", "the kernel is closed", hint="use it inside the `with` block")


class Items(Iterator[T]):
    """A stream of the kernel as a plain iterator. Closing or dropping it ends the stream; also a context manager."""

    def __init__(self, loop: _Loop, items: AsyncIterator[T]) -> None:
        self._loop = loop
        self._items: AsyncIterator[T] | None = items

    def __next__(self) -> T:
        """Wait for the next item; after an error there is none."""
        items, self._items = self._items, None
        if items is None:
            raise StopIteration
        found: T = self._loop.run(_step, items)
        if found is _END:
            raise StopIteration
        self._items = items
        return found

    def __enter__(self) -> Items[T]:
        """Return the iterator itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the stream."""
        self.close()

    def close(self) -> None:
        """End the stream and wait until it has let go of what it held. Idempotent."""
        items, self._items = self._items, None
        if items is not None:
            self._loop.run(_shut, items)


async def _step(items: AsyncIterator[T]) -> T:
    return await anext(items, _END)


async def _shut(items: Any) -> None:
    await items.aclose()


# --- the classes, made from the asynchronous ones -----------------------------------------------------------------------------


class _Sync:
    """Base: an object of the kernel, reached through its loop."""

    def __init__(self, loop: _Loop, target: Any) -> None:
        self._loop = loop
        self._target = target

    def __repr__(self) -> str:
        """Return what the object itself says."""
        return f"<synchronous {self._target!r}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _through(self, method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a method of the object in the loop's thread; handles of processes become synchronous ones."""
        options = {name: _asynchronous(value) for name, value in options.items()}
        found = self._loop.run(method, self._target, *map(_asynchronous, args), **options)
        return SyncProcess(self._loop, found) if isinstance(found, Process) else found


def _asynchronous(value: Any) -> Any:
    return value._target if isinstance(value, _Sync) else value  # noqa: SLF001 - its own class


def _mirrored(source: type) -> Callable[[type[_Sync]], type[_Sync]]:
    """Return a decorator that gives a class every public method and property of `source`."""

    def mirror(target: type[_Sync]) -> type[_Sync]:
        for part in reversed(source.__mro__[:-1]):
            for name, member in vars(part).items():
                if not name.startswith("_"):
                    setattr(target, name, _mirror(member))
        return target

    return mirror


def _mirror(member: Any) -> Any:
    if isinstance(member, property):
        getter = member.fget
        assert getter is not None
        return property(lambda self: self._through(getter, (), {}), doc=member.__doc__)

    @functools.wraps(member)
    def call(self: _Sync, *args: Any, **options: Any) -> Any:
        if inspect.isasyncgenfunction(member):
            return Items(self._loop, self._through(member, args, options))
        return self._through(member, args, options)

    call.__annotations__ = {name: _synchronous(text) for name, text in member.__annotations__.items()}
    signature = inspect.signature(member)
    call.__signature__ = signature.replace(return_annotation=_synchronous(signature.return_annotation))  # type: ignore[attr-defined]
    return call


def _synchronous(annotation: Any) -> Any:
    """Return an annotation as it reads here."""
    text = str(annotation)
    return {"Process": "SyncProcess"}.get(text, text.replace("AsyncIterator[", "Iterator[", 1))


@_mirrored(Kernel)
class SyncKernel(_Sync):
    """A running kernel for synchronous code: the methods of `Kernel`, which block. Every one may be called from any thread."""


@_mirrored(Process)
class SyncProcess(_Sync):
    """One process for synchronous code: the methods of `Process`, which block.

    Attributes:
        pid: Its pid.
    """

    @property
    def pid(self) -> int:
        """Its pid."""
        pid: int = self._target.pid
        return pid
