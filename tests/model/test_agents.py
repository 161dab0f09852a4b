"""Agents in any company: models that say anything, and a host that does anything to their processes, over any crash.

There is no oracle of what an agent does: its model is as good as random. What is compared is what has to hold whatever it does: each
request is a conversation that a strict server takes and within its budget, an answer that was written down is not asked for again, no
effect happens twice, usage is what the journal says, nobody is left ready for ever, and every life repeats itself.

A crash copies store, files and ledger as they are at one instant, and a new kernel goes on with the copy.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import Row
from agentos.abi.values import ProcessInfo
from agentos.kernel.budget import used_by
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, opened, rows
from tests.fault.crash_programs import answer_of
from tests.model.agents_world import CONTEXT_TOKENS, NAP_S, WORDS, Model, answered
from tests.model.lives import Lives

PICK = st.integers(0, 10_000)
LAID_OUT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)
AGENTS_MAX = 6
GATE = 'restrict "gate" version 1\nask ledger.once when value == "gated *"\ndeny ledger.pure when value == "forbidden"\n'
RIGHTS = [
    "ledger.*", "obj.append, obj.put", "fs.read, fs.write /**", "clock.sleep", "human.ask", "proc.spawn, proc.wait, proc.fork",
    "msg.send", "policy.update", "llm.embed",
]  # fmt: skip
RESULT = {"type": "object", "properties": {"done": {"type": "boolean"}}, "required": ["done"]}


def manifest(name: str, prompt: str, **more: Any) -> agentos.Image:
    """An image of agents with a short memory."""
    limits = {"program": {"kind": "react", "turns": 30}, "memory": {"context_tokens": CONTEXT_TOKENS}}
    return agentos.Image.from_dict({"name": name, "prompt": {"text": prompt}, **limits, **more})


CHATTY = manifest("chatty", "You help.", capabilities=RIGHTS)
TYPED = manifest("typed", "You help.", capabilities=RIGHTS, result={"schema": RESULT})
KID = manifest("kid", "You are a kid.", capabilities=["ledger.keyed"])


class AgentsMachine(Lives):
    """Every rule acts, waits until the kernel is quiet, and looks at everything."""

    kept = ("work", "ledger")

    def __init__(self) -> None:
        super().__init__()
        self.tasks, self.files = self.portal.call(_tasks), len(os.listdir("/proc/self/fd"))
        self.work.mkdir()
        (self.work / "a.txt").write_text("this is a")
        (self.work / "big.txt").write_text("".join(f"line {number} of a long file\n" for number in range(600)))
        self.clock, self.model = FakeClock(), Model()
        self.agents: list[int] = []
        self.points: list[str] = []
        self.tries: list[int] = []
        self.erased: set[int] = set()
        self.taken_back: set[int] = set()
        self.kernel = self._open()
        self.do(self.kernel.register, KID)
        self.start(True, [], {})
        self.send(0, ["note", "read"], False)
        assert len(self.model.asked) == 3, "an agent works"

    # --- the kernel under test ------------------------------------------------------------------------------------------------

    @property
    def book(self) -> Path:
        return self.folder / "ledger"

    def _open(self) -> Kernel:
        context = opened(
            self._store(), workspace=self.work, devices={"ledger": Ledger(self.book).device},
            models={"default": self.model}, clock=self.clock, grace_s=0.5,
        )  # fmt: skip
        kernel = self._enter(context)
        self.follower = self.portal.call(kernel.core.events.follow) if self.epoch % 3 else None  # then answers come in pieces
        return kernel

    def _rows(self) -> list[Row]:
        async def read() -> list[Row]:
            self.kernel.core.journal.flush()
            return rows(self.kernel, notes=True)

        return self.portal.call(read)

    def _remember(self) -> list[Row]:
        """Let the model know what it was asked and has answered; whatever is in the journal now stays there over a crash."""
        journal = self._rows()
        self.model.answered = {pid: answered([row for row in journal if row.pid == pid]) for pid in self.agents}
        return journal

    def _crash(self) -> None:
        self._remember()
        super()._crash()

    def _close(self) -> None:
        if self.follower is not None:
            self.portal.call(self.follower.close)
        super()._close()

    def settle(self, crash_at_once: bool = False) -> None:
        """Crash perhaps; wait until the kernel is quiet, and look."""
        if crash_at_once:
            self._crash()
        self.do(self.kernel.run_until_idle, 10)
        self._meet()
        self.look()

    def _meet(self) -> None:
        """Get to know the children that the agents have started."""
        for info in self.do(self.kernel.ps, all=True):
            if info.program == "react" and info.pid not in self.agents:
                self.agents.append(info.pid)
                self.model.kin.setdefault(info.ppid, []).insert(0, info.pid)
                self.model.kin.setdefault(info.pid, []).append(info.ppid or self.agents[0])

    def _live(self, *states: str) -> list[int]:
        return [info.pid for info in self.do(self.kernel.ps) if info.program == "react" and info.state in (states or STATES)]

    def _pick(self, pick: int, *states: str) -> Process | None:
        """Return a live agent, in one of these states if there are any of those."""
        found = self._live(*states) or self._live()
        return self.kernel.process(_one(found, pick)) if found else None

    def _whole(self) -> list[int]:
        return [pid for pid in self.agents if pid not in self.erased]

    def _is_full(self) -> bool:
        return len(self._live()) >= AGENTS_MAX

    # --- agents (what there is depends on where a crash fell, so no rule has a precondition) -----------------------------------

    @rule(is_chat=st.booleans(), words=LAID_OUT, budget=st.sampled_from([{}, {}, {"calls": 40}, {"tokens": 20_000}]))
    def start(self, is_chat: bool, words: list[str], budget: dict[str, int]) -> None:
        if self._is_full():
            return
        pid = max((info.pid for info in self.do(self.kernel.ps, all=True)), default=0) + 1
        self.model.words[pid] = deque(words)
        goal = None if is_chat else "do what there is to do"
        process = self.do(self.kernel.spawn, CHATTY if is_chat else TYPED, goal=goal, policy=GATE, budget=budget)
        assert process.pid == pid
        self.settle()

    @rule(pick=PICK, words=LAID_OUT, crash_at_once=st.booleans())
    def send(self, pick: int, words: list[str], crash_at_once: bool) -> None:
        agent = self._pick(pick)
        if agent is not None:
            self.model.words[agent.pid] = deque(words)
            self.do(agent.send, self.model.fresh())
            self.settle(crash_at_once)

    @rule(pick=PICK, words=LAID_OUT, is_denied=st.booleans(), crash_at_once=st.booleans())
    def answer(self, pick: int, words: list[str], is_denied: bool, crash_at_once: bool) -> None:
        asks = self.do(self.kernel.asks)
        if asks:
            ask = _one(asks, pick)
            self.model.words[ask.pid] = deque(words)
            verdict = "deny" if is_denied and ask.kind != "unknown_outcome" else "approve"
            said = answer_of(ask, self.book) if verdict == "approve" else {}
            self.do(self.kernel.answer, ask.id, verdict, by="me", **said)
            self.settle(crash_at_once)

    @rule(far=st.booleans(), crash_at_once=st.booleans())
    def pass_time(self, far: bool, crash_at_once: bool) -> None:
        self.portal.call(advance, self.kernel, 3_600 if far else NAP_S)
        self.settle(crash_at_once)

    @rule(pick=PICK, what=st.sampled_from(["pause", "resume", "interrupt", "kill"]), crash_at_once=st.booleans())
    def signal(self, pick: int, what: str, crash_at_once: bool) -> None:
        agent = self._pick(pick, *(["paused"] if what == "resume" else []))
        if agent is not None:
            self.do(agent.signal, what)
            self.settle(crash_at_once)

    @rule(pick=PICK, text=st.sampled_from(RIGHTS), is_grant=st.booleans())
    def change_rights(self, pick: int, text: str, is_grant: bool) -> None:
        agent, caps = self._pick(pick), self.do(self.kernel.caps)
        if is_grant and agent is not None:
            self.do(self.kernel.grant, agent.pid, text)
        elif caps:
            self.do(self.kernel.revoke, _one(caps, pick).id)
        self.settle()

    # --- back and beside ------------------------------------------------------------------------------------------------------

    @rule(pick=PICK)
    def checkpoint(self, pick: int) -> None:
        agent = self._pick(pick)
        if agent is not None:
            self.points.append(self.do(agent.checkpoint))
            self.settle()

    @rule(pick=PICK, is_new=st.booleans(), crash_at_once=st.booleans())
    def restore(self, pick: int, is_new: bool, crash_at_once: bool) -> None:
        if self.points and not self._is_full():
            self.model.answered.clear()  # it may be asked again what it was asked since
            report = self.do(self.kernel.restore, _one(self.points, pick), mode="new" if is_new else "replace")
            self.taken_back |= set(report.pids.values())
            self.settle(crash_at_once)

    @rule(pick=PICK, how=st.sampled_from(["now", "checkpoint", "child", "try"]), crash_at_once=st.booleans())
    def fork(self, pick: int, how: str, crash_at_once: bool) -> None:
        if self._is_full() or not self._whole():
            return
        agent, pid = self._pick(pick), _one(self._whole(), pick)
        with suppress(agentos.Invalid):  # a try within a try
            if how == "checkpoint" and self.points:
                self.do(self.kernel.fork, checkpoint=_one(self.points, pick))
            elif how == "child" and agent is not None:
                self.do(agent.fork)
            else:
                forked = self.do(self.kernel.fork, pid=pid, speculative=how == "try")
                self.tries += [forked.pid] if how == "try" else []
        self.settle(crash_at_once)

    @rule(pick=PICK, is_merged=st.booleans(), crash_at_once=st.booleans())
    def end_try(self, pick: int, is_merged: bool, crash_at_once: bool) -> None:
        if self.tries:
            with suppress(agentos.Invalid):  # it still runs, or is over
                self.do(self.kernel.merge if is_merged else self.kernel.drop, _one(self.tries, pick))
            self.settle(crash_at_once)

    @rule(pick=PICK, crash_at_once=st.booleans())
    def undo(self, pick: int, crash_at_once: bool) -> None:
        if self._whole():
            self.do(self.kernel.undo, pid=_one(self._whole(), pick))
            self.settle(crash_at_once)

    # --- upkeep ---------------------------------------------------------------------------------------------------------------

    @rule(is_archive=st.booleans(), pick=PICK, crash_at_once=st.booleans())
    def tidy(self, is_archive: bool, pick: int, crash_at_once: bool) -> None:
        ended = [pid for pid in self._whole() if pid not in self._live()]
        if is_archive:
            self.do(self.kernel.archive)
        elif ended:
            with suppress(agentos.Invalid):  # it is needed, or not the first of its tree
                self.do(self.kernel.erase, tree=_one(ended, pick))
                self.erased |= {info.pid for info in self.do(self.kernel.ps, all=True) if info.tree == _one(ended, pick)}
        self.settle(crash_at_once)

    @rule(is_crash=st.booleans())
    def reopen(self, is_crash: bool) -> None:
        if is_crash:
            self._crash()
        else:
            self._close()
            self.kernel = self._open()
        self.settle()
        self.repeat()

    # --- what has to hold -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        assert not self.model.flaws, self.model.flaws
        journal = self._remember()
        self._look_at_effects(journal)
        infos = {info.pid: info for info in self.do(self.kernel.ps, all=True)}
        self._look_at_usage(journal, infos)
        for pid in self._live():
            info = infos[pid]
            assert info.state in ("waiting", "paused", "dormant"), f"{info} is left as it is"
            assert info.state != "waiting" or info.waiting_on, f"{info} waits for nothing"
            assert set(self.model.answered[pid].values()) <= {1}, "a turn was answered twice"

    def _look_at_usage(self, journal: list[Row], infos: dict[int, ProcessInfo]) -> None:
        """Usage is what the journal says; of one that ended before its children it is not known here when it stopped to count theirs."""
        used: Counter[tuple[int, str]] = Counter()
        for row in journal:
            for name, amount in used_by(row).items():
                pid = row.pid
                while pid in infos:
                    used[pid, name] += amount
                    pid = infos[pid].ppid
        ended_parents = {info.ppid for info in infos.values()} & {info.pid for info in infos.values() if info.exit}
        unknown = {above for pid in ended_parents for above in (pid, *_above(infos, pid))}
        for pid in set(self.agents) & infos.keys() - self.erased - unknown:
            for name in ("calls", "tokens"):
                assert infos[pid].usage.get(name, 0) == used[pid, name], (pid, name, infos[pid].usage, used[pid, name])

    def _look_at_effects(self, journal: list[Row]) -> None:
        lines = Counter((line["pid"], line["value"]) for line in Ledger.read(self.book) if f"ledger.{line['op']}" in ONCE)
        assert all(count == 1 or pid in self.taken_back for (pid, _), count in lines.items()), lines
        for row in journal:
            if row.op in ONCE and row.outcome == "done" and row.result:
                assert lines[row.pid, decode(row.result)["value"]], f"{row} has not happened"

    def repeat(self) -> None:
        """Does every life repeat itself, without a model?"""
        asked = len(self.model.asked)
        for pid in self.agents:
            try:
                report = self.do(self.kernel.replay, pid)
            except agentos.Invalid:
                assert self.erased, "it is there"
            else:
                assert report.ok, report.divergence
                assert report.exit_equal is not False, report
        assert len(self.model.asked) == asked
        assert self.do(self.kernel.verify_audit).ok
        found = self.do(self.kernel.inspect)
        assert all(each.state == "ok" for each in found), found

    def wind_up(self) -> None:
        """Let everybody come to an end: with all that was asked answered and all time passed, nobody waits but for others."""
        self.model.is_closing = True
        self.model.words.clear()
        for _ in range(12):
            for pid in self._live("paused"):
                self.do(self.kernel.process(pid).signal, "resume")
            for ask in self.do(self.kernel.asks):
                with suppress(agentos.Invalid):  # another answer has settled it
                    self.do(self.kernel.answer, ask.id, "approve", by="me", **answer_of(ask, self.book))
            self.portal.call(advance, self.kernel, 3_600)
            self.settle()
        for info in self.do(self.kernel.ps):
            words = " ".join(info.waiting_on)
            assert info.program != "react" or words == "message on main" or words.startswith("child "), info

    def teardown(self) -> None:
        try:
            self.wind_up()
            self.repeat()
        finally:
            self._close()
            shutil.rmtree(self.folder)
        assert self.portal.call(_tasks) <= self.tasks, "a task is left"
        assert len(os.listdir("/proc/self/fd")) <= self.files, "a file is left open"


ONCE = ("ledger.keyed", "ledger.once", "ledger.probeable")
STATES = ("ready", "running", "waiting", "paused", "dormant")


def _tasks() -> int:
    return len(anyio.get_running_tasks())  # in the loop's thread


def _above(infos: dict[int, ProcessInfo], pid: int) -> Iterator[int]:
    while (pid := infos[pid].ppid) in infos:
        yield pid


def _one(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


@pytest.mark.timeout(1200)
def test_agents_keep_every_promise_whatever_their_models_say_over_any_crash() -> None:
    long = os.environ.get("AGENTOS_SOAK")
    examples, steps = (200, 40) if long else (8, 20)
    with start_blocking_portal() as portal:
        AgentsMachine.portal = portal
        run_state_machine_as_test(AgentsMachine, settings=settings(max_examples=examples, stateful_step_count=steps))
