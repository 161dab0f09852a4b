"""The part of the embedded API for running a finished process again from its journal."""

from __future__ import annotations

from agentos.abi.values import ReplayReport
from agentos.programs.aside import replayed
from agentos.runtime.base import KernelBase

__all__ = ["Replays"]


class Replays(KernelBase):
    """Running a finished process again from its journal; a base of `Kernel`."""

    async def replay(self, pid: int, *, upto: int | None = None) -> ReplayReport:
        """Run a process again from its journal, from its birth, and compare all that it does with what is recorded.

        Nothing outside happens and nothing is written: every call gets its recorded result. A process that has not ended is followed as far
        as it has come. The program runs in a thread of its own; one that makes no call for REPLAY_GAP_S seconds did not come back.

        Args:
            pid: The process, alive or ended.
            upto: Journal number after which to stop looking.

        Returns:
            Whether everything was the same: each call, each saved state and how it ended; else the first difference.

        Raises:
            Invalid: `invalid.state`, it is driven by the host, its program is not registered, or the device of a call is not mounted;
                `invalid.argument`, there never was such a process.
        """
        return await replayed(self.core.store, self.core.ops, self.programs, pid, upto=upto)
