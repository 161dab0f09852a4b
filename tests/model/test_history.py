"""Everything that goes back, branches off or tidies up, mixed in any order, against an oracle and over crashes.

Keepers are processes that obey commands: they note, save, write and delete files, sleep, ask, act outside, send messages and
start children. Around them stand checkpoints, restores, forks, tries, undo, revocation, schedules, archive, erase, backup and
crash.

A crash copies store and files as they are at one instant, and a new kernel goes on with the copy.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

import agentos
from agentos.abi.records import MessageRecord
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, live, opened
from tests.model.history_oracle import STEP_S, Keeper, Oracle, Point, Then
from tests.model.lives import Lives

PICK = st.integers(0, 10_000)
PATHS = st.sampled_from(["/a", "/b", "/c"])
WORDS = ["note", "save", "write", "delete", "sleep", "ask", "poke", "post", "child", "write", "end"]
COMMANDS = st.lists(st.tuples(st.sampled_from(WORDS), PATHS), min_size=1, max_size=5)
RIGHTS = ("ledger.keyed", "msg.send", "proc.spawn, proc.wait", "fs.* /**")
KEEPERS_MAX = 6


@agentos.program("history-keeper")
async def keeper(sys: Any) -> Any:
    """Obey commands until one ends it, and note what came of each."""
    while True:
        what, value, path, eye = (await sys.msg.recv()).value
        if what == "end":
            return value
        try:
            await obey(sys, what, value, path, eye)
        except agentos.AgentOSError as error:
            await sys.obj.append("log", error.code)


async def obey(sys: Any, what: str, value: str, path: str, eye: int) -> None:
    if what == "save":
        await sys.save()
        return
    if what == "write":
        await sys.fs.write(path, text=value)
    elif what == "delete":
        with suppress(agentos.Unavailable):  # one that a crash has cut tells that it is gone, and not who did it
            await sys.fs.delete(path)
    elif what == "sleep":
        await sys.clock.sleep(STEP_S)
    elif what == "ask":
        value = await sys.human.ask(value)
    elif what == "poke":
        await sys.ledger.keyed(value)
    elif what == "post":
        await sys.msg.send(eye, value)
    elif what == "child":
        value = (await sys.proc.wait(await sys.proc.spawn("leaf:1", args={"value": value}))).value
    await sys.obj.append("log", value)


@agentos.program("leaf")
async def leaf(sys: Any, value: str = "run") -> Any:
    """Leave a trace where it may, and end."""
    if value == "run":
        await sys.obj.append("runs", value, namespace="shared")
    return value


class HistoryMachine(Lives):
    """Every rule acts on both, waits until the kernel is quiet, and compares."""

    kept = ("work",)

    def __init__(self) -> None:
        super().__init__()
        self.work.mkdir()
        self.clock = FakeClock()
        self.oracle = Oracle()
        self.points: dict[str, Point] = {}
        self.actors: list[int] = []  # who may be undone
        self.count = self.schedules = 0
        self.kernel = self._open()
        self.eye = self.do(self.kernel.spawn, agentos.Image.host("eye"), grant=["obj.get **"]).pid
        self.do(self.kernel.register, agentos.Image.program("leaf"))
        self.spawn()

    # --- the kernel under test ------------------------------------------------------------------------------------------------

    def _open(self) -> Kernel:
        ledger = Ledger(self.folder / "ledger").device
        context = opened(
            self._store(),
            workspace=self.work,
            devices={"ledger": ledger},
            programs=[keeper, leaf],
            grace_s=0.5,
            clock=self.clock,
        )
        return self._enter(context)

    def settle(self, crash_at_once: bool = False) -> None:
        """Crash perhaps; wait until the kernel is quiet, let the oracle catch up, and compare."""
        if crash_at_once:
            self._crash()
        self.do(self.kernel.run_until_idle, 10)
        self.oracle.obey()
        self.compare()

    # --- keepers --------------------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return len(self.oracle.live()) < KEEPERS_MAX

    @rule()
    @precondition(_has_room)
    def spawn(self) -> None:
        grant = [*RIGHTS, "obj.append shared/**"]
        pid = self.do(self.kernel.spawn, agentos.Image.program("history-keeper"), grant=grant).pid
        self.oracle.keepers[pid] = Keeper(pid)
        self.actors.append(pid)
        self.settle()

    @rule(pick=PICK, words=COMMANDS, crash_at_once=st.booleans())
    @precondition(lambda self: self.oracle.live())
    def tell(self, pick: int, words: list[tuple[str, str]], crash_at_once: bool) -> None:
        told = _one(self.oracle.live(), pick)
        for word, path in words:
            command = (word, self._fresh(), path)
            self.do(self.kernel.process(told.pid).send, [*command, self.eye])
            told.told.append(command)
            told.commands.append(command)
            if word == "end":
                break
        self.settle(crash_at_once)

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self._waiting("ask"))
    def answer(self, pick: int, crash_at_once: bool) -> None:
        asked = _one(self._waiting("ask"), pick)
        [ask] = [ask for ask in self.do(self.kernel.asks) if ask.pid == asked.pid]
        value = self._fresh()
        self.do(self.kernel.answer, ask.id, "approve", by="me", value=value)
        self.oracle.wake(asked, value)
        self.settle(crash_at_once)

    @rule(crash_at_once=st.booleans())
    def pass_time(self, crash_at_once: bool) -> None:
        """Every sleep is over, and every schedule is due once; not when nobody could say who of two writes first."""
        writers = [each for each in self._waiting("sleep") if {"write", "delete"} & {what for what, *_ in each.commands}]
        if len(writers) > 1:
            return
        self.oracle.pass_time()
        self.portal.call(advance, self.kernel, STEP_S)
        self.oracle.runs += self.schedules
        self.settle(crash_at_once)

    @rule(pick=PICK)
    @precondition(lambda self: self.oracle.live())
    def revoke(self, pick: int) -> None:
        holder = _one(self.oracle.live(), pick)
        caps = [cap.id for cap in self.do(self.kernel.process(holder.pid).caps) if "ledger" in cap.text]
        assert len(caps) == (not holder.is_revoked)
        for cap in caps:
            self.do(self.kernel.revoke, cap)
        holder.is_revoked = True
        self.settle()

    @rule(pick=PICK)
    @precondition(lambda self: len(self.oracle.live()) > 1)
    def kill(self, pick: int) -> None:
        killed = _one(self.oracle.live(), pick)
        self.do(self.kernel.process(killed.pid).signal, "kill")
        self.oracle.kill(killed)
        self.settle()

    @rule()
    @precondition(lambda self: self.schedules < 2)
    def schedule(self) -> None:
        self.do(self.kernel.schedule, "leaf:1", every=STEP_S, grant=["obj.append shared/**"])
        self.schedules += 1

    # --- back and beside ------------------------------------------------------------------------------------------------------

    @rule(pick=PICK)
    @precondition(lambda self: self.oracle.live() and len(self.points) < 5)
    def checkpoint(self, pick: int) -> None:
        of = _one(self.oracle.live(), pick)
        self.points[self.do(self.kernel.process(of.pid).checkpoint)] = self.oracle.point(of)
        self.settle()

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self.points)
    def restore(self, pick: int, crash_at_once: bool) -> None:
        checkpoint, point = _one(sorted(self.points.items()), pick)
        report = self.do(self.kernel.restore, checkpoint)
        assert list(report.pids) == [point.pid]
        self.oracle.restore(point)
        self.settle(crash_at_once)

    @rule(pick=PICK, whole=st.booleans(), crash_at_once=st.booleans())
    @precondition(lambda self: self.points and self._has_room())
    def start_again(self, pick: int, whole: bool, crash_at_once: bool) -> None:
        checkpoint, point = _one(sorted(self.points.items()), pick)
        if point.then.overlay is not None:
            return
        if whole:
            [pid] = self.do(self.kernel.restore, checkpoint, mode="new").pids.values()
        else:
            pid = self.do(self.kernel.fork, checkpoint=checkpoint).pid
        self._branched(self.oracle.keepers[point.pid], point.then, pid, is_copy=whole)
        self.settle(crash_at_once)

    @rule(pick=PICK, is_tried=st.booleans(), crash_at_once=st.booleans())
    @precondition(lambda self: self._has_room())
    def fork(self, pick: int, is_tried: bool, crash_at_once: bool) -> None:
        source = _one(list(self.oracle.keepers.values()), pick)
        if source.overlay is not None:
            return
        try:
            pid = self.do(self.kernel.fork, pid=source.pid, speculative=is_tried).pid
        except agentos.Invalid:
            self._expect_erased()
            return
        made = self._branched(source, source.last or self.oracle.then(source), pid, is_tried=is_tried)
        if source.state == "exited":  # all that it has left to do is to end
            made.last, made.state = self.oracle.then(made), "exited"
        self.settle(crash_at_once)

    def _branched(self, source: Keeper, then: Then, pid: int, **how: bool) -> Keeper:
        self.actors.append(pid)
        return self.oracle.branch(source, then, pid, **how)

    @rule(pick=PICK)
    @precondition(lambda self: self.points)
    def drop_checkpoint(self, pick: int) -> None:
        checkpoint = _one(sorted(self.points), pick)
        self.do(self.kernel.drop_checkpoint, checkpoint)
        del self.points[checkpoint]
        self.settle()

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self._tries())
    def merge(self, pick: int, crash_at_once: bool) -> None:
        tried = _one(self._tries(), pick)
        goal, against = self.oracle.merge(tried)
        report = self.do(self.kernel.merge, tried.pid)
        assert {each["path"] for each in report.conflicts} == against
        if not against:
            self._carried_out(report.pid, goal)
            tried.overlay = type(tried.overlay)()
        self.settle(crash_at_once)

    @rule(pick=PICK)
    @precondition(lambda self: any(each.overlay is not None for each in self.oracle.keepers.values()))
    def drop(self, pick: int) -> None:
        tried = _one([each for each in self.oracle.keepers.values() if each.overlay is not None], pick)
        self.do(self.kernel.drop, tried.pid)
        if tried.is_live:
            self.oracle.kill(tried)
        tried.overlay = type(tried.overlay)()
        self.settle()

    @rule(pick=PICK, by_point=st.booleans(), crash_at_once=st.booleans())
    def undo(self, pick: int, by_point: bool, crash_at_once: bool) -> None:
        if by_point and self.points:
            checkpoint, point = _one(sorted(self.points.items()), pick)
            said: dict[str, Any] = {"checkpoint": checkpoint}
            goal, against = self.oracle.undo(point.pid, point.changes)
        elif not self.actors:
            return  # whoever did something to files was erased
        else:
            said = {"pid": _one(self.actors, pick)}
            goal, against = self.oracle.undo(said["pid"])
        report = self.do(self.kernel.undo, **said)
        assert {each["path"] for each in report.conflicts} == against
        if not against:
            assert {*report.restored, *report.created, *report.deleted} == set(goal)
            self._carried_out(report.pid, goal)
        self.settle(crash_at_once)

    def _carried_out(self, pid: int | None, goal: dict[str, str | None]) -> None:
        assert (pid is not None) == bool(goal)
        for path, text in goal.items():
            self.oracle.change(pid or 0, path, text)
        self.actors += [pid] if pid else []

    # --- upkeep ---------------------------------------------------------------------------------------------------------------

    @rule(crash_at_once=st.booleans())
    def archive(self, crash_at_once: bool) -> None:
        self.do(self.kernel.archive)
        self.settle(crash_at_once)
        self.look()

    @rule(crash_at_once=st.booleans())
    def tidy(self, crash_at_once: bool) -> None:
        self.do(self.kernel.tidy)
        self.settle(crash_at_once)
        self.look()

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self.oracle.ended())
    def erase(self, pick: int, crash_at_once: bool) -> None:
        erased = _one(self.oracle.ended(), pick)
        try:
            self.do(self.kernel.erase, tree=erased.pid)
        except agentos.Invalid:
            return  # it is needed: what must not go is looked at by all that compares
        assert not any(point.pid == erased.pid for point in self.points.values()), "a checkpoint holds it"
        erased.is_erased, erased.log = True, []
        self.actors = [pid for pid in self.actors if pid != erased.pid]
        self.settle(crash_at_once)
        self.look()

    @rule()
    def backup(self) -> None:
        path = self.folder / f"backup-{self._fresh()}.db"
        self.do(self.kernel.backup, path)
        pids = {info.pid for info in self.do(self.kernel.ps)}

        async def compare() -> None:
            ledger = Ledger(self.folder / "unused").device
            async with opened(path, workspace=self.work, resume=False, clock=self.clock, devices={"ledger": ledger}) as kernel:
                assert {info.pid for info in await kernel.ps()} == pids
                assert (await kernel.verify_audit()).ok
                assert all(each.state == "ok" for each in await kernel.inspect())

        self.do(compare)

    @rule(is_crash=st.booleans())
    def reopen(self, is_crash: bool) -> None:
        if is_crash:
            self._crash()
        else:
            self._close()
            self.kernel = self._open()
        self.settle()
        self.look()

    # --- the comparison -------------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        oracle = self.oracle
        infos = {info.pid: info for info in self.do(self.kernel.ps) if info.pid != self.eye}
        assert infos.keys() == {each.pid for each in oracle.live()}
        seen = {0}
        for info in self.do(self.kernel.tree):
            assert info.ppid in seen, "parents come first"
            seen.add(info.pid)
        assert seen >= infos.keys()
        asked = {ask.pid for ask in self.do(self.kernel.asks)}
        assert asked == {each.pid for each in self._waiting("ask")}
        assert {path.name: path.read_text() for path in self.work.iterdir()} == {
            path[1:]: text for path, text in oracle.files.items()
        }
        assert {entry["value"] for entry in Ledger.read(self.folder / "ledger")} == oracle.effects
        self.portal.call(self._compare_mail)
        for each in oracle.keepers.values():
            if not each.is_erased:
                assert self._read(f"proc/{each.pid}", "log", []) == each.log
        assert self._read("shared", "runs", []) == ["run"] * oracle.runs
        assert self.do(self.kernel.verify_audit).ok

    async def _compare_mail(self) -> None:
        unread = [(record.pid, record.sender) for record in live(self.kernel, MessageRecord)]
        assert sum(pid == self.eye for pid, _ in unread) == len(self.oracle.posts)
        for each in self.oracle.live():
            assert sum(pid == each.pid for pid, _ in unread) == len(each.commands)
            tried = sorted(each.overlay.over) if each.overlay is not None else []
            assert [record.path for record in self.kernel.core.overlays.of(each.pid)] == tried
            held = {cap.text for cap in await self.kernel.caps(each.pid)}
            assert ("ledger.keyed" in held) == (not each.is_revoked)
            assert len(held) <= len(RIGHTS) + 1

    def look(self) -> None:
        """Everything in order, and every life repeats itself?"""
        found = self.do(self.kernel.inspect)
        assert all(each.state == "ok" for each in found), found
        for each in self.oracle.keepers.values():
            try:
                report = self.do(self.kernel.replay, each.pid)
            except agentos.Invalid:
                self._expect_erased()
            else:
                assert report.ok, report.divergence

    def teardown(self) -> None:
        try:
            self.look()
        finally:
            self._close()
            shutil.rmtree(self.folder)

    def _read(self, space: str, name: str, missing: Any) -> Any:
        try:
            return self.do(self.kernel.process(self.eye).call, "obj.get", name=name, namespace=space)
        except agentos.Unavailable:
            return missing

    def _expect_erased(self) -> None:
        assert any(each.is_erased for each in self.oracle.keepers.values())

    def _waiting(self, what: str) -> list[Keeper]:
        return [each for each in self.oracle.live() if each.waits == what]

    def _tries(self) -> list[Keeper]:
        return [each for each in self.oracle.keepers.values() if each.overlay is not None and not each.is_live]

    def _fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"


def _one(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


@pytest.mark.timeout(1200)
def test_history_does_what_the_oracle_says_over_any_crash() -> None:
    long = os.environ.get("AGENTOS_SOAK")
    examples, steps = (200, 40) if long else (10, 20)
    with start_blocking_portal() as portal:
        HistoryMachine.portal = portal
        run_state_machine_as_test(HistoryMachine, settings=settings(max_examples=examples, stateful_step_count=steps))
