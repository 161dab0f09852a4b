"""The program of the page "How to write a durable program", driven to its end by a kernel that may be killed anywhere."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.records import MessageRecord
from agentos.testing import FakeClock
from agentos.testing.crash import install

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "write-a-durable-program.md"


def page_module(name: str) -> dict[str, Any]:
    """Return what the file `name` of the page defines."""
    found = re.search(rf"^```python title={name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no {name}"
    space: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(found[1], space)
    return space


SHOP, ONBOARDING = page_module("shop.py"), page_module("onboarding.py")


class KeptClock(FakeClock):
    """Virtual time that goes on where the last kernel of the folder stopped."""

    def __init__(self, file: Path) -> None:
        super().__init__(float(file.read_text()) if file.exists() else 1_000_000_000.0)
        self._file = file

    def advance(self, seconds: float) -> None:
        self._file.write_text(str(self.now() + seconds))
        super().advance(seconds)


async def live(where: str, resident: int) -> dict[str, Any]:
    """Run the program to its end, from wherever the last kernel left it, and tell what came of it."""
    folder = Path(where)
    for name in ("accounts", "welcome"):
        (folder / "office" / name).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    install()
    clock = KeptClock(folder / "clock")
    options = {"workspace": folder / "office", "devices": {"shop": SHOP["shop"]}, "control": False, "durability": "fast"}
    async with agentos.open(folder / "store.db", clock=clock, **options) as kernel:
        kernel.core.scheduler.resident_max = resident
        if not await kernel.ps(all=True):
            await kernel.register(ONBOARDING["ACCOUNT"])
            await kernel.spawn(ONBOARDING["ONBOARD"], args={"name": "ada"})
        process = kernel.process(1)
        while process.info.exit is None:
            await kernel.run_until_idle(5)
            await _happen(kernel, clock)
        kernel.core.journal.flush()
        reports = [await kernel.replay(info.pid) for info in await kernel.ps(all=True)]
        return {
            "exit": process.info.exit.state, "value": process.info.exit.value, "error": str(process.info.exit.error or ""),
            "replayed": [report.ok and report.exit_equal for report in reports],
            "differences": [report.divergence.message for report in reports if report.divergence is not None],
            "laptops": Path("orders.txt").read_text().count("laptop"), "welcome": len(list(Path("office/welcome").iterdir())),
            "accounts": len(list(Path("office/accounts").iterdir())), "chain": kernel.core.store.verify().ok,
        }  # fmt: skip


async def _happen(kernel: Any, clock: KeptClock) -> None:
    """Let happen what the program waits for: an answer, the parcel, or the time."""
    process = kernel.process(1)
    asks = await kernel.asks()
    parcels = [record for record in kernel.core.store.current(MessageRecord, live=None) if record.channel == "parcel"]
    if asks:
        await kernel.answer(asks[0].id, "approve", by="pat", value="by the window")
    elif process.info.exit is None and "message on parcel" in process.info.waiting_on and not parcels:
        await process.send("in the post room", channel="parcel")
    elif kernel.core.waits.next_due() is not None:
        clock.advance(max(0.0, kernel.core.waits.next_due() - clock.now()))


def warm() -> None:
    """Run it once in this interpreter, so that its forks start at once."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(live, folder, 512)
        os.chdir(here)
