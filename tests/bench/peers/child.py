"""``python -m tests.bench.peers.child SUBJECT TASK FOLDER ARGS``: one subject does one task in an interpreter of its own.

Writes one JSON line: steps done, wall and CPU seconds, imports and set-up of a library not counted. The tasks, in every subject the
same loop of one effect a step:

    steps PROCESSES SECONDS    as many steps as fit, of so many loops at once; ends when all of it is durable
    grow STEPS                 a state that grows by a kilobyte a step
    effects COUNT              effects upon FOLDER/effects; started again on the same folder it goes on
    talk AGENTS TURNS          agents that a model drives, one tool call a turn (the subjects called agent, and only these)
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["SERVER", "SUBJECTS", "Subject", "chunk", "is_here"]

Subject = Callable[[Path, str, Sequence[float]], dict[str, Any]]

SUBJECTS = {
    "agentos once": ("ours", "once", "agentos"),
    "agentos keyed": ("ours", "keyed", "agentos"),
    "LangGraph default": ("with_langgraph", "async", "langgraph.checkpoint.sqlite"),
    "LangGraph sync": ("with_langgraph", "sync", "langgraph.checkpoint.sqlite"),
    "LangGraph sync, DeltaChannel": ("with_langgraph", "sync delta", "langgraph.checkpoint.sqlite"),
    "DBOS": ("with_dbos", "sqlite", "dbos"),
    "agentos once, PostgreSQL": ("ours", "once postgresql", "psycopg"),
    "DBOS, PostgreSQL": ("with_dbos", "postgresql", "dbos"),
    "agentos agent": ("ours_agent", "agent", "agentos"),
    "LangGraph agent, default": ("with_langgraph_agent", "async", "langgraph.checkpoint.sqlite"),
    "LangGraph agent, sync": ("with_langgraph_agent", "sync", "langgraph.checkpoint.sqlite"),
}
"""Name -> (module of this folder, its mode, what has to be installed). Those on PostgreSQL need the address of a server in SERVER, too."""
SERVER = "AGENTOS_BENCH_POSTGRES"


def is_here(subject: str) -> bool:
    """Tell whether what a subject needs is there."""
    if subject.endswith("PostgreSQL") and not os.environ.get(SERVER):
        return False
    try:
        return find_spec(SUBJECTS[subject][2]) is not None
    except ModuleNotFoundError:  # of the package it is in
        return False


def chunk(noise: random.Random) -> str:
    """Return a kilobyte that no codec makes smaller than half of it."""
    return noise.randbytes(512).hex()


def main(words: list[str]) -> None:
    """Run one task."""
    subject, task, folder, *given = words
    module, mode, _ = SUBJECTS[subject]
    run: Subject = getattr(import_module(f"tests.bench.peers.{module}"), task)
    sys.stdout.write(json.dumps(run(Path(folder), mode, [float(word) for word in given])) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
