"""Counted uses against a ledger: whatever is derived, forked, dropped, revoked, expired, used, reopened: none is made and none is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agentos
from agentos.abi.records import CapRecord
from agentos.errors import AgentOSError
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import advance, opened

USES = 12
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["spawn", "grant", "derive", "use", "drop", "revoke", "wait", "exit", "message", "reopen", "fail"]),
        st.integers(0, 7),
        st.integers(0, 7),
        st.integers(1, 6),
        st.sampled_from(["", " for 10s", " for 30s depth 3", " depth 1"]),
    ),
    max_size=40,
)


class Ledger:
    """What has been used, and the check that the rest is there."""

    def __init__(self) -> None:
        self.used = 0

    async def check(self, kernel: Kernel) -> None:
        """Uses left, uses taken: as many as were minted, in memory and in the store."""
        kernel.core.journal.flush()
        held = {cap.cap: cap.record.uses_left for cap in kernel.core.caps}
        assert sum(held.values()) + self.used == USES, held
        stored = {record.cap: record.uses_left for record in kernel.core.store.current(CapRecord, live=True)}
        assert stored == held


async def step(kernel: Kernel, ledger: Ledger, what: str, at: int, to: int, uses: int, tail: str) -> None:
    """Do one thing; being refused is fine, as long as the books balance."""
    pids = [info.pid for info in await kernel.ps()]
    process, other = kernel.process(pids[at % len(pids)]), kernel.process(pids[to % len(pids)])
    caps = await kernel.caps()
    cap = caps[to % len(caps)].id if caps else 1
    text = f"obj.put box/** uses {uses}{tail}"
    image = agentos.Image.host("worker")
    if what == "spawn":
        await kernel.spawn(image, parent=process, grant=[text])
    elif what == "fail":
        await kernel.spawn(image, parent=process, grant=[text, text, "obj.get nothing/**"])
    elif what == "grant":
        await process.call("cap.grant", text=text, to=other.pid)
    elif what == "derive":
        await process.call("cap.derive", cap=cap, text=text, to=other.pid)
    elif what == "use":
        await process.call("obj.put", value=1, name="x", namespace="box")
        ledger.used += 1
    elif what == "drop" and cap != 1:
        await process.call("cap.drop", cap=cap)
    elif what == "revoke":
        await process.call("cap.revoke", cap=cap)
    elif what == "wait":
        advance(kernel, 10 * uses)
    elif what == "exit" and process.pid != 1:
        await process.exit()
    elif what == "message":
        await process.call("msg.send", to=process.pid, value=cap)


async def history(steps: list[tuple[Any, ...]], folder: Path) -> int:
    """Run a history over as many kernels as it has reopens, on one store."""
    clock, ledger, todo = FakeClock(), Ledger(), list(steps)
    is_new = True
    while todo or is_new:
        async with opened(folder / "a.db", clock=clock) as kernel:
            if is_new:
                await kernel.spawn(agentos.Image.host(), grant=[f"obj.put box/** uses {USES} depth 9"])
            is_new = False
            while todo and (one := todo.pop(0))[0] != "reopen":
                try:
                    await step(kernel, ledger, *one)
                except AgentOSError:
                    pass
                await ledger.check(kernel)
    return len(todo)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_uses_are_conserved_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert anyio.run(history, steps, Path(folder)) == 0
