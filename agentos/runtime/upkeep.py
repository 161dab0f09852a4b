"""The part of the embedded API for what a store needs over the years: backup, retention, archive, erasure, collection.

Protocol: what may go is decided on the event loop, at one moment, with everything committed (`kernel.retention`); the work on the file is
done by a worker thread in small transactions, between which commits go on. One of these runs at a time. What was done is journaled.

INVARIANT upkeep-runs-alone: archive, erasure and collection of one store never overlap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from agentos.abi.limits import UPKEEP_EVERY_S
from agentos.abi.records import Change, RetentionRecord
from agentos.errors import AgentOSError, Invalid, KernelPanic
from agentos.kernel.retention import (
    EndedTrees,
    EraseReport,
    Retention,
    TidyReport,
    as_retention,
    blank_exit,
    check_rule,
    label_bits,
)
from agentos.runtime.base import KernelBase
from agentos.runtime.places import refuse_copy
from agentos.store.archive import Moved, archive, count_rows, pids_in_journal
from agentos.store.backup import BackupReport, backup
from agentos.store.collect import Collected, collect
from agentos.store.erase import Erasing, Scope, erase
from agentos.store.export import export
from agentos.store.inspect import Finding, inspect
from agentos.store.inspect import repair as mend
from agentos.store.scrub import free_share

if TYPE_CHECKING:
    from agentos.broker.broker import Broker
    from agentos.kernel.core import Core
    from agentos.programs.registry import Programs

__all__ = ["Upkeep"]

log = logging.getLogger("agentos.runtime")

Value = TypeVar("Value")
_BLANK: Final = {("process", "exit"): blank_exit}
_FREE_SHARE_MAX: Final = 0.1  # of the file, above which `tidy` writes it anew though nothing went just now
_AT_ONCE: Final = 32  # trees that are looked at before others get a turn


class Upkeep(KernelBase):
    """What a store needs over the years: backup, retention, erasure, collection of what nothing refers to; a base of `Kernel`.

    Attributes:
        mounts: What processes see: virtual prefix -> (host folder, read-only).
    """

    mounts: Mapping[str, tuple[Path, bool]]

    def __init__(self, core: Core, broker: Broker, programs: Programs) -> None:
        super().__init__(core, broker, programs)
        self._alone = anyio.Lock()
        self._done: dict[int, int] = {}  # rule -> it has nothing more to do with any tree up to here

    # --- a copy ---------------------------------------------------------------------------------------------------------------

    async def backup(self, path: str | Path) -> BackupReport:
        """Copy the store into a new file (0600), which is verified before it gets its name. Work goes on meanwhile.

        Args:
            path: The new file; its folder exists.

        Raises:
            Invalid: `invalid.argument`, there is something at `path`, or it lies in a mount; `invalid.store`, the store or the disk failed.
                There is no file then.

        Cancellation: the copy is finished all the same.
        """
        refuse_copy(Path(path), self.core.store.path, self.mounts)
        self.core.journal.flush()
        return await anyio.to_thread.run_sync(backup, self.core.store, Path(path))

    async def export(self, path: str | Path, *, since: int = 0, pid: int | None = None) -> int:
        """Write the journal into a new file (0600), one JSON object per line, and return how many rows it has (`store.export`).

        Args:
            path: The new file; its folder exists.
            since: Only rows after this number.
            pid: Only rows of this process.

        Raises:
            Invalid: `invalid.argument`, there is something at `path`, it lies in a mount, or there is no row `since`; `invalid.store`, the
                store or the disk failed.
        """
        refuse_copy(Path(path), self.core.store.path, self.mounts)
        self.core.journal.flush()
        return await anyio.to_thread.run_sync(partial(export, self.core.store, Path(path), since=since, pid=pid))

    async def inspect(self, *, repair: bool = False) -> list[Finding]:
        """Look whether the store is in order: the chain, the schema, the archive, every reference, the disk.

        Args:
            repair: First mend what follows from the rest of the store; what was mended is a finding too.

        Raises:
            Invalid: `invalid.store`, it is closed or failed.
        """
        async with self._working():
            store = self.core.store
            mended = await _thread(mend, store) if repair else []
            return [Finding("mended", "ok", each) for each in mended] + await _thread(inspect, store)

    # --- rules ----------------------------------------------------------------------------------------------------------------

    async def retain(self, scope: str, value: Any = None, *, keep_s: float, action: str = "archive") -> Retention:
        """Make a retention rule. Rules are applied by `tidy`, and every hour while a kernel runs; without one everything is kept.

        Args:
            scope: all, tree, namespace or label; rows are archived by all or tree only.
            value: Which tree (pid of its first process), namespace or label.
            keep_s: Seconds after the end of a tree that it is left alone.
            action: archive or erase.

        Raises:
            Invalid: `invalid.argument`, one of them is wrong.
        """
        text = check_rule(scope, value, keep_s, action)
        core = self.core
        record = RetentionRecord(
            retention=core.store.max_key(RetentionRecord) + 1, scope=scope, value=text, action=action, keep_s=float(keep_s),
            created=core.clock.now(),
        )  # fmt: skip
        data = {"retention": record.retention, "scope": scope, "value": text, "keep_s": keep_s, "action": action}
        await core.journal.durable(core.note(0, "retention", data, [Change(record)]))
        return as_retention(record)

    async def retention(self) -> list[Retention]:
        """Return the retention rules, oldest first."""
        return [as_retention(record) for record in self.core.store.current(RetentionRecord, live=True)]

    async def forget_retention(self, id: int) -> Retention:  # noqa: A002 - what the rule calls it
        """End a retention rule. What it archived or erased stays so.

        Raises:
            Invalid: there is no live rule of that number.
        """
        record = self.core.store.get(RetentionRecord, id)
        if record is None or not record.live:
            raise Invalid("argument", f"there is no retention rule {id}", hint="see `agentos retention ls`", retention=id)
        change = Change(record, record.seq)
        record.live = 0
        await self.core.journal.durable(self.core.note(0, "retention_ended", {"retention": id}, [change]))
        return as_retention(record)

    # --- doing it ---------------------------------------------------------------------------------------------------------------

    async def archive(self, *, tree: int | None = None, keep_s: float = 0.0) -> Moved:
        """Move the journal rows of trees that are over into the archive, where they take less room and are still read and verified.

        Args:
            tree: Only this one, whenever it ended; None is every tree that is over.
            keep_s: Seconds after its end that a tree is left alone.

        Raises:
            Invalid: `invalid.state`, the tree is not over, or needed; `invalid.store`, the store failed.

        Cancellation: what was moved stays moved.
        """
        async with self._working() as over:
            if tree is not None:
                over.expect_over(tree)
                pids = over.pids(tree)
            else:
                pids = await self._pids_due(over, lambda each: over.is_due(each, keep_s))
            return await self._archive(pids)

    async def erase(  # noqa: PLR0913 - one per way to say what
        self, *, tree: int | None = None, pid: int | None = None, namespace: str | None = None, label: str | None = None,
        before: float | None = None, dry_run: bool = False, by: str = "host",
    ) -> EraseReport:  # fmt: skip
        """Erase the content of what is over: from rows, state, objects, the log and the bytes of the file. It cannot be undone.

        Arguments are joined by *and*. Numbers, ops, outcomes, rules and hashes stay, and the chain still verifies. Commits wait
        while the file is written anew, about a second per 100 MB.

        Args:
            tree: Everything of this tree.
            pid: Everything of this process.
            namespace: Only objects in this namespace and below, and the calls that name them.
            label: Only what carries this label.
            before: Only trees that ended before this time (seconds since the epoch).
            dry_run: Count only.
            by: Who wants it, for the journal.

        Raises:
            Invalid: `invalid.argument`, nothing is said; `invalid.state`, the tree lives or is needed; `invalid.store`, the store failed.
            Unavailable: `unavailable.overloaded`, a reader holds on to an older state: erased, but the log still has it.

        Cancellation: say it again: what was erased stays so, the rest follows.
        """
        said = {"tree": tree, "pid": pid, "namespace": namespace, "label": label, "before": before}
        said = {name: value for name, value in said.items() if value is not None}
        if not said:
            raise Invalid("argument", "nothing says what to erase", hint="tree, pid, namespace, label or before", field="tree")
        bits = label_bits(label) if label is not None else 0
        async with self._working() as over:
            pids = await self._pids_to_erase(over, tree, pid, before)
            scope = Scope(tuple(pids), namespace.strip("/") if namespace is not None else None, bits)
            if not dry_run:
                await self.core.journal.durable(self.core.note(0, "erasing", {**said, "by": by}))
            done = await _thread(erase, self.core.store, scope, _BLANK, dry_run=dry_run)
            gone = Collected(0, 0) if dry_run else await self._collect(done.names)
            report = EraseReport(done.rows, done.records, gone.objects, gone.bytes)
            if not dry_run:
                await self._rewrite()
                counts = {"rows": report.rows, "records": report.records, "objects": report.objects, "bytes": report.bytes}
                await self.core.journal.durable(self.core.note(0, "erased", {**said, **counts, "by": by}))
            return report

    async def tidy(self, *, dry_run: bool = False) -> TidyReport:
        """Apply the retention rules, remove objects that nothing refers to, and write the file anew where that gives back room.

        Raises:
            Invalid, Unavailable: as `erase`.

        Cancellation: say it again.
        """
        return await self._tidy(dry_run=dry_run, thorough=True)

    async def keep_tidy(self) -> None:
        """Apply the retention rules every hour, if there are any. Runs until cancelled; the file is not written anew here."""
        while True:
            await self.core.clock.sleep_until(self.core.clock.now() + UPKEEP_EVERY_S)
            if not await self.retention():
                continue
            try:
                await self._tidy(dry_run=False, thorough=False)
            except (AgentOSError, KernelPanic) as error:
                log.warning("retention_failed error=%s", error)

    # --- how ----------------------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[EndedTrees]:
        """Work on the file alone, from a moment at which everything is committed."""
        async with self._alone:
            self.core.journal.flush()
            yield EndedTrees(self.core.store, self.core.clock.now())

    async def _tidy(self, *, dry_run: bool, thorough: bool) -> TidyReport:
        begun = time.monotonic()
        async with self._working() as over:
            rules = await self.retention()
            moved = await self._archive_due(over, rules, dry_run=dry_run)
            done = Erasing()
            for rule in rules:
                if rule.action == "erase":
                    await self._erase_due(over, rule, done, dry_run=dry_run)
            gone = Collected(0, 0)
            if thorough or done.rows or done.records:
                gone = await self._collect(done.names, dry_run=dry_run)
            report = TidyReport(
                moved, done.rows + done.records, gone.objects, gone.bytes, round(time.monotonic() - begun, 3), dry_run=dry_run
            )
            went = report.archived or report.erased or report.objects
            if thorough and not dry_run and (went or free_share(self.core.store.reader) > _FREE_SHARE_MAX):
                await self._rewrite()
            if went and not dry_run:
                data = {"archived": report.archived, "erased": report.erased, "objects": report.objects, "bytes": report.bytes}
                await self.core.journal.durable(self.core.note(0, "tidied", data))
            return report

    async def _archive_due(self, over: EndedTrees, rules: Iterable[Retention], *, dry_run: bool) -> int:
        keeps = [rule for rule in rules if rule.action == "archive"]
        if not keeps:
            return 0
        pids = await self._pids_due(
            over, lambda tree: any(_covers(rule, tree) and over.is_due(tree, rule.keep_s) for rule in keeps)
        )
        if dry_run:
            return await _thread(count_rows, self.core.store, pids)
        return (await self._archive(pids)).rows

    async def _archive(self, pids: list[int]) -> Moved:
        moved = await _thread(archive, self.core.store, pids)
        log.info("archived rows=%d pages=%d", moved.rows, moved.pages)
        return moved

    async def _erase_due(self, over: EndedTrees, rule: Retention, done: Erasing, *, dry_run: bool) -> None:
        """Erase what one rule says; this kernel does not look again at the trees before the first that may still come due."""
        passed, is_passing = self._done.get(rule.id, 0), True
        trees = []
        async for tree in _in_turns(over.trees(passed)):
            if _covers(rule, tree) and over.is_due(tree, rule.keep_s):
                if rule.scope not in ("all", "tree") or not over.is_erased(tree):
                    trees.append(tree)
            else:
                is_passing = is_passing and not _covers(rule, tree)
            passed = tree if is_passing else passed
        bits = label_bits(rule.value) if rule.scope == "label" else 0
        namespace = rule.value.strip("/") if rule.scope == "namespace" else None
        pids = tuple(pid for tree in trees for pid in over.pids(tree))
        found = await _thread(erase, self.core.store, Scope(pids, namespace, bits), _BLANK, dry_run=dry_run)
        done.rows, done.records = done.rows + found.rows, done.records + found.records
        done.names |= found.names
        if not dry_run:
            self._done[rule.id] = min([passed, over.first_alive() - 1, *(tree - 1 for tree in over.needed)])

    async def _collect(self, names: set[bytes], *, dry_run: bool = False) -> Collected:
        """Collect objects; `names` were referred to by what was erased."""
        core = self.core
        core.journal.watch(without=names)
        try:
            return await _thread(collect, core.store, dry_run=dry_run)
        finally:
            core.journal.unwatch()
            core.store.objects.clear()
            self.broker.door.objects.clear()

    async def _rewrite(self) -> None:
        self.core.journal.leave_loop()
        await _thread(self.core.store.rewrite)

    async def _pids_due(self, over: EndedTrees, is_due: Callable[[int], bool]) -> list[int]:
        """Return the processes with rows in the journal whose tree is due."""
        return [pid async for pid in _in_turns(pids_in_journal(self.core.store)) if is_due(over.tree_of(pid))]

    async def _pids_to_erase(self, over: EndedTrees, tree: int | None, pid: int | None, before: float | None) -> list[int]:
        if tree is None and pid is None:
            trees = [each async for each in _in_turns(over.trees())]
        else:
            trees = [tree if tree is not None else over.tree_of(pid or 0)]
            over.expect_over(trees[0])
        if before is not None:
            trees = [each for each in trees if (over.ended(each) or before) < before]
        pids = [each for one in trees for each in over.pids(one)]
        return pids if pid is None else [each for each in pids if each == pid]


async def _thread(work: Callable[..., Value], *args: Any, **options: Any) -> Value:
    """Run `work` in a worker thread, to its end: cancelling waits for it, so that nothing else is begun beside it."""
    with anyio.CancelScope(shield=True):
        return await anyio.to_thread.run_sync(partial(work, *args, **options))
    raise AssertionError("a shield swallows nothing")


async def _in_turns(values: Iterable[Value]) -> AsyncIterator[Value]:
    """Yield values that are looked up as they come, with turns for others between."""
    for count, value in enumerate(values):
        if count % _AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        yield value


def _covers(rule: Retention, tree: int) -> bool:
    return rule.scope != "tree" or rule.value == str(tree)
