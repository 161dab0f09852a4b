"""DBOS, as its programming guide says: a workflow whose steps are decorated, on the SQLite file that is its default or
on PostgreSQL, which it recommends for production.

Workflows side by side are threads: 200 steps a second where its asynchronous ones made 180. After a kill the program is started again and
launches, which recovers its workflows; the same workflow id joins the one that runs.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from tests.bench import pg
from tests.bench.harness import Spent
from tests.bench.peers.child import SERVER, chunk
from tests.bench.peers.target import Target

__all__ = ["effects", "grow", "steps"]

_end = 0.0
_noise = random.Random(1)
_target: Target | None = None


@DBOS.step()
def goes_on(turn: int) -> bool:
    """Act upon nothing; a workflow may look at the clock in a step only."""
    return time.perf_counter() < _end


@DBOS.step()
def grown(turn: int) -> str:
    """Return what the state grows by."""
    return chunk(_noise)


@DBOS.step()
def act(turn: int) -> int:
    """Act upon the target."""
    assert _target is not None
    return _target.act(turn)


@DBOS.workflow()
def looping() -> int:
    """Act until the time is over."""
    made = 1
    while goes_on(made):
        made += 1
    return made


@DBOS.workflow()
def growing(count: int) -> int:
    """Keep a kilobyte more every step. What a step returned is stored, the state that a workflow makes of it is not."""
    log = [grown(turn) for turn in range(count)]
    return len(log)


@DBOS.workflow()
def acting(count: int) -> int:
    """Do each effect."""
    for turn in range(count):
        act(turn)
    return count


def steps(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Run loops side by side."""
    global _end  # noqa: PLW0603 - steps are functions of a module
    processes, seconds = int(given[0]), given[1]
    _launch(folder, mode)

    _end = time.perf_counter() + seconds
    with Spent() as spent:
        handles = [DBOS.start_workflow(looping) for _ in range(processes)]
        ended = [handle.get_result() for handle in handles]
    DBOS.destroy()
    return {"steps": sum(ended), "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def grow(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Grow a state."""
    _launch(folder, mode)
    with Spent() as spent:
        count = growing(int(given[0]))
    DBOS.destroy()
    return {"steps": count, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def effects(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Do effects, from where an earlier run was killed."""
    global _target  # noqa: PLW0603 - steps are functions of a module
    _target = Target(folder / "effects")
    _launch(folder, mode)
    with SetWorkflowID("effects"):
        handle = DBOS.start_workflow(acting, int(given[0]))
    count = handle.get_result()
    DBOS.destroy()
    return {"steps": count, "asked": 0}


def _launch(folder: Path, mode: str) -> None:
    url = f"sqlite:///{folder / 'store.db'}" if mode == "sqlite" else pg.database_of(os.environ[SERVER], folder)
    config: DBOSConfig = {
        "name": "bench", "system_database_url": url, "log_level": "ERROR", "enable_otlp": False,
    }  # fmt: skip
    DBOS(config=config)
    DBOS.launch()
