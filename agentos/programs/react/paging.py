"""Paging out: what leaves the prompt goes into an object of the process's own namespace, and a line with its name stays.

    over PAGE_OUT_AT of the room   the oldest entries become a page, until it is down to PAGE_OUT_TO; the newest two stay if they fit
    over PAGES_SHOWN_MAX lines     the oldest lines go into an index, which is an object, too

So nothing is deleted to save tokens, and every event can be read again in at most two steps: an index, then a page. A page is a text, one
message a line, so that what is longer than one result may be can be read in parts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.counting import count_text
from agentos.abi.limits import PAGE_OUT_AT, PAGE_OUT_TO, PAGES_SHOWN_MAX
from agentos.programs.react.prompt import INDEX_PAGES, pages_tokens_max, room
from agentos.programs.react.tell import cut, value_text

if TYPE_CHECKING:
    from agentos.programs.react.state import Entry, State
    from agentos.programs.sys import Sys

__all__ = ["page_out"]

_KEPT: Final = 2
_SAID_CHARS: Final = 120
_OPS_SHOWN: Final = 4
_LINE_TOKENS: Final = 70


async def page_out(sys: Sys, state: State, *, to: float = PAGE_OUT_TO, at: float = PAGE_OUT_AT) -> None:
    """Make room in the prompt, if it needs any.

    Args:
        sys: The process's calls.
        state: Whose window is too full.
        to: Share of the budget to come down to.
        at: Share of it above which something is done.
    """
    most = room(state)
    taken = sum(each["tokens"] for each in state.window)
    if taken <= most * at:
        return
    leaving: list[Entry] = []
    while state.window and taken > (most * to if len(state.window) > _KEPT else most):
        leaving.append(state.window.pop(0))
        taken -= leaving[-1]["tokens"]
    if leaving:
        await _put_out(sys, state, leaving)


async def _put_out(sys: Sys, state: State, leaving: list[Entry]) -> None:
    """Make entries a page and tell of it."""
    first, last = leaving[0]["turn"], leaving[-1]["turn"]
    name = f"turns/{first}-{last}"
    if state.paged and first <= state.paged_to:
        name = f"{name}.{state.paged}"  # a turn may have several entries, and they may leave one by one
    state.paged, state.paged_to = state.paged + 1, last
    await sys.obj.put(value="\n".join(value_text(message) for each in leaving for message in each["messages"]), name=name)
    most = pages_tokens_max(state)
    state.pages.append(cut(_line(name, leaving), min(_LINE_TOKENS, most)))
    while len(state.pages) > PAGES_SHOWN_MAX or sum(map(count_text, state.pages)) > most:
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
    parts = [f"- {name}: {len(messages)} message{'s' if len(messages) > 1 else ''}"]
    if told:
        parts.append(f"calls: {told}{f', {denied} denied' if denied else ''}")
    if said:
        parts.append(f'last said: "{said}"')
    elif messages[-1]["role"] == "user":
        parts.append("a message to you")
    return "; ".join(parts)


def _words(message: dict[str, Any]) -> str:
    text = " ".join(str(message.get("content") or "").split()) if message["role"] == "assistant" else ""
    return text[:_SAID_CHARS]
