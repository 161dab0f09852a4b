"""Where the CPU of running traffic goes: a sampling profile by room and by function, per call.

A profiling timer interrupts every millisecond of CPU; the sample counts for the innermost frame of agentos, so what a call spends in
sqlite3, msgspec or the event loop counts for the function that called it; where the loop only waits for a worker thread, the thread's
frame counts. What is left is the event loop's own.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import anyio

import agentos
from tests.bench.harness import Size, Table
from tests.bench.traffic import KINDS, Window, window

__all__ = ["run"]

_ROOT = str(Path(agentos.__file__).parent)
_TICK_S = 0.001
_TOP = 16


class Sampler:
    """Counts samples by the innermost function of agentos."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __call__(self, on: bool) -> None:
        """Start or stop sampling."""
        if on:
            self._usual = signal.signal(signal.SIGPROF, self._sample)
            signal.setitimer(signal.ITIMER_PROF, _TICK_S, _TICK_S)
        else:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.signal(signal.SIGPROF, self._usual)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        own = threading.get_ident()
        frames = [frame, *(other for thread, other in sys._current_frames().items() if thread != own)]
        frame = next((found for found in map(_ours, frames) if found is not None), None)
        if frame is None:
            self.seen["(event loop)"] += 1
        else:
            module = frame.f_code.co_filename.removeprefix(_ROOT + "/").removesuffix(".py").replace("/", ".")
            self.seen[f"{module}:{frame.f_code.co_qualname}"] += 1


def _ours(frame: FrameType | None) -> FrameType | None:
    while frame is not None and not frame.f_code.co_filename.startswith(_ROOT):
        frame = frame.f_back
    return frame


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield rooms by workload, then the functions that cost most in each."""
    found: dict[str, tuple[Window, Sampler]] = {}
    for kind in KINDS:
        for processes in (1, size.of(100), size.of(1_000)):
            sampler = Sampler()
            traffic = partial(window, folder / f"{kind}-{processes}", kind, processes, size.seconds * 4, sampled=sampler)
            found[f"{kind} {processes}"] = anyio.run(traffic), sampler
    yield _by(found, "CPU us per call by room", lambda name: name.partition(":")[0].partition(".")[0])
    yield _by(found, f"CPU us per call, the {_TOP} functions that cost most", str)


def _by(found: dict[str, tuple[Window, Sampler]], title: str, group: Callable[[str], str]) -> Table:
    columns: dict[str, Counter[str]] = {}
    for name, (_, sampler) in found.items():
        columns[name] = Counter()
        for where, samples in sampler.seen.items():
            columns[name][group(where)] += samples
    table = Table(title, ("where", *found))
    total = {name: max(1, seen.total()) for name, seen in columns.items()}
    everywhere = {where for seen in columns.values() for where in seen}
    whole = Counter({where: sum(seen[where] / total[name] for name, seen in columns.items()) for where in everywhere})
    for where, _ in whole.most_common(_TOP):
        table.add(where, *(f"{columns[name][where] / total[name] * found[name][0].cpu_us:.1f}" for name in found))
    table.add("all", *(f"{window.cpu_us:.1f}" for window, _ in found.values()))
    return table
