"""agentos: `tests.bench.talk` with a tool that runs in this process, as LangGraph's does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from tests.bench import talk as talking

__all__ = ["talk"]


def talk(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Have so many agents make so many turns each."""
    agents, turns = map(int, given)
    found = anyio.run(talking.talk, folder, talking.CALLS[0], agents, turns)
    return {"steps": found.turns, "wall_s": found.wall_s, "cpu_s": found.cpu_s}
