"""`Kernel`: the embedded API. One per store, made by `agentos.open`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from agentos.abi.image import AgentImage
from agentos.abi.records import AccountRecord, CapRecord, Change, ProcessRecord
from agentos.abi.values import CapInfo, Event, ProcessInfo
from agentos.errors import AgentOSError, Invalid
from agentos.kernel.core import Core
from agentos.kernel.event import event_of
from agentos.kernel.holding import listing
from agentos.kernel.info import from_record, info
from agentos.kernel.lifecycle import Birth, spawn
from agentos.kernel.recovery import wake_dormant
from agentos.policy import parse_capability
from agentos.runtime.asking import Asking
from agentos.runtime.audit import entries
from agentos.runtime.decision import DryRuns
from agentos.runtime.history import History
from agentos.runtime.images import load_image
from agentos.runtime.outcome import Decision, Entry
from agentos.runtime.policies import as_policies
from agentos.runtime.process import Process
from agentos.runtime.replays import Replays
from agentos.runtime.schedules import Schedules
from agentos.runtime.undoing import Undoing
from agentos.runtime.upkeep import Upkeep

if TYPE_CHECKING:
    from agentos.devices.app import Device
    from agentos.store import AuditReport

__all__ = ["Kernel"]

_PAGE = 500


class Kernel(Asking, History, Undoing, Replays, Schedules, Upkeep):
    """A running kernel. Every method that changes something returns once the change is durable.

    What belongs to one subject is in a base of its own: `asking`, `history`, `undoing`, `replays`, `schedules`, `upkeep`.
    """

    # --- processes ----------------------------------------------------------------------------------------------------------

    async def spawn(  # noqa: PLR0913 - the frozen API
        self,
        image: str | Path | AgentImage,
        *,
        goal: Any = None,
        args: dict[str, Any] | None = None,
        parent: int | Process | None = None,
        grant: Sequence[str] | None = None,
        policy: Any = None,
        budget: dict[str, Any] | None = None,
        name: str | None = None,
        weight: float = 1,
        deadline_s: float | None = None,
        snapshot: str = "changed",
    ) -> Process:
        """Start a process and return its handle.

        Args:
            image: Path of a manifest, ``name:version``, digest, or an `agentos.Image`.
            goal: What it is for; trusted text.
            args: Arguments of its program.
            parent: Process it becomes a child of. Then only what `grant` names is derived from the parent's capabilities.
            grant: Capability texts; None is what the image requests (nothing, with a parent).
            policy: Layer or layers pushed on top of its stack.
            budget: Limits by resource: tokens, usd, wall_s, calls, children, depth, rss_bytes.
            name: What `ps` calls it.
            weight: Share of admissions and slots of its tree.
            deadline_s: Seconds after which it is ended with `unavailable.timeout`.
            snapshot: How commands it runs are made undoable; kept for it.

        Raises:
            Invalid: a bad image, policy, budget or capability text.
            Denied: the parent does not hold what is granted.
        """
        core = self.core
        changes: list[Change] = []
        found = self._image(image, changes)
        above = None if parent is None else core.processes.find(parent.pid if isinstance(parent, Process) else parent)
        birth = Birth(
            goal=goal, args=args, grant=() if grant is None and above is not None else grant,
            layers=[core.layers.compile(p) for p in as_policies(policy)], budget=budget, name=name, weight=weight,
            deadline=core.clock.now() + deadline_s if deadline_s is not None else 0.0, options={"snapshot": snapshot},
        )  # fmt: skip
        try:
            process = spawn(core, found, birth, above, changes)
        except AgentOSError:
            if changes:  # the image is registered all the same
                core.note(0, "image", {"image": found.ref, "digest": found.digest}, changes)
            raise
        seq = core.note(
            process.pid, "spawned", {"image": found.ref, "parent": process.record.ppid, "name": process.record.name}, changes
        )
        await core.journal.durable(seq)
        return Process(core, self.broker, process.pid)

    def _image(self, image: str | Path | AgentImage, changes: list[Change]) -> AgentImage:
        if not isinstance(image, AgentImage):
            image = load_image(self.core, image, changes)
        return self.core.images.register(image, changes, self.core.clock.now())

    async def register(self, image: str | Path | AgentImage) -> str:
        """Register an image and return its ``name:version``."""
        changes: list[Change] = []
        found = self._image(image, changes)
        await self.core.journal.durable(self.core.note(0, "image", {"image": found.ref, "digest": found.digest}, changes))
        return found.ref

    def process(self, pid: int) -> Process:
        """Return the handle of a process, alive or ended.

        Raises:
            Invalid: there never was one of that pid.
        """
        if self.core.processes.get(pid) is None and self.core.store.get(ProcessRecord, pid) is None:
            raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
        return Process(self.core, self.broker, pid)

    async def ps(self, *, all: bool = False) -> list[ProcessInfo]:  # noqa: A002 - frozen by the command line's --all
        """Return the live processes in order of birth; with `all`, ended ones too."""
        live = {process.pid: info(self.core, process) for process in self.core.processes}
        if not all:
            return [live[pid] for pid in sorted(live)]  # one that was restored entered the table anew
        store = self.core.store
        return [
            live.get(r.pid) or from_record(r, store.get(AccountRecord, r.pid)) for r in store.current(ProcessRecord, live=None)
        ]

    async def tree(self, pid: int | None = None) -> list[ProcessInfo]:
        """Return a process and its live descendants, parents first; without `pid`, every tree."""
        everybody = self.core.processes
        roots = [process for process in everybody if process.parent is None] if pid is None else [everybody.find(pid)]
        return [info(self.core, process) for root in roots for process in (root, *root.descendants())]

    # --- authority ----------------------------------------------------------------------------------------------------------

    async def grant(self, pid: int, text: str) -> int:
        """Mint a capability for a process and return its handle: the host's right only."""
        core = self.core
        holder = core.processes.find(pid)
        changes: list[Change] = []
        cap = core.caps.mint(holder, parse_capability(text, core.ops), changes, now=core.clock.now())
        await core.journal.durable(core.note(pid, "granted", {"text": cap.record.text}, changes, cap=cap.cap))
        return cap.cap

    async def revoke(self, cap: int) -> int:
        """Revoke a capability and everything derived from it; returns how many ended.

        Raises:
            Invalid: there is no live capability of that handle.
        """
        core = self.core
        changes: list[Change] = []
        ended = core.caps.end(cap, changes, "revoked")
        if not ended:
            raise Invalid("argument", f"there is no live capability {cap}", hint="see `agentos caps`", cap=cap)
        holder = next(
            change.record.pid for change in changes if isinstance(change.record, CapRecord) and change.record.cap == cap
        )
        await core.journal.durable(core.note(holder, "revoked", {"ended": ended}, changes, cap=cap))
        return ended

    async def caps(self, pid: int | None = None) -> list[CapInfo]:
        """Return the live capabilities of one process, or all."""
        return listing(self.core, pid)

    def check(self, pid: int, op: str, /, **args: Any) -> Decision:
        """Decide a call without making it: no effect, no journal row.

        Raises:
            Invalid: the op or its arguments are wrong.
        """
        process = self.core.processes.find(pid)
        return DryRuns(self.broker).decide(process, op, args)

    # --- looking ------------------------------------------------------------------------------------------------------------

    async def audit(
        self, *, since: int = 0, pid: int | None = None, op: str | None = None, outcome: str | None = None
    ) -> AsyncIterator[Entry]:
        """Yield the audit trail after row `since`, one entry per call, denials included."""
        for entry in entries(self.core.store, since=since, pid=pid, op=op, outcome=outcome):
            yield entry

    async def verify_audit(self, head: str | None = None) -> AuditReport:
        """Check the whole hash chain, against the stored head and, if given, one kept elsewhere (``SEQ:HEX``)."""
        self.core.journal.flush()
        return await anyio.to_thread.run_sync(self.core.store.verify_stored, head)

    async def events(self, since: int | None = None) -> AsyncIterator[Event]:
        """Yield what happens, as it happens; with `since`, first what happened after that row."""
        core = self.core
        follower = core.events.follow()
        seen = core.journal.head if since is None else since
        try:
            for event in _past(core, since) if since is not None else ():
                seen = event.seq
                yield event
            async for event in follower:
                if event.kind == "delta" or event.seq > seen:  # a delta has the number of a row that came before it
                    await core.journal.durable(event.seq)
                    yield event
        finally:
            follower.close()

    async def run_until_idle(self, timeout_s: float | None = None) -> None:
        """Wait until nothing is ready, running or due; waiting on people or far timers is idle.

        Raises:
            TimeoutError: it was not idle within `timeout_s` seconds; nothing was touched.
        """
        core = self.core
        with anyio.fail_after(timeout_s):
            while True:
                await core.scheduler.quiet()
                await anyio.lowlevel.checkpoint()
                due = core.waits.next_due()
                is_due = due is not None and due <= core.clock.now()
                if core.scheduler.is_quiet and not core.effects and not is_due:
                    break
                await core.effects_over()
        core.journal.flush()

    # --- mounting -----------------------------------------------------------------------------------------------------------

    def mount(self, name: str, device: Device) -> None:
        """Mount a device: its ops become syscalls ``NAME.op``.

        Raises:
            Invalid: `invalid.op`, an op is refused or its name is taken.
        """
        for syscall in device.syscalls(name):
            self.core.ops.add(syscall.op)
            self.broker.door.serve(syscall)
        wake_dormant(self.core)
        self.core.waits.wake(("device", name))


def _past(core: Core, since: int) -> Iterable[Event]:
    while True:
        rows = core.store.rows(since, _PAGE)
        for row in rows:
            since = row.seq
            yield event_of(row)
        if len(rows) < _PAGE:
            return
