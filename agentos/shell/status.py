"""Exit statuses: what a command's end tells the shell that called it.

    0 ok · 1 error, also a failed or killed process · 2 usage, also an invalid argument, manifest or policy · 3 denied
    4 a person has to answer first · 5 a budget is used up · 124 out of time (--timeout, limits.wall, deadlines) · 130 interrupted

INVARIANT one-status-table: every status comes from the table below, by the longest code that an error's code starts with.
"""

from __future__ import annotations

from typing import Final

from agentos.abi.values import Exit
from agentos.errors import AgentOSError

__all__ = ["BUDGET", "DENIED", "ERROR", "INTERRUPTED", "OK", "PENDING", "TIMEOUT", "USAGE", "of_code", "of_error", "of_exit"]

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
DENIED: Final = 3
PENDING: Final = 4
BUDGET: Final = 5
TIMEOUT: Final = 124
INTERRUPTED: Final = 130

_BY_CODE: Final = {
    "denied": DENIED,
    "denied.budget": BUDGET,
    "invalid": USAGE,
    "invalid.state": ERROR,
    "invalid.store": ERROR,
    "pending": PENDING,
    "unavailable": ERROR,
    "unavailable.timeout": TIMEOUT,
    "usage": USAGE,
}
_OF_TIME: Final = frozenset({"wall_s", "deadline_s"})


def of_code(code: str) -> int:
    """Return the status of an error code: the entry of the code itself, else of its family, else ERROR."""
    return _BY_CODE.get(code, _BY_CODE.get(code.partition(".")[0], ERROR))


def of_error(error: AgentOSError) -> int:
    """Return the status of a command that ended with `error`."""
    return of_code(error.code)


def of_exit(end: Exit) -> int:
    """Return the status of a command that followed a process to its end.

    A failed process is an ERROR whatever its last error was, except where a limit ended it.
    """
    if end.state == "exited":
        return OK
    code = end.error.code if end.error is not None else ""
    limit = end.error.fields.get("limit") if end.error is not None else None
    if limit in _OF_TIME and code in ("unavailable.timeout", "denied.budget"):
        return TIMEOUT
    return BUDGET if code == "denied.budget" else ERROR
