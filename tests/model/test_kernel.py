"""A running kernel against the oracle: any order of spawn, fork, calls, messages, rights, asks, signals and crashes.

A crash copies the store's files as they are and opens a new kernel on the copy; what was acknowledged has to be there, exactly once.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

import agentos
from agentos.abi.records import MessageRecord
from agentos.runtime.kernel import Kernel
from agentos.testing import Ledger
from tests.builders import live, opened, refused
from tests.model.lives import Lives
from tests.model.oracle import Oracle, Point, Right

SPACES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["x", "y"])
USES = st.none() | st.integers(1, 3)
PICK = st.integers(0, 10_000)
COMMANDS = st.sampled_from(["note", "effect", "ask", "fork", "save", "send", "effect", "note", "send", "exit"])
RIGHTS = ("ledger.keyed", "msg.send", "proc.fork")


@agentos.program("worker")
async def worker(sys: Any) -> Any:
    """Obey commands for ever, and note what was refused."""
    while True:
        what, *args = (await sys.msg.recv()).value
        if what == "exit":
            return args[0]
        try:
            await obey(sys, what, *args)
        except agentos.AgentOSError as error:
            await sys.obj.append("log", error.code)


async def obey(sys: Any, what: str, *args: Any) -> None:
    if what == "note":
        await sys.obj.append("log", args[0])
    elif what == "effect":
        await sys.ledger.keyed(args[0])
    elif what == "send":
        await sys.msg.send(args[0], args[1], channel="in")
        await sys.obj.append("log", "sent")
    elif what == "ask":
        await sys.obj.append("log", await sys.human.ask(args[0]))
    elif what == "fork":
        if await sys.proc.fork(grant=list(RIGHTS)):
            await sys.obj.append("log", "forked")
    elif what == "save":
        await sys.save()


class KernelMachine(Lives):
    """Every rule acts on both, waits until the kernel is quiet, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.kernel = self._open()
        self.eye = self.do(self.kernel.spawn, agentos.Image.host("eye"), grant=["obj.get, obj.list"])
        self.count = 0
        self.points: dict[str, Point] = {}
        self.is_restored = False
        self.is_changed = False
        for space in ("a", "b"):
            self.spawn_host(space, True, None)
            self.spawn_worker()

    # --- the kernel under test ----------------------------------------------------------------------------------------------

    def _open(self) -> Kernel:
        ledger = Ledger(self.folder / "ledger")
        context = opened(self._store(), devices={"ledger": ledger.device}, programs=[worker], grace_s=0.5)
        return self._enter(context)

    def _crash(self) -> None:
        super()._crash()
        self.eye = self.kernel.process(self.eye.pid)

    def settle(self) -> None:
        """Wait until the kernel is quiet, let the oracle catch up, and compare."""
        self.do(self.kernel.run_until_idle, 10)
        for process in self.oracle.live(workers=True):
            self.oracle.obey(process)
        self._meet_forks()
        self.compare()
        self.is_changed = True

    def _meet_forks(self) -> None:
        """Give the oracle's forked workers the pids they got, in the order in which they were forked."""
        infos = sorted(self.do(self.kernel.ps, all=True), key=lambda info: info.pid)
        for parent in list(self.oracle.processes.values()):
            new = [
                info.pid
                for info in infos
                if info.ppid == parent.pid and info.pid not in self.oracle.processes and info.program == "python"
            ]
            for child, pid in zip(parent.forks, new, strict=True):
                child.pid = pid
                child.parent = child.parent if parent.is_live else parent.parent
                self.oracle.processes[pid] = child
            parent.forks.clear()

    # --- processes ----------------------------------------------------------------------------------------------------------

    @rule(space=SPACES, is_wide=st.booleans(), uses=USES)
    def spawn_host(self, space: str, is_wide: bool, uses: int | None) -> None:
        process = self.do(self.kernel.spawn, agentos.Image.host(), grant=[_text(space, is_wide, uses)])
        self.oracle.born(process.pid)
        [cap] = self.do(process.caps)
        self.oracle.mint(cap.id, process.pid, space, is_wide, uses)
        self.settle()

    @rule()
    @precondition(lambda self: len(self.oracle.live(workers=True)) < 4)
    def spawn_worker(self) -> None:
        process = self.do(self.kernel.spawn, agentos.Image.program("worker"), grant=RIGHTS)
        self.oracle.born(process.pid, is_worker=True)
        self.settle()

    @rule(pick=PICK, is_wide=st.booleans(), uses=USES)
    @precondition(lambda self: self._rights())
    def spawn_child(self, pick: int, is_wide: bool, uses: int | None) -> None:
        parent = _one(self._rights(), pick)
        grant = _text(parent.space, is_wide, uses)
        sources = [r for r in self.oracle.rights.values() if r.pid == parent.pid and r.contains(parent.space, is_wide)]
        able = [self.oracle.may_derive(source, parent.space, is_wide, uses) for source in sources]
        try:
            process = self.do(self.kernel.spawn, agentos.Image.host(), parent=parent.pid, grant=[grant])
        except agentos.Denied:
            assert not able or not all(able), "every right of the parent could have been the source"
        else:
            [cap] = self.do(process.caps)
            source = next(source for source, can in zip(sources, able, strict=True) if can and source.cap == cap.parent)
            self.oracle.born(process.pid, parent.pid)
            self.oracle.derive(cap.id, source, process.pid, is_wide, uses)
        self.settle()

    @rule(pick=PICK, what=st.sampled_from(["kill", "exit", "pause", "resume"]))
    @precondition(lambda self: self.oracle.live())
    def signal(self, pick: int, what: str) -> None:
        process = _one(self.oracle.live(), pick)
        handle = self.kernel.process(process.pid)
        if what == "kill":
            self.do(handle.signal, "kill")
            self.oracle.kill(process.pid)
        elif what == "exit" and not process.is_worker:
            self.do(handle.exit, "bye")
            self.oracle.end(process.pid)
        elif what in ("pause", "resume") and process.is_worker:
            self.do(handle.signal, what)
            process.is_paused = what == "pause"
        self.settle()

    # --- rights -------------------------------------------------------------------------------------------------------------

    @rule(pick=PICK, other=PICK, is_wide=st.booleans(), uses=USES)
    @precondition(lambda self: self._rights())
    def derive(self, pick: int, other: int, is_wide: bool, uses: int | None) -> None:
        parent, to = _one(self._rights(), pick), _one(self.oracle.live(), other)
        call = self.kernel.process(parent.pid).call(
            "cap.derive", cap=parent.cap, text=_text(parent.space, is_wide, uses), to=to.pid
        )
        reaches = to.pid == parent.pid or self.oracle.descends(to.pid, parent.pid)
        if reaches and self.oracle.may_derive(parent, parent.space, is_wide, uses):
            self.oracle.derive(self.do(lambda: call), parent, to.pid, is_wide, uses)
        else:
            assert self.do(refused, call) == "denied.capability"
        self.settle()

    @rule(pick=PICK)
    @precondition(lambda self: self._rights())
    def revoke(self, pick: int) -> None:
        right = _one(self._rights(), pick)
        assert self.do(self.kernel.revoke, right.cap) == self.oracle.revoke(right.cap)
        self.settle()

    # --- calls of hosts -----------------------------------------------------------------------------------------------------

    @rule(pick=PICK, space=SPACES, name=NAMES)
    @precondition(lambda self: self.oracle.live(workers=False))
    def put(self, pick: int, space: str, name: str) -> None:
        process = _one(self.oracle.live(workers=False), pick)
        covering = self.oracle.covering(process.pid, space, name)
        value = self._fresh()
        call = self.kernel.process(process.pid).call("obj.put", value=value, name=name, namespace=space)
        if not covering:
            assert self.do(refused, call) == "denied.capability"
        else:
            version = self.do(lambda: call).version
            last = self.kernel.core.store.rows(self.kernel.core.journal.head - 1, 1)[0]
            right = next(right for right in covering if right.cap == last.cap)
            self.oracle.put(right, space, name, value)
            assert version == len(self.oracle.objects[space, name])
        self.settle()

    # --- workers ------------------------------------------------------------------------------------------------------------

    @rule(pick=PICK, what=st.lists(COMMANDS, min_size=1, max_size=5), other=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self.oracle.live(workers=True))
    def command(self, pick: int, what: list[str], other: int, crash_at_once: bool) -> None:
        process = _one(self.oracle.live(workers=True), pick)
        for word in what[: what.index("exit") + 1 if "exit" in what else None]:
            target = _one(list(self.oracle.processes.values()), other).pid
            command = (word, target, self._fresh()) if word == "send" else (word, self._fresh())
            self.do(self.kernel.process(process.pid).send, list(command))
            process.tell(command)
        if crash_at_once:
            self._crash()
        self.settle()

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: any(p.question and not p.answer for p in self.oracle.live(workers=True)))
    def answer(self, pick: int, crash_at_once: bool) -> None:
        process = _one([p for p in self.oracle.live(workers=True) if p.question and not p.answer], pick)
        [ask] = [ask for ask in self.do(self.kernel.asks) if ask.pid == process.pid]
        assert ask.args["question"] == process.question
        process.answer = self._fresh()
        self.do(self.kernel.answer, ask.id, "approve", by="me", value=process.answer)
        if crash_at_once:
            self._crash()
        self.settle()

    # --- checkpoints --------------------------------------------------------------------------------------------------------

    @rule(pick=PICK)
    @precondition(lambda self: self.oracle.live(workers=True) and len(self.points) < 4)
    def checkpoint(self, pick: int) -> None:
        process = _one(self.oracle.live(workers=True), pick)
        self.points[self.do(self.kernel.process(process.pid).checkpoint)] = self.oracle.point(process.pid)
        self.settle()

    @rule(pick=PICK, crash_at_once=st.booleans())
    @precondition(lambda self: self.points)
    def go_back(self, pick: int, crash_at_once: bool) -> None:
        checkpoint, point = _one(sorted(self.points.items()), pick)
        report = self.do(self.kernel.restore, checkpoint)
        assert set(report.pids) == set(point.family)
        self.oracle.restore(point)
        self.is_restored = True
        if crash_at_once:
            self._crash()
        self.settle()

    @rule(pick=PICK, whole=st.booleans())
    @precondition(lambda self: self.points and len(self.oracle.live(workers=True)) < 6)
    def start_again(self, pick: int, whole: bool) -> None:
        checkpoint, point = _one(sorted(self.points.items()), pick)
        self.is_restored = True
        if whole:
            self.oracle.copy(point, self.do(self.kernel.restore, checkpoint, mode="new").pids)
        else:
            self.oracle.branch(point, point.pid, self.do(self.kernel.fork, checkpoint=checkpoint).pid)
        self.settle()

    # --- crashes and the comparison -----------------------------------------------------------------------------------------

    @rule(is_crash=st.booleans())
    @precondition(lambda self: self.is_changed)
    def reopen(self, is_crash: bool) -> None:
        if is_crash:
            self._crash()
        else:
            self._close()
            self.kernel = self._open()
            self.eye = self.kernel.process(self.eye.pid)
        self.settle()
        self.is_changed = False

    def compare(self) -> None:
        oracle = self.oracle
        infos = {info.pid: info for info in self.do(self.kernel.ps) if info.pid != self.eye.pid}
        assert infos.keys() == {process.pid for process in oracle.live()}
        assert {pid for pid, info in infos.items() if info.state == "paused"} == {p.pid for p in oracle.live() if p.is_paused}
        rights = {cap.id: (cap.pid, cap.uses_left) for cap in self.do(self.kernel.caps) if cap.id in oracle.rights}
        assert rights == {right.cap: (right.pid, right.uses) for right in oracle.rights.values() if right.is_live}
        asked = {(ask.pid, ask.args["question"]) for ask in self.do(self.kernel.asks)}
        assert asked == {(p.pid, p.question) for p in oracle.live() if p.question and not p.answer}
        effects = sorted(entry["value"] for entry in Ledger.read(self.folder / "ledger"))
        assert effects == sorted(oracle.effects) or (self.is_restored and set(effects) == set(oracle.effects))
        unread = [record.pid for record in self.do(self._messages) if record.channel == "in"]
        assert {pid: unread.count(pid) for pid in infos if unread.count(pid)} == {
            p.pid: len(p.inbox) for p in oracle.live() if p.inbox
        }
        for process in oracle.live(workers=True):
            assert self._read(f"proc/{process.pid}", "log", []) == process.log
        for (space, name), values in oracle.objects.items():
            assert self._read(space, name, None) == values[-1]

    async def _messages(self) -> list[Any]:
        return live(self.kernel, MessageRecord)

    def _read(self, space: str, name: str, missing: Any) -> Any:
        try:
            return self.do(self.eye.call, "obj.get", name=name, namespace=space)
        except agentos.Unavailable:
            return missing

    def teardown(self) -> None:
        report = self.do(self.kernel.verify_audit)
        self._close()
        shutil.rmtree(self.folder)
        assert report.ok, report.reason

    def _rights(self) -> list[Right]:
        return [right for right in self.oracle.rights.values() if right.is_live]

    def _fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"


def _one(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


def _text(space: str, is_wide: bool, uses: int | None) -> str:
    return f"obj.put {space}/{'**' if is_wide else 'x'}" + (f" uses {uses}" if uses else "")


@pytest.mark.timeout(240)
def test_a_kernel_does_what_the_oracle_says_over_any_crash() -> None:
    with start_blocking_portal() as portal:
        KernelMachine.portal = portal
        run_state_machine_as_test(KernelMachine, settings=settings(max_examples=30, stateful_step_count=25))
