"""Lives: what machines over the lives of one kernel share. A crash copies its files as they are at one instant; the next one has those."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal
from hypothesis.stateful import RuleBasedStateMachine

from agentos.runtime.kernel import Kernel


class Lives(RuleBasedStateMachine):
    """Has a kernel, which `_open` starts; `kept` names what it has in `folder` beside its store, files and flat folders."""

    portal: BlockingPortal
    kernel: Kernel
    kept: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.epoch = 0

    def do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            return await function(*args, **options)

        return self.portal.call(run)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def _store(self) -> Path:
        return self.folder / f"{self.epoch}.db"

    def _open(self) -> Kernel:
        raise NotImplementedError

    def _enter(self, opened: AbstractAsyncContextManager[Kernel]) -> Kernel:
        self.context = self.portal.wrap_async_context_manager(opened)
        kernel = self.context.__enter__()
        kernel.core.scheduler.resident_max = self.epoch % 2  # every other kernel unwinds whatever waits
        return kernel

    def _close(self) -> None:
        self.context.__exit__(None, None, None)

    def _crash(self) -> None:
        self.do(self._copy)
        self._close()
        for name in self.kept:
            kept = self.folder / name
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
            (self.folder / "copy" / name).rename(kept)
        self.epoch += 1
        self.kernel = self._open()

    async def _copy(self) -> None:
        (self.folder / "copy").mkdir(exist_ok=True)
        with self.kernel.core.journal._lock:  # nothing outside begins without a row
            for file in self.folder.glob(f"{self.epoch}.db*"):
                if not file.name.endswith(("-shm", "-lease")):
                    shutil.copy(file, file.with_name(file.name.replace(f"{self.epoch}.", f"{self.epoch + 1}.", 1)))
            for name in self.kept:
                _copy_flat(self.folder / name, self.folder / "copy" / name)


def _copy_flat(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copy(source, target)
        return
    target.mkdir()
    for file in list(source.iterdir()):
        with suppress(FileNotFoundError):  # a write that is under way in a thread renames its own
            shutil.copy(file, target)
