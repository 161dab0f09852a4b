"""Crash points: kill this process with SIGKILL when it reaches a named point for the n-th time.

    AGENTOS_CRASH_AT=fs.write.renamed:2     the second time that point is reached
    AGENTOS_CRASH_AT=*.after:7              the seventh time any point is reached whose name matches the pattern
    AGENTOS_CRASH_TRACE=FILE                append every name reached to FILE, one a line

A child process under test calls `install()` first (the Ledger does); the rooms of the runtime call `agentos.abi.probe.reached`. A test
runs once with a trace, reads `crash_points_seen`, then once per point and count. Without the variables nothing is installed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock
from typing import Final

from agentos.abi.probe import set_probe
from agentos.errors import Invalid

__all__ = ["AT", "TRACE", "crash_point", "crash_points_seen", "ensure", "install"]

AT: Final = "AGENTOS_CRASH_AT"
TRACE: Final = "AGENTOS_CRASH_TRACE"


class _Plan:
    """What the environment asks for, read once by `install`."""

    def __init__(self) -> None:
        self.name = ""
        self.nth = 0
        self.matched = 0
        self.trace = -1
        self.armed = False
        self.seen: Counter[str] = Counter()
        self.lock = Lock()

    def reach(self, name: str) -> None:
        with self.lock:
            self.seen[name] += 1
            if self.trace >= 0:
                os.write(self.trace, f"{name}\n".encode())
            if self.nth and fnmatchcase(name, self.name):
                self.matched += 1
                if self.matched == self.nth:
                    os.kill(os.getpid(), signal.SIGKILL)


_plan = _Plan()


def install() -> bool:
    """Listen to the crash points of this interpreter if the environment asks for it; says whether it does.

    Installing again reads the environment anew and counts from zero.

    Raises:
        Invalid: AGENTOS_CRASH_AT is not ``name:n`` with n from 1.
    """
    global _plan  # noqa: PLW0603 - one plan per interpreter, as the environment is
    _plan = _Plan()
    at, trace = os.environ.get(AT, ""), os.environ.get(TRACE, "")
    if at:
        name, _, nth = at.rpartition(":")
        if not name or not nth.isdigit() or int(nth) < 1:
            raise Invalid(
                "argument", f"`{at}` is no crash point", field=AT, hint="write name:n, for example fs.write.renamed:1"
            )
        _plan.name, _plan.nth = name, int(nth)
    if trace:
        _plan.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _plan.armed = bool(at or trace)
    set_probe(_plan.reach if _plan.armed else None)
    return _plan.armed


def ensure() -> None:
    """Install unless that was done or the environment asks for nothing: counts go on and a probe of the test's own stays.

    Raises:
        Invalid: as `install`.
    """
    if not _plan.armed and (os.environ.get(AT) or os.environ.get(TRACE)):
        install()


def crash_point(name: str) -> None:
    """Reach the point `name` from a test's own program: the process dies here if the environment says so. Any thread."""
    _plan.reach(name)


def crash_points_seen(trace: str | Path | None = None) -> Counter[str]:
    """Return how often each point was reached: in the run that wrote the file `trace`, or so far in this process."""
    if trace is None:
        return Counter(_plan.seen)
    return Counter(Path(trace).read_text().splitlines())
