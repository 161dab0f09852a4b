"""LangGraph, as its durable-execution page says: a graph of one node that loops, a SQLite checkpointer, `durability` as named.

Loops side by side are threads that share one `SqliteSaver`: 540 steps a second where its `AsyncSqliteSaver` made 420. After a kill the
graph is invoked with None on the same thread id, from its last checkpoint.
"""

from __future__ import annotations

import operator
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from tests.bench.harness import Spent
from tests.bench.peers.child import chunk
from tests.bench.peers.target import Target

__all__ = ["effects", "grow", "steps"]

_FOREVER = 10**9  # the recursion limit, which is there to stop a graph that loops by mistake


class Turn(TypedDict):
    """What the loop knows."""

    turn: int


class Log(TypedDict):
    """What grows: every checkpoint holds all of it."""

    turn: int
    log: Annotated[list[str], operator.add]


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class DeltaLog(TypedDict):
    """The same with the channel (beta) that stores what was added, and all of it every hundredth time."""

    turn: int
    log: Annotated[list[str], DeltaChannel(_extended)]


def steps(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Run loops side by side."""
    processes, seconds = int(given[0]), given[1]
    end = 0.0

    def node(state: Turn) -> dict[str, Any]:
        return {"turn": state["turn"] + 1}

    with SqliteSaver.from_conn_string(str(folder / "store.db")) as saver, ThreadPoolExecutor(processes) as threads:
        saver.setup()
        graph = _graph(Turn, node, lambda state: time.perf_counter() < end, saver)
        end = time.perf_counter() + seconds
        with Spent() as spent:
            ended = list(threads.map(lambda at: graph.invoke({"turn": 0}, _thread(at), durability=mode), range(processes)))
    return {"steps": sum(state["turn"] for state in ended), "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def grow(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Grow a state."""
    count, noise = int(given[0]), random.Random(1)
    durability, _, channel = mode.partition(" ")

    def node(state: Any) -> dict[str, Any]:
        return {"turn": state["turn"] + 1, "log": [chunk(noise)]}

    with Spent() as spent, SqliteSaver.from_conn_string(str(folder / "store.db")) as saver:
        graph = _graph(DeltaLog if channel else Log, node, lambda state: state["turn"] < count, saver)
        ended = graph.invoke({"turn": 0, "log": []}, _thread(0), durability=durability)
    assert len(ended["log"]) == count
    return {"steps": count, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def effects(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Do effects, from where an earlier run was killed."""
    count, target = int(given[0]), Target(folder / "effects")

    def node(state: Turn) -> dict[str, Any]:
        return {"turn": target.act(state["turn"]) + 1}

    with SqliteSaver.from_conn_string(str(folder / "store.db")) as saver:
        graph = _graph(Turn, node, lambda state: state["turn"] < count, saver)
        begun = saver.get_tuple(_thread(0)) is not None
        graph.invoke(None if begun else {"turn": 0}, _thread(0), durability=mode)
    return {"steps": count, "asked": 0}


def _graph(schema: Any, node: Callable[..., Any], goes_on: Callable[[Any], bool], saver: Any) -> Any:
    builder = StateGraph(schema)
    builder.add_node("step", node)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if goes_on(state) else END, ["step", END])
    return builder.compile(checkpointer=saver)


def _thread(number: int) -> Any:
    return {"configurable": {"thread_id": str(number)}, "recursion_limit": _FOREVER}
