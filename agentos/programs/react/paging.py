"""Paging out: what leaves the prompt goes into an object of the process's own namespace, and a line with its name stays.

    over PAGE_OUT_AT of the budget   the oldest entries become a page, until it is down to PAGE_OUT_TO; the newest two stay
    over PAGES_SHOWN_MAX lines       the oldest lines go into an index, which is an object, too

So nothing is deleted to save tokens, and every event can be read again in at most two steps: an index, then a page.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.limits import PAGE_OUT_AT, PAGE_OUT_TO, PAGES_SHOWN_MAX
from agentos.programs.react.prompt import INDEX_PAGES

if TYPE_CHECKING:
    from agentos.programs.react.state import Entry, State
    from agentos.programs.sys import Sys

__all__ = ["page_out"]

_KEPT: Final = 2
_SAID_CHARS: Final = 120
_OPS_SHOWN: Final = 4


async def page_out(sys: Sys, state: State, *, to: float = PAGE_OUT_TO, at: float = PAGE_OUT_AT) -> None:
    """Make room in the prompt, if it needs any.

    Args:
        sys: The process's calls.
        state: Whose window is too full.
        to: Share of the budget to come down to.
        at: Share of it above which something is done.
    """
    room = state.tokens_max - state.fixed_tokens
    taken = sum(each["tokens"] for each in state.window)
    if taken <= room * at:
        return
    leaving: list[Entry] = []
    while taken > room * to and len(state.window) > _KEPT:
        leaving.append(state.window.pop(0))
        taken -= leaving[-1]["tokens"]
    if not leaving:
        return
    name = f"turns/{leaving[0]['turn']}-{leaving[-1]['turn']}"
    await sys.obj.put(value=[message for each in leaving for message in each["messages"]], name=name)
    state.paged += 1
    state.pages.append(_line(name, leaving))
    while len(state.pages) > PAGES_SHOWN_MAX:
        book = state.indexed // INDEX_PAGES + 1
        await sys.obj.append(name=f"pages/{book}", value=state.pages.pop(0))
        state.indexed += 1


def _line(name: str, entries: list[Entry]) -> str:
    """Return the line that tells what is on a page: how much, which calls, and how it began."""
    messages = [message for each in entries for message in each["messages"]]
    calls: Counter[str] = Counter(call["function"]["name"] for message in messages for call in message.get("tool_calls", ()))
    denied = sum('"decision": true' in str(message.get("content")) for message in messages if message["role"] == "tool")
    told = ", ".join(f"{name} {count}" for name, count in calls.most_common(_OPS_SHOWN))
    said = next((text for message in reversed(messages) if (text := _words(message))), "")
    parts = [f"- {name}: {len(messages)} messages"]
    if told:
        parts.append(f"calls: {told}{f', {denied} denied' if denied else ''}")
    if said:
        parts.append(f'last said: "{said}"')
    return "; ".join(parts)


def _words(message: dict[str, Any]) -> str:
    text = " ".join(str(message.get("content") or "").split()) if message["role"] == "assistant" else ""
    return text[:_SAID_CHARS]
