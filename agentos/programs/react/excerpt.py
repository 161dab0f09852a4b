"""What is too long for its share of the prompt: its beginning is shown, and the whole is kept as an object that can be read in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentos.abi.counting import BYTES_PER_TOKEN, count_text
from agentos.errors import Denied, Invalid
from agentos.programs.react.tell import cut

if TYPE_CHECKING:
    from agentos.programs.sys import Sys

__all__ = ["NOTE_TOKENS", "excerpt"]

NOTE_TOKENS: Final = 40  # what the line takes that tells how to read on


async def excerpt(sys: Sys, text: str, name: str, tokens_max: int, *, part_tokens: int) -> str:
    """Return a text that fits: itself, or its beginning and how to read on.

    Args:
        sys: The process's calls.
        text: The text.
        name: Name of the object in the process's own namespace that keeps the whole of a longer one.
        tokens_max: Its share.
        part_tokens: What one part that is read later may take.

    Raises:
        Denied: `denied.budget`, no call is left to keep it with.
    """
    if count_text(text) <= tokens_max:
        return text
    shown = cut(text, tokens_max - NOTE_TOKENS)
    try:
        await sys.obj.put(value=text, name=name)
    except (Denied, Invalid) as error:  # a policy, or it is too large to be kept: the model has to do with the beginning
        if error.code == "denied.budget":
            raise
        return f"{shown}\n[cut: {len(text)} characters in all; the rest could not be kept: {error.code}]"
    part = max(int((part_tokens - NOTE_TOKENS) * BYTES_PER_TOKEN), 100)
    how = f"read on with obj__get(name='{name}', start={len(shown)}, count={part})"
    return f"{shown}\n[cut: {len(text)} characters in all; {how}]"
