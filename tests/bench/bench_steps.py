"""Where the CPU of a call goes, step by step: every step's own function, on a live kernel, with a policy layer.

Each step is called in a loop with the state that the step before it left. Appends are flushed outside the clock; the flush is a step
of its own, at 400 rows a commit. Then the whole walk: the sum of the steps and what a running program pays, with await and all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode, encode
from agentos.abi.records import Row
from agentos.broker.request import Request, call_digest
from agentos.kernel.process import AgentProcess
from tests.bench.harness import Size, Table, each_us
from tests.bench.traffic import kernel, window

__all__ = ["run"]

_ROWS = 400
_CALLS: dict[str, dict[str, Any]] = {"clock.now": {}, "noop.run": {"n": 7}, "fs.read": {"path": "notes/today.md"}}


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield the steps, then the whole."""
    yield anyio.run(_steps, size, folder / "steps")
    table = Table("CPU of a whole call in a running program", ("call", "processes", "CPU us/call"))
    for kind, processes in (("pure", 1), ("pure", size.of(100)), ("effect", 1), ("effect", size.of(100))):
        found = anyio.run(window, folder / f"whole-{kind}-{processes}", kind, processes, size.seconds)
        table.add(kind, f"{processes}", f"{found.cpu_us:.1f}")
    yield table


class Steps:
    """One op's walk, taken apart."""

    def __init__(self, opened: agentos.Kernel, process: AgentProcess, name: str, count: int) -> None:
        self.core, self.door = opened.core, opened.broker.door
        self.effects = opened.broker._effects
        self.process, self.name, self.args, self.count = process, name, _CALLS[name], count

    def us(self, work: Callable[[], object]) -> float:
        """Return what one `work()` costs."""
        return each_us(work, self.count)

    def buffered_us(self, work: Callable[[], object]) -> float:
        """Return what one `work()` that appends a row costs, without the commits."""
        best = float("inf")
        for _ in range(max(2, self.count // _ROWS)):
            best = min(best, each_us(work, _ROWS // 4, 1))
            self.core.journal.flush()
        return best

    def measure(self) -> dict[str, float]:
        """Return step -> CPU us."""
        door, process, core = self.door, self.process, self.core
        call = door.resolve(process, self.name, self.args, "1", "")
        op = call.op
        found = {
            "resolve": self.us(lambda: door.resolve(process, self.name, self.args, "1", "")),
            ". validate": self.us(lambda: op.validate(self.args)),
            ". render the resource": self.us(lambda: op.render(dict(call.args), "/", process.pid)),
            ". encode the arguments": self.us(lambda: encode(call.args)),
            ". digest": self.us(lambda: call_digest(op.key_bytes, call.encoded)),
            "pace": self.us(lambda: core.scheduler.charge(process)),
            "decide": self.us(lambda: door.decide(call)),
            ". cover, remembered": 0.0 if op.self_right else self.us(
                lambda: core.caps.cover(process, op, call.resources, call.args, 1.0)
            ),
            ". policy, remembered": self.us(lambda: process.stack.decide(op, call.resources, call.args, process.facts)),
            "reserve": self.us(lambda: process.account.reserve_call(process.pid)),
            "permit": self.us(lambda: door.permit(call)),
        }  # fmt: skip
        found |= self.inside(call) if op.inside else self.outside(call) if op.name == "noop.run" else {}
        return found

    def inside(self, call: Request) -> dict[str, float]:
        """Measure what only a pure or local call does."""
        door, core = self.door, self.core
        permit = door.permit(call)
        value = call.syscall.handler(permit, call.args)

        def handler() -> object:
            permit.renew()
            return call.syscall.handler(permit, call.args)

        def done() -> None:
            permit.changes = []
            door.done(call, permit, value)

        return {
            "handler": self.us(handler),
            "settle and row": self.buffered_us(done),
            ". encode and decode the result": self.us(lambda: decode(encode(value))),
            ". settle belongings": self.us(lambda: door.settle_belongings(call, 0, [])),
            ". build the row": self.us(lambda: call.row("call", "done", 1.0)),
            ". append": self.buffered_us(partial(core.append, call.row("call", "done", 1.0))),
            "commit (a row's share)": self.commit_us([call.row("call", "done", 1.0)]),
        }

    def outside(self, call: Request) -> dict[str, float]:
        """Measure what only an effect does; waiting for the disk is not in it."""
        door, effects = self.door, self.effects
        permit = door.permit(call)
        intent = effects._admit(call)

        def handler() -> None:
            permit.renew()
            _drive(call.syscall.handler(permit, call.args))

        def paced() -> None:
            self.core.scheduler.suspend(self.process)
            self.core.scheduler.resume(self.process)

        return {
            "handler": self.us(handler),
            "suspend and resume": self.us(paced),
            "admit: intent": self.buffered_us(lambda: effects._admit(call)),
            "settle and result": self.buffered_us(lambda: effects.settle(call, intent, permit, 7)),
            "commit (a row's share)": self.commit_us([intent, call.row("result", "done", 1.0)]),
        }

    def commit_us(self, rows: list[Row]) -> float:
        """Return the CPU of committing these rows as part of a full batch."""
        core, best = self.core, float("inf")
        for _ in range(max(2, self.count // _ROWS)):
            for at in range(_ROWS):
                core.append(rows[at % len(rows)])
            begun = time.process_time()
            core.journal.flush()
            best = min(best, (time.process_time() - begun) / _ROWS * len(rows))
        return best * 1e6


async def _steps(size: Size, folder: Path) -> Table:
    found: dict[str, dict[str, float]] = {}
    policy = 'policy "bench"\nallow noop.run, clock.now\nallow fs.read "/notes/**"\ndeny fs.read "**/.env"\n'
    async with kernel(folder, policy=policy) as opened:
        host = await opened.spawn(agentos.Image.host(), grant=["noop.*", "fs.read /notes/**"])
        process = opened.core.processes.find(host.pid)
        opened.core.scheduler.resume(process)
        process.slice_start = float("inf")
        for name in _CALLS:
            found[name] = Steps(opened, process, name, size.of(4_000)).measure()
        opened.core.scheduler.suspend(process)
    table = Table(
        "CPU us of a call by step", ("step", *_CALLS), note="fs.read: up to the permit; `. ` is a part of the step above"
    )
    steps = list(dict.fromkeys(step for steps in found.values() for step in steps))
    for step in [*[s for s in steps if not s.startswith("commit")], *[s for s in steps if s.startswith("commit")]]:
        table.add(step, *(f"{found[name][step]:.2f}" if step in found[name] else "-" for name in _CALLS))
    table.add("sum", *(f"{sum(us for step, us in found[name].items() if step[0] != '.'):.2f}" for name in _CALLS))
    return table


def _drive(work: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it suspended")
