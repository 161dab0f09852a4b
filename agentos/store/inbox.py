"""What other machines ask of the kernel that has a store on a server: requests left in the database, and its replies.

Protocol: a row of `inbox` is a request until it has a reply. Who posts one takes the row away, with the reply or after having waited for
it; the kernel finds what was posted while it was away, and a request that it had answered before a crash is asked again: only what may be
asked twice belongs here. Rows whose poster has died go after a day. NOTIFY says that there is something, and carries nothing.
Not here: what a request means. Whoever can write to the database can post one, as they could answer while no kernel runs.
"""

from __future__ import annotations

import time
from typing import Final

import anyio
import psycopg

from agentos.abi.limits import CONTROL_FRAME_BYTES_MAX, CONTROL_REPLY_S, INBOX_ROWS_MAX
from agentos.abi.place import Dsn
from agentos.errors import Invalid
from agentos.store.postgres import ServerConnection, connect

__all__ = ["Inbox", "make", "post"]

_TABLE: Final = (
    "CREATE TABLE inbox (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), "
    f"body BYTEA NOT NULL CHECK (length(body) <= {CONTROL_FRAME_BYTES_MAX}), reply BYTEA)"
)
_POST: Final = "INSERT INTO inbox (body) VALUES (?) RETURNING id"
_ROOM: Final = "SELECT count(*) FROM inbox"
_REPLY: Final = "SELECT 1 FROM inbox WHERE id = ? AND reply IS NOT NULL"
_TAKE_AWAY: Final = "DELETE FROM inbox WHERE id = ? RETURNING reply"
_WAITING: Final = "SELECT id, body FROM inbox WHERE reply IS NULL ORDER BY id LIMIT 100"
_ANSWER: Final = "UPDATE inbox SET reply = ? WHERE id = ?"
_LEFT: Final = "DELETE FROM inbox WHERE at < clock_timestamp() - interval '1 day'"
_POLL_S: Final = 0.05
_FALLBACK_S: Final = 5.0  # an inbox is looked at so often, should a notice have been lost


def make(connection: ServerConnection) -> None:
    """Make the table, inside the transaction that makes the store."""
    connection.execute(_TABLE)


def post(dsn: Dsn, body: bytes) -> bytes | None:
    """Leave a request and wait for its reply; None when nobody replied within CONTROL_REPLY_S. Blocks.

    Raises:
        Invalid: `invalid.store`, the database failed, or more than INBOX_ROWS_MAX requests wait.
    """
    connection = connect(dsn, durability="strict")
    try:
        if connection.fetch(_ROOM)[0][0] >= INBOX_ROWS_MAX:
            raise Invalid("store", "too many requests wait for the kernel", hint="is it well?", reason="held")
        number = connection.fetch(_POST, (body,))[0][0]
        connection.execute("NOTIFY agentos_inbox")
        end = time.monotonic() + CONTROL_REPLY_S
        while not connection.fetch(_REPLY, (number,)) and time.monotonic() < end:
            time.sleep(_POLL_S)
        taken = connection.fetch(_TAKE_AWAY, (number,))
        return taken[0][0] if taken else None
    except psycopg.Error as error:
        raise connection.refusal_of(error) from error
    finally:
        connection.close()


class Inbox:
    """The side of the kernel that has the store."""

    def __init__(self, dsn: Dsn) -> None:
        """Listen, over a connection of its own.

        Raises:
            Invalid: `invalid.store`, connection.
        """
        self._connection = connect(dsn, durability="strict")
        self._told = True
        self._connection.raw.add_notify_handler(self._tell)
        self._connection.fetch(_LEFT + " RETURNING id")
        self._do("LISTEN agentos_inbox")

    def _tell(self, _notice: psycopg.Notify) -> None:
        self._told = True

    def _do(self, text: str, *parameters: object) -> None:
        try:
            self._connection.execute(text, parameters)
        except psycopg.Error as error:
            raise self._connection.refusal_of(error) from error

    async def waiting(self) -> list[tuple[int, bytes]]:
        """Return the requests that wait, oldest first, once there is one, or after a while.

        Raises:
            Invalid: `invalid.store`, connection.

        Cancellation: safe.
        """
        if not self._told:
            with anyio.move_on_after(_FALLBACK_S):
                await anyio.wait_readable(self._connection.raw.fileno())
        self._told = False
        return [(number, body) for number, body in self._connection.fetch(_WAITING)]

    def reply(self, number: int, body: bytes) -> None:
        """Reply to a request.

        Raises:
            Invalid: `invalid.store`, connection.
        """
        self._do(_ANSWER, body, number)
        self._told = True  # there may be more than one page of them

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._connection.close()
