"""LangGraph's agent loop, as its documentation draws it: a model node and a `ToolNode` that call each other, a SQLite checkpointer.

The model node answers at once, with the same words and the same calls as the model of `tests.bench.talk`; the tool returns the same
notes. The conversation is LangGraph's own state and keeps every message; agentos puts old turns out of its prompt at 24,000 tokens.
Loops side by side are threads that share one `SqliteSaver`, as in `with_langgraph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.bench.harness import Spent
from tests.bench.talk import GOAL, LAST_WORDS, PROMPT, WORDS, note

__all__ = ["talk"]


@tool
def look(n: int) -> str:
    """Return note `n`."""
    return note(n)


def talk(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Have so many agents make so many turns each."""
    agents, turns = map(int, given)

    def model(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        """Answer what the conversation so far asks for; the instructions go first, as a real model node sends them."""
        told = [SystemMessage(PROMPT), *state["messages"]]
        turn = len(told) // 2
        if turn > config["configurable"]["turns"]:
            return {"messages": [AIMessage(LAST_WORDS)]}
        call = {"name": "look", "args": {"n": turn}, "id": f"call_{turn}", "type": "tool_call"}
        return {"messages": [AIMessage(WORDS, tool_calls=[call])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tools", ToolNode([look]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    with SqliteSaver.from_conn_string(str(folder / "store.db")) as saver, ThreadPoolExecutor(min(agents, 200)) as threads:
        saver.setup()
        graph = builder.compile(checkpointer=saver)

        def converse(at: int, turns: int = turns) -> int:
            config: Any = {"configurable": {"thread_id": str(at), "turns": turns}, "recursion_limit": 4 * turns + 10}
            ended = graph.invoke({"messages": [HumanMessage(GOAL)]}, config, durability=mode)
            return sum(message.type == "ai" for message in ended["messages"])

        converse(agents, 2)  # before the clocks start, as there
        with Spent() as spent:
            made = sum(threads.map(converse, range(agents)))
    return {"steps": made, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}
