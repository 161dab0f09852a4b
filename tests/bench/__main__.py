"""``python -m tests.bench [NAMES]``: measure and print tables. Takes a few minutes; a quiet machine helps."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from tests.bench import (
    bench_calls,
    bench_checkpoint,
    bench_cost,
    bench_decide,
    bench_durability,
    bench_fork,
    bench_host,
    bench_million,
    bench_open,
    bench_peers,
    bench_postgres,
    bench_profile,
    bench_prompt,
    bench_prompt_rows,
    bench_provenance,
    bench_react,
    bench_spawn,
    bench_steps,
)
from tests.bench.harness import Bench, Size, quick

__all__ = ["BENCHES", "main"]

BENCHES: dict[str, Bench] = {
    "calls": bench_calls.run, "steps": bench_steps.run, "profile": bench_profile.run, "spawn": bench_spawn.run, "fork": bench_fork.run,
    "decide": bench_decide.run, "open": bench_open.run, "checkpoint": bench_checkpoint.run, "cost": bench_cost.run, "host": bench_host.run,
    "provenance": bench_provenance.run, "prompt_rows": bench_prompt_rows.run, "peers": bench_peers.run, "durability": bench_durability.run,
    "react": bench_react.run, "prompt": bench_prompt.run, "million": bench_million.run, "postgres": bench_postgres.run,
}  # fmt: skip


def main(words: list[str]) -> None:
    """Run the named benches, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")
    parser.add_argument("--full", action="store_true", help="also what takes minutes: a million rows")
    parser.add_argument("--alone", action="store_true", help="no rates beside a busy thread and a busy process")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a measured window")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median is taken")
    parser.add_argument("--folder", help="where the stores are made: on the disk that is to be measured")
    given = parser.parse_args(words)
    unknown = set(given.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no bench `{min(unknown)}`; there are {', '.join(BENCHES)}")
    size = quick() if given.quick else Size(given.seconds, given.rounds, full=given.full, loaded=not given.alone)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, {platform.system()}")
    folder = Path(tempfile.mkdtemp(prefix="agentos-bench-", dir=given.folder))
    try:
        for name in given.names or BENCHES:
            (folder / name).mkdir()
            for table in BENCHES[name](size, folder / name):
                print(f"\n{table}", flush=True)
            shutil.rmtree(folder / name)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
