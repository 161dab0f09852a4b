"""A model server for many agents, alone or as a process of its own that can be killed: each agent calls a tool in each turn but its last.

Run as a module, with a port and the seconds that each answer takes, it prints its address once it answers.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

from tests.model_server import Answer, ModelServer, Served

TURNS = 5
_TURN = re.compile(r"\[turn (\d+) of ")


def turn_of(served: Served) -> int:
    """Return which turn of its agent a request is, 0 for the request of a greedy one."""
    if "greedy" in str(served.json["messages"][:2]):
        return 0
    found = _TURN.findall(str(served.json["messages"][-1]["content"]))
    return int(found[-1]) if found else 0


def script(delay_s: float = 0.0) -> Callable[[Served], Answer]:
    """What the model says: a call of a tool, in the last turn an answer."""

    def answer(served: Served) -> Answer:
        turn = turn_of(served)
        if 0 < turn < TURNS:
            return Answer(calls=[("obj__put", {"name": f"note{turn}", "value": f"what turn {turn} found"})], delay_s=delay_s)
        return Answer("that is all", delay_s=delay_s)

    return answer


if __name__ == "__main__":
    server = ModelServer(script(float(sys.argv[2])), port=int(sys.argv[1]))
    print(server.url, flush=True)
    time.sleep(600)  # nothing is left of it then, whatever became of the test
