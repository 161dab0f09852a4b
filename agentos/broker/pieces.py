"""Pieces of a result that is still being made: shown to followers, scrubbed of secrets, journaled nowhere.

A secret may be split over pieces, so the end of what was said is held back while it can be the beginning of one. With no secret known,
nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos.abi.values import Event

if TYPE_CHECKING:
    from agentos.abi.records import Row
    from agentos.broker.request import Request
    from agentos.kernel.core import Core

__all__ = ["Pieces"]


class Pieces:
    """Shows the followers of a kernel what one attempt of a call says, as events ``delta``. Call it with each piece.

    An event has the number of the intent, and `number` and `attempt` of the call: the pieces of a later attempt start anew.
    """

    __slots__ = ("_attempt", "_core", "_held", "_intent", "_is_over")

    def __init__(self, core: Core, call: Request, intent: Row) -> None:
        self._core = core
        self._intent = intent
        self._attempt = call.attempt
        self._held = ""
        self._is_over = False

    def __call__(self, piece: str) -> None:
        """Take the next piece and show what is sure to be no part of a secret. Never waits."""
        if self._is_over:
            return
        secrets = self._core.secrets
        said = secrets.scrub_text(self._held + piece)
        unsure = secrets.unsure(said)
        self._held = said[len(said) - unsure :]
        self._publish(said[: len(said) - unsure])

    def end(self) -> None:
        """Show what is held back: nothing follows any more. What a device says later is shown to nobody."""
        self._is_over = True
        self._publish(self._held)

    def _publish(self, text: str) -> None:
        if text and self._core.events.is_followed:
            intent = self._intent
            shown = {"op": intent.op, "number": intent.number, "attempt": self._attempt, "text": text}
            self._core.events.publish(Event(intent.seq, "delta", intent.pid, self._core.clock.now(), shown))
