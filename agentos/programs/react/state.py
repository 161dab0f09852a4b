"""What a save point of react holds: which turn comes next, and the view, which is everything that its prompt is made of.

The view is bounded by the token budget, and the store keeps it as a tree that shares what did not change, so a save costs what is new.
It holds its messages themselves: a process that is forked, restored or committed takes its view along without a look at old rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["Entry", "State"]

Entry = dict[str, Any]
"""What one turn added to the prompt: ``{turn, tokens, messages}``, the messages those of Chat Completions."""


@dataclass(slots=True)
class State:
    """The state between two turns.

    Attributes:
        turn: Turns of the model so far.
        since: Turn at which the task, or the message that is being answered, began.
        image: Beginning of the digest of the image that it was looked up for.
        tools: Names of the ops that the model is shown.
        acting: Those of them that may change something.
        rights: Fingerprint of what the process may do, as `proc.status` tells it.
        tokens_max: Budget of a whole prompt in tokens, by the kernel's counter.
        fixed_tokens: Of them, what instructions, goal and tools take.
        window: The entries that are in the prompt, oldest first.
        pages: Lines that tell of the newest pages.
        paged: Pages so far.
        paged_to: Last turn of the newest page.
        indexed: Pages that are told of in an index instead.
        chat: True when a final answer is told and the next message waited for.
        awaiting: True when the next thing is to wait for a message.
        reply_to: Message that is being answered.
        failures: Digest of a call -> [how often it failed in the same way, how, whether that was a decision]; the newest
            REMEMBERED_CALLS_MAX.
        same: Digest of the newest turn's calls and results, and how many turns in a row had it.
        repairs: Answers in a row that had to be given again.
        status: The line that tells what is left.
    """

    turn: int = 0
    since: int = 0
    image: str = ""
    tools: list[str] = field(default_factory=list)
    acting: list[str] = field(default_factory=list)
    rights: str = ""
    tokens_max: int = 0
    fixed_tokens: int = 0
    window: list[Entry] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    paged: int = 0
    paged_to: int = 0
    indexed: int = 0
    chat: bool = False
    awaiting: bool = False
    reply_to: int | None = None
    failures: dict[str, list[Any]] = field(default_factory=dict)
    same: list[Any] = field(default_factory=lambda: ["", 0])
    repairs: int = 0
    status: str = ""

    def data(self) -> dict[str, Any]:
        """Return it as plain data for a save point, without what is as it was at the start: so most of it fits into the record itself.

        The encoding of plain data is in order as it is; that of a dataclass would have to be made twice.
        """
        return {name: value for name, fresh in _FRESH.items() if (value := getattr(self, name)) != fresh}


_FRESH: Final = asdict(State())
