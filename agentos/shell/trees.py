"""Process trees: who started whom, as people see it."""

from __future__ import annotations

from collections.abc import Iterable

from agentos.abi.values import ProcessInfo
from agentos.errors import Invalid
from agentos.shell import words

__all__ = ["below", "drawn", "find", "state"]


def find(infos: Iterable[ProcessInfo], pid: int) -> ProcessInfo:
    """Return the process of that pid.

    Raises:
        Invalid: there is none.
    """
    found = next((info for info in infos if info.pid == pid), None)
    if found is None:
        raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
    return found


def below(infos: Iterable[ProcessInfo], pid: int) -> list[ProcessInfo]:
    """Return a process and what descends from it, of `infos` in order of pid."""
    kept: dict[int, ProcessInfo] = {}
    for info in sorted(infos, key=lambda info: info.pid):
        if info.pid == pid or info.ppid in kept:
            kept[info.pid] = info
    if pid not in kept:
        find(kept.values(), pid)
    return list(kept.values())


def drawn(infos: Iterable[ProcessInfo], *, rows_max: int = 200) -> list[str]:
    """Draw processes as trees with aligned columns: pid and image, state, cost."""
    known = {info.pid: info for info in infos}
    children: dict[int, list[int]] = {}
    for pid, info in known.items():
        children.setdefault(info.ppid if info.ppid in known else 0, []).append(pid)
    rows: list[tuple[str, str, str]] = []
    stack = [(pid, "", "") for pid in reversed(children.get(0, []))]
    while stack and len(rows) < rows_max:
        pid, lead, rest = stack.pop()
        info = known[pid]
        rows.append((f"{lead}{pid} {words.label(info)}", state(info), words.cost(info.usage)))
        below_it = children.get(pid, [])
        for at, child in enumerate(reversed(below_it)):
            last = at == 0
            stack.append((child, f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}"))
    widths = [max((len(row[at]) for row in rows), default=0) for at in (0, 1)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    more = len(known) - len(rows)
    return [*lines, f"... and {more} more"] if more > 0 else lines


def state(info: ProcessInfo) -> str:
    """Return the state of a process with what it waits for, or with the error that ended it."""
    if info.exit is not None and info.exit.error is not None:
        return f"{info.state} {info.exit.error.code}"
    waits = info.waiting_on and info.exit is None
    return words.quoted(f"{info.state} on {', '.join(info.waiting_on)}", 60) if waits else info.state
