"""`Shell`: what every verb gets, and the three ways to reach a store.

looking     the running kernel through its control socket, else the store read-only
changing    the running kernel, else a kernel of our own for a moment, in which no program runs
driving     the running kernel, else a kernel of our own in which every unfinished process goes on
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentos.abi.place import Dsn, place_of
from agentos.errors import Invalid
from agentos.runtime.places import default_store, state_folder
from agentos.shell.escape import line
from agentos.shell.output import Output

if TYPE_CHECKING:
    from agentos.runtime.kernel import Kernel

__all__ = ["Shell", "expect_as_it_is", "is_remote"]


class Shell:
    """One command: where it looks, how it writes, how it was called.

    Attributes:
        output: Where it writes.
        store: The store's file, or the address of its database.
        workspace: The workspace as given.
        argv: The command line, for hints that repeat it.
        parting: Lines that say how to go on, printed when the command is interrupted.
    """

    def __init__(
        self, output: Output, *, store: str | Path | None = None, workspace: Path | None = None, argv: Sequence[str] = ()
    ) -> None:
        self.output = output
        self.workspace = workspace or Path()
        self.store_given = store is not None
        self.workspace_given = workspace is not None
        self.store = place_of(store) if store is not None else default_store(self.workspace)
        secret = self.store.secret if isinstance(self.store, Dsn) else ""
        self.argv = [word.replace(secret, str(self.store)) if secret else word for word in argv]
        self.parting: list[str] = []

    @property
    def has_store(self) -> bool:
        """True when there is a store already."""
        if isinstance(self.store, Path):
            return self.store.is_file()
        from agentos.store import is_made  # noqa: PLC0415 - a database has to be asked

        return is_made(self.store)

    def host_of(self, kernel: Kernel) -> str | None:
        """Return where the kernel of the store runs: "" in reach, a host's name where only its database is; None where nobody has it."""
        from agentos.store import held_on  # noqa: PLC0415 - a database has to be asked

        return "" if is_remote(kernel) else held_on(self.store)

    @property
    def has_person(self) -> bool:
        """True when somebody sits at a terminal and can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def hint(self, *words: object) -> str:
        """Return a command that reaches the same store, to copy and paste."""
        import shlex  # noqa: PLC0415 - hints are rare

        return line(shlex.join(["agentos", *map(str, words), *self.place()]))

    def place(self) -> list[str]:
        """Return the options that say where the store is, as they were given."""
        place = ["--store", str(self.store)] if self.store_given else []
        return place + (["--workspace", str(self.workspace)] if self.workspace_given else [])

    def expect_outside(self, kernel: Kernel, path: Path) -> None:
        """Refuse a copy of the store in the workspace, where processes read it. A running kernel knows its mounts itself.

        Raises:
            Invalid: `invalid.argument`.
        """
        from agentos.runtime.places import refuse_copy, virtual_mounts  # noqa: PLC0415 - only for copies

        if not is_remote(kernel) and (self.workspace_given or not self.store_given):
            refuse_copy(path, self.store, virtual_mounts(self.workspace, {}))

    def again(self) -> str:
        """Return this very command, without what may only be said once."""
        import shlex  # noqa: PLC0415 - hints are rare

        return line(shlex.join(["agentos", *(word for word in self.argv if word != "--new")]))

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Kernel]:
        """Look at the store; answering asks works this way too.

        Raises:
            Invalid: `invalid.store`, there is no store there.
        """
        from agentos.runtime.client import connect  # noqa: PLC0415 - only verbs that need a store pay for it

        if not self.has_store:
            raise self.no_store()
        async with connect(self.store) as kernel:
            yield cast("Kernel", kernel)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Kernel]:
        """Reach the store to change something in it; no program runs because of it.

        Raises:
            Invalid: `invalid.store`, there is no store there.
        """
        if not self.has_store:
            raise self.no_store()
        async with self.driving(resume=False) as kernel:
            yield kernel

    @asynccontextmanager
    async def driving(
        self, *, resume: bool = True, mounts: dict[str, Any] | None = None, mode: str | None = None, no_policy: bool = False,
        models: dict[str, Any] | None = None,
    ) -> AsyncIterator[Kernel]:  # fmt: skip
        """Reach the kernel that runs the store's processes, becoming it when nobody else is.

        Args:
            resume: Unfinished processes go on.
            mounts: Folders to mount, when the kernel is our own.
            mode: Its mode, when it is our own.
            no_policy: Processes of an application may go on without the policy that it opens the store with.
            models: Its model profiles beside those of the host's configuration, when it is our own.

        Raises:
            Invalid: the store cannot be opened, there is no such mode, `mounts`, a `mode` or `models` are given and another kernel has
                the store, or it holds processes of an application, which would go on without its policy.
        """
        if self.has_store:
            self._bring_up()
            async with self.looking() as kernel:
                if is_remote(kernel):
                    expect_as_it_is(mount=mounts, mode=mode, model=models)
                    yield kernel
                    return
                if resume and not no_policy:
                    await self._expect_ours(kernel)
        from agentos.runtime.boot import Open  # noqa: PLC0415 - only verbs that need a kernel pay for it

        _make_private(state_folder())
        opening = Open(
            self.store, workspace=self.workspace, mounts=mounts or {}, resume=resume, mode=mode or "ask", models=models
        )
        if not no_policy:
            opening.owns, opening.started = self._is_ours, self._remember
        async with opening as kernel:
            kernel.core.scheduler.admitting = resume
            yield kernel

    def _bring_up(self) -> None:
        """Bring the file of an older agentos to today's schema, for good; nothing in it is lost.

        Raises:
            Invalid: `invalid.store`, it is of a newer agentos, or another kernel has it.
        """
        from agentos.runtime.clock import SystemClock  # noqa: PLC0415 - only verbs that need a kernel pay for it
        from agentos.store import open_store  # noqa: PLC0415

        if not isinstance(self.store, Path):
            return  # a database server had no older one
        try:
            open_store(self.store, clock=SystemClock(), writer=False).close()
        except Invalid as error:
            if error.fields.get("reason") != "schema":
                raise
            open_store(self.store, clock=SystemClock()).close()
            self.output.note(f"the store `{self.store}` was brought to the schema of this agentos")

    def _is_ours(self, schedule: int) -> bool:
        """Say whether a command made a schedule: an application's waits for the application, whose policy is not known here."""
        from agentos.shell.remembered import is_remembered_schedule  # noqa: PLC0415 - only verbs that run processes

        return is_remembered_schedule(self.store, schedule)

    def _remember(self, pid: int) -> None:
        from agentos.shell.remembered import remember_run  # noqa: PLC0415 - only verbs that run processes

        remember_run(self.store, pid, self.workspace)

    async def _expect_ours(self, kernel: Kernel) -> None:
        """Refuse to run what an application started: the policy that it opens the store with is in no store, and would not hold.

        Raises:
            Invalid: `invalid.state`.
        """
        from agentos.shell.remembered import workspace_of  # noqa: PLC0415 - only verbs that run processes

        infos = await kernel.ps()
        strange = [info.pid for info in infos if info.program != "host" and workspace_of(self.store, info.tree) is None]
        if strange:
            said = (
                f"process {strange[0]} was started by an application, and the policy it opens this store with is not known here"
            )
            hint = "start that application; or --no-policy: capabilities and the process's own policy alone decide"
            raise Invalid("state", said, hint=hint, pid=strange[0])

    def no_store(self) -> Invalid:
        """Return the error that says where a store was looked for and where one may be."""
        from agentos.shell.remembered import last_workspace  # noqa: PLC0415 - only on the way to an error

        last = None if self.store_given or self.workspace_given else last_workspace()
        hint = (
            f"the last run here was in another workspace: add `--workspace {last}`"
            if last
            else "start something: `agentos run IMAGE`"
        )
        return Invalid("store", f"there is no store at `{self.store}`", hint=hint, reason="missing")


def expect_as_it_is(**options: Any) -> None:
    """Refuse options that a kernel is opened with, where another command has opened it.

    Raises:
        Invalid: `invalid.state`.
    """
    for name, given in options.items():
        if given:
            hint = f"leave --{name} out, or end the command that holds the store"
            raise Invalid("state", f"another kernel holds the store, with a {name} of its own", hint=hint, field=name)


def _make_private(folder: Path) -> None:
    """Make the state folder for its owner alone; one that exists is left as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def is_remote(kernel: Kernel) -> bool:
    """Say whether a kernel in another process answers, and not the store alone or a kernel of our own."""
    return getattr(kernel, "held_by", None) is not None
