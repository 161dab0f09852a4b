"""Random kills of twenty processes at work: in the end every effect, message and object is there as often as the model says.

AGENTOS_SOAK=1 kills a hundred times; the seed is printed with every failure.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_soak import model, steps_of
from tests.fault.crash_zygote import Zygote, zygote

SOAK = bool(os.environ.get("AGENTOS_SOAK"))
SEED = int(os.environ.get("AGENTOS_SEED", "20"))
WORKERS = 20
KILLS, ROUNDS = (100, 200) if SOAK else (20, 48)
LIVE = "tests.fault.crash_soak:live"


def check(found: dict[str, Any], seed: int, rounds: int) -> None:
    """Compare what came of the ring with the model."""
    exact, least = model(seed, WORKERS, rounds)
    assert (found["state"], found["error"], found["chain"]) == ("exited", "", True)
    assert {value: times for value, times in found["ledger"].items() if value not in least} == dict(exact)
    assert all(found["ledger"][value] >= times for value, times in least.items())
    talks = [at for at, kind in enumerate(steps_of(seed, 0, rounds)) if kind == "talk"]
    for worker, exit_value in enumerate(found["value"]):
        assert exit_value["log"] == [f"{worker}.{at}" for at in range(rounds)]
        assert exit_value["heard"] == [f"{(worker - 1) % WORKERS}.{at}" for at in talks]
    assert (found["unread"], found["messages"]) == ([], WORKERS * (1 + len(talks)))
    assert (found["alive"], found["open"]) == (0, 0)


def killed_often(kernels: Zygote, folder: Path, resident: int) -> tuple[int, dict[str, Any]]:
    """Kill the ring at random moments; returns how often, and what came of it."""
    chance, kills = random.Random(SEED), 0
    for _ in range(KILLS):
        done = kernels.run(LIVE, str(folder), SEED, WORKERS, ROUNDS, resident, kill_after_s=chance.uniform(0.03, 0.16))
        if done is not None:
            return kills, done
        kills += 1
    return kills, kernels.run(LIVE, str(folder), SEED, WORKERS, ROUNDS, resident)


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("resident", [512, 4])
def test_random_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, resident: int) -> None:
    with zygote("tests.fault.crash_soak") as kernels:
        kills, found = killed_often(kernels, tmp_path, resident)
    assert kills >= KILLS // 5
    check(found, SEED, ROUNDS)
