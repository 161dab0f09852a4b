"""The same loop in agentos and in its peers, in one interleaved run: steps per second, a state that grows, and what a kill repeats.

Each subject runs in an interpreter of its own (`tests.bench.peers.child`), as its own documentation says. Subjects that are not
installed are left out: ``pip install agentos-kernel[peers]``. The raw floor is measured around every run, in the same folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import pg
from tests.bench.harness import Raw, Size, Spent, Table, raw_commits, raw_rate, spread, store_bytes
from tests.bench.peers.child import SERVER, SUBJECTS, is_here
from tests.bench.peers.target import Tally, tally

__all__ = ["Killed", "kill_and_resume", "note_missing", "run", "run_child", "subjects"]

_STEPS = ("agentos once", "LangGraph default", "LangGraph sync", "DBOS", "agentos once, PostgreSQL", "DBOS, PostgreSQL")
_GROW = ("agentos once", "LangGraph default", "LangGraph sync", "LangGraph sync, DeltaChannel", "DBOS")
_KILLED = ("agentos once", "agentos keyed", "LangGraph default", "LangGraph sync", "DBOS", "DBOS, PostgreSQL")
_EFFECTS = 150
_RUNS = 10
_WITHIN_S = 0.01
_LOOK_S = 0.0005
_PATIENCE_S = 300.0
_MISSING = "; not installed: "
_CHECKOUT = Path(__file__).parents[2]


def subjects(names: Sequence[str]) -> list[str]:
    """Return those whose library is installed."""
    return [name for name in names if is_here(name)]


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield steps, growth and kills."""
    with pg.server() as address, _in_environment(SERVER, address):
        yield _steps(size, folder)
        yield _growth(size, folder)
        yield _kills(size, folder)


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ[name] = before or ""


def note_missing(text: str, names: Sequence[str]) -> str:
    """Return `text`, and which libraries are not installed that the subjects need."""
    missing = sorted({SUBJECTS[name][2] for name in names if not is_here(name) and not name.endswith("PostgreSQL")})
    return text + (_MISSING + ", ".join(missing) if missing else "")


def _command(subject: str, task: str, folder: Path, *given: float) -> list[str]:
    return [sys.executable, "-m", "tests.bench.peers.child", subject, task, str(folder), *(f"{value:g}" for value in given)]


def run_child(subject: str, task: str, folder: Path, *given: float) -> dict[str, Any]:
    """Run a task to its end."""
    done = subprocess.run(
        _command(subject, task, folder, *given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_PATIENCE_S,
        cwd=_CHECKOUT,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- steps --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """The rounds of one subject."""

    found: list[dict[str, Any]] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def _steps(size: Size, folder: Path) -> Table:
    wanted = [(subject, processes) for processes in sorted({1, size.of(100)}) for subject in subjects(_STEPS)]
    seen = {want: Seen() for want in wanted}
    floor: list[Raw] = []
    for turn in range(size.rounds):
        for subject, processes in wanted:
            where = _made(folder / f"steps-{subject}-{processes}-{turn}")
            before = raw_rate(folder, size.seconds / 2)
            found = run_child(subject, "steps", where, processes, size.seconds * 4)
            after = raw_rate(folder, size.seconds / 2)
            floor += [before, after]
            seen[subject, processes].found.append(found)
            seen[subject, processes].ratios.append(found["steps"] / found["wall_s"] * 2 / (before.rate + after.rate))
    raw, apart = spread([found.rate for found in floor])
    note = f"until all of it is durable. Raw single commits: {raw:.0f}/s {apart}, {median(found.cpu_us for found in floor):.0f} CPU us each"
    table = Table(
        "a durable loop with one effect a step",
        ("subject", "loops", "steps/s", "spread", "x raw", "CPU us/step"),
        note=note_missing(note, _STEPS),
    )
    for (subject, processes), rounds in seen.items():
        rate, apart = spread([found["steps"] / found["wall_s"] for found in rounds.found])
        cpu_us = median(found["cpu_s"] / found["steps"] for found in rounds.found) * 1e6
        table.add(subject, f"{processes}", f"{rate:.0f}", apart, f"{median(rounds.ratios):.2f}", f"{cpu_us:.0f}")
    return table


# --- growth -------------------------------------------------------------------------------------------------------------------


def _growth(size: Size, folder: Path) -> Table:
    steps = size.of(1_000)
    table = Table(
        f"{steps} steps of a state that grows by 1 KB a step, each with one effect",
        ("subject", "store bytes", "x raw", "wall s", "CPU s"),
        note=note_missing("raw: a row of 1 KB a step, each committed", _GROW),
    )
    with Spent() as spent:
        raw_commits(_made(folder / "grow-raw"), steps, 1_024)
    least = store_bytes(folder / "grow-raw" / "raw.db")
    table.add("raw sqlite3", f"{least}", "1.0", f"{spent.wall_s:.2f}", f"{spent.cpu_s:.2f}")
    for subject in subjects(_GROW):
        where = _made(folder / f"grow-{subject}")
        found = run_child(subject, "grow", where, steps)
        used = store_bytes(where / "store.db")
        table.add(subject, f"{used}", f"{used / least:.1f}", f"{found['wall_s']:.2f}", f"{found['cpu_s']:.2f}")
    return table


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


# --- kills --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Killed:
    """What one killed and resumed run did."""

    tally: Tally
    asked: int


def kill_and_resume(subject: str, folder: Path, effects: int, chance: random.Random) -> Killed:
    """Start `effects` effects, SIGKILL the interpreter at a random moment between the first and the last, start it again to the end.

    The moment is a random effect, and up to 10 ms after it.
    """
    _made(folder)
    at, file = chance.randrange(1, effects), folder / "effects"
    with subprocess.Popen(_command(subject, "effects", folder, effects), stdout=subprocess.DEVNULL, cwd=_CHECKOUT) as process:
        while process.poll() is None and tally(file, effects).done < at:
            time.sleep(_LOOK_S)
        time.sleep(chance.random() * _WITHIN_S)
        process.kill()
    assert process.returncode in (0, -signal.SIGKILL), f"{subject} failed: {process.returncode}"
    found = run_child(subject, "effects", folder, effects)
    return Killed(tally(file, effects), int(found["asked"]))


def _kills(size: Size, folder: Path) -> Table:
    runs, effects = max(1, size.of(_RUNS)), max(10, size.of(_EFFECTS))
    names, chance = subjects(_KILLED), random.Random(7)
    seen: dict[str, list[Killed]] = {name: [] for name in names}
    for turn in range(runs):
        for name in names:
            seen[name].append(kill_and_resume(name, folder / f"killed-{name}-{turn}", effects, chance))
    table = Table(
        f"{runs} runs of {effects} effects, each killed once at a random moment and resumed (seed 7)",
        ("subject", "wanted", "done", "repeated", "most in a run", "lost", "asked a person"),
        note=note_missing("repeated: done again; a keyed target knows the key and refuses, here only agentos's own", _KILLED),
    )
    for name, all_of_them in seen.items():
        tallies = [killed.tally for killed in all_of_them]
        repeated = [found.repeated for found in tallies]
        table.add(
            name, f"{runs * effects}", f"{sum(found.done for found in tallies)}", f"{sum(repeated)}", f"{max(repeated)}",
            f"{sum(found.lost for found in tallies)}", f"{sum(killed.asked for killed in all_of_them)}",
        )  # fmt: skip
    return table
