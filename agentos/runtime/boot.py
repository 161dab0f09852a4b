"""Boot and shutdown: from a path to a running kernel and back.

INVARIANT nothing-outlives-the-runtime: every task belongs to the one task group that `Open` holds; leaving the block ends them all.
INVARIANT a-bounded-run-never-changes-fate: a cancellation from around the block does not reach the tasks; the block is left as ever.

Leaving: running effects get `grace_s`, then they are cancelled and settle by their effect class; programs stop where they are and go on
from their journal when the store is opened again; nothing dies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from agentos.abi.limits import GRACE_S, HANG_UP_S, LEASE_TTL_S, LEASE_TTL_S_MAX, LEASE_TTL_S_MIN, THREADS_MAX
from agentos.abi.ops import builtin
from agentos.abi.place import Dsn, place_of
from agentos.abi.protocols import Clock
from agentos.broker.broker import Broker
from agentos.devices.llm.profile import config_path, expect_model, with_profiles
from agentos.devices.llm.scripted import Recorder
from agentos.errors import Invalid
from agentos.kernel import ops as kernel_ops
from agentos.kernel import recovery
from agentos.kernel.answer import catch_up
from agentos.kernel.core import Core
from agentos.kernel.people import People
from agentos.kernel.poison import resume_all, resume_suspects
from agentos.kernel.run import install
from agentos.kernel.secret import Given, Vault
from agentos.kernel.slots import Slots
from agentos.memory import ops as memory_ops
from agentos.memory.objects import ObjectTable
from agentos.programs.registry import Program, Programs
from agentos.programs.runner import ProgramRunner
from agentos.runtime.clock import SystemClock
from agentos.runtime.decision import DryRuns
from agentos.runtime.images import register_syscall
from agentos.runtime.kernel import Kernel
from agentos.runtime.places import default_store, label_places, refuse_config, refuse_copy, refuse_inside, virtual_mounts
from agentos.runtime.policies import admin_policies, as_policies
from agentos.store import Store, freed, open_store
from agentos.tools.declaration import declaration
from agentos.tools.ops import syscalls as tool_syscalls

if TYPE_CHECKING:
    from agentos.devices.app import Device

__all__ = ["Open"]

MODES = ("ask", "plan", "noninteractive")


class Open:
    """The async context manager that `agentos.open` returns.

    Args:
        store: Path of the store's file, ``":memory:"``, or the address of a PostgreSQL database (``postgresql://...``); None is the
            workspace's own file in the user's state folder.
        workspace: Folder that processes see as `/`.
        mounts: Name -> folder, or (folder, "ro"), seen under ``/mnt/NAME``.
        devices: Name -> device.
        programs: Durable programs beside those that the host's imports registered.
        models: Name of a profile -> a driver, such as `agentos.models.openai(...)` or a `ScriptedModel`. Beside these, the tables
            ``[models.NAME]`` of the configuration file, and for ``default`` the environment: OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_MODEL.
        policy: The kernel's own layers: a path, a text, an `agentos.Policy`, or a list of these. Outside of them stand the machine's
            admin file, where there is one, and the file that ``AGENTOS_ADMIN_POLICY`` names.
        people: Who may answer which asks: name -> capability texts, ``*`` for all; None lets whoever reaches this API answer.
        secrets: Name -> value, or a function without arguments that gives it; beside these, ``AGENTOS_SECRET_NAME`` in the environment.
            A process has a value sent where a capability says, with `agentos.Secret(NAME)`, and never sees it.
        durability: ``strict`` (survives a power cut), ``fast`` (survives a killed process), ``memory``.
        resume: False leaves unfinished programs where they are until they get the signal `resume`.
        mode: ``ask``, ``plan`` (effects outside are denied), ``noninteractive`` (what would ask is denied).
        clock: Injected time.
        seed: Kept for randomness of the kernel's own. It has none: ids are counted, and what programs draw depends on their store.
        grace_s: Seconds that running effects get when the block is left.
        control: Whether other programs of the user can reach this kernel through its control socket.
        standby: While another kernel has the store, wait until it is gone, instead of raising `invalid.store` (held).
        lease_ttl_s: Seconds after which another kernel may take a PostgreSQL store from one that is not heard of any more.

    Raises:
        Invalid: `invalid.argument`, a parameter; on entering: `invalid.store`, `invalid.policy`, `invalid.op`.
    """

    def __init__(  # noqa: PLR0913 - the frozen API
        self,
        store: str | Path | Dsn | None = None,
        *,
        workspace: str | Path = ".",
        mounts: Mapping[str, Any] | None = None,
        devices: Mapping[str, Device] | None = None,
        programs: Iterable[Program] = (),
        models: Mapping[str, Any] | None = None,
        policy: Any = None,
        people: Mapping[str, Sequence[str]] | None = None,
        secrets: Mapping[str, Given] | None = None,
        durability: str = "strict",
        resume: bool = True,
        mode: str = "ask",
        clock: Clock | None = None,
        seed: int | None = None,
        grace_s: float = GRACE_S,
        control: bool = True,
        standby: bool = False,
        lease_ttl_s: float = LEASE_TTL_S,
    ) -> None:
        if mode not in MODES:
            raise Invalid("argument", f"there is no mode `{mode}`", hint=f"use {', '.join(MODES)}", field="mode")
        self._models = with_profiles(models, os.environ)
        self._mounts = virtual_mounts(workspace, mounts or {})
        if not LEASE_TTL_S_MIN <= lease_ttl_s <= LEASE_TTL_S_MAX:
            hint = f"{LEASE_TTL_S_MIN} to {LEASE_TTL_S_MAX} seconds"
            raise Invalid("argument", f"a lease cannot last {lease_ttl_s} seconds", hint=hint, field="lease_ttl_s")
        self._where = (
            ":memory:" if str(store) == ":memory:" else place_of(default_store(Path(workspace)) if store is None else store)
        )
        self._standby = standby
        self._lease_ttl_s = lease_ttl_s
        self._devices = dict(devices or {})
        self._programs = tuple(programs)
        self._policies = [*admin_policies(os.environ), *as_policies(policy)]
        self._people = people
        self._secrets = Vault(secrets, os.environ)
        self._durability = durability
        self._resume = resume
        self._mode = mode
        self._clock = clock or SystemClock()
        self._grace_s = grace_s
        self._control = control
        self.owns: Callable[[int], bool] = lambda schedule: True  # which schedules this kernel starts the runs of
        self.started: Callable[[int], None] = lambda pid: None  # is told of the processes that schedules start
        self._closers: list[Callable[[], None]] = []
        self._tasks: TaskGroup | None = None
        self._around: TaskGroup

    async def __aenter__(self) -> Kernel:
        """Open the store, bring every living process back, and start."""
        if not isinstance(self._where, str):
            refuse_inside(self._where, self._mounts)
        refuse_config(config_path(os.environ), self._mounts)
        for recorded in (profile.driver.path for profile in self._models.values() if isinstance(profile.driver, Recorder)):
            refuse_copy(recorded, None, self._mounts)
        store = await self._opened()
        self._closers.append(store.close)
        try:
            self._kernel = self._boot(store)
        except BaseException:
            self._close()
            raise
        self._around = anyio.create_task_group()
        await self._around.__aenter__()
        try:
            self._tasks = await self._around.start(_tasks)
            await self._start(store)
        except BaseException:
            self._cancel_tasks()
            try:
                await self._end_tasks()  # noqa: ASYNC102 - every task was just cancelled; this waits for no more than their ends
            finally:
                self._close()
            raise
        return self._kernel

    async def _opened(self) -> Store:
        """Open the store; a standby kernel waits for it.

        Cancellation: safe; what was opened meanwhile is closed by `Store`'s own failure path, or never was.
        """
        while True:
            try:
                return open_store(self._where, durability=self._durability, clock=self._clock, lease_ttl_s=self._lease_ttl_s)
            except Invalid as error:
                if not self._standby or isinstance(self._where, str) or error.reason != "held":
                    raise
            await freed(self._where)

    def _boot(self, store: Store) -> Kernel:
        from agentos.devices.fs import FileSystem  # noqa: PLC0415 - only a kernel that runs needs the devices
        from agentos.devices.llm.device import LanguageModels  # noqa: PLC0415

        table = builtin()
        mounted = [syscall for name, device in self._devices.items() for syscall in device.syscalls(name)]
        for syscall in mounted:
            table.add(syscall.op)
        core = Core(store, self._clock, table, self._policies, self._mode)
        core.layers.stack(())
        core.secrets = self._secrets
        core.people = People(self._people, table) if self._people is not None else None
        install(core)
        files = FileSystem(self._mounts)
        self._closers.insert(0, files.close)
        core.slots["thread"] = Slots("thread", THREADS_MAX)
        core.place = label_places(self._mounts)
        core.has_other_names = any(core.place(prefix) != prefix for prefix in self._mounts)
        objects = ObjectTable(store, self._clock.now)
        core.forget_names = objects.forget
        broker = Broker(
            core, [*kernel_ops.syscalls(core), *memory_ops.syscalls(objects, table), *files.syscalls(), *mounted], objects
        )
        broker.door.overlaid = {syscall.op.name: syscall for syscall in files.overlay(core.overlays)}
        broker.door.serve(register_syscall(core, broker))
        models = LanguageModels(self._models, lambda name: declaration(table.find(name)), self._secrets.watch)
        core.slots |= {name: Slots(name, count) for name, count in models.slots().items()}
        core.told_up_to = models.clearance
        for syscall in (*tool_syscalls(broker), *models.syscalls(table)):
            broker.door.serve(syscall)
        programs = Programs(self._programs)
        core.runner = ProgramRunner(broker, programs, partial(expect_model, self._models))
        core.checker = DryRuns(broker)
        core.schedules.owns, core.schedules.started = self.owns, self.started
        self._recovered = recovery.load(core, resume=self._resume)
        kernel = Kernel(core, broker, programs)
        kernel.looking, kernel.mounts, kernel.languages = files.looking, self._mounts, models
        return kernel

    async def _start(self, store: Store) -> None:
        kernel, tasks = self._kernel, self._tasks
        assert tasks is not None, "they were made before anything is started in them"
        core = kernel.core
        core.note(0, "boot", {"epoch": store.epoch})
        tasks.start_soon(store.journal.run)
        tasks.start_soon(store.keep_lease)
        tasks.start_soon(core.scheduler.run, tasks)
        tasks.start_soon(core.waits.run, self._clock)
        tasks.start_soon(kernel.keep_tidy)
        recovery.end_host_waits(core)
        catch_up(core)
        suspects = resume_all(core, self._recovered.ready)
        if suspects:
            tasks.start_soon(resume_suspects, core, suspects)
        for process, intent in self._recovered.orphans:
            tasks.start_soon(kernel.broker.settle_orphan, process, intent)
        if self._resume:
            core.schedules.start()
        if self._control and store.path is not None:
            from agentos.runtime.control import serve  # noqa: PLC0415 - needs the kernel's whole API

            await tasks.start(serve, kernel, store.path)
        if self._control and isinstance(store.path, Dsn):
            from agentos.runtime.inbox import serve_inbox  # noqa: PLC0415 - only a store on a server has one

            tasks.start_soon(serve_inbox, kernel, store.path)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Let effects end, stop every task, write everything down and give the store back."""
        core = self._kernel.core
        core.closing = True
        core.scheduler.admitting = False
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._grace_s):
                await core.effects_over()
            try:
                core.write_waits()
            finally:
                self._cancel_tasks()
                await self._end_tasks()  # noqa: ASYNC102 - every task was just cancelled; this waits for no more than their ends
        finally:
            core.events.close()
            await self._hang_up()  # noqa: ASYNC102 - shielded inside, with a deadline
            self._close()
        return None

    async def _hang_up(self) -> None:
        """Close the connections to model servers; one that does not let go in time goes with the interpreter."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(HANG_UP_S):
            await self._kernel.languages.close()

    def _cancel_tasks(self) -> None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def _end_tasks(self) -> None:
        """Wait for the task group; a panic in one of its tasks is raised as itself, not as a group of one."""
        try:
            await self._around.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            raise _only(group) from None

    def _close(self) -> None:
        for close in self._closers:
            close()
        self._closers.clear()


async def _tasks(*, task_status: TaskStatus[TaskGroup]) -> None:  # noqa: ASYNC114 - started once, above
    """Hold the tasks of a kernel. Whoever cancels the host's block cancels none of them: they end when the block has been left properly."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            task_status.started(tasks)
            await anyio.sleep_forever()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of a group; a store that failed, and of which several tasks said so, failed once."""
    failed, other = group.split(lambda error: isinstance(error, Invalid) and error.code == "invalid.store")
    if failed is not None and other is None:
        group = BaseExceptionGroup(group.message, [next(_leaves(group))])
    while isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        inner = group.exceptions[0]
        if not isinstance(inner, BaseExceptionGroup):
            return inner
        group = inner
    return group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
