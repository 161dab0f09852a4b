"""Durable messages: sent by capability, kept until received, received exactly once.

A message and the row of the call that sent it are one append; so are its receipt and the row of the call that received it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from agentos.abi.codec import decode, encode
from agentos.abi.limits import IDENTIFIER_CHARS_MAX, MAILBOX_MESSAGES_MAX
from agentos.abi.records import Change, MessageRecord
from agentos.abi.values import Message
from agentos.errors import Invalid, Unavailable

__all__ = ["MailTable"]


class MailTable:
    """(pid, channel) -> unread messages, oldest first."""

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self._boxes: dict[int, dict[str, deque[MessageRecord]]] = {}
        self._counts: dict[int, int] = {}

    def load(self, record: MessageRecord) -> None:
        """Enter an unread message read from the store, in order of its id."""
        self._boxes.setdefault(record.pid, {}).setdefault(record.channel, deque()).append(record)
        self._counts[record.pid] = self._counts.get(record.pid, 0) + 1

    def send(  # noqa: PLR0913 - the columns of a message
        self,
        to: int,
        value: Any,
        channel: str,
        changes: list[Change],
        *,
        sender: int,
        labels: int,
        reply_to: int | None,
        now: float,
    ) -> int:
        """Put a message into the mailbox of `to` and return its id.

        Raises:
            Unavailable: `unavailable.overloaded`, the mailbox is full.
        """
        if not channel or len(channel) > IDENTIFIER_CHARS_MAX:
            raise Invalid(
                "argument", f"channel has {len(channel)} characters", hint=f"give 1 to {IDENTIFIER_CHARS_MAX}", field="channel"
            )
        encode(channel)  # text that cannot be stored is refused before there is a message
        kept_free = MAILBOX_MESSAGES_MAX // 10 if sender else 0  # for the host: no process can keep its user from being heard
        if self._counts.get(to, 0) >= MAILBOX_MESSAGES_MAX - kept_free:
            raise Unavailable("overloaded", f"the mailbox of process {to} is full", hint="it has to receive first", pid=to)
        record = MessageRecord(
            message=self._next, pid=to, sender=sender, channel=channel, value=encode(value), labels=labels,
            reply_to=reply_to or 0, at=now,
        )  # fmt: skip
        self._next += 1
        self.load(record)
        changes.append(Change(record))
        return record.message

    def has(self, pid: int, channel: str) -> bool:
        """Say whether a channel holds an unread message."""
        return bool(self._boxes.get(pid, {}).get(channel))

    def count(self, pid: int, channel: str) -> int:
        """Return how many unread messages a channel holds."""
        return len(self._boxes.get(pid, {}).get(channel, ()))

    def receive(self, pid: int, channel: str, sender: int | None, changes: list[Change]) -> MessageRecord | None:
        """Take the oldest message of a channel (from `sender`, if given), or None."""
        box = self._boxes.get(pid, {}).get(channel)
        if not box:
            return None
        record = next((r for r in box if sender is None or r.sender == sender), None)
        if record is None:
            return None
        if record is box[0]:
            box.popleft()
        else:
            box.remove(record)
        self._counts[pid] -= 1
        replaced = record.seq
        record.live, record.state = 0, "received"
        changes.append(Change(record, replaced))
        return record

    def unread(self, pid: int) -> list[MessageRecord]:
        """Return the unread messages of a process."""
        return [record for box in self._boxes.get(pid, {}).values() for record in box]

    def forget(self, pid: int) -> None:
        """Drop the unread messages of a process that has ended from memory; the store keeps them."""
        self._boxes.pop(pid, None)
        self._counts.pop(pid, None)


def as_message(record: MessageRecord) -> Message:
    """Return the message as the receiver sees it."""
    return Message(
        id=record.message, sender=record.sender, value=decode(record.value), channel=record.channel,
        reply_to=record.reply_to or None, at=record.at,
    )  # fmt: skip
