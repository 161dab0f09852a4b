"""Random kills of fifty processes at work: in the end every effect, message and object is there as often as the model says.

The short form of `python -m tests.fault.soak`; AGENTOS_SOAK=1 kills two hundred times, AGENTOS_SEED chooses the work.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fault.soak import Work, generations

SOAK = bool(os.environ.get("AGENTOS_SOAK"))
SEED = int(os.environ.get("AGENTOS_SEED", "20"))


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
def test_random_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    kills = 200 if SOAK else 25
    done = list(generations(tmp_path, Work(processes=50, rounds=60 if SOAK else 24), kills=kills, seed=SEED))
    assert sum(figures.kills for figures in done) == kills
    assert sum(figures.effects for figures in done) > 500
