"""The lease of a store on a server: a right to write that ends by itself.

Protocol: one row, `lease`: who holds it, with which epoch, until when by the *server's* clock. Taking it, when it has ended or its
holder is seen to be dead, also counts the epoch of the head one further, in the same transaction; every batch moves the head only
while epoch and term are its own (`postgres`), so a kernel that was stopped for longer than its term can commit nothing.
Before an effect nobody asks the server: the holder knows a moment up to which the lease is surely its own. It is the moment *before* the
last renewal was sent, plus the term, less a margin, on a clock that goes on while the machine sleeps.
Who takes the lease ends the last holder's connection. Leaving ends the term at once and tells who listens.
INVARIANT one-writer: of all who take a lease that has ended exactly one gets it, and a holder stops acting before another can begin.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import psycopg

from agentos.abi.limits import LEASE_MARGIN
from agentos.abi.place import Dsn
from agentos.errors import Invalid
from agentos.store.faults import refusal
from agentos.store.postgres import ServerConnection

__all__ = ["Term", "holder_of", "make", "wait_until_free"]

_TABLE: Final = (
    "CREATE TABLE lease (id BIGINT PRIMARY KEY CHECK (id = 1), epoch BIGINT NOT NULL, holder TEXT NOT NULL, pid BIGINT NOT NULL, "
    "host TEXT NOT NULL, expires TIMESTAMPTZ NOT NULL, backend BIGINT NOT NULL, backend_start TIMESTAMPTZ)"
)
_EMPTY: Final = "INSERT INTO lease (id, epoch, holder, pid, host, expires, backend) VALUES (1, 0, '', 0, '', '-infinity', 0)"
_HOLDER: Final = "SELECT holder, pid, host FROM lease"
_HELD: Final = "SELECT holder, host FROM lease WHERE expires > clock_timestamp()"
_TAKE: Final = (
    "UPDATE lease SET holder = ?, pid = ?, host = ?, expires = clock_timestamp() + make_interval(secs => ?) "
    "WHERE id = 1 AND (expires < clock_timestamp() OR holder = ?)"
)
_NEXT: Final = "UPDATE head SET epoch = epoch + 1, pid = ? WHERE id = 1"
_EVICT: Final = (
    "SELECT pg_terminate_backend(a.pid) FROM lease JOIN pg_stat_activity AS a ON a.pid = lease.backend "
    "AND a.backend_start = lease.backend_start"
)
_NUMBERED: Final = (
    "UPDATE lease SET epoch = (SELECT epoch FROM head), backend = ?, "
    "backend_start = (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = ?) WHERE id = 1"
)
_RENEW: Final = (
    "UPDATE lease SET expires = clock_timestamp() + make_interval(secs => ?) WHERE id = 1 AND holder = ? "
    "AND epoch = (SELECT epoch FROM head)"
)
_LEAVE: Final = "UPDATE lease SET expires = '-infinity' WHERE id = 1 AND holder = ?"
_TELL: Final = "NOTIFY agentos_lease"
_LEFT_S: Final = (
    "SELECT greatest(0, extract(epoch FROM expires - clock_timestamp()))::double precision "
    "FROM lease WHERE expires > '-infinity'"
)
_RENEWALS: Final = 3  # in one term


def make(connection: ServerConnection) -> None:
    """Make the row, inside the transaction that makes the store."""
    connection.execute(_TABLE)
    connection.execute(_EMPTY)


class Term:
    """The held lease of one store on a server."""

    def __init__(self, connection: ServerConnection, dsn: Dsn, ttl_s: float, *, writer: int) -> None:
        """Take the lease over a connection of its own, and count the epoch of the head one further.

        Args:
            connection: Of the lease alone, closed with it.
            dsn: Where the store is.
            ttl_s: Seconds of one term.
            writer: Number of the server's process that serves the connection which writes.

        Raises:
            Invalid: `invalid.store`, `held` with the holder's pid and host.
            psycopg.Error: the server refused.
        """
        self._connection = connection
        self._dsn = dsn
        self._ttl_s = ttl_s
        self._writer = writer
        self._holder = f"{_machine()} {os.getpid()} {_born(os.getpid())} {secrets.token_hex(8)}"
        self._released = False
        self._sure_until = 0.0
        begun = _now()
        with connection.transaction():
            self._take()
        self._sure_until = begun + ttl_s * (1 - LEASE_MARGIN)

    def _take(self) -> None:
        connection, pid = self._connection, os.getpid()
        holder, held_pid, host = connection.execute(_HOLDER).fetchall()[0]
        dead = holder if holder and _is_dead(holder) else ""
        mine = (self._holder, pid, socket.gethostname(), self._ttl_s)
        if connection.execute(_TAKE, (*mine, dead or self._holder)).rowcount != 1:
            raise Invalid(
                "store",
                f"the store `{self._dsn}` is held by process {held_pid} on `{host}`",
                hint="stop that kernel, wait for it with standby=True, or open the store for reading",
                reason="held",
                pid=held_pid,
                host=host,
            )
        # a writer that was stopped within a batch keeps its locks, and no timeout of the server ends it
        connection.execute(_EVICT)
        connection.execute(_NEXT, (pid,))
        connection.execute(_NUMBERED, (self._writer, self._writer))

    def check(self) -> None:
        """Refuse when the lease may have ended.

        Raises:
            Invalid: `invalid.store`, lease_lost.
        """
        if _now() >= self._sure_until:
            raise refusal("lease_lost", self._dsn)

    def renew(self) -> None:
        """Begin another term. Any thread.

        Raises:
            Invalid: `invalid.store`, lease_lost: another kernel has it; connection: the server does not answer.
        """
        begun = _now()
        try:
            with self._connection.lock:
                renewed = self._connection.execute(_RENEW, (self._ttl_s, self._holder)).rowcount
        except psycopg.Error as error:
            raise self._connection.refusal_of(error) from error
        if renewed != 1:
            raise refusal("lease_lost", self._dsn)
        self._sure_until = begun + self._ttl_s * (1 - LEASE_MARGIN)

    async def keep(self) -> None:
        """Renew the lease three times in each term, until cancelled.

        Raises:
            Invalid: as `renew`.

        Cancellation: safe; a renewal under way is finished first, in at most SERVER_REPLY_S.
        """
        limiter = anyio.CapacityLimiter(1)  # devices may have taken every thread of the usual one
        while True:
            await anyio.to_thread.run_sync(self.renew, limiter=limiter)
            await anyio.sleep(self._ttl_s / _RENEWALS)

    def release(self) -> None:
        """Give the lease back and tell who waits for it. Idempotent; what cannot be given back ends by itself."""
        if self._released:
            return
        self._released, self._sure_until = True, 0.0
        try:
            with self._connection.transaction():
                self._connection.execute(_LEAVE, (self._holder,))
                self._connection.execute(_TELL)
        except psycopg.Error:
            return
        finally:
            self._connection.close()


def holder_of(connection: ServerConnection) -> str | None:
    """Return the host whose kernel has the store now; None when nobody has, as far as can be seen.

    Raises:
        Invalid: `invalid.store`, connection: the server does not answer.
    """
    found = connection.fetch(_HELD)
    return found[0][1] if found and not _is_dead(found[0][0]) else None


def wait_until_free(connection: ServerConnection, timeout_s: float) -> None:
    """Return when the lease has ended or was given back, or after `timeout_s`. Blocks.

    Raises:
        Invalid: `invalid.store`, connection: the server does not answer.
    """
    try:
        with connection.lock:
            connection.execute("LISTEN agentos_lease")
        left = connection.fetch(_LEFT_S)
        if left and left[0][0]:
            for _ in connection.raw.notifies(timeout=min(left[0][0] + 0.01, timeout_s), stop_after=1):
                return
    except psycopg.Error as error:
        raise connection.refusal_of(error) from error


def _now() -> float:
    """Return seconds on a clock that nobody sets and that does not stand still while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@functools.cache
def _machine() -> str:
    """Return a name of this machine since its start, and of the part of it in which pids mean the same; empty where neither is known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "unknown"


def _born(pid: int) -> str:
    """Return when a process was started, in ticks since the machine's start; empty when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_dead(holder: str) -> bool:
    """Tell whether the process that holds a lease ran on this very machine and has ended: then nobody has to wait for the term."""
    machine, pid, born, _ = holder.split(" ")
    return machine == _machine() != "unknown" and _born(int(pid)) != born
