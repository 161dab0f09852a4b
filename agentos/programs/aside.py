"""Running a replay aside: in a thread with an event loop of its own, so that a program which computes for long holds nobody up.

The thread reads the store by asking the loop it was started from, a page at a time, so it sees what a running kernel sees. Whoever waits
for it looks on: a program that makes no call for a while did not come back, and is left behind. Its thread can do nothing any more, and
ends with the program or with the interpreter.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from agentos.abi.limits import REPLAY_GAP_S
from agentos.abi.op import OpTable
from agentos.abi.records import Row
from agentos.abi.values import Divergence, ReplayReport
from agentos.errors import AgentOSError, KernelPanic
from agentos.kernel.process import ProcessEnded
from agentos.programs.registry import Programs
from agentos.programs.replay import Replay

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["replayed"]

_Answer = TypeVar("_Answer")
_FOREIGN = frozenset({"agentos", "anyio", "asyncio", "selectors", "threading"})
_LEAVE_S, _LOOK_S = 0.5, 0.02


async def replayed(
    store: Store, ops: OpTable, programs: Programs, pid: int, *, upto: int | None = None, gap_s: float = REPLAY_GAP_S
) -> ReplayReport:
    """Run a process again from its journal and return what that showed.

    Args:
        store: Where its journal is; only read.
        ops: The ops that are known here.
        programs: The programs to run.
        pid: The process.
        upto: Rows after this one are left out.
        gap_s: Seconds that the program may take from one call to the next.

    Raises:
        Invalid: see `Replay.run`.

    Cancellation: the program is stopped at its next call.
    """
    async with BlockingPortal() as portal:
        replay = Replay(_Asked(store, portal), ops, programs, pid, upto)
        worker = _Worker(replay, portal)
        worker.start()
        try:
            while not worker.over.is_set():
                steps = replay.steps
                with anyio.move_on_after(gap_s):
                    await worker.over.wait()
                if not worker.over.is_set() and replay.steps == steps:
                    return await _left_behind(replay, worker, gap_s)
        finally:
            replay.is_over = True
    return worker.outcome()


async def _left_behind(replay: Replay, worker: _Worker, gap_s: float) -> ReplayReport:
    """Say of a program that it did not come back, and where it is."""
    where = worker.place()
    replay.is_over = True
    with anyio.move_on_after(_LEAVE_S):
        await worker.over.wait()
    since = f"after {replay.last}" if replay.last else "before its first call"
    text = f"the program did not come back within {gap_s:g} s {since}{f'; it is {where}' if where else ''}"
    hint = "a durable program waits with sys only: sys.clock.sleep, sys.msg.recv; long computing belongs in a device"
    return ReplayReport(False, replay.pid, replay.calls, replay.lives, None, Divergence("", None, replay.lives, text, hint))


class _Asked:
    """A store, read by the loop that it belongs to, for another thread. Implements `replay.Source`."""

    def __init__(self, store: Store, portal: BlockingPortal) -> None:
        self._store = store
        self._portal = portal
        self.identity = store.identity

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        """As `Store.tape`."""
        return self._ask(lambda: self._store.tape(pid, after_seq, limit, upto))

    def get(self, record: type[Any], *key: Any, at: int | None = None) -> Any:
        """As `Store.get`."""
        return self._ask(lambda: self._store.get(record, *key, at=at))

    def unpack(self, packed: bytes) -> Any:
        """As `Objects.unpack`."""
        return self._ask(lambda: self._store.objects.unpack(packed))

    def _ask(self, read: Callable[[], _Answer]) -> _Answer:
        try:
            return self._portal.call(read)
        except RuntimeError:
            raise ProcessEnded from None  # nobody waits for the replay any more, and nobody answers it


class _Worker:
    """The thread of one replay.

    Attributes:
        over: Set once the thread has nothing more to say.
    """

    def __init__(self, replay: Replay, portal: BlockingPortal) -> None:
        self._replay = replay
        self._portal = portal
        self._thread = threading.Thread(target=self._run, name="agentos-replay", daemon=True)
        self._report: ReplayReport | None = None
        self._error: AgentOSError | KernelPanic | None = None
        self.over = anyio.Event()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        try:
            anyio.run(self._loop)
        except ProcessEnded:
            return  # it was left behind
        finally:
            with suppress(RuntimeError):  # nobody waits any more
                self._portal.start_task_soon(self.over.set)

    async def _loop(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            try:
                self._report = await self._replay.run()
            except (AgentOSError, KernelPanic) as error:
                self._error = error  # who waits for the thread raises it
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Cancel what the program awaits, once nobody waits for it any more. One that computes ends at its next call, which is refused."""
        while not self._replay.is_over:  # noqa: ASYNC110 - another thread sets it, and must not wait for this one
            await anyio.sleep(_LOOK_S)
        if self._replay.scope is not None:
            self._replay.scope.cancel()

    def place(self) -> str:
        """Return where the program computes or blocks, "" when it awaits something."""
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - the one way to see another thread's stack
        while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _FOREIGN:
            frame = frame.f_back
        if frame is None or frame.f_code.co_filename.startswith("<"):
            return ""
        return f"at {PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}, in {frame.f_code.co_name}"

    def outcome(self) -> ReplayReport:
        """Return the report, or raise what the replay raised."""
        if self._error is not None:
            raise self._error
        if self._report is None:
            raise KernelPanic("the replay broke off; its thread has said why")
        return self._report
