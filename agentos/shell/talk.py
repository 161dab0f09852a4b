"""`Talk`: a conversation with one process: what it tells is shown, and when it waits for a message the person is asked for one.

    waits for a message --> you> TEXT --> send --> ... its turns ... --> human.tell --> waits for a message

A text that the person sent counts as answered once something is told in reply to it or to a later message: who gets several messages while
it works answers them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos.abi.values import Event, ProcessInfo
from agentos.errors import Invalid
from agentos.shell.people import Hangup, Interrupted, read_line
from agentos.shell.views import View

if TYPE_CHECKING:
    from agentos.runtime.process import Process
    from agentos.shell.interrupts import Interrupts

__all__ = ["WAITS_FOR_MESSAGE", "Talk"]

WAITS_FOR_MESSAGE = "message on main"
_PROMPT = "you> "
_END = "[l]eave it waiting, [e]nd it, or [t]alk on? "


class Talk:
    """One conversation.

    Args:
        process: The process.
        view: Where what it says is shown.
        interrupts: Asks what Ctrl-C means.

    Attributes:
        is_over: The person has left; the process waits for whoever comes next.
    """

    def __init__(self, process: Process, view: View, interrupts: Interrupts) -> None:
        self._process = process
        self._view = view
        self._interrupts = interrupts
        self._sent: int | None = None
        self._heard = -1
        self._is_asking = False
        self.is_over = False

    def hear(self, event: Event) -> bool:
        """Take an event; True when it was what the process says, which is shown."""
        if event.pid != self._process.pid or event.kind != "call" or event.data.get("op") != "human.tell":
            return False
        answered = event.data.get("reply_to")
        if self._sent is not None and isinstance(answered, int) and answered >= self._sent:
            self._sent = None
        self._view.quote(str(event.data.get("text") or ""))
        return True

    def take_turn(self, info: ProcessInfo | None, last_seq: int) -> bool:
        """Say whether it is the person's turn to speak, once for each turn.

        A process may be seen to wait before its last words are heard: it has to wait at two looks with nothing heard in between.
        """
        before, self._heard = self._heard, last_seq
        if info is None or self._is_asking or self._sent is not None or WAITS_FOR_MESSAGE not in info.waiting_on:
            self._heard = -1
            return False
        if before != last_seq:
            return False
        self._is_asking = True
        return True

    async def speak(self) -> None:
        """Have the person say something and send it.

        Raises:
            Interrupted: they want to leave at once.
        """
        try:
            text = await read_line(_PROMPT)
        except Hangup:
            await self._hang_up()
        except Interrupted:
            await self._interrupts.decide()
        else:
            await self._send(text)
        finally:
            self._is_asking = False

    async def _send(self, text: str) -> None:
        """Send what was typed; what cannot be sent is said, and one that has ended meanwhile is told of by its end."""
        try:
            self._sent = await self._process.send(text) if text else None
        except Invalid as error:
            self._view.say(f"not sent: {error.message}")

    async def _hang_up(self) -> None:
        """Ask what becomes of the process."""
        choice = (await read_line(_END)).lower()
        if choice in ("l", "leave"):
            self.is_over = True
        elif choice in ("e", "end"):
            try:
                await self._process.exit()
            except Invalid as error:
                if error.code != "invalid.argument":
                    raise
                await self._process.signal("kill")  # it owes a result that it cannot give any more
