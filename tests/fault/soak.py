"""A soak: processes at work are killed at random moments, hundreds of times, and in the end nothing is lost and nothing is doubled.

    python -m tests.fault.soak --kills 500 --processes 50
    python -m tests.fault.soak --store postgresql://... --stop     a kernel is also stopped past its lease, and another takes over

One *generation* is one store whose work (`crash_soak`) follows from a seed. Its kernel lives for a moment, dies by SIGKILL, and is started
again on what it left, until the work is done; then everything is compared with the model, and the next generation begins with the next
seed, until enough kernels were killed. People answer slowly, so that many asks are open when a kernel dies; now and then they answer
through the store while no kernel runs, and are killed at that, too. A schedule starts further processes, and the store is archived, erased,
collected and backed up meanwhile (`soak_upkeep`). Every failure names the seed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.fault import soak_upkeep
from tests.fault.crash_soak import model, steps_of
from tests.fault.crash_zygote import Died, Zygote, zygote
from tests.postgres import schema_of

LIVE, ANSWER = "tests.fault.crash_soak:live", "tests.fault.crash_soak:answer_outside"
LIFE_S = (0.03, 0.45)
"""How long a kernel lives, from before it opens the store, in time that it computes: a busy machine makes no difference."""
LEASE_TTL_S = 3.0
LOST = "the lease ended"
RESIDENT = (512, 8)
"""How many processes are kept in memory: all, or few, so that the others are unwound whenever they wait."""


@dataclass(slots=True)
class Figures:
    """What was done to one generation, and what came of it."""

    seed: int
    kills: int = 0
    stops: int = 0
    answered: int = 0
    rows: int = 0
    effects: int = 0
    runs: int = 0
    erased: int = 0
    aside: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line."""
        return (
            f"seed {self.seed}: {self.kills} kills, {self.stops} stops, {self.rows} rows, {self.effects} effects, {self.runs} runs, "
            f"{self.erased} erased, {self.aside} times a process was set aside, "
            f"{self.answered} times answered through the store, {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Work:
    """How much is done by how many, where. `store` is an address, or nothing for a file of each generation's own."""

    processes: int = 50
    rounds: int = 60
    store: str = ""
    stop: bool = False
    upkeep: bool = True

    def arguments(self, folder: Path, seed: int, chance: random.Random) -> list[Any]:
        """Return the arguments of `crash_soak.live`, for one life."""
        resident, upkeep = chance.choice(RESIDENT), chance.randint(1, 2**31) if self.upkeep else 0
        return [str(folder), seed, self.processes, self.rounds, resident, self.store, LEASE_TTL_S, upkeep]


def generations(folder: Path, work: Work, *, kills: int, seed: int) -> Iterator[Figures]:
    """Run generation after generation until that many kernels were killed; checks each and yields its figures.

    Raises:
        AssertionError: something was lost, doubled or wrong; the message begins with the seed.
    """
    with zygote("tests.fault.crash_soak") as kernels, zygote("tests.fault.crash_soak") as others:
        for number in itertools.count(seed):
            place = folder / str(number)
            place.mkdir()
            here = replace(work, store=schema_of(work.store)) if work.store else work
            yield (done := _generation(kernels, others, place, here, number, kills))
            kills -= done.kills
            if kills <= 0:
                return


def _generation(kernels: Zygote, others: Zygote, folder: Path, work: Work, seed: int, kills: int) -> Figures:
    """Kill at most `kills` kernels, then let one come to the end."""
    chance, figures, begun = random.Random(seed), Figures(seed), time.monotonic()
    found = None
    while found is None:
        life_s = chance.uniform(*LIFE_S) if figures.kills < kills else None
        arguments = work.arguments(folder, seed, chance)
        if work.stop and life_s is not None and chance.random() < 0.1:
            figures.stops += 1
            found = _stopped(kernels, others, arguments, life_s)
        else:
            found = _lived(kernels, arguments, life_s)
            figures.kills += found is None
        if found is None and chance.random() < 0.15:
            outside = [str(folder), work.store, chance.choice([1, 3, 100])]
            figures.answered += kernels.run(ANSWER, *outside, kill_after_s=chance.uniform(0.02, 0.3)) is not None
    try:
        check(found, seed, work)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {work}, {figures.kills} kills, in {folder}: {error}") from error
    figures.aside = found["aside"]
    figures.rows, figures.effects = found["rows"], sum(found["ledger"].values())
    figures.runs, figures.erased = (len(found["beside"]["runs"]), found["beside"]["erased"]) if work.upkeep else (0, 0)
    figures.seconds = time.monotonic() - begun
    return figures


def _lived(kernels: Zygote, arguments: list[Any], life_s: float | None) -> Any:
    """Let a kernel live for so long; one that was too slow to keep its lease has ended itself, which is as good as a kill."""
    try:
        return kernels.run(LIVE, *arguments, kill_after_cpu_s=life_s)
    except Died as error:
        if LOST not in str(error):
            raise
        return None


def _stopped(kernels: Zygote, others: Zygote, arguments: list[Any], life_s: float) -> Any:
    """Stop a kernel past its lease while another one takes over; once it goes on it must find out, and do nothing."""
    told: list[str] = []
    begins_s, stopped_s = LEASE_TTL_S + life_s, LEASE_TTL_S * 2

    def owner() -> None:
        try:
            told.append(str(others.run(LIVE, *arguments, stop_s=(begins_s, stopped_s)) is not None))
        except Died as error:
            told.append(str(error))

    thread = threading.Thread(target=owner)
    thread.start()
    time.sleep(begins_s)
    try:
        found = kernels.run(LIVE, *arguments, kill_after_s=stopped_s + 4 * life_s)
    except Died as error:
        if LOST not in str(error):
            raise
        found = None
    finally:
        thread.join()
    assert told == ["True"] or LOST in told[0], f"a stopped kernel went on: {told[0][-2000:]}"
    return found


def check(found: dict[str, Any], seed: int, work: Work) -> None:
    """Compare what came of a generation with the model."""
    exact, least = model(seed, work.processes, work.rounds)
    if work.upkeep:
        soak_upkeep.agree(found["beside"])
    assert (found["state"], found["error"], found["chain"]) == ("exited", "", True)
    apart = {*least, *(found["beside"]["acted"] if work.upkeep else ())}
    ledger = {value: times for value, times in found["ledger"].items() if value not in apart}
    assert ledger == dict(exact), f"effects: {_difference(ledger, dict(exact))}"
    assert all(found["ledger"].get(value, 0) >= times for value, times in least.items()), "a repeatable effect is lost"
    talks = [at for at, kind in enumerate(steps_of(seed, 0, work.rounds)) if kind == "talk"]
    for worker, ended in enumerate(found["value"]):
        assert ended["log"] == [f"{worker}.{at}" for at in range(work.rounds)], f"worker {worker}"
        assert ended["heard"] == [f"{(worker - 1) % work.processes}.{at}" for at in talks], f"worker {worker}"
    assert (found["unread"], found["messages"]) == ([], work.processes * (1 + len(talks)))
    assert (found["alive"], found["open"]) == (0, 0)


def _difference(found: dict[str, int], expected: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return (found, expected) of every value where they differ."""
    values = sorted(found.keys() | expected.keys())
    return {value: (found.get(value, 0), expected.get(value, 0)) for value in values if found.get(value) != expected.get(value)}


def main() -> None:
    """Soak as the command line says; prints a line per generation."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=60, help="steps of each process of a generation")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("AGENTOS_SEED", "1")))
    parser.add_argument(
        "--store",
        default="sqlite",
        help="sqlite (a file of its own), or the address of a server, which gets a schema per generation",
    )
    parser.add_argument("--no-upkeep", action="store_true", help="leave the store alone while the processes work")
    parser.add_argument("--stop", action="store_true", help="stop kernels past their lease, too; needs an address")
    given = parser.parse_args()
    store = "" if given.store == "sqlite" else given.store
    if given.stop and not store:
        parser.error("--stop needs a store with a lease: give --store postgresql://...")
    work, total = Work(given.processes, given.rounds, store, given.stop, not given.no_upkeep), 0
    with tempfile.TemporaryDirectory(prefix="agentos-soak-") as folder:
        for figures in generations(Path(folder), work, kills=given.kills, seed=given.seed):
            total += figures.kills
            sys.stdout.write(f"{figures}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{total} kills, nothing lost, nothing doubled\n")


if __name__ == "__main__":
    main()
