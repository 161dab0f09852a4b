"""`Interrupts`: Ctrl-C while a person follows a process is a question, not an answer.

The first is caught and asked about: go on, leave the process alone, pause it, or end it. A second one, at the question or before anybody
came to ask it, means to leave at once.

INVARIANT a-key-ends-nothing: no process is ended by Ctrl-C alone; whoever leaves finds the process parked, or running where it ran.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from agentos.shell.people import Interrupted, read_line

if TYPE_CHECKING:
    from agentos.runtime.kernel import Kernel
    from agentos.shell.context import Shell

__all__ = ["Interrupts"]

_QUESTION = "[c]ontinue, [d]etach (nothing is lost), [p]ause it, or [k]ill it? "


class Interrupts:
    """Ctrl-C of one command that follows one process.

    Args:
        shell: The command; what it says in parting follows from what was decided.
        kernel: The kernel that runs the process.
        pid: The process.

    Attributes:
        pending: Ctrl-C was pressed and nobody has asked yet.
    """

    def __init__(self, shell: Shell, kernel: Kernel, pid: int) -> None:
        self._shell = shell
        self._kernel = kernel
        self._pid = pid
        self._before: Any = signal.SIG_DFL
        self.pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch Ctrl-C until the block is left; for the main thread."""
        self._before = signal.signal(signal.SIGINT, self._pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._before)

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        """Note the first; the second before it was looked at goes its usual way."""
        if self.pending and callable(self._before):
            self._before(number, frame)
        self.pending = True

    async def decide(self) -> None:
        """Ask what is to become of the process, and see to it. Returns when following goes on.

        Raises:
            Interrupted: the command is to end.
        """
        self.pending = False
        while True:
            choice = (await read_line(_QUESTION)).lower()
            if choice in ("c", "continue"):
                return
            if choice in ("d", "detach"):
                raise Interrupted
            if choice in ("p", "pause"):
                await self._kernel.process(self._pid).signal("pause")
                resume = self._shell.hint("resume", self._pid)
                self._shell.parting = [f"process {self._pid} is paused, nothing is lost", f"let it go on with: {resume}"]
                raise Interrupted
            if choice in ("k", "kill"):
                await self._kernel.process(self._pid).signal("kill")
                return
