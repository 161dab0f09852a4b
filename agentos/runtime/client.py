"""`connect`: the API of a kernel that runs in another process, or, when none runs, what its store says.

`RemoteKernel` and `RemoteProcess` have the methods of `Kernel` and `Process`, which document them; every one is a request over the
control socket. Not here: authority of any kind. Who may open the socket is the host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from agentos.abi.place import Dsn, Place, place_of
from agentos.errors import Invalid
from agentos.runtime.forward import forwarded, image_sent, policy_sent
from agentos.runtime.link import Link, NoKernel
from agentos.runtime.places import control_path, default_store

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.abi.values import CapInfo, Event, Exit, ProcessInfo
    from agentos.devices.app import Device
    from agentos.kernel.ask import Ask, Standing
    from agentos.runtime.offline import StoreView
    from agentos.runtime.outcome import Decision, Entry, Outcome
    from agentos.store import AuditReport

__all__ = ["Connect", "RemoteKernel", "RemoteProcess", "connect"]


def connect(store: str | Path | Dsn | None = None, *, workspace: str | Path = ".") -> Connect:
    """Return an async context manager that gives the API of whoever holds the store.

    While a kernel holds it: a `RemoteKernel`, over that kernel's control socket. Otherwise a read-only `StoreView`, in which only
    `answer` changes something: the answer is kept for the next kernel.

    Args:
        store: Path of the store, or the address of its database; None is the default store of `workspace`.
        workspace: As in `agentos.open`.

    Raises:
        Invalid: on entering: `invalid.store`, reason missing (there is no store) or what else is wrong with it; `invalid.state`, the
            socket is another user's or speaks another version.
        Unavailable: on entering: the kernel does not answer.
    """
    return Connect(place_of(default_store(Path(workspace)) if store is None else store))


class Connect:
    """The async context manager that `connect` returns."""

    def __init__(self, store: Place) -> None:
        self._store = store
        self._link: Link | None = None
        self._view: StoreView | None = None
        self._tasks: TaskGroup

    async def __aenter__(self) -> RemoteKernel | StoreView:
        """Connect to the kernel, or open the store for reading."""
        if not isinstance(self._store, Dsn) and not self._store.is_file():
            raise Invalid(
                "store",
                f"there is no store at `{self._store}`",
                hint="give another path, or start a kernel there",
                reason="missing",
            )
        try:
            self._link = await Link.dial(control_path(self._store))
        except NoKernel:
            from agentos.runtime.offline import StoreView  # noqa: PLC0415 - a client of a live kernel opens no store

            self._view = StoreView(self._store)
            return self._view
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._link.start(self._tasks)
        return RemoteKernel(self._link)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        """Close the connection or the store. What still waits for the kernel is cancelled there."""
        return self._leave()

    async def _leave(self) -> None:
        if self._view is not None:
            self._view.close()
        if self._link is not None:
            self._link.close()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)


class RemoteKernel:
    """A kernel in another process: the methods of `Kernel`.

    Attributes:
        held_by: Host pid of the process that it runs in.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.held_by: int | None = link.pid

    # --- processes ----------------------------------------------------------------------------------------------------------

    async def spawn(  # noqa: PLR0913 - as `Kernel.spawn`
        self,
        image: str | Path | AgentImage,
        *,
        goal: Any = None,
        args: dict[str, Any] | None = None,
        parent: int | RemoteProcess | None = None,
        grant: Sequence[str] | None = None,
        policy: Any = None,
        budget: dict[str, Any] | None = None,
        name: str | None = None,
        weight: float = 1,
        deadline_s: float | None = None,
        snapshot: str = "changed",
    ) -> RemoteProcess:
        """As `Kernel.spawn`. Paths are relative to this process's folder; the kernel reads them."""
        above = parent.pid if isinstance(parent, RemoteProcess) else parent
        options = {
            "goal": goal, "args": args, "parent": above, "grant": None if grant is None else list(grant), "policy": policy_sent(policy),
            "budget": budget, "name": name, "weight": weight, "deadline_s": deadline_s, "snapshot": snapshot,
        }  # fmt: skip
        return RemoteProcess(self._link, await self._link.request("spawn", {"image": image_sent(image), **options}))

    async def register(self, image: str | Path | AgentImage) -> str:
        """As `Kernel.register`."""
        ref: str = await self._link.request("register", {"image": image_sent(image)})
        return ref

    def process(self, pid: int) -> RemoteProcess:
        """As `Kernel.process`, but without asking: a pid that never was is refused by the first use of the handle."""
        return RemoteProcess(self._link, pid)

    async def ps(self, *, all: bool = False) -> list[ProcessInfo]:  # noqa: A002 - as `Kernel.ps`
        """As `Kernel.ps`."""
        shown: list[ProcessInfo] = await self._link.request("ps", {"all": all})
        return shown

    async def tree(self, pid: int | None = None) -> list[ProcessInfo]:
        """As `Kernel.tree`."""
        shown: list[ProcessInfo] = await self._link.request("tree", {"pid": pid})
        return shown

    async def run_until_idle(self, timeout_s: float | None = None) -> None:
        """As `Kernel.run_until_idle`."""
        await self._link.request("run_until_idle", {"timeout_s": timeout_s})

    def mount(self, name: str, device: Device) -> None:
        """Refuse: a device is code, and code does not cross the socket.

        Raises:
            Invalid: always, `invalid.state`.
        """
        raise Invalid(
            "state", f"device `{name}` cannot be mounted from outside", hint="mount it in the process that opened the kernel"
        )

    # --- authority ----------------------------------------------------------------------------------------------------------

    async def grant(self, pid: int, text: str) -> int:
        """As `Kernel.grant`."""
        cap: int = await self._link.request("grant", {"pid": pid, "text": text})
        return cap

    async def revoke(self, cap: int) -> int:
        """As `Kernel.revoke`."""
        ended: int = await self._link.request("revoke", {"cap": cap})
        return ended

    async def caps(self, pid: int | None = None) -> list[CapInfo]:
        """As `Kernel.caps`."""
        caps: list[CapInfo] = await self._link.request("caps", {"pid": pid})
        return caps

    def check(self, pid: int, op: str, /, **args: Any) -> Decision:
        """As `Kernel.check`. Plain like it, so this thread blocks for the round trip, CONTROL_REPLY_S at most."""
        decision: Decision = self._link.ask_now("check", {"pid": pid, "op": op, "args": args})
        return decision

    # --- people -------------------------------------------------------------------------------------------------------------

    async def asks(self, state: str | None = "pending") -> list[Ask]:
        """As `Kernel.asks`."""
        asks: list[Ask] = await self._link.request("asks", {"state": state})
        return asks

    async def ask(self, ask_id: int) -> Ask:
        """As `Kernel.ask`."""
        ask: Ask = await self._link.request("ask", {"ask_id": ask_id})
        return ask

    async def answer(
        self, ask_id: int, verdict: str, *, by: str, scope: str = "once", edit: dict[str, Any] | None = None, reason: str | None = None,
        **value: Any,
    ) -> Ask:  # fmt: skip
        """As `Kernel.answer`."""
        words = {"ask_id": ask_id, "verdict": verdict, "by": by, "scope": scope, "edit": edit, "reason": reason}
        ask: Ask = await self._link.request("answer", {**words, **value})
        return ask

    async def ask_link(self, ask_id: int, *, base_url: str, for_: str | None = None) -> str:
        """As `Kernel.ask_link`."""
        link: str = await self._link.request("ask_link", {"ask_id": ask_id, "base_url": base_url, "for_": for_})
        return link

    async def notify(self, ask_id: int, url: str, *, base_url: str, for_: str | None = None) -> dict[str, Any]:
        """As `Kernel.notify`; the kernel sends it."""
        options = {"ask_id": ask_id, "url": url, "base_url": base_url, "for_": for_}
        result: dict[str, Any] = await self._link.request("notify", options)
        return result

    async def standing(self) -> list[Standing]:
        """As `Kernel.standing`."""
        grants: list[Standing] = await self._link.request("standing")
        return grants

    async def revoke_standing(self, standing: int) -> Standing:
        """As `Kernel.revoke_standing`."""
        revoked: Standing = await self._link.request("revoke_standing", {"standing": standing})
        return revoked

    # --- looking ------------------------------------------------------------------------------------------------------------

    def audit(
        self, *, since: int = 0, pid: int | None = None, op: str | None = None, outcome: str | None = None
    ) -> AsyncIterator[Entry]:
        """As `Kernel.audit`."""
        return self._link.stream("audit", {"since": since, "pid": pid, "op": op, "outcome": outcome})

    async def verify_audit(self, head: str | None = None) -> AuditReport:
        """As `Kernel.verify_audit`."""
        report: AuditReport = await self._link.request("verify_audit", {"head": head})
        return report

    def events(self, since: int | None = None) -> AsyncIterator[Event]:
        """As `Kernel.events`; the end of the kernel is `unavailable.cancelled`."""
        return self._link.stream("events", {"since": since})

    # --- schedules ----------------------------------------------------------------------------------------------------------

    schedule = forwarded("schedules.Schedules.schedule")
    schedules = forwarded("schedules.Schedules.schedules")
    unschedule = forwarded("schedules.Schedules.unschedule")
    pause_schedule = forwarded("schedules.Schedules.pause_schedule")
    resume_schedule = forwarded("schedules.Schedules.resume_schedule")

    # --- upkeep -------------------------------------------------------------------------------------------------------------

    backup = forwarded("upkeep.Upkeep.backup")
    export = forwarded("upkeep.Upkeep.export")
    inspect = forwarded("upkeep.Upkeep.inspect")
    retain = forwarded("upkeep.Upkeep.retain")
    retention = forwarded("upkeep.Upkeep.retention")
    forget_retention = forwarded("upkeep.Upkeep.forget_retention")
    archive = forwarded("upkeep.Upkeep.archive")
    erase = forwarded("upkeep.Upkeep.erase")
    tidy = forwarded("upkeep.Upkeep.tidy")

    # --- files --------------------------------------------------------------------------------------------------------------

    undo = forwarded("undoing.Undoing.undo")
    merge = forwarded("undoing.Undoing.merge")
    drop = forwarded("undoing.Undoing.drop")

    # --- history ------------------------------------------------------------------------------------------------------------

    checkpoints = forwarded("history.History.checkpoints")
    drop_checkpoint = forwarded("history.History.drop_checkpoint")
    restore = forwarded("history.History.restore")
    fork = forwarded("history.History.fork", process=lambda link, pid: RemoteProcess(link, pid))  # noqa: PLW0108 - it is defined below
    diff = forwarded("history.History.diff")
    commit_image = forwarded("history.History.commit_image")
    replay = forwarded("replays.Replays.replay")


class RemoteProcess:
    """One process of a kernel in another process: the methods of `Process`.

    Attributes:
        pid: Its pid.
    """

    def __init__(self, link: Link, pid: int) -> None:
        self._link = link
        self.pid = pid

    def __repr__(self) -> str:
        """Return the pid."""
        return f"<agentos.RemoteProcess {self.pid}>"

    async def call(
        self, op: str, /, *, key: str | None = None, timeout_s: float | None = None, retries: int = 0, **args: Any
    ) -> Any:
        """As `Process.call`; values of an app's own types arrive as the data they hold."""
        options = {"op": op, "args": args, "key": key, "timeout_s": timeout_s, "retries": retries}
        return await self._link.request("process.call", options, pid=self.pid)

    async def calls(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """As `Process.calls`."""
        outcomes: list[Outcome] = await self._link.request("process.calls", {"calls": list(calls)}, pid=self.pid)
        return outcomes

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """As `Process.wait`."""
        ended: Exit = await self._link.request("process.wait", {"timeout_s": timeout_s}, pid=self.pid)
        return ended

    async def signal(self, what: str) -> None:
        """As `Process.signal`."""
        await self._link.request("process.signal", {"what": what}, pid=self.pid)

    async def exit(self, value: Any = None) -> None:
        """As `Process.exit`."""
        await self._link.request("process.exit", {"value": value}, pid=self.pid)

    async def send(self, value: Any, channel: str = "main") -> int:
        """As `Process.send`."""
        message: int = await self._link.request("process.send", {"value": value, "channel": channel}, pid=self.pid)
        return message

    async def fork(self, *, grant: Iterable[str] = (), goal: Any = None, speculative: bool = False) -> RemoteProcess:
        """As `Process.fork`."""
        sent = {"grant": list(grant), "goal": goal, "speculative": speculative}
        pid = await self._link.request("process.fork", sent, pid=self.pid)
        return RemoteProcess(self._link, pid)

    async def checkpoint(self, note: str = "") -> str:
        """As `Process.checkpoint`."""
        checkpoint: str = await self._link.request("process.checkpoint", {"note": note}, pid=self.pid)
        return checkpoint

    async def query(self, name: str) -> Any:
        """As `Process.query`."""
        return await self._link.request("process.query", {"name": name}, pid=self.pid)

    def stream(self, text: Any = None, *, since: int | None = None) -> AsyncIterator[Event]:
        """As `Process.stream`; the end of the kernel is `unavailable.cancelled`."""
        return self._link.stream("process.stream", {"text": text, "since": since}, pid=self.pid)

    async def caps(self) -> list[CapInfo]:
        """As `Process.caps`."""
        caps: list[CapInfo] = await self._link.request("process.caps", pid=self.pid)
        return caps

    @property
    def info(self) -> ProcessInfo:
        """As `Process.info`; this thread blocks for the round trip, CONTROL_REPLY_S at most."""
        shown: ProcessInfo = self._link.ask_now("process.info", pid=self.pid)
        return shown

    @property
    def usage(self) -> dict[str, float]:
        """As `Process.usage`; blocks like `info`."""
        return self.info.usage
